import { LineChart } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import { use } from 'echarts/core';
import { ConfigError } from '../util/errors.js';
import { chartSvg } from './chart.js';
import { FONT_FAMILY } from './fonts.js';
import { rasterize } from './picture.js';

use([LineChart, GridComponent, LegendComponent, TitleComponent]);

/** One curve. */
export interface LossSeries {
  name: string;
  /** (step, value); a value that is not finite leaves a gap. */
  points: ReadonlyArray<readonly [step: number, value: number]>;
}

export interface LossCurveOptions {
  title?: string;
  /** Name of the vertical axis. Default `loss`. */
  unit?: string;
  /** Logarithmic vertical axis; default: when all values are positive and span more than 30 times. */
  log?: boolean;
  width?: number;
  height?: number;
}

const COLOURS = ['#1f6fb4', '#c4423d', '#2a8c5f', '#8a5bb5', '#b7791f'];

/**
 * Loss by training step as an SVG document. Noisy curves are drawn faintly under their moving
 * average.
 *
 * @throws ConfigError when no curve has a finite point.
 */
export function lossCurveSvg(
  series: readonly LossSeries[],
  options: LossCurveOptions = {},
): string {
  const curves = series.filter(({ points }) => points.some(isDrawn));
  if (curves.length === 0) {
    throw new ConfigError('ERR_LOSS_CURVE', 'there is nothing to draw a loss curve of', {
      expected: 'at least one finite value',
      found: `${series.length} curves without any`,
    });
  }
  const values = curves.flatMap(({ points }) => points.filter(isDrawn).map(([, value]) => value));
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  const log = options.log ?? (low > 0 && high / low > 30);
  return chartSvg(options.width ?? 760, options.height ?? 380, {
    color: COLOURS,
    title: {
      text: options.title ?? 'Training loss',
      left: 20,
      top: 16,
      textStyle: { fontSize: 18, fontWeight: 600, color: '#1d2430', fontFamily: FONT_FAMILY },
    },
    legend: {
      show: curves.length > 1,
      right: 24,
      top: 20,
      icon: 'roundRect',
      itemWidth: 14,
      itemHeight: 4,
      data: curves.map(({ name }) => name),
    },
    grid: {
      left: 24,
      right: 28,
      top: 76,
      bottom: 44,
      outerBoundsMode: 'same',
      outerBoundsContain: 'axisLabel',
    },
    xAxis: {
      type: 'value',
      name: 'step',
      nameLocation: 'middle',
      nameGap: 28,
      min: 'dataMin',
      max: 'dataMax',
      minInterval: 1,
      axisLine: { lineStyle: { color: '#c9ced6' } },
      axisLabel: { color: '#5b6472', hideOverlap: true },
      splitLine: { show: false },
    },
    yAxis: {
      type: log ? 'log' : 'value',
      name: options.unit ?? 'loss',
      nameTextStyle: { align: 'right', padding: [0, 6, 0, 0] },
      scale: true,
      axisLabel: { color: '#5b6472', formatter: shortNumber },
      splitLine: { lineStyle: { color: '#eceef1' } },
    },
    series: curves.flatMap(({ name, points }, i) =>
      drawn(name, points, COLOURS[i % COLOURS.length]),
    ),
  });
}

/** The same picture as PNG, at twice the size in pixels. */
export function lossCurvePng(
  series: readonly LossSeries[],
  options: LossCurveOptions = {},
): Promise<Buffer> {
  return rasterize(lossCurveSvg(series, options));
}

type Points = ReadonlyArray<readonly [number, number]>;

function drawn(name: string, points: Points, color: string): object[] {
  const line = (data: Points, lineStyle: object, extra: object = {}) => ({
    type: 'line',
    data: data.map((point) => (isDrawn(point) ? point : [point[0], null])),
    color,
    symbol: 'circle',
    symbolSize: 5,
    showSymbol: data.length === 1,
    lineStyle,
    ...extra,
  });
  if (points.length < 12) {
    return [line(points, { width: 2 }, { name, showSymbol: true })];
  }
  return [
    line(points, { width: 1, opacity: 0.28 }, { name: `${name} (each step)`, silent: true }),
    line(smoothed(points), { width: 2.2 }, { name }),
  ];
}

function isDrawn(point: readonly [number, number]): boolean {
  return point.every(Number.isFinite);
}

/** Centred moving mean over about a twentieth of the curve. */
function smoothed(points: Points): Points {
  const reach = Math.max(2, Math.round(points.length / 40));
  return points.map(([step], i) => {
    const window = points.slice(Math.max(0, i - reach), i + reach + 1).filter(isDrawn);
    return [step, window.reduce((sum, [, value]) => sum + value, 0) / window.length] as const;
  });
}

/** Axis marks without noise digits. */
function shortNumber(value: number): string {
  return String(Number(value.toPrecision(4)));
}
