import path from 'node:path';
import { type TrainReport, trainStage } from '../../../lib/app/stages/train-stage.js';
import { packageRoot } from '../../../lib/native/paths.js';
import { writeJsonl } from '../../../lib/util/jsonl.js';
import { seededRandom } from '../../../lib/util/seeded-random.js';
import type { Arm } from './arms.js';
import type { Pool } from './pool.js';

/** Options of the trainer that all arms share. */
export const ARM_RECIPE = path.join(packageRoot(), 'assets', 'recipes', 'shapes-demo.yaml');

/** One training of an arm. */
export interface TrainArmOptions {
  /** Model to start from. */
  model: string;
  seed: number;
  /** Folder of the arm's records, checkpoints and metrics. */
  folder: string;
  steps: number;
  /** Steps between checkpoints; all are kept. */
  saveEvery: number;
  lr: number;
  signal?: AbortSignal;
  onStep?: (step: number, total: number) => void;
}

/**
 * Trains an arm on a pool with the stage of `srum train`; an interrupted run goes on from its last
 * checkpoint, a finished one is not touched.
 *
 * @throws the signal's reason when it was stopped.
 */
export async function trainArm(
  arm: Arm,
  pool: Pool,
  options: TrainArmOptions,
): Promise<TrainReport> {
  const { model, seed, folder, lr, signal } = options;
  const rewards = path.join(folder, 'rewards.jsonl');
  writeJsonl(rewards, arm.records(pool.records, seededRandom(seed, 'arm', arm.name)));
  const report = await trainStage({
    recipe: ARM_RECIPE,
    model,
    rewards,
    images: pool.images,
    overrides: {
      ...arm.recipe,
      device: 'cpu',
      lr,
      total_steps: options.steps,
      save_every: options.saveEvery,
      keep_last: 0,
      global_seed: seed,
      data_seed: seed,
      results_dir: path.join(folder, 'train'),
    },
    signal,
    onStep: ({ step }, total) => options.onStep?.(step + 1, total),
  });
  signal?.throwIfAborted();
  return report;
}
