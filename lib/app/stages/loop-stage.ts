import fs from 'node:fs';
import path from 'node:path';
import type { Prompt } from '../../data/prompts.js';
import type { InferenceInput } from '../../generate/options.js';
import type { ExportDtype, ExportReport } from '../../train/export.js';
import type { StepMetrics } from '../../train/metrics.js';
import { DataError } from '../../util/errors.js';
import { readJsonFile } from '../../util/jsonl.js';
import { exportStage } from './export-stage.js';
import { generateStage, OUTPUT_FILE } from './generate-stage.js';
import type { ItemEvent, StageReport } from './item-stage.js';
import { type ModelOptions, resolveModelDir } from './model-session.js';
import { REWARDS_FILE, type ScoreReport, type ScoreSettings, scoreStage } from './score-stage.js';
import { type TrainReport, trainStage } from './train-stage.js';

export type LoopStageName = 'generate' | 'score' | 'train' | 'export';

export interface LoopOptions extends ModelOptions {
  prompts: readonly Prompt[];
  out: string;
  rounds: number;
  seed: number;
  numImages: number;
  recipe: string;
  overrides?: Readonly<Record<string, unknown>>;
  inference: InferenceInput;
  scoring: ScoreSettings;
  /** Pictures that are drawn, and judged, at once; default: as many as the stages choose. */
  batch?: number;
  /** Which weights go on to the next round. */
  weights: 'raw' | 'ema';
  exportDtype: ExportDtype;
  force?: boolean;
  /** Draw with the last model as well, as the next round would. Default true. */
  finalImages?: boolean;
  signal?: AbortSignal;
  onStage?: (round: number, stage: LoopStageName) => void;
  onItem?: (event: ItemEvent) => void;
  onStep?: (metrics: StepMetrics, totalSteps: number) => void;
  onNote?: (note: string) => void;
}

/** Where the stages of a round lie, and how they ended. */
export interface RoundReport {
  round: number;
  folder: string;
  generate: StageReport;
  score: ScoreReport | null;
  train: TrainReport | null;
  export: ExportReport | null;
}

export interface LoopReport {
  out: string;
  rounds: RoundReport[];
  /** The last model that was made; the one given when there is none yet. */
  model: string;
  failed: number;
  interrupted: boolean;
}

/** Folder of a round or of one of its stages. */
export function roundFolder(out: string, round: number, stage?: LoopStageName): string {
  const folder = path.join(out, `round-${round}`);
  return stage === undefined ? folder : path.join(folder, stage);
}

/**
 * The whole job: draw, score, train, export, and again with the new model. Every stage has a folder of its
 * own and resumes by itself, so the loop can be stopped or killed anywhere and run again; it can also be
 * prolonged by asking for more rounds. The seeds of the pictures are the same in every round.
 *
 * @throws DataError when a round has nothing to train on.
 */
export async function loopStage(options: LoopOptions): Promise<LoopReport> {
  const report: LoopReport = {
    out: options.out,
    rounds: [],
    model: resolveModelDir(options.model),
    failed: 0,
    interrupted: false,
  };
  for (let round = 1; round <= options.rounds; round += 1) {
    const done = await oneRound(options, round, report.model);
    report.rounds.push(done);
    report.failed += done.generate.failed + (done.score?.failed ?? 0);
    if (done.export === null) return { ...report, interrupted: true };
    report.model = done.export.output;
  }
  if (options.finalImages !== false) {
    const round = options.rounds + 1;
    const generate = await drawRound(options, round, report.model);
    const folder = roundFolder(options.out, round);
    report.rounds.push({ round, folder, generate, score: null, train: null, export: null });
    report.failed += generate.failed;
    report.interrupted = generate.interrupted;
  }
  return report;
}

function drawRound(options: LoopOptions, round: number, model: string): Promise<StageReport> {
  options.onStage?.(round, 'generate');
  return generateStage({
    ...options,
    model,
    only_inputs: true,
    out: roundFolder(options.out, round, 'generate'),
  });
}

async function oneRound(options: LoopOptions, round: number, model: string): Promise<RoundReport> {
  const { signal, onNote } = options;
  const place = (stage: LoopStageName): string => roundFolder(options.out, round, stage);
  const report: RoundReport = {
    round,
    folder: roundFolder(options.out, round),
    generate: await drawRound(options, round, model),
    score: null,
    train: null,
    export: null,
  };
  if (report.generate.interrupted || signal?.aborted) return report;

  options.onStage?.(round, 'score');
  report.score = await scoreStage({
    model,
    device: options.device,
    dtype: options.dtype,
    threads: options.threads,
    input: path.join(place('generate'), OUTPUT_FILE),
    out: place('score'),
    only_inputs: true,
    seed: options.seed,
    batch: options.batch,
    settings: options.scoring,
    force: options.force,
    signal,
    onItem: options.onItem,
  });
  if (report.score.interrupted || signal?.aborted) return report;
  if (report.score.rewards === 0) {
    throw new DataError('ERR_NO_REWARDS', `round ${round} has nothing to train on`, {
      file: path.join(place('score'), REWARDS_FILE),
      found: report.score.failures[0]?.reason ?? report.score.unusable[0]?.reason ?? 'no records',
    });
  }

  options.onStage?.(round, 'train');
  report.train = await trainStage({
    recipe: options.recipe,
    overrides: {
      device: options.device,
      ...options.overrides,
      results_dir: place('train'),
    },
    model,
    rewards: path.join(place('score'), REWARDS_FILE),
    images: place('generate'),
    threads: options.threads,
    signal,
    onNote,
    onStep: options.onStep,
  });
  const { checkpoint, interrupted } = report.train;
  if (interrupted || checkpoint === null || signal?.aborted) return report;

  options.onStage?.(round, 'export');
  report.export = exported(place('export'), checkpoint, options);
  report.export ??= await exportStage({
    checkpoint,
    model,
    out: place('export'),
    weights: options.weights,
    dtype: options.exportDtype,
    overwrite: true,
    signal,
  });
  return report;
}

/** The report of an export that is newer than its checkpoint and made with the same options. */
function exported(folder: string, checkpoint: string, options: LoopOptions): ExportReport | null {
  const file = path.join(folder, 'export.json');
  if (!fs.existsSync(file)) return null;
  const report = readJsonFile(file) as ExportReport;
  const same =
    report.weights === options.weights &&
    report.dtype === options.exportDtype &&
    path.basename(report.checkpoint) === path.basename(checkpoint);
  const fresh =
    fs.statSync(file).mtimeMs >= fs.statSync(path.join(checkpoint, 'trainer.json')).mtimeMs;
  return same && fresh ? { ...report, output: folder, checkpoint } : null;
}
