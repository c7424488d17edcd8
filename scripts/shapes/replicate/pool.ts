import path from 'node:path';
import { generateStage, OUTPUT_FILE } from '../../../lib/app/stages/generate-stage.js';
import { REWARDS_FILE, scoreStage } from '../../../lib/app/stages/score-stage.js';
import { readImage } from '../../../lib/data/images.js';
import { GLOBAL_REWARD_NAME, readRewardRecords } from '../../../lib/data/rewards.js';
import {
  isExact,
  layoutTruth,
  Oracle,
  type PixelBox,
  parsePrompt,
  probePrompts,
  regionTruth,
  SHAPES_SAMPLER,
  type ShapeObject,
  type ShapesPrompt,
} from '../../../lib/eval/shapes/index.js';
import type { TrainingRecord } from '../../../lib/reward/training-record.js';
import { DataError } from '../../../lib/util/errors.js';
import type { PoolRecord } from './arms.js';

/** What a seed's arms learn from. */
export interface PoolOptions {
  /** Folder of the pool; an unfinished one is gone on with. */
  out: string;
  /** Model that draws. */
  model: string;
  /** Model that judges; default: the one that draws. */
  judge?: string;
  seed: number;
  pictures: number;
  signal?: AbortSignal;
  onItem?: (done: number, total: number, stage: string) => void;
}

/** A pool on disk. */
export interface Pool {
  records: PoolRecord[];
  /** Folder of the pictures. */
  images: string;
}

/** Draws and scores the pictures of a seed with the stages of `srum generate` and `srum score`. */
export async function makePool(options: PoolOptions): Promise<Pool> {
  const { model, seed, pictures, signal } = options;
  const images = path.join(options.out, 'generate');
  const score = path.join(options.out, 'score');
  const onItem = (stage: string) => (event: { settled: number; total: number }) =>
    options.onItem?.(event.settled, event.total, stage);
  const prompts = probePrompts(1000 + seed, pictures, false).map(({ text, family }, i) => ({
    Question: text,
    Category: family,
    Question_id: i + 1,
    original_index: i,
  }));
  await generateStage({
    model,
    device: 'cpu',
    prompts,
    out: images,
    seed,
    numImages: 1,
    inference: SHAPES_SAMPLER,
    signal,
    onItem: onItem('drawing'),
  });
  signal?.throwIfAborted();
  await scoreStage({
    model: options.judge ?? model,
    device: 'cpu',
    input: path.join(images, OUTPUT_FILE),
    out: score,
    seed,
    settings: { maxRegions: 5 },
    signal,
    onItem: onItem('scoring'),
  });
  signal?.throwIfAborted();
  const own = readRewardRecords(path.join(score, REWARDS_FILE)).records.map(
    ({ value }) => value as TrainingRecord,
  );
  return { records: await judged(own, images), images };
}

/** Adds the oracle's verdicts. */
async function judged(own: readonly TrainingRecord[], images: string): Promise<PoolRecord[]> {
  const oracle = new Oracle();
  try {
    const pictures = await Promise.all(
      own.map(({ bad_image_file }) => readImage(path.join(images, bad_image_file))),
    );
    return oracle.recognise(pictures).map((objects, i) => {
      const prompt = parsePrompt(own[i].prompt);
      if (prompt === null) {
        throw new DataError('ERR_PROMPT', 'a prompt of the pool is not of the grammar', {
          found: own[i].prompt,
        });
      }
      const truth = trueRecord(own[i], prompt, objects);
      return { own: own[i], truth, exact: isExact(prompt, objects) };
    });
  } finally {
    oracle.dispose();
  }
}

function trueRecord(
  record: TrainingRecord,
  prompt: ShapesPrompt,
  objects: readonly ShapeObject[],
): TrainingRecord {
  const rewards = record.vlm_rewards.map((reward) => {
    if (reward.object === GLOBAL_REWARD_NAME) {
      return { ...reward, score: layoutTruth(prompt, objects).score };
    }
    return { ...reward, ...regionTruth(prompt, objects, reward.bbox as unknown as PixelBox) };
  });
  return { ...record, vlm_rewards: rewards };
}

/** How well the judge knows its own pictures: shares of scores that are exactly the true ones. */
export function judgeAccuracy(pool: readonly PoolRecord[]): { regions: number; layouts: number } {
  const hits = { regions: [0, 0], layouts: [0, 0] };
  for (const { own, truth } of pool) {
    for (const [i, reward] of own.vlm_rewards.entries()) {
      const kind = reward.object === GLOBAL_REWARD_NAME ? hits.layouts : hits.regions;
      kind[1] += 1;
      if (reward.score === truth.vlm_rewards[i].score) kind[0] += 1;
    }
  }
  const share = ([right, all]: number[]) => right / Math.max(1, all);
  return { regions: share(hits.regions), layouts: share(hits.layouts) };
}
