import sharp from 'sharp';
import type { RgbImage } from '../data/images.js';
import { DataError } from '../util/errors.js';
import { fitText, textWidth, wrapText } from './fonts.js';
import { divergingColour, hex, signed } from './palette.js';
import { compose, fitPicture, type Layer } from './picture.js';
import { escapeMarkup, round, svgText } from './svg.js';

/** A box to draw over the image, in the image's pixels. */
export interface HeatRegion {
  box: readonly number[];
  label: string;
  /** Null: the judge gave none. */
  score: number | null;
}

export interface HeatMapOptions {
  title?: string;
  /** Under the title, e.g. the prompt. */
  caption?: string;
  regions?: readonly HeatRegion[];
  /** Value shown without colour: 0 for signed maps, the background's value for unsigned ones. */
  neutral?: number;
  /** Distance from neutral that gets full colour. Default 1. */
  span?: number;
  /** Longer side of the image in the picture. Default 560. */
  size?: number;
}

const MARGIN = 28;
const LEGEND = 74;

/**
 * A reward map laid over its image: blue where training keeps what is there, red where it moves
 * away from it, with the regions' boxes and scores and a colour scale.
 *
 * @param map row-major values; its size may differ from the image's, not its shape.
 * @returns PNG bytes.
 * @throws DataError when the map's data does not fit its size.
 */
export async function heatMap(
  image: RgbImage,
  map: { data: Float32Array; width: number; height: number },
  options: HeatMapOptions = {},
): Promise<Buffer> {
  if (map.data.length !== map.width * map.height) {
    throw new DataError('ERR_SIZE', 'the reward map does not have the size it is said to have', {
      expected: `${map.width * map.height} values`,
      found: `${map.data.length} values`,
    });
  }
  const { neutral = 0, span = 1, size = 560, regions = [] } = options;
  const base = await fitPicture(image, { width: size, height: size });
  const width = base.width + 2 * MARGIN + LEGEND;
  const room = width - 2 * MARGIN;
  const head: string[] = [];
  let top = MARGIN;
  if (options.title) {
    head.push(
      svgText(MARGIN, top + 15, fitText(options.title, 18, room), { size: 18, bold: true }),
    );
    top += 28;
  }
  for (const line of wrapText(options.caption ?? '', 13, room, 2)) {
    head.push(svgText(MARGIN, top + 8, line, { size: 13, fill: '#5b6472' }));
    top += 19;
  }
  if (top > MARGIN) top += 10;
  const height = top + base.height + MARGIN;
  const layers: Layer[] = [
    { input: await pale(base.png), left: MARGIN, top },
    { input: await tint(map, base, neutral, span), left: MARGIN, top },
  ];
  const view: Rect = { x: MARGIN, y: top, width: base.width, height: base.height };
  const taken: Rect[] = [];
  const boxes = regions
    .toSorted((a, b) => areaOf(b.box) - areaOf(a.box))
    .map((region) => drawRegion(region, base.width / image.width, view, taken));
  const body = [
    ...head,
    `<rect x="${MARGIN - 0.5}" y="${top - 0.5}" width="${base.width + 1}" height="${base.height + 1}" fill="none" stroke="#1d2430" stroke-opacity="0.25"/>`,
    ...boxes.map((box) => box.outline),
    ...boxes.map((box) => box.tag),
    legend(MARGIN + base.width + 24, top, base.height, neutral, span),
  ];
  return compose({ width, height }, '#ffffff', layers, body.join(''));
}

function areaOf(box: readonly number[]): number {
  return (box[2] - box[0]) * (box[3] - box[1]);
}

/** The image half way to grey and lighter, so that the colours over it can be read. */
function pale(png: Buffer): Promise<Buffer> {
  return sharp(png).modulate({ saturation: 0.35 }).linear(0.8, 40).png().toBuffer();
}

/** The map as a colour layer: the stronger the value, the less of the image shows through. */
async function tint(
  map: { data: Float32Array; width: number; height: number },
  size: { width: number; height: number },
  neutral: number,
  span: number,
): Promise<Buffer> {
  const pixels = new Uint8Array(map.data.length * 4);
  map.data.forEach((value, i) => {
    const strength = Math.min(1, Math.max(-1, (value - neutral) / span));
    const [r, g, b] = divergingColour(strength);
    const opacity = strength === 0 ? 0 : 0.22 + 0.5 * Math.abs(strength) ** 0.7;
    pixels.set([r, g, b, Math.round(255 * opacity)], i * 4);
  });
  return sharp(pixels, { raw: { width: map.width, height: map.height, channels: 4 } })
    .resize(size.width, size.height, { fit: 'fill', kernel: 'nearest' })
    .png()
    .toBuffer();
}

interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

const TAG_HEIGHT = 20;

