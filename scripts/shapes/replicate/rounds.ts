import path from 'node:path';
import { exportStage } from '../../../lib/app/stages/export-stage.js';
import type { Arm } from './arms.js';
import { type CurveSettings, measureModel } from './curve.js';
import { makePool } from './pool.js';
import { type Estimate, estimate } from './statistics.js';
import { trainArm } from './train-arm.js';

/** Who judges the pictures of later rounds. */
export const JUDGES = ['frozen', 'current'] as const;
export type JudgeChoice = (typeof JUDGES)[number];

/** Exact pictures before the first and after every round. */
export interface Rounds {
  judge: JudgeChoice;
  points: Array<{ seen: Estimate; heldOut: Estimate }>;
}

export interface RoundOptions extends CurveSettings {
  model: string;
  judge: JudgeChoice;
  folder: string;
  seed: number;
  rounds: number;
  poolPictures: number;
  signal?: AbortSignal;
  onNote?: (note: string) => void;
}

/**
 * Draws, judges and trains several times over; each round starts from the model of the one before. The rounds
 * share the pictures and the work of a single run, so that what differs is that pictures and scores are fresh.
 */
export async function runRounds(
  arm: Arm,
  options: RoundOptions,
): Promise<Array<{ seen: number; heldOut: number }>> {
  const { folder, seed, signal, marks, rounds } = options;
  const work = marks[marks.length - 1];
  const steps = Math.round(work / rounds / arm.passes);
  let { model } = options;
  const points: Array<{ seen: number; heldOut: number }> = [];
  for (let round = 1; round <= rounds; round++) {
    options.onNote?.(`${options.judge} judge, seed ${seed}, round ${round}`);
    const place = path.join(folder, `round-${round}`);
    const pool = await makePool({
      out: path.join(place, 'pool'),
      model,
      judge: options.judge === 'frozen' ? options.model : model,
      // Fresh prompts and noise in every round.
      seed: seed + 100 * round,
      pictures: Math.round(options.poolPictures / rounds),
      signal,
    });
    const report = await trainArm(arm, pool, {
      ...options,
      model,
      folder: place,
      steps,
      saveEvery: steps,
    });
    const exported = await exportStage({
      checkpoint: report.checkpoint as string,
      model,
      out: path.join(place, 'export'),
      weights: 'raw',
      dtype: 'float32',
      overwrite: true,
      signal,
    });
    model = exported.output;
    const measured = await measureModel(model, seed, options, path.join(place, 'figures.json'));
    points.push(measured.points[0]);
  }
  return points;
}

/** Joins the seeds' rounds, with the base model's figures of each seed in front. */
export function joinRounds(
  judge: JudgeChoice,
  before: ReadonlyArray<{ seen: number; heldOut: number }>,
  seeds: ReadonlyArray<ReadonlyArray<{ seen: number; heldOut: number }>>,
): Rounds {
  const courses = seeds.map((rounds, i) => [before[i], ...rounds]);
  const points = courses[0].map((_, i) => ({
    seen: estimate(courses.map((course) => course[i].seen)),
    heldOut: estimate(courses.map((course) => course[i].heldOut)),
  }));
  return { judge, points };
}
