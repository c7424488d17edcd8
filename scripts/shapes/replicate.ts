import path from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { lossCurveSvg } from '../../lib/app/loss-curve.js';
import { resolveModelDir, SHAPES_MODEL } from '../../lib/app/stages/model-session.js';
import { setNumThreads } from '../../lib/torch/index.js';
import { messageOf, SrumError } from '../../lib/util/errors.js';
import { writeFileAtomic } from '../../lib/util/files.js';
import { writeJsonFile } from '../../lib/util/jsonl.js';
import { type Progress, startProgress } from '../../lib/util/progress.js';
import { ARMS, isAccepted } from './replicate/arms.js';
import { type Curve, type CurveSettings, measureBase, runArm } from './replicate/curve.js';
import { learningCurves, type Results, resultsDocument } from './replicate/document.js';
import { judgeAccuracy, makePool } from './replicate/pool.js';
import { JUDGES, joinRounds, type Rounds, runRounds } from './replicate/rounds.js';

// The experiment of the paper in miniature: every arm from the same start on the same pictures, several seeds. All of it
// is resumable: what is in the folder is not done again.

interface Options {
  out: string;
  model: string;
  seeds: number;
  arms?: string[];
  rounds: number;
  roundsArm: string;
  marks: number[];
  prompts: number;
  pictures: number;
  pool: number;
  lr: number;
  threads: number;
  quick?: boolean;
  document?: string;
}

function whole(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError('a whole number >= 0');
  return value;
}

function list(text: string): number[] {
  const values = text.split(',').map(whole);
  if (values.some((v, i) => v < 1 || (i > 0 && v <= values[i - 1])))
    throw new InvalidArgumentError('rising whole numbers from 1, separated by commas');
  return values;
}

function names(text: string): string[] {
  const chosen = text.split(',');
  const unknown = chosen.find((name) => !ARMS.some((arm) => arm.name === name));
  if (unknown !== undefined)
    throw new InvalidArgumentError(`"${unknown}" is none of ${ARMS.map((a) => a.name).join(', ')}`);
  return chosen;
}

/** One bar at a time. */
class Bars {
  #name = '';
  #bar: Progress | null = null;

  update(name: string, done: number, total: number): void {
    if (name !== this.#name) {
      this.stop();
      this.#bar = startProgress(name, { unit: 'steps' });
      this.#name = name;
    }
    this.#bar?.update(done, total);
  }

  stop(): void {
    this.#bar?.stop();
    this.#bar = null;
    this.#name = '';
  }
}

/** A run of seconds for tests: one seed, three arms, two rounds of a few pictures. */
const QUICK: Partial<Options> = {
  seeds: 1,
  arms: ['sft', 'paper', 'nft'],
  rounds: 1,
  marks: [1, 2],
  prompts: 4,
  pictures: 2,
  pool: 6,
};

