import path from 'node:path';
import { type Prompt, readPrompts } from '../../data/prompts.js';
import { probePrompts } from '../../eval/shapes/assess.js';
import { SHAPES_SAMPLER } from '../../eval/shapes/measure.js';
import { packageRoot } from '../../native/paths.js';
import { setNumThreads } from '../../torch/index.js';
import { makeFolder } from '../../util/files.js';
import { writeDemoReport } from '../demo-report.js';
import { type DemoFigures, demoFigures } from './demo-figures.js';
import { type LoopOptions, type LoopReport, loopStage } from './loop-stage.js';
import { resolveModelDir, SHAPES_MODEL } from './model-session.js';

export interface DemoOptions {
  out: string;
  rounds: number;
  /** Own prompt list; default: prompts of the Shapes world. */
  prompts?: string;
  limit?: number;
  /** Training steps per round; default: the recipe's. */
  steps?: number;
  /** Prompts beside those of the loop that the oracle judges before and after. */
  fresh: number;
  seed: number;
  threads?: number;
  force?: boolean;
  signal?: AbortSignal;
  hooks?: Pick<LoopOptions, 'onStage' | 'onItem' | 'onStep' | 'onNote'> & {
    /** Called while the oracle's pictures are drawn. */
    onMeasure?: (done: number, total: number) => void;
  };
}

export interface DemoReport {
  out: string;
  /** Null when the run was stopped before its end. */
  report: string | null;
  interrupted: boolean;
  loop: LoopReport;
  /** Null when the run was stopped before its end. */
  figures: DemoFigures | null;
}

/** Prompts of the loop. */
const PROMPTS = 1024;

/** What the demo's stages are told; wording, proposer and form of the scores come with the model. */
export const DEMO_SETTINGS = {
  inference: SHAPES_SAMPLER,
  scoring: { maxRegions: 5 },
};

/** Runs the loop on the Shapes model and tells about it in `report.html`. */
export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  // The work is too small to be shared out, and one thread gives the same numbers on every machine.
  setNumThreads(options.threads ?? 1);
  const { out, seed, signal } = options;
  const own = options.prompts === undefined ? shapesPrompts(seed) : readPrompts(options.prompts);
  makeFolder(out);
  const model = resolveModelDir(SHAPES_MODEL);
  const prompts = own.slice(0, options.limit);
  const loop = await loopStage({
    ...options.hooks,
    ...DEMO_SETTINGS,
    model,
    device: 'cpu',
    prompts,
    out,
    rounds: options.rounds,
    seed,
    numImages: 1,
    recipe: path.join(packageRoot(), 'assets', 'recipes', 'shapes-demo.yaml'),
    overrides: options.steps === undefined ? {} : { total_steps: options.steps },
    weights: 'raw',
    exportDtype: 'float32',
    force: options.force,
    signal,
  });
  const unfinished = { out, report: null, interrupted: true, loop, figures: null };
  if (loop.interrupted) return unfinished;
  const { onMeasure: onProgress } = options.hooks ?? {};
  const { fresh } = options;
  const figures = await demoFigures({ out, prompts, loop, model, seed, fresh, signal, onProgress });
  const report = await writeDemoReport({ out, prompts, loop, model, seed, figures });
  return { out, report, interrupted: false, loop, figures };
}

/** Prompts of the world's grammar, seen in the model's training, as a prompt list. */
function shapesPrompts(seed: number): Prompt[] {
  return probePrompts(seed, PROMPTS, false).map(({ text, family }, i) => ({
    Question: text,
    Category: family,
    Question_id: i + 1,
    original_index: i,
  }));
}
