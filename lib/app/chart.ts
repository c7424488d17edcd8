import { init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { FONT_FAMILY } from './fonts.js';

use([SVGRenderer]);

/**
 * A chart as an SVG document; equal options give equal text.
 *
 * @param width in pixels.
 * @param height in pixels.
 * @param options as the chart library takes them; whoever calls registers the kinds of series they name.
 */
export function chartSvg(width: number, height: number, options: object): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption({
      animation: false,
      backgroundColor: '#ffffff',
      textStyle: { fontFamily: FONT_FAMILY, color: '#5b6472' },
      ...options,
    });
    return withoutCounters(chart.renderToSVGString());
  } finally {
    chart.dispose();
  }
}

/**
 * The library numbers ids and classes through a whole process; without the numbers (and the styles
 * for hovering, which a picture has no use for) equal curves give equal files.
 */
function withoutCounters(svg: string): string {
  return svg
    .replace(/<style[^>]*>[\s\S]*?<\/style>/g, '')
    .replace(/ class="zr[^"]*"/g, '')
    .replace(/\bzr\d+-/g, 'zr-');
}
