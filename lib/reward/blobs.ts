import type { RgbImage } from '../data/images.js';
import { ConfigError } from '../util/errors.js';
import {
  checkMaxRegions,
  checkPixels,
  type RegionProposal,
  type RegionProposer,
} from './propose.js';
import { connectedGroups } from './segment.js';

/** Limits of {@link BlobsProposer}. */
export interface BlobsOptions {
  /** Most regions returned; default 10. */
  maxRegions?: number;
  /** RGB distance from the background, below 441, beyond which a pixel is a thing's; default 40. */
  threshold?: number;
}

/** Smaller regions are specks: 8 pixels of a picture of 32 x 32. */
const MIN_SHARE = 8 / 1024;
/** Distance of black and white, rounded down. */
const MAX_DISTANCE = 441;

/**
 * A proposer for pictures of separate things on a plain background; needs no weights. The background
 * is the median colour of the picture's border; regions are the connected groups (4 neighbours) of pixels
 * that differ from it, so a thing of several colours stays whole and things that do not touch stay apart,
 * however close. They are rated by size and by how far their colours are from the background's.
 * Deterministic.
 *
 * A picture in which nothing stands out is one region, rated 0: parts of an empty picture would be
 * asked about as if they were things, and without a region nobody would be told that there are none.
 */
export class BlobsProposer implements RegionProposer {
  readonly name = 'blobs';
  readonly #maxRegions: number;
  readonly #threshold: number;

  /** @throws ConfigError for options out of range. */
  constructor(options: BlobsOptions = {}) {
    this.#maxRegions = checkMaxRegions(options.maxRegions);
    this.#threshold = options.threshold ?? 40;
    if (!(this.#threshold > 0 && this.#threshold < MAX_DISTANCE)) {
      throw new ConfigError('ERR_OPTION', 'the threshold is out of range', {
        key: 'threshold',
        expected: `a number in (0, ${MAX_DISTANCE})`,
        found: String(options.threshold),
      });
    }
  }

  /**
   * @returns at most `maxRegions` regions, best first.
   * @throws ImageError when the pixels do not fit the size.
   */
  propose(image: RgbImage): RegionProposal[] {
    checkPixels(image);
    const { width, height } = image;
    const distance = distances(image, borderColour(image));
    const labels = connectedGroups(width, height, (p) => distance[p] > this.#threshold);
    const groups = measured(labels, width, distance).filter(
      ({ area }) => area >= MIN_SHARE * width * height,
    );
    if (groups.length === 0) {
      return [{ box: [0, 0, width, height], area: width * height, score: 0 }];
    }
    const largest = Math.max(...groups.map(({ area }) => area));
    return groups
      .map(({ box, area, contrast }) => ({
        box,
        area,
        score: Math.sqrt(area / largest) * (contrast / (contrast + this.#threshold)),
      }))
      .sort((a, b) => b.score - a.score || a.box[1] - b.box[1] || a.box[0] - b.box[0])
      .slice(0, this.#maxRegions);
  }
}

/** Median of each channel over the outermost pixels; of an even number, the upper one. */
function borderColour({ width, height, data }: RgbImage): number[] {
  return [0, 1, 2].map((channel) => {
    const values: number[] = [];
    for (let y = 0; y < height; y += 1) {
      const step = y === 0 || y === height - 1 ? 1 : Math.max(1, width - 1);
      for (let x = 0; x < width; x += step) values.push(data[(y * width + x) * 3 + channel]);
    }
    return values.sort((a, b) => a - b)[values.length >> 1];
  });
}

/** Euclidean distance of every pixel from a colour, in RGB. */
function distances({ width, height, data }: RgbImage, colour: readonly number[]): Float32Array {
  const [r, g, b] = colour;
  const out = new Float32Array(width * height);
  for (let p = 0; p < out.length; p += 1) {
    const at = p * 3;
    out[p] = Math.sqrt((data[at] - r) ** 2 + (data[at + 1] - g) ** 2 + (data[at + 2] - b) ** 2);
  }
  return out;
}

interface Group {
  box: RegionProposal['box'];
  area: number;
  /** Mean distance of its pixels from the background. */
  contrast: number;
}

/** The groups of labelled pixels (-1 = none), in reading order of their first pixels. */
function measured(labels: Int32Array, width: number, distance: Float32Array): Group[] {
  const groups = new Map<number, Group>();
  for (let p = 0; p < labels.length; p += 1) {
    if (labels[p] < 0) continue;
    const x = p % width;
    const y = (p - x) / width;
    let group = groups.get(labels[p]);
    if (group === undefined) {
      group = { box: [x, y, x + 1, y + 1], area: 0, contrast: 0 };
      groups.set(labels[p], group);
    }
    group.area += 1;
    group.contrast += (distance[p] - group.contrast) / group.area;
    group.box[0] = Math.min(group.box[0], x);
    group.box[2] = Math.max(group.box[2], x + 1);
    group.box[3] = y + 1;
  }
  return [...groups.values()];
}
