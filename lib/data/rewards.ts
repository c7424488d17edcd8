import { z } from 'zod';
import { DataError } from '../util/errors.js';
import { type JsonlResult, readJsonl } from '../util/jsonl.js';
import { faultDetails, keyText, schemaFaults } from '../util/schema-faults.js';

/** Name under which the score of the whole layout stands among the regional rewards of a record. */
export const GLOBAL_REWARD_NAME = 'global_layout_reward';

/** Pixels `[x0, y0, x1, y1]`, the last two exclusive. */
export type Box = [x0: number, y0: number, x1: number, y1: number];

/** One judged region of a training reward record; its box is in the frame of the saved image. */
export interface RewardRegion {
  object: string;
  bbox: Box;
  /** In [-1, 1]. */
  score: number;
  reason?: string;
}

/**
 * One line of the training reward jsonl, the output of scoring and the input of training. The
 * entries of `vlm_rewards` are only trusted after `checkRewardRecord`.
 */
export interface RewardRecord {
  bad_image_file: string;
  good_image_file: string;
  prompt?: string;
  vlm_rewards?: unknown;
  /** Size of the image the boxes refer to. */
  width?: number;
  height?: number;
}

/** Size in pixels. */
export interface FrameSize {
  width: number;
  height: number;
}

/** A fault of a reward record. */
export interface RewardProblem {
  key: string;
  reason: string;
}

const sideSchema = z.int().min(1).optional();

const recordSchema = z.looseObject({
  bad_image_file: z.string().min(1),
  good_image_file: z.string().min(1),
  prompt: z.string().optional(),
  vlm_rewards: z.unknown().optional(),
  width: sideSchema,
  height: sideSchema,
});

const entrySchema = z.looseObject({
  object: z.string().min(1),
  bbox: z.tuple([z.number(), z.number(), z.number(), z.number()]),
  score: z.number(),
  reason: z.string().nullable().optional(),
});

/** The layout entry needs no box. */
const layoutSchema = entrySchema.extend({ bbox: entrySchema.shape.bbox.optional() });

function zodProblems(error: z.ZodError, prefix: PropertyKey[], value: unknown): RewardProblem[] {
  return schemaFaults(error, value).map(({ path, expected, found }) => ({
    key: keyText([...prefix, ...path]),
    reason: `expected ${expected}, found ${found}`,
  }));
}

/**
 * The record of one jsonl line; only what every use needs is required (file names, types).
 *
 * @throws DataError naming the first key that is missing or has the wrong type.
 */
export function parseRewardRecord(value: unknown): RewardRecord {
  const parsed = recordSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new DataError('ERR_REWARD_RECORD', 'a reward record is unusable', {
    ...faultDetails(schemaFaults(parsed.error, value)[0]),
  });
}

function boxProblem(box: number[], frame: FrameSize | null): string | null {
  const [x0, y0, x1, y1] = box;
  if (!(x0 < x1 && y0 < y1)) return `the box is empty (${JSON.stringify(box)})`;
  const outside = x0 < 0 || y0 < 0 || (frame !== null && (x1 > frame.width || y1 > frame.height));
  if (!outside) return null;
  const size = frame === null ? 'image' : `image of ${frame.width}x${frame.height}`;
  return `the box reaches outside the ${size} (${JSON.stringify(box)})`;
}

function entryProblems(value: unknown, index: number, frame: FrameSize | null): RewardProblem[] {
  const place = ['vlm_rewards', index];
  const layout = (value as { object?: unknown } | null)?.object === GLOBAL_REWARD_NAME;
  const parsed = (layout ? layoutSchema : entrySchema).safeParse(value);
  if (!parsed.success) return zodProblems(parsed.error, place, value);
  const problems: RewardProblem[] = [];
  const { score, bbox } = parsed.data;
  if (Math.abs(score) > 1) {
    const reason = `the score is outside [-1, 1] (${score})`;
    problems.push({ key: keyText([...place, 'score']), reason });
  }
  const reason = bbox === undefined ? null : boxProblem(bbox, frame);
  if (reason !== null) problems.push({ key: keyText([...place, 'bbox']), reason });
  return problems;
}

/**
 * Everything wrong with a record by the rules scoring promises: a prompt, a list of regions, each with
 * an object, a finite score in [-1, 1] and a non-empty box inside the image, at most one layout entry.
 *
 * @param frame size of the image the boxes refer to; default: the record's own `width` and `height`.
 *   Without either, only negative coordinates count as outside.
 */
export function checkRewardRecord(record: RewardRecord, frame?: FrameSize): RewardProblem[] {
  const problems: RewardProblem[] = [];
  const own = frameOf(record);
  const size = frame ?? own;
  if (record.prompt === undefined || record.prompt.trim() === '') {
    problems.push({ key: 'prompt', reason: 'the prompt is missing or empty' });
  }
  if ((record.width === undefined) !== (record.height === undefined)) {
    problems.push({ key: 'width', reason: 'width and height must be given together' });
  }
  if (own !== null && size !== null && (own.width !== size.width || own.height !== size.height)) {
    const reason = `the record is for ${own.width}x${own.height}, the image is ${size.width}x${size.height}`;
    problems.push({ key: 'width', reason });
  }
  const rewards = record.vlm_rewards;
  if (!Array.isArray(rewards) || rewards.length === 0) {
    problems.push({ key: 'vlm_rewards', reason: 'the list of regions is missing or empty' });
    return problems;
  }
  let layouts = 0;
  for (const [index, entry] of rewards.entries()) {
    if ((entry as { object?: unknown } | null)?.object === GLOBAL_REWARD_NAME) layouts += 1;
    problems.push(...entryProblems(entry, index, size));
  }
  if (layouts > 1) {
    problems.push({
      key: 'vlm_rewards',
      reason: `${layouts} entries named ${GLOBAL_REWARD_NAME}`,
    });
  }
  return problems;
}

/** The frame a record declares, or null. */
export function frameOf(record: RewardRecord): FrameSize | null {
  const { width, height } = record;
  return width === undefined || height === undefined ? null : { width, height };
}

/** A box brought from one frame to another, rounded to whole pixels and never thinner than one. */
export function scaleBox(box: Box, from: FrameSize, to: FrameSize): Box {
  const [x0, x1] = scaleSpan(box[0], box[2], to.width / from.width);
  const [y0, y1] = scaleSpan(box[1], box[3], to.height / from.height);
  return [x0, y0, x1, y1];
}

function scaleSpan(start: number, end: number, factor: number): [number, number] {
  const a = Math.round(start * factor);
  const b = Math.round(end * factor);
  if (b > a) return [a, b];
  const pixel = Math.floor(((start + end) / 2) * factor);
  return [pixel, pixel + 1];
}

/**
 * Reads a training reward jsonl; malformed lines and unusable records are reported in `problems`.
 *
 * @param strict also reports, instead of returning, records that break a rule of `checkRewardRecord`.
 * @throws FileError when the file cannot be read.
 */
export function readRewardRecords(file: string, strict = false): JsonlResult<RewardRecord> {
  return readJsonl(file, (value) => {
    const record = parseRewardRecord(value);
    const problems = strict ? checkRewardRecord(record) : [];
    if (problems.length === 0) return record;
    const more = problems.length === 1 ? '' : ` (first of ${problems.length} faults)`;
    throw new DataError('ERR_REWARD_RECORD', `a reward record breaks a rule${more}`, {
      key: problems[0].key,
      found: problems[0].reason,
    });
  });
}
