import type { RgbImage } from '../data/images.js';
import { ConfigError, ImageError } from '../util/errors.js';
import {
  type ColourField,
  colourDistance,
  colourField,
  connectedGroups,
  segment,
  sortedEdges,
} from './segment.js';

/** A part of an image worth a score of its own. */
export interface RegionProposal {
  /** `[x0, y0, x1, y1]` in pixels of the image, ends exclusive. */
  box: [number, number, number, number];
  /** Pixels that belong to the region itself (not to its box). */
  area: number;
  /** How much it looks like a thing, in [0, 1]; comparable within one image only. */
  score: number;
}

/** Finds regions; the judge is then asked about each. */
export interface RegionProposer {
  readonly name: string;
  propose(image: RgbImage): RegionProposal[] | Promise<RegionProposal[]>;
}

/** Limits of {@link BoxesProposer}. */
export interface BoxesOptions {
  /** Most regions returned; default 10. */
  maxRegions?: number;
  /** Boxes that overlap a better one by more than this (intersection over union) go; default 0.6. */
  maxOverlap?: number;
}

/** The longer side at which an image is segmented. */
const WORK_SIDE = 256;
/** Coarseness of the segmentations whose components become candidates. */
const SCALES = [40, 150, 500];
/** Regions below this share of the image are noise; boxes above the other are the image itself. */
const MIN_SHARE = 0.001;
const MAX_SHARE = 0.92;
/** Pixels per piece of outline that a region needs: lines of one pixel, as along soft edges, have 0.5. */
const MIN_THICKNESS = 0.75;
/** How clearly the outline must stand out on average, from 0 to 1, for a region to be seen at all. */
const MIN_CLARITY = 0.3;
/** Regions rated below this share of the best one are left out: mostly bands of smooth shading. */
const MIN_RELATIVE = 0.3;
/** Colour difference that counts as half clear. */
const HALF_CLEAR = 8;

/**
 * A proposer that needs no weights. Candidates are the components of graph segmentations at three
 * scales and what is left of the image without its background. Each is judged by how clearly its
 * outline stands out, how well it fills its box, whether the image border cuts it, and its size;
 * near-duplicates and almost equal nested boxes are dropped. Deterministic.
 *
 * An image without structure gets a regular grid, so there is always something to score.
 */
export class BoxesProposer implements RegionProposer {
  readonly name = 'boxes';
  readonly #maxRegions: number;
  readonly #maxOverlap: number;

