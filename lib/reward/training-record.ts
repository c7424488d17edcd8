import { type FrameSize, GLOBAL_REWARD_NAME } from '../data/rewards.js';
import { DataError } from '../util/errors.js';
import type { RawRewardRecord } from './judge.js';

/** One entry of a training record. */
export interface TrainingReward {
  object: string;
  bbox: number[];
  score: number;
  reason?: string;
}

/** A line of the reward file that training reads: the reference's format plus the boxes' frame. */
export interface TrainingRecord {
  bad_image_file: string;
  good_image_file: string;
  prompt: string;
  /** The layout entry first, where there is one. */
  vlm_rewards: TrainingReward[];
  /** Frame the boxes refer to, in pixels; absent when the raw record does not tell. */
  width?: number;
  height?: number;
}

/** How a raw record becomes a training record. */
export interface FormatOptions {
  /** Prompt to train with; default: the raw record's. */
  prompt?: string;
  /** Leave out records whose layout score is exactly 0, as the released formatter does. */
  drop_zero_global?: boolean;
}

/** A training record with what was left out of it, or the reason why there is none. */
export type FormatResult =
  | { record: TrainingRecord; omitted: Array<{ region: number; reason: string }> }
  | { record: null; reason: string };

/** A raw record as it may come from a file, the reference's own files included. */
export type RawInput = Pick<RawRewardRecord, 'image_file'> &
  Partial<Omit<RawRewardRecord, 'vlm_rewards' | 'global_layout_reward'>> & {
    vlm_rewards?: ReadonlyArray<{
      identified_object?: string | null;
      score?: number | null;
      bbox?: readonly number[];
    }> | null;
    global_layout_reward?: {
      global_layout_score?: number | null;
      reason?: string | null;
      bbox?: readonly number[];
      status?: 'ok' | 'failed';
    } | null;
  };

/**
 * Turns a raw reward record into the training record: the layout score first, under the name
 * `global_layout_reward`, then the scored regions. A layout score of 0 is a verdict like any other
 * and kept; a failed one drops the record, since its regions cannot be weighed without it.
 *
 * @throws DataError for a record without image name.
 */
export function formatTrainingRecord(raw: RawInput, options: FormatOptions = {}): FormatResult {
  if (typeof raw.image_file !== 'string' || raw.image_file === '') {
    throw new DataError('ERR_RECORD', 'a raw reward record names no image', { key: 'image_file' });
  }
  const prompt = options.prompt ?? raw.prompt;
  if (typeof prompt !== 'string') return { record: null, reason: 'the prompt is not known' };
  const rewards: TrainingReward[] = [];
  const layout = raw.global_layout_reward ?? null;
  const frame = frameOf(raw);
  if (layout !== null) {
    const score = layout.global_layout_score;
    if (!isScore(score) || layout.status === 'failed') {
      return { record: null, reason: 'the layout was asked for and has no score' };
    }
    if (score === 0 && options.drop_zero_global === true) {
      return { record: null, reason: 'the layout score is 0 (drop_zero_global)' };
    }
    rewards.push({
      object: GLOBAL_REWARD_NAME,
      bbox: [...(layout.bbox ?? (frame ? [0, 0, frame.width, frame.height] : []))],
      score,
      reason: layout.reason ?? '',
    });
  }
  const omitted: Array<{ region: number; reason: string }> = [];
  for (const [i, region] of (raw.vlm_rewards ?? []).entries()) {
    if (!isScore(region.score)) omitted.push({ region: i + 1, reason: 'no score' });
    else if (region.bbox === undefined) omitted.push({ region: i + 1, reason: 'no box' });
    else {
      const object = region.identified_object || 'unnamed';
      rewards.push({ object, bbox: [...region.bbox], score: region.score });
    }
  }
  if (rewards.length === 0) return { record: null, reason: 'nothing in it has a score' };
  const record: TrainingRecord = {
    bad_image_file: raw.image_file,
    good_image_file: raw.image_file,
    prompt,
    vlm_rewards: rewards,
    ...frame,
  };
  return { record, omitted };
}

function isScore(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

/** The size of the scored image; the reference's files tell it only by the layout entry's box. */
function frameOf(raw: RawInput): FrameSize | null {
  const { width, height } = raw;
  if (width !== undefined && height !== undefined) return { width, height };
  const box = raw.global_layout_reward?.bbox;
  if (box?.length !== 4 || box[0] !== 0 || box[1] !== 0) return null;
  return { width: box[2], height: box[3] };
}