async function main(given: Options): Promise<void> {
  const o = given.quick ? { ...given, ...QUICK } : given;
  setNumThreads(o.threads);
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  const { signal } = stop;
  const model = resolveModelDir(o.model);
  const settings: CurveSettings = {
    marks: o.marks,
    prompts: o.prompts,
    pictures: o.pictures,
    lr: o.lr,
  };
  const bars = new Bars();
  const arms = ARMS.filter(({ name }) => o.arms === undefined || o.arms.includes(name));
  const base = await measureBase(model, settings, path.join(o.out, 'base.json'));
  const curves: Curve[] = [];
  const pools: Array<Results['pools'][number]> = [];
  for (let seed = 0; seed < o.seeds; seed++) {
    const folder = path.join(o.out, `seed-${seed}`);
    const pool = await makePool({
      out: path.join(folder, 'pool'),
      model,
      seed,
      pictures: o.pool,
      signal,
      onItem: (done, total, stage) => bars.update(`seed ${seed}, ${stage}`, done, total),
    });
    const share = (of: (r: (typeof pool.records)[number]) => boolean) =>
      pool.records.filter(of).length / pool.records.length;
    pools.push({
      ...judgeAccuracy(pool.records),
      exact: share((r) => r.exact),
      accepted: share((r) => isAccepted(r.own)),
    });
    for (const arm of arms) {
      const curve = await runArm(arm, pool, {
        ...settings,
        model,
        seed,
        folder: path.join(folder, arm.name),
        signal,
        onStep: (step, total) => bars.update(`seed ${seed}, ${arm.name}`, step, total),
      });
      curves.push(curve);
      bars.stop();
      const { seen, heldOut } = curve.points[curve.points.length - 1];
      console.log(
        `seed ${seed} ${arm.name}: ${(100 * seen).toFixed(1)} % seen, ${(100 * heldOut).toFixed(1)} % held out`,
      );
    }
  }
  const rounds = await allRounds(o, model, settings, base, signal);
  const file = o.document ?? path.join(o.out, 'shapes.md');
  const plot = `${path.basename(file, '.md')}.svg`;
  const results: Results = {
    settings: { ...settings, seeds: o.seeds, poolPictures: o.pool },
    base,
    curves,
    pools,
    rounds,
    command: given.quick ? 'npm run shapes:replicate -- --quick' : 'npm run shapes:replicate',
    plot,
  };
  writeJsonFile(path.join(o.out, 'results.json'), results);
  writeFileAtomic(
    path.join(path.dirname(file), plot),
    lossCurveSvg(learningCurves(results), {
      title: 'Exact pictures, seen prompts',
      unit: '%',
      log: false,
      width: 900,
      height: 520,
    }),
  );
  writeFileAtomic(file, resultsDocument(results));
  console.log(`written: ${file}`);
}

async function allRounds(
  o: Options,
  model: string,
  settings: CurveSettings,
  base: Curve,
  signal: AbortSignal,
): Promise<Rounds[]> {
  const arm = ARMS.find(({ name }) => name === o.roundsArm);
  if (o.rounds === 0 || arm === undefined) return [];
  const all: Rounds[] = [];
  for (const judge of JUDGES) {
    const seeds = [];
    for (let seed = 0; seed < o.seeds; seed++) {
      const folder = path.join(o.out, `rounds-${judge}`, `seed-${seed}`);
      const options = { ...settings, model, judge, folder, seed, rounds: o.rounds, signal };
      seeds.push(
        await runRounds(arm, {
          ...options,
          poolPictures: o.pool,
          onNote: (note) => console.error(note),
        }),
      );
    }
    all.push(joinRounds(judge, base.points[0], seeds));
  }
  return all;
}

const program = new Command('shapes:replicate')
  .description('compare objectives of self-reward on the Shapes model, with an exact oracle')
  .option('--out <dir>', 'folder of everything', 'runs/replicate')
  .option('--model <dir>', 'model to start from', SHAPES_MODEL)
  .option('--document <file>', 'Markdown file to write (default: <out>/shapes.md)')
  .option('--seeds <n>', 'seeds', whole, 5)
  .option('--arms <names>', `some of ${ARMS.map((a) => a.name).join(',')} (default: all)`, names)
  .option('--marks <steps>', 'steps at which the arms are measured', list, [150, 300, 600, 900])
  .option('--prompts <n>', 'prompts of each set to measure with', whole, 256)
  .option('--pictures <n>', 'pictures to ask about', whole, 100)
  .option('--pool <n>', 'pictures to learn from', whole, 1024)
  .option('--lr <rate>', 'learning rate', Number, 2e-4)
  .option('--rounds <n>', 'rounds of self-improvement; 0 for none', whole, 3)
  .option('--rounds-arm <name>', 'arm of the rounds', 'nft')
  .option('--threads <n>', 'threads of the CPU operators', whole, 1)
  .option('--quick', 'a run of seconds, to see that all of it works');

try {
  await main(program.parse().opts<Options>());
} catch (error) {
  if (error instanceof Error && error.name === 'AbortError') {
    console.error('shapes: stopped; the same command goes on from here');
    process.exitCode = 130;
  } else if (error instanceof SrumError) {
    console.error(`shapes: ${messageOf(error)} [${error.code}]`);
    process.exitCode = 1;
  } else throw error;
}
