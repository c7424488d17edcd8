import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setNumThreads } from '../../torch/index.js';
import { readMetrics, type StepMetrics } from '../../train/metrics.js';
import { loadRecipe, type Recipe, recipeHash } from '../../train/recipe.js';
import { runRecipe } from '../../train/run.js';
import type { TrainSummary } from '../../train/trainer.js';
import { readYaml } from '../../train/yaml-config.js';
import { readBytes, writeFileAtomic } from '../../util/files.js';
import { readJsonFile, writeJsonFile } from '../../util/jsonl.js';
import { type LossSeries, lossCurvePng, lossCurveSvg } from '../loss-curve.js';
import { modelFingerprint, resolveModelDir, resolvePlace } from './model-session.js';

/** The file that says that a run has reached its end. */
export const TRAINED_FILE = 'trained.json';
/** Name under which rewards given on the command line enter the recipe. */
export const REWARDS_NAME = 'rewards';

export interface TrainOptions {
  recipe: string;
  /** Options that win over the recipe's. */
  overrides?: Readonly<Record<string, unknown>>;
  /** Model directory or `tiny`; wins over the recipe's `model_path`. */
  model?: string;
  /** A reward file, registered as the data set `rewards`. */
  rewards?: string;
  /** Folder of its pictures; default: the reward file's. */
  images?: string;
  threads?: number;
  signal?: AbortSignal;
  onNote?: (note: string) => void;
  onStep?: (metrics: StepMetrics, totalSteps: number) => void;
}

/** How a training run ended. */
export interface TrainReport {
  step: number;
  total_steps: number;
  resumed_from: number;
  interrupted: boolean;
  checkpoint: string | null;
  results_dir: string;
  metrics: string;
  loss_curve: string | null;
  last: StepMetrics | null;
  data: TrainSummary['data'];
  /** Whether an earlier run had done all of it. */
  already_done: boolean;
}

/**
 * Trains by a recipe and draws the loss curve. A run that was finished before, with the same
 * recipe, model and rewards, is not touched.
 */
export async function trainStage(options: TrainOptions): Promise<TrainReport> {
  if (options.threads !== undefined) setNumThreads(options.threads);
  const recipe = recipeOf(options);
  const file = path.join(recipe.results_dir, TRAINED_FILE);
  const state = stateOf(recipe);
  const earlier = finished(file, state, recipe);
  if (earlier !== null) {
    options.onNote?.(`finished before: ${recipe.results_dir}`);
    return earlier;
  }
  const summary = await runRecipe(recipe, {
    signal: options.signal,
    onNote: options.onNote,
    onStep: options.onStep,
  });
  const report: TrainReport = {
    step: summary.step,
    total_steps: summary.totalSteps,
    resumed_from: summary.resumedFrom,
    interrupted: summary.aborted,
    checkpoint: summary.checkpoint,
    results_dir: recipe.results_dir,
    metrics: summary.metrics,
    loss_curve: await drawLossCurve(recipe.results_dir, summary.metrics),
    last: summary.last,
    data: summary.data,
    already_done: false,
  };
  if (!summary.aborted && summary.checkpoint !== null) writeJsonFile(file, { state, report });
  return report;
}

/**
 * The recipe with everything the caller decided on top of it. A recipe that names no device trains on
 * the GPU where there is one.
 */
export function recipeOf(options: TrainOptions): Recipe {
  const { rewards, images } = options;
  const written = readYaml(options.recipe).value as Record<string, unknown>;
  const overrides: Record<string, unknown> = { ...options.overrides };
  const model = options.model ?? overrides.model_path ?? written.model_path;
  if (typeof model === 'string') overrides.model_path = resolveModelDir(model);
  overrides.device ??= written.device ?? resolvePlace({}).device;
  if (rewards !== undefined) {
    const folder = images ?? path.dirname(rewards);
    const source = { jsonl_path: rewards, image_dirs: { good: folder, bad: folder } };
    overrides.dataset_info = { regional_reward: { [REWARDS_NAME]: source } };
  }
  const recipe = loadRecipe(options.recipe, overrides);
  resolvePlace({ device: recipe.device });
  return recipe;
}

/** Hash of everything a finished run depends on. */
function stateOf(recipe: Recipe): string {
  const hash = createHash('sha256');
  hash.update(`${recipeHash(recipe)}\n${modelFingerprint(recipe.model_path)}\n`);
  for (const { jsonl_path } of Object.values(recipe.dataset_info.regional_reward ?? {})) {
    if (fs.existsSync(jsonl_path)) hash.update(readBytes(jsonl_path));
  }
  return hash.digest('hex');
}

/** The report of a run that was finished before, its paths brought up to date: folders may be moved. */
function finished(file: string, state: string, recipe: Recipe): TrainReport | null {
  if (!fs.existsSync(file)) return null;
  const { state: then, report } = readJsonFile(file) as { state: string; report: TrainReport };
  if (then !== state || report.checkpoint === null || report.step !== recipe.total_steps)
    return null;
  const checkpoint = path.join(recipe.checkpoint_dir, path.basename(report.checkpoint));
  if (!fs.existsSync(checkpoint)) return null;
  const folder = recipe.results_dir;
  const here = (name: string | null): string | null =>
    name === null ? null : path.join(folder, path.basename(name));
  return {
    ...report,
    checkpoint,
    results_dir: folder,
    metrics: here(report.metrics) as string,
    loss_curve: here(report.loss_curve),
    already_done: true,
  };
}

/** `loss.svg` and `loss.png` from the metrics; null when there is nothing to draw. */
async function drawLossCurve(folder: string, metricsFile: string): Promise<string | null> {
  const series = lossSeries(metricsFile);
  if (series.every(({ points }) => points.length === 0)) return null;
  const svg = path.join(folder, 'loss.svg');
  writeFileAtomic(svg, lossCurveSvg(series));
  writeFileAtomic(path.join(folder, 'loss.png'), await lossCurvePng(series));
  return svg;
}

/** The curves of a metrics file: the whole loss and its two parts. */
export function lossSeries(metricsFile: string): LossSeries[] {
  const metrics = readMetrics(metricsFile);
  const curve = (name: string, of: (m: StepMetrics) => number | null): LossSeries => ({
    name,
    points: metrics.flatMap((m) => {
      const value = of(m);
      return value === null ? [] : [[m.step, value] as const];
    }),
  });
  return [
    curve('loss', (m) => m.loss),
    curve('reward part', (m) => m.mse_reward),
    curve('constraint part', (m) => m.mse_constraint),
    curve('cross entropy', (m) => m.ce ?? null),
  ].filter(({ points }) => points.length > 0);
}
