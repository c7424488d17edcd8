import { type Box, type FrameSize, GLOBAL_REWARD_NAME, scaleBox } from '../data/rewards.js';
import { DataError } from '../util/errors.js';
import { inspectJson, isObject } from '../util/json-values.js';

/** One entry of `vlm_rewards` in a training reward record, as JSON gives it (nothing is trusted). */
export interface RewardEntry {
  object?: unknown;
  bbox?: unknown;
  score?: unknown;
  reason?: unknown;
}

/** A region that did not (fully) enter the map, and why. */
export interface RegionProblem {
  /** Position in the list of rewards. */
  index: number;
  object: string | null;
  reason: string;
}

/** A dense reward map and everything that was left out or altered while building it. */
export interface RewardMap {
  /** Row-major `[height, width]`. */
  data: Float32Array;
  width: number;
  height: number;
  /** Factor of the layout score, `(g + 1) / 2`; in `code` and `paper` maps multiplied into `data`. */
  alpha: number;
  /** Regions painted (the whole-image entry not counted). */
  painted: number;
  /** Regions left out. */
  skipped: RegionProblem[];
  /** Regions painted after their box was cut at the image border. */
  cut: RegionProblem[];
  /** Scores outside [-1, 1], the global one included; clamped by `paper`, kept by `code`. */
  outOfRange: number;
}

/**
 * The reward map of the released SRUM code: a canvas of 0.5, inside each box the
 * maximum with `(score + 1) / 2`, all times `(global + 1) / 2` in float32. Its peculiarities are
 * kept: scores are not clamped, negative scores change nothing, a missing score counts as 0, numbers
 * and strings in boxes are converted as Python's `int()` does. Boxes that cannot be used are skipped
 * and reported.
 *
 * Without `frame` boxes are in pixels of the map whatever image they were written for, and the map is
 * the released one bit for bit. With it they are scaled as in `paperRewardMap`.
 *
 * @param rewards `vlm_rewards` of the record; null or empty means no regions.
 * @param global layout score; see `globalScoreOf`.
 * @param frame size of the image the boxes refer to; default: the map's own size.
 * @throws DataError where the released code raises: a score that is null or text, an infinite box
 *   coordinate, an entry that is not an object.
 */
export function codeRewardMap(
  rewards: unknown,
  size: FrameSize,
  global: unknown = 0,
  frame: FrameSize = size,
): RewardMap {
  const { width, height } = checkSize(size);
  checkSize(frame);
  const data = new Float32Array(width * height).fill(0.5);
  const map: RewardMap = { ...emptyReport(), data, width, height };
  for (const [index, entry] of entriesOf(rewards).entries()) {
    if (entry.object === GLOBAL_REWARD_NAME) continue;
    const box = pythonBox(entry.bbox, index);
    const object = objectName(entry);
    if (typeof box === 'string') {
      map.skipped.push({ index, object, reason: box });
      continue;
    }
    const score = entry.score === undefined ? 0 : pythonNumber(entry.score, index);
    if (Math.abs(score) > 1) map.outOfRange += 1;
    const inside = cutBox(scaleBox(box, frame, size), map, index, object);
    if (inside === null) continue;
    const weight = Math.fround((score + 1) / 2);
    const [x0, y0, x1, y1] = inside;
    for (let y = y0; y < y1; y += 1) {
      for (let i = y * width + x0; i < y * width + x1; i += 1) {
        data[i] = Math.max(data[i], weight);
      }
    }
    map.painted += 1;
  }
  const g = pythonNumber(global, -1);
  if (Math.abs(g) > 1) map.outOfRange += 1;
  map.alpha = (g + 1) / 2;
  const factor = Math.fround(map.alpha);
  for (let i = 0; i < data.length; i += 1) data[i] *= factor;
  return map;
}

/**
 * The signed reward of the SRUM paper (arXiv 2510.12784, eq. 1): `alpha * R` with `R` in [-1, 1]
 * the score of the region a pixel lies in, 0 outside all regions, and `alpha = (g + 1) / 2` in
 * [0, 1]. The training weight of a pixel is then `alpha * R + lambda` (eq. 3).
 *
 * - Overlap: smaller boxes are painted over larger ones (equal areas: later over earlier), so that
 *   the verdict on a small object is not hidden by the box of what surrounds it.
 * - Boxes are scaled from the frame they were written in to the map, rounded to whole pixels and
 *   never thinner than one pixel.
 * - Scores are clamped to [-1, 1] and the violations counted. A region without a usable score or
 *   box is skipped and reported: a missing score is not a neutral one.
 * - A record without layout score (`global` null or undefined) gets the neutral 0, alpha = 0.5, as
 *   in the released code.
 *
 * @param frame size of the image the boxes refer to; default: the map's own size.
 * @throws DataError for entries that are not objects and for a global score that is not a number.
 */
