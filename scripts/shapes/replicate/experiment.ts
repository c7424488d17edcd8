import path from 'node:path';
import { type Arm, isAccepted } from './arms.js';
import { type Curve, type CurveSettings, measureModel, runArm } from './curve.js';
import type { Results } from './document.js';
import { judgeAccuracy, makePool, type Pool } from './pool.js';
import { JUDGES, joinRounds, type Rounds, runRounds } from './rounds.js';

/** What is compared, and how far. */
export interface Experiment {
  /** Folder of everything; what is in it is not done again. */
  out: string;
  /** Directory of the model all arms start from. */
  model: string;
  seeds: number;
  arms: readonly Arm[];
  /** Rounds of self-improvement; 0 for none. */
  rounds: number;
  roundsArm: Arm;
  /** Pictures to learn from. */
  pool: number;
  settings: CurveSettings;
  signal: AbortSignal;
  /** Called as work goes on, with the name of what is done. */
  onProgress: (name: string, done: number, total: number) => void;
  /** Called with a line about something finished. */
  onNote: (line: string) => void;
}

/** The parts of an experiment, each of which needs those before it. */
export const PHASES = ['pools', 'arms', 'rounds'] as const;
export type Phase = (typeof PHASES)[number];

/** Which of the tasks of a phase are to be done; tasks are numbered from 0. */
type Chosen = (task: number) => boolean;

/** Does the chosen tasks of a phase. They do not depend on one another, so processes can share them. */
export async function runPhase(x: Experiment, phase: Phase, chosen: Chosen): Promise<void> {
  if (phase === 'pools') {
    for (const seed of seedsOf(x)) {
      if (!chosen(seed)) continue;
      await baseOf(x, seed);
      await poolOf(x, seed);
    }
  } else if (phase === 'arms') {
    await armCurves(x, chosen);
  } else {
    await roundsOf(x, chosen);
  }
}

/** Does all that is not done yet and gathers the results. */
export async function runExperiment(
  x: Experiment,
): Promise<Pick<Results, 'bases' | 'curves' | 'pools' | 'rounds'>> {
  const all = () => true;
  const bases: Curve[] = [];
  const pools: Array<Results['pools'][number]> = [];
  for (const seed of seedsOf(x)) {
    bases.push(await baseOf(x, seed));
    const { records } = await poolOf(x, seed);
    const share = (of: (r: (typeof records)[number]) => boolean) =>
      records.filter(of).length / records.length;
    pools.push({
      ...judgeAccuracy(records),
      exact: share((r) => r.exact),
      accepted: share((r) => isAccepted(r.own)),
    });
  }
  const curves = await armCurves(x, all);
  const rounds = await roundsOf(x, all);
  const joined: Rounds[] = JUDGES.flatMap((judge) => {
    const seeds = rounds.filter((r) => r.judge === judge).map(({ points }) => points);
    return seeds.length === 0
      ? []
      : [
          joinRounds(
            judge,
            bases.map(({ points }) => points[0]),
            seeds,
          ),
        ];
  });
  return { bases, curves, pools, rounds: joined };
}

const seedsOf = ({ seeds }: Experiment): number[] => Array.from({ length: seeds }, (_, i) => i);

const seedFolder = ({ out }: Experiment, seed: number): string => path.join(out, `seed-${seed}`);

function baseOf(x: Experiment, seed: number): Promise<Curve> {
  return measureModel(x.model, seed, x.settings, path.join(seedFolder(x, seed), 'base.json'));
}

function poolOf(x: Experiment, seed: number): Promise<Pool> {
  return makePool({
    out: path.join(seedFolder(x, seed), 'pool'),
    model: x.model,
    seed,
    pictures: x.pool,
    signal: x.signal,
    onItem: (done, total, stage) => x.onProgress(`seed ${seed}, ${stage}`, done, total),
  });
}

/** The curves of the chosen pairs of seed and arm. */
async function armCurves(x: Experiment, chosen: Chosen): Promise<Curve[]> {
  const { settings, model, signal } = x;
  const curves: Curve[] = [];
  for (const seed of seedsOf(x)) {
    const mine = x.arms.filter((_, i) => chosen(seed * x.arms.length + i));
    if (mine.length === 0) continue;
    const pool = await poolOf(x, seed);
    for (const arm of mine) {
      const curve = await runArm(arm, pool, {
        ...settings,
        model,
        seed,
        folder: path.join(seedFolder(x, seed), arm.name),
        signal,
        onStep: (step, total) => x.onProgress(`seed ${seed}, ${arm.name}`, step, total),
      });
      curves.push(curve);
      const { seen, heldOut } = curve.points[curve.points.length - 1];
      const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
      x.onNote(`seed ${seed} ${arm.name}: ${percent(seen)} seen, ${percent(heldOut)} held out`);
    }
  }
  return curves;
}

/** The rounds of the chosen pairs of judge and seed. */
async function roundsOf(x: Experiment, chosen: Chosen) {
  const { settings, model, signal, rounds, onNote } = x;
  const done = [];
  for (const [i, judge] of JUDGES.entries()) {
    for (const seed of seedsOf(x)) {
      if (rounds === 0 || !chosen(i * x.seeds + seed)) continue;
      const folder = path.join(x.out, `rounds-${judge}`, `seed-${seed}`);
      const options = { ...settings, model, judge, folder, seed, rounds, signal, onNote };
      done.push({
        judge,
        points: await runRounds(x.roundsArm, { ...options, poolPictures: x.pool }),
      });
    }
  }
  return done;
}