  /** @throws ConfigError for options out of range. */
  constructor(options: BoxesOptions = {}) {
    this.#maxRegions = checkMaxRegions(options.maxRegions);
    this.#maxOverlap = options.maxOverlap ?? 0.6;
    if (!(this.#maxOverlap > 0 && this.#maxOverlap <= 1)) {
      throw new ConfigError('ERR_OPTION', 'the overlap is out of range', {
        key: 'max_overlap',
        expected: 'a number in (0, 1]',
        found: String(options.maxOverlap),
      });
    }
  }

  /**
   * @returns at most `maxRegions` regions, best first.
   * @throws ImageError when the pixels do not fit the size.
   */
  propose(image: RgbImage): RegionProposal[] {
    checkPixels(image);
    const field = colourField(image, WORK_SIDE);
    const kept = this.#withoutDuplicates(candidates(field));
    if (kept.length === 0) return grid(image, this.#maxRegions);
    return kept.map((region) => toImage(region, field, image));
  }

  #withoutDuplicates(all: RegionProposal[]): RegionProposal[] {
    const sorted = all.toSorted(
      (a, b) => b.score - a.score || b.area - a.area || a.box[1] - b.box[1] || a.box[0] - b.box[0],
    );
    const kept: RegionProposal[] = [];
    for (const region of sorted) {
      if (kept.length === this.#maxRegions || region.score < MIN_RELATIVE * sorted[0].score) break;
      if (!kept.some((other) => isDuplicate(region.box, other.box, this.#maxOverlap))) {
        kept.push(region);
      }
    }
    return kept;
  }
}

/** The most regions a proposer may return, 10 where nothing is said. @throws ConfigError */
export function checkMaxRegions(given: number | undefined): number {
  const maxRegions = given ?? 10;
  if (Number.isInteger(maxRegions) && maxRegions >= 1) return maxRegions;
  throw new ConfigError('ERR_OPTION', 'the number of regions is out of range', {
    key: 'max_regions',
    expected: 'an integer of at least 1',
    found: String(given),
  });
}

/** @throws ImageError when the pixels do not fit the size. */
export function checkPixels({ width, height, data }: RgbImage): void {
  if (width >= 1 && height >= 1 && data.length === width * height * 3) return;
  throw new ImageError('ERR_PIXELS', 'the pixels do not fit the size of the image', {
    expected: `${width}x${height}x3 bytes`,
    found: `${data.length} bytes`,
  });
}

type Box = RegionProposal['box'];

function boxArea(box: Box): number {
  return Math.max(0, box[2] - box[0]) * Math.max(0, box[3] - box[1]);
}

function intersection(a: Box, b: Box): number {
  return boxArea([
    Math.max(a[0], b[0]),
    Math.max(a[1], b[1]),
    Math.min(a[2], b[2]),
    Math.min(a[3], b[3]),
  ]);
}

/** Intersection over union of two boxes. */
export function boxOverlap(a: Box, b: Box): number {
  const common = intersection(a, b);
  const union = boxArea(a) + boxArea(b) - common;
  return union === 0 ? 0 : common / union;
}

/** Whether two boxes show the same thing: great overlap, or one nearly within the other and half its size. */
function isDuplicate(a: Box, b: Box, maxOverlap: number): boolean {
  if (boxOverlap(a, b) > maxOverlap) return true;
  const [small, large] = [boxArea(a), boxArea(b)].sort((x, y) => x - y);
  return intersection(a, b) > 0.9 * small && small > 0.5 * large;
}

function candidates(field: ColourField): RegionProposal[] {
  const { width, height } = field;
  const pixels = width * height;
  const edges = sortedEdges(field);
  const minSize = Math.max(6, Math.round(pixels * MIN_SHARE));
  const found: RegionProposal[] = [];
  for (const scale of SCALES) {
    const labels = segment(pixels, edges, scale, minSize);
    found.push(...rated(field, labels));
    const background = backgroundOf(field, labels);
    if (background === null) continue;
    found.push(
      ...rated(
        field,
        connectedGroups(width, height, (p) => labels[p] !== background),
      ),
    );
  }
  return found;
}

/** The label that holds most of the image's border, if it holds at least half of it. */
function backgroundOf(field: ColourField, labels: Int32Array): number | null {
  const { width, height } = field;
  const border = new Map<number, number>();
  const count = (p: number) => border.set(labels[p], (border.get(labels[p]) ?? 0) + 1);
  for (let x = 0; x < width; x += 1) {
    count(x);
    count((height - 1) * width + x);
  }
  for (let y = 0; y < height; y += 1) {
    count(y * width);
    count(y * width + width - 1);
  }
  const [label, most] = [...border].reduce((a, b) => (b[1] > a[1] ? b : a));
  return most >= width + height ? label : null;
}

interface Component {
  box: Box;
  area: number;
  /** Pairs of neighbours with one pixel outside, and the sum of how clearly they differ. */
  outline: number;
  clarity: number;
}

/** Turns labelled pixels (-1 = none) into rated regions, those hardly visible or too big left out. */
function rated(field: ColourField, labels: Int32Array): RegionProposal[] {
  const { width, height } = field;
  const components = new Map<number, Component>();
  for (let p = 0; p < labels.length; p += 1) {
    if (labels[p] < 0) continue;
    const x = p % width;
    const y = (p - x) / width;
    let c = components.get(labels[p]);
    if (c === undefined) {
      c = { box: [x, y, x + 1, y + 1], area: 0, outline: 0, clarity: 0 };
      components.set(labels[p], c);
    }
    c.area += 1;
    c.box[0] = Math.min(c.box[0], x);
    c.box[2] = Math.max(c.box[2], x + 1);
    c.box[3] = y + 1;
  }
  // Soft edges are spread over two pixels, so the difference is taken between the pixels beyond.
  const compare = (p: number, step: number, room: boolean) => {
    if (!room || labels[p] === labels[p + step]) return;
    const q = p + 2 * step;
    const far = q < labels.length && labels[q] === labels[p + step] ? q : p + step;
    const near = p - step >= 0 && labels[p - step] === labels[p] ? p - step : p;
    const difference = colourDistance(field, near, far);
    for (const label of [labels[p], labels[p + step]]) {
      const c = components.get(label);
      if (c === undefined) continue;
      c.outline += 1;
      // A sum of bounded terms: one strong edge must not vouch for an outline that is mostly unseen.
      c.clarity += difference / (difference + HALF_CLEAR);
    }
  };
  for (let p = 0; p < labels.length; p += 1) {
    compare(p, 1, (p + 1) % width !== 0);
    compare(p, width, p + width < labels.length);
  }
  const out: RegionProposal[] = [];
  for (const c of components.values()) {
    const score = rate(c, width, height);
    if (score > 0) out.push({ box: c.box, area: c.area, score });
  }
  return out;
}

function rate(c: Component, width: number, height: number): number {
  const pixels = width * height;
  const share = boxArea(c.box) / pixels;
  const clear = c.outline === 0 ? 0 : c.clarity / c.outline;
  if (share > MAX_SHARE || c.area < Math.max(6, pixels * MIN_SHARE)) return 0;
  if (clear < MIN_CLARITY || c.area < c.outline * MIN_THICKNESS) return 0;
  const fill = Math.sqrt(c.area / boxArea(c.box));
  const cutSides =
    Number(c.box[0] === 0) +
    Number(c.box[1] === 0) +
    Number(c.box[2] === width) +
    Number(c.box[3] === height);
  const whole = 1 - 0.2 * cutSides;
  // Small things count less than large ones, but far less than in proportion; very large ones are
  // mostly surroundings.
  const size = Math.min(1, (share / 0.05) ** 0.25) * (share > 0.5 ? 1.5 - share : 1);
  return clear * fill * whole * size;
}

function toImage(region: RegionProposal, field: ColourField, image: RgbImage): RegionProposal {
  const sx = image.width / field.width;
  const sy = image.height / field.height;
  const [x0, y0, x1, y1] = region.box;
  return {
    box: [
      Math.floor(x0 * sx),
      Math.floor(y0 * sy),
      Math.min(image.width, Math.ceil(x1 * sx)),
      Math.min(image.height, Math.ceil(y1 * sy)),
    ],
    area: Math.round(region.area * sx * sy),
    score: region.score,
  };
}

/** A regular grid of boxes without quality, for images without structure. */
function grid(image: RgbImage, maxRegions: number): RegionProposal[] {
  const side = Math.min(3, Math.floor(Math.sqrt(maxRegions)));
  const columns = Math.min(side, image.width);
  const rows = Math.min(side, image.height);
  const out: RegionProposal[] = [];
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const box: Box = [
        Math.round((column * image.width) / columns),
        Math.round((row * image.height) / rows),
        Math.round(((column + 1) * image.width) / columns),
        Math.round(((row + 1) * image.height) / rows),
      ];
      out.push({ box, area: boxArea(box), score: 0 });
    }
  }
  return out;
}
