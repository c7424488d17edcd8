import { FONT_FAMILY } from './fonts.js';

/** A text safe inside XML and HTML, attributes included; characters XML cannot hold are replaced. */
export function escapeMarkup(text: string): string {
  return text
    .replace(/[\p{Cc}\p{Cs}\ufffe\uffff]/gu, (c) => ('\t\n\r'.includes(c) ? c : '\ufffd'))
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

export interface TextStyle {
  size: number;
  fill?: string;
  bold?: boolean;
  anchor?: 'start' | 'middle' | 'end';
}

/** One line of text with its baseline at (x, y). */
export function svgText(x: number, y: number, text: string, style: TextStyle): string {
  const { size, fill = '#1d2430', bold = false, anchor = 'start' } = style;
  const weight = bold ? ' font-weight="600"' : '';
  const place = `x="${round(x)}" y="${round(y)}" text-anchor="${anchor}"`;
  return `<text ${place} font-size="${size}" fill="${fill}"${weight}>${escapeMarkup(text)}</text>`;
}

/** A whole SVG document of the given size in pixels. */
export function svgDocument(width: number, height: number, body: string): string {
  const size = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`;
  const font = escapeMarkup(FONT_FAMILY);
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="${font}">${body}</svg>`;
}

/** Coordinates with at most two decimals, which keeps documents small. */
export function round(value: number): number {
  return Math.round(value * 100) / 100;
}