export function paperRewardMap(
  rewards: unknown,
  size: FrameSize,
  global: number | null | undefined,
  frame: FrameSize = size,
): RewardMap {
  return signedMap(rewards, size, global, frame, (score, { layout }) => ((layout + 1) / 2) * score);
}

/**
 * A signed reward for objectives that can push away from what is wrong without running off: the least of
 * the region's score and the layout score, both in [-1, 1]. A good region does not make up for a wrong layout,
 * nor the other way round, and unlike `alpha * R` a bad layout does not hide what is wrong inside it.
 *
 * What is outside all regions, or in one with a score of 0, has the layout score where that is negative or no
 * region of the picture is: an empty place is part of what a faultless picture got right. Else it has 0.
 *
 * A record without layout score is judged by its regions alone. Everything else is as in
 * `paperRewardMap`.
 *
 * @param frame size of the image the boxes refer to; default: the map's own size.
 * @throws DataError for entries that are not objects and for a global score that is not a number.
 */
export function strictRewardMap(
  rewards: unknown,
  size: FrameSize,
  global: number | null | undefined,
  frame: FrameSize = size,
): RewardMap {
  const judged = global !== null && global !== undefined;
  return signedMap(rewards, size, global, frame, (score, { layout, faultless }) => {
    if (!judged) return score;
    return score === 0 && faultless ? layout : Math.min(score, layout);
  });
}

/** What a region's value depends on besides its score. */
interface Picture {
  /** Layout score, clamped to [-1, 1]. */
  layout: number;
  /** Whether no region of the picture has a negative score. */
  faultless: boolean;
}

/**
 * Paints the regions' values, larger boxes first, over that of a region with score 0.
 *
 * @param value of a region score, clamped to [-1, 1].
 */
function signedMap(
  rewards: unknown,
  size: FrameSize,
  global: number | null | undefined,
  frame: FrameSize,
  value: (score: number, picture: Picture) => number,
): RewardMap {
  const { width, height } = checkSize(size);
  checkSize(frame);
  const data = new Float32Array(width * height);
  const map: RewardMap = { ...emptyReport(), data, width, height };
  const g = global ?? 0;
  if (typeof g !== 'number' || Number.isNaN(g)) {
    throw new DataError('ERR_SCORE', 'the layout score is not a number', {
      key: 'score',
      expected: 'a number in [-1, 1]',
      found: inspectJson(global),
    });
  }
  const layout = clampScore(g, map);
  map.alpha = (layout + 1) / 2;
  const regions: Array<{ box: Box; area: number; score: number }> = [];
  for (const [index, entry] of entriesOf(rewards).entries()) {
    if (entry.object === GLOBAL_REWARD_NAME) continue;
    const object = objectName(entry);
    const skip = (reason: string) => map.skipped.push({ index, object, reason });
    if (typeof entry.score !== 'number' || Number.isNaN(entry.score)) {
      skip(`the score is not a number (${inspectJson(entry.score)})`);
      continue;
    }
    const box = plainBox(entry.bbox);
    if (typeof box === 'string') {
      skip(box);
      continue;
    }
    const inside = cutBox(scaleBox(box, frame, size), map, index, object);
    if (inside === null) continue;
    const area = (inside[2] - inside[0]) * (inside[3] - inside[1]);
    regions.push({ box: inside, area, score: clampScore(entry.score, map) });
  }
  map.painted = regions.length;
  const picture = { layout, faultless: regions.every(({ score }) => score >= 0) };
  // Adding 0 turns -0 into 0.
  data.fill(value(0, picture) + 0);
  regions.sort((a, b) => b.area - a.area);
  for (const { box, score } of regions) {
    for (let y = box[1]; y < box[3]; y += 1) {
      data.fill(value(score, picture), y * width + box[0], y * width + box[2]);
    }
  }
  return map;
}

/**
 * The layout score of a training record: that of its first `global_layout_reward` entry.
 *
 * @returns null when there is no such entry or its score is null or absent. The released reader
 *   then goes on with 0; callers should report it.
 */
export function globalScoreOf(rewards: unknown): number | null {
  for (const [index, entry] of entriesOf(rewards).entries()) {
    if (entry.object !== GLOBAL_REWARD_NAME) continue;
    return entry.score === null || entry.score === undefined
      ? null
      : pythonNumber(entry.score, index);
  }
  return null;
}

function emptyReport(): Omit<RewardMap, 'data' | 'width' | 'height'> {
  return { alpha: 0.5, painted: 0, skipped: [], cut: [], outOfRange: 0 };
}

