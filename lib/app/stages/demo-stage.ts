import path from 'node:path';
import { readPrompts } from '../../data/prompts.js';
import { createTinyModel } from '../../models/bagel/presets.js';
import { packageRoot } from '../../native/paths.js';
import { setNumThreads } from '../../torch/index.js';
import { makeFolder } from '../../util/files.js';
import { writeDemoReport } from '../demo-report.js';
import { type LoopOptions, type LoopReport, loopStage } from './loop-stage.js';
import { tinyTokenizerDir } from './model-session.js';

export interface DemoOptions {
  out: string;
  rounds: number;
  /** Own prompt list; default: six that come with the package. */
  prompts?: string;
  limit?: number;
  /** Training steps per round; default: the recipe's. */
  steps?: number;
  seed: number;
  threads?: number;
  force?: boolean;
  signal?: AbortSignal;
  hooks?: Pick<LoopOptions, 'onStage' | 'onItem' | 'onStep' | 'onNote'>;
}

export interface DemoReport {
  out: string;
  /** Null when the run was stopped before its end. */
  report: string | null;
  interrupted: boolean;
  loop: LoopReport;
}

/** What the demo's stages are told; small enough for any CPU. */
export const DEMO_SETTINGS = {
  inference: {
    num_timesteps: 25,
    cfg_text_scale: 4,
    image_shapes: [128, 128] as [number, number],
  },
  scoring: {
    maxRegions: 4,
    think: false,
    maxObjectBytes: 16,
    maxReasonBytes: 32,
    coordinates: 'normalized' as const,
    // An untrained judge says the same of everything when it takes the likeliest word.
    doSample: true,
    textTemperature: 1,
  },
};

/** Runs the loop on the embedded tiny model and tells about it in `report.html`. */
export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  // The work is too small to be shared out, and one thread gives the same numbers on every machine.
  setNumThreads(options.threads ?? 1);
  const assets = path.join(packageRoot(), 'assets');
  const prompts = readPrompts(options.prompts ?? path.join(assets, 'tiny', 'prompts.json'));
  const { out } = options;
  makeFolder(out);
  const model = path.join(out, 'model');
  createTinyModel(model, tinyTokenizerDir());
  const recipe = path.join(assets, 'recipes', 'srum-tiny.yaml');
  const chosen = prompts.slice(0, options.limit);
  const loop = await loopStage({
    ...options.hooks,
    ...DEMO_SETTINGS,
    model,
    device: 'cpu',
    prompts: chosen,
    out,
    rounds: options.rounds,
    seed: options.seed,
    numImages: 1,
    recipe,
    overrides: options.steps === undefined ? {} : { total_steps: options.steps },
    weights: 'raw',
    exportDtype: 'float32',
    force: options.force,
    signal: options.signal,
  });
  if (loop.interrupted) return { out, report: null, interrupted: true, loop };
  const report = await writeDemoReport({ out, prompts: chosen, loop, model, seed: options.seed });
  return { out, report, interrupted: false, loop };
}
