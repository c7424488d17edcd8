import path from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { resolveModelDir, SHAPES_MODEL } from '../../lib/app/stages/model-session.js';
import { setNumThreads } from '../../lib/torch/index.js';
import { messageOf, SrumError } from '../../lib/util/errors.js';
import { writeFileAtomic } from '../../lib/util/files.js';
import { writeJsonFile } from '../../lib/util/jsonl.js';
import { type Progress, startProgress } from '../../lib/util/progress.js';
import { ARMS, type Arm } from './replicate/arms.js';
import { WORK_UNIT } from './replicate/curve.js';
import { type Results, resultsDocument } from './replicate/document.js';
import { type Experiment, runExperiment, runPhase } from './replicate/experiment.js';
import { resultsPlot } from './replicate/plot.js';
import { holdSettings } from './replicate/settings.js';
import { type Part, parsePart, shareOut } from './replicate/workers.js';

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
  workers: number;
  part?: Part;
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
  if (values.some((v, i) => v < 1 || v % WORK_UNIT !== 0 || (i > 0 && v <= values[i - 1])))
    throw new InvalidArgumentError(`rising multiples of ${WORK_UNIT}, separated by commas`);
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
  marks: [12, 24],
  prompts: 4,
  pictures: 2,
  pool: 6,
};

function partOf(text: string): Part {
  const part = parsePart(text);
  if (part === null) throw new InvalidArgumentError('a phase and a share of it, such as arms:0/2');
  return part;
}

async function main(given: Options): Promise<void> {
  const o = given.quick ? { ...given, ...QUICK } : given;
  setNumThreads(o.threads);
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  const { signal } = stop;
  const { part } = o;
  const bars = new Bars();
  const experiment: Experiment = {
    out: o.out,
    model: resolveModelDir(o.model),
    seeds: o.seeds,
    arms: ARMS.filter(({ name }) => o.arms === undefined || o.arms.includes(name)),
    rounds: o.rounds,
    roundsArm: ARMS.find(({ name }) => name === o.roundsArm) as Arm,
    pool: o.pool,
    settings: { marks: o.marks, prompts: o.prompts, pictures: o.pictures, lr: o.lr },
    signal,
    // Several bars on one terminal would overwrite each other.
    onProgress: part === undefined ? (...work) => bars.update(...work) : () => undefined,
    onNote: (line) => {
      bars.stop();
      console.log(line);
    },
  };
  if (part !== undefined) {
    await runPhase(experiment, part.phase, (task) => task % part.of === part.index);
    return;
  }
  holdSettings(experiment, o.threads);
  if (o.workers > 1) await shareOut(o.workers, signal);
  const results: Results = {
    settings: { ...experiment.settings, seeds: o.seeds, poolPictures: o.pool },
    ...(await runExperiment(experiment)),
    command: commandLine(),
    plot: '',
  };
  bars.stop();
  writeDocument(results, o.document ?? path.join(o.out, 'shapes.md'), o.out);
}

/** Options that change where or how fast, but not what comes out. */
const ELSEWHERE = ['out', 'document', 'workers', 'part'];

/** What was asked for, without the folders of this machine. */
function commandLine(): string {
  const given = program.options.flatMap((option) => {
    const name = option.attributeName();
    if (ELSEWHERE.includes(name) || program.getOptionValueSource(name) !== 'cli') return [];
    const value = program.getOptionValue(name);
    if (value === true) return [`--${option.name()}`];
    return [`--${option.name()} ${name === 'model' ? path.basename(value) : value}`];
  });
  return ['npm run shapes:replicate', ...(given.length > 0 ? ['--', ...given] : [])].join(' ');
}

/** Writes figures, plot and document. */
function writeDocument(given: Results, file: string, out: string): void {
  const results = { ...given, plot: `${path.basename(file, '.md')}.svg` };
  writeJsonFile(path.join(out, 'results.json'), results);
  writeFileAtomic(path.join(path.dirname(file), results.plot), resultsPlot(results));
  writeFileAtomic(file, resultsDocument(results));
  console.log(`written: ${file}`);
}

const program = new Command('shapes:replicate')
  .description('compare objectives of self-reward on the Shapes model, with an exact oracle')
  .option('--out <dir>', 'folder of everything', 'runs/replicate')
  .option('--model <dir>', 'model to start from', SHAPES_MODEL)
  .option('--document <file>', 'Markdown file to write (default: <out>/shapes.md)')
  .option('--seeds <n>', 'seeds', whole, 5)
  .option('--arms <names>', `some of ${ARMS.map((a) => a.name).join(',')} (default: all)`, names)
  .option(
    '--marks <work>',
    'forward passes of a batch (a plain step is 3) after which the arms are measured',
    list,
    [300, 600, 1200],
  )
  .option('--prompts <n>', 'prompts of each set to measure with', whole, 256)
  .option('--pictures <n>', 'pictures to ask about', whole, 100)
  .option('--pool <n>', 'pictures to learn from', whole, 2048)
  .option('--lr <rate>', 'learning rate', Number, 1e-4)
  .option('--rounds <n>', 'rounds of self-improvement; 0 for none', whole, 3)
  .option('--rounds-arm <name>', 'arm of the rounds', 'nft')
  .option('--threads <n>', 'threads of the CPU operators', whole, 1)
  .option('--workers <n>', 'processes that share the work', whole, 1)
  .addOption(new Option('--part <share>', 'the share of one process').argParser(partOf).hideHelp())
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
