import fs from 'node:fs';
import path from 'node:path';
import { openModel } from '../../../lib/app/stages/model-session.js';
import type { TrainReport } from '../../../lib/app/stages/train-stage.js';
import {
  drawPictures,
  type Exactness,
  exactness,
  measureUnderstanding,
  Oracle,
  probePrompts,
  renderedPictures,
  understandingShare,
} from '../../../lib/eval/shapes/index.js';
import { isVisionKey } from '../../../lib/models/bagel/state-keys.js';
import { BagelJudgeModel } from '../../../lib/reward/bagel-judge-model.js';
import { TokenVocabulary } from '../../../lib/reward/token-vocabulary.js';
import { verifyCheckpoint } from '../../../lib/train/checkpoint.js';
import { readMetrics } from '../../../lib/train/metrics.js';
import { loadModelFrom } from '../../../lib/train/resume.js';
import { readJsonFile, writeJsonFile } from '../../../lib/util/jsonl.js';
import { seededRandom } from '../../../lib/util/seeded-random.js';
import { ARMS, type Arm } from './arms.js';
import type { Pool } from './pool.js';
import { trainArm } from './train-arm.js';

/** How much is trained and measured. */
export interface CurveSettings {
  /**
   * Work after which the model is measured, in forward passes of a batch; the last ends the run. Work and not
   * steps, since some arms do more in a step. Multiples of {@link WORK_UNIT}.
   */
  marks: readonly number[];
  /** Prompts of each set. */
  prompts: number;
  /** Pictures the model is asked about at the end. */
  pictures: number;
  lr: number;
}

/** Work that is a whole number of steps of every arm. */
export const WORK_UNIT = ARMS.map(({ passes }) => passes).reduce(
  (a, b) => (a * b) / greatestCommonDivisor(a, b),
);

/** The model at one moment. */
export interface CurvePoint {
  /** Forward passes' worth of work done. */
  work: number;
  /** Share of exact pictures. */
  seen: number;
  heldOut: number;
}

/** The course of an arm with one seed. */
export interface Curve {
  arm: string;
  seed: number;
  records: number;
  points: CurvePoint[];
  /** Right answers about rendered pictures at the end. */
  understanding: number;
  /** Mean share of tokens with a negative weight. */
  negative: number;
  /** Wall time of training. */
  seconds: number;
}

/**
 * Where the prompts, noise and pictures to measure a seed's models with come from: the same for all its arms and
 * its base model, others for each seed, so that an interval over seeds is one over prompts too.
 */
const probeOf = (seed: number): number => 77 + 1000 * seed;

/** Measures a model that is not trained any further; the base model's figures are point 0 of every curve of a seed. */
export async function measureModel(
  model: string,
  seed: number,
  settings: CurveSettings,
  file: string,
): Promise<Curve> {
  if (fs.existsSync(file)) return readJsonFile(file) as Curve;
  const { point, understanding } = await measure(model, null, { work: 0, seed }, settings, true);
  const curve: Curve = {
    arm: 'base',
    seed,
    records: 0,
    points: [point],
    understanding: understanding as number,
    negative: 0,
    seconds: 0,
  };
  writeJsonFile(file, curve);
  return curve;
}

/**
 * Trains an arm and measures it at every mark. What is done is kept in `<folder>/curve.json`, and an
 * interrupted run goes on from its last checkpoint.
 */
export async function runArm(
  arm: Arm,
  pool: Pool,
  options: CurveSettings & {
    model: string;
    seed: number;
    folder: string;
    signal?: AbortSignal;
    onStep?: (step: number, total: number) => void;
  },
): Promise<Curve> {
  const { folder, seed, model, marks, signal } = options;
  const file = path.join(folder, 'curve.json');
  if (fs.existsSync(file)) return readJsonFile(file) as Curve;
  const steps = marks.map((work) => work / arm.passes);
  const report = await trainArm(arm, pool, {
    ...options,
    steps: steps[steps.length - 1],
    saveEvery: steps.reduce(greatestCommonDivisor),
  });
  const points: CurvePoint[] = [];
  let understanding = Number.NaN;
  for (const [i, work] of marks.entries()) {
    const last = i === marks.length - 1;
    const checkpoint = checkpointAt(report, steps[i]);
    const measured = await measure(model, checkpoint, { work, seed }, options, last);
    points.push(measured.point);
    if (measured.understanding !== null) understanding = measured.understanding;
    signal?.throwIfAborted();
  }
  const metrics = readMetrics(report.metrics);
  const negative =
    metrics.reduce((sum, m) => sum + m.negative_token_fraction, 0) / Math.max(1, metrics.length);
  const seconds = metrics.reduce((sum, m) => sum + m.tokens / m.tokens_per_second, 0);
  const curve = {
    arm: arm.name,
    seed,
    records: report.data.usable,
    points,
    understanding,
    negative,
    seconds,
  };
  writeJsonFile(file, curve);
  fs.rmSync(path.dirname(report.checkpoint as string), { recursive: true, force: true });
  return curve;
}

function checkpointAt(report: TrainReport, step: number): string {
  return path.join(path.dirname(report.checkpoint as string), String(step).padStart(7, '0'));
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** Measures the model with the weights of a checkpoint, or as it is. */
async function measure(
  model: string,
  checkpoint: string | null,
  { work, seed }: { work: number; seed: number },
  { prompts: count, pictures }: CurveSettings,
  asking: boolean,
): Promise<{ point: CurvePoint; understanding: number | null }> {
  const session = openModel({ model, device: 'cpu' });
  const oracle = new Oracle();
  const probe = probeOf(seed);
  try {
    const { parts } = session;
    if (checkpoint !== null) {
      const whole = await verifyCheckpoint(checkpoint);
      const trained = [...parts.model.namedParameters()].filter(([key]) => !isVisionKey(key));
      loadModelFrom(new Map(trained), whole, false);
    }
    const share = ({ exact, total }: Exactness) => exact / total;
    const draw = async (heldOut: boolean) => {
      const prompts = probePrompts(probe, count, heldOut);
      return share(exactness(oracle, prompts, await drawPictures(parts, prompts, { seed: probe })));
    };
    const point = { work, seen: await draw(false), heldOut: await draw(true) };
    if (!asking) return { point, understanding: null };
    const judge = new BagelJudgeModel(parts, new TokenVocabulary(session.tokenizer.tokenBytes()));
    const score = await measureUnderstanding(
      judge,
      renderedPictures(probe, pictures, false),
      seededRandom(probe, 'requests'),
    );
    return { point, understanding: understandingShare(score) };
  } finally {
    oracle.dispose();
    session.dispose();
  }
}