function checkSize(size: FrameSize): FrameSize {
  for (const n of [size.width, size.height]) {
    if (!Number.isInteger(n) || n < 1) {
      throw new DataError('ERR_SIZE', 'an image needs whole, positive sides', {
        expected: 'integers of at least 1',
        found: `${size.width}x${size.height}`,
      });
    }
  }
  return size;
}

/** The list of rewards with every entry an object; falsy values are an empty list, as in Python. */
function entriesOf(rewards: unknown): RewardEntry[] {
  if (!rewards) return [];
  if (!Array.isArray(rewards)) {
    throw new DataError('ERR_REWARDS', 'the rewards of a record must be a list', {
      key: 'vlm_rewards',
      expected: 'a list of objects',
      found: inspectJson(rewards),
    });
  }
  for (const [index, entry] of rewards.entries()) {
    if (!isObject(entry)) {
      throw new DataError('ERR_REWARDS', 'a reward must be an object', {
        key: `vlm_rewards[${index}]`,
        expected: 'an object with bbox and score',
        found: inspectJson(entry),
      });
    }
  }
  return rewards as RewardEntry[];
}

function objectName(entry: RewardEntry): string | null {
  return typeof entry.object === 'string' ? entry.object : null;
}

/** A number in Python's arithmetic: booleans count, texts and null raise. */
function pythonNumber(value: unknown, index: number): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'boolean') return value ? 1 : 0;
  throw new DataError('ERR_SCORE', 'a score is not a number', {
    key: index < 0 ? GLOBAL_REWARD_NAME : `vlm_rewards[${index}].score`,
    expected: 'a number',
    found: inspectJson(value),
  });
}

/** Python's `int(text)`: surrounding blanks, a sign, digits with single underscores between them. */
const PYTHON_INT = /^\s*([+-]?)(\d+(?:_\d+)*)\s*$/;

/** Python's `int()` of a JSON value; null where it raises ValueError or TypeError. */
function pythonInt(value: unknown, index: number): number | null {
  if (typeof value === 'boolean') return value ? 1 : 0;
  if (typeof value === 'string') {
    const match = PYTHON_INT.exec(value);
    if (match === null) return null;
    const n = Number(match[2].replaceAll('_', ''));
    return match[1] === '-' ? -n : n;
  }
  if (typeof value !== 'number' || Number.isNaN(value)) return null;
  if (!Number.isFinite(value)) {
    throw new DataError('ERR_BOX', 'a box coordinate is infinite', {
      key: `vlm_rewards[${index}].bbox`,
      expected: 'finite numbers',
      found: String(value),
    });
  }
  return Math.trunc(value);
}

/** The box as the released code reads it, or the reason why it is skipped. */
function pythonBox(bbox: unknown, index: number): Box | string {
  if (!Array.isArray(bbox) || bbox.length !== 4) return notABox(bbox);
  const box: number[] = [];
  for (const value of bbox) {
    const n = pythonInt(value, index);
    if (n === null) return notABox(bbox);
    box.push(n);
  }
  return orderedBox(box as Box);
}

/** The box as four finite numbers, fractions kept, or the reason why it is skipped. */
function plainBox(bbox: unknown): Box | string {
  if (!Array.isArray(bbox) || bbox.length !== 4) return notABox(bbox);
  if (!bbox.every((n) => typeof n === 'number' && Number.isFinite(n))) return notABox(bbox);
  return orderedBox(bbox as Box);
}

function notABox(bbox: unknown): string {
  return `the box is not a list of four numbers (${inspectJson(bbox)})`;
}

function orderedBox(box: Box): Box | string {
  return box[0] < box[2] && box[1] < box[3] ? box : `the box is empty (${inspectJson(box)})`;
}

/** The part of a box inside the map, with cuts and misses reported. */
function cutBox(box: Box, map: RewardMap, index: number, object: string | null): Box | null {
  const inside: Box = [
    Math.max(0, box[0]),
    Math.max(0, box[1]),
    Math.min(map.width, box[2]),
    Math.min(map.height, box[3]),
  ];
  const place = `(${inspectJson(box)} in ${map.width}x${map.height})`;
  if (inside[0] >= inside[2] || inside[1] >= inside[3]) {
    map.skipped.push({ index, object, reason: `the box lies outside the image ${place}` });
    return null;
  }
  if (inside.some((n, i) => n !== box[i])) {
    map.cut.push({ index, object, reason: `the box reaches over the image border ${place}` });
  }
  return inside;
}

function clampScore(score: number, map: RewardMap): number {
  if (Math.abs(score) <= 1) return score;
  map.outOfRange += 1;
  return Math.sign(score);
}