/** A box's outline and its tag, which stays inside the picture and off other tags where it can. */
function drawRegion(
  region: HeatRegion,
  scale: number,
  view: Rect,
  taken: Rect[],
): { outline: string; tag: string } {
  const inside = (value: number, start: number, length: number) =>
    start + Math.min(length, Math.max(0, value * scale));
  const x0 = inside(region.box[0], view.x, view.width);
  const y0 = inside(region.box[1], view.y, view.height);
  const x1 = inside(region.box[2], view.x, view.width);
  const y1 = inside(region.box[3], view.y, view.height);
  const { score } = region;
  const colour = score
    ? hex(divergingColour(Math.sign(score) * Math.max(0.6, Math.abs(score))))
    : '#5b6472';
  const place = `x="${round(x0 + 1)}" y="${round(y0 + 1)}" width="${round(Math.max(1, x1 - x0 - 2))}" height="${round(Math.max(1, y1 - y0 - 2))}"`;
  const dashed = score === null ? ' stroke-dasharray="5 4"' : '';
  const outline =
    `<rect ${place} rx="2" fill="none" stroke="#ffffff" stroke-opacity="0.85" stroke-width="4"/>` +
    `<rect ${place} rx="2" fill="none" stroke="${colour}" stroke-width="2"${dashed}/>`;
  const text = score === null ? 'no score' : signed(score);
  const name = fitText(region.label, 12, Math.min(170, view.width - 80));
  const width = textWidth(name, 12) + textWidth(text, 12) * 1.08 + 20;
  const tag = freePlace({ x0, y0, x1, y1 }, width, view, taken);
  taken.push(tag);
  const words = `${escapeMarkup(name)}<tspan dx="6" font-weight="600">${escapeMarkup(text)}</tspan>`;
  return {
    outline,
    tag:
      `<rect x="${round(tag.x)}" y="${round(tag.y)}" width="${round(width)}" height="${TAG_HEIGHT}" rx="3" fill="${colour}"/>` +
      `<text x="${round(tag.x + 7)}" y="${round(tag.y + 14)}" font-size="12" fill="#ffffff">${words}</text>`,
  };
}

/** The first place at the box's corners where a tag covers no other tag; else the usual one. */
function freePlace(
  box: { x0: number; y0: number; x1: number; y1: number },
  width: number,
  view: Rect,
  taken: readonly Rect[],
): Rect {
  const above = box.y0 - TAG_HEIGHT - 1;
  const below = box.y1 + 1;
  const right = box.x1 - width;
  const corners: Array<[number, number]> = [
    [box.x0, above],
    [box.x0, box.y0 + 2],
    [right, above],
    [right, box.y0 + 2],
    [box.x0, box.y1 - TAG_HEIGHT - 2],
    [right, box.y1 - TAG_HEIGHT - 2],
    [box.x0, below],
    [right, below],
  ];
  const places = corners
    .filter(([, y]) => y >= view.y && y + TAG_HEIGHT <= view.y + view.height)
    .map(([x, y]): Rect => {
      const last = view.x + view.width - width;
      return { x: Math.max(view.x, Math.min(x, last)), y, width, height: TAG_HEIGHT };
    });
  const free = places.find((a) => taken.every((b) => !overlap(a, b)));
  return free ?? places[0] ?? { x: view.x, y: view.y, width, height: TAG_HEIGHT };
}

function overlap(a: Rect, b: Rect): boolean {
  const across = a.x < b.x + b.width && b.x < a.x + a.width;
  return across && a.y < b.y + b.height && b.y < a.y + a.height;
}

/** A vertical colour scale with five marks. */
function legend(x: number, y: number, height: number, neutral: number, span: number): string {
  const top = y + 8;
  const length = Math.max(40, height - 16);
  const stops = Array.from({ length: 21 }, (_, i) => {
    const colour = hex(divergingColour(1 - i / 10));
    return `<stop offset="${i * 5}%" stop-color="${colour}"/>`;
  }).join('');
  const marks = [1, 0.5, 0, -0.5, -1].map((v) => {
    const at = top + ((1 - v) / 2) * length;
    const value = neutral + v * span;
    const text = neutral === 0 ? signed(value, span < 1 ? 2 : 1) : value.toFixed(2);
    return (
      `<path d="M${x + 14} ${round(at)}h5" stroke="#7a8392"/>` +
      svgText(x + 23, at + 4, text, { size: 11, fill: '#5b6472' })
    );
  });
  const id = 'scale';
  return (
    `<defs><linearGradient id="${id}" x1="0" y1="0" x2="0" y2="1">${stops}</linearGradient></defs>` +
    `<rect x="${x + 0.5}" y="${top}" width="13" height="${length}" rx="2" fill="url(#${id})" stroke="#1d2430" stroke-opacity="0.25"/>` +
    marks.join('')
  );
}
