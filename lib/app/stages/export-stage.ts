import fs from 'node:fs';
import path from 'node:path';
import { MODEL_FILES } from '../../models/bagel/load.js';
import { newestCheckpoint } from '../../train/checkpoint.js';
import {
  clearLeftovers,
  type ExportDtype,
  type ExportReport,
  exportModel,
} from '../../train/export.js';
import { CheckpointError } from '../../util/errors.js';
import { resolveModelDir } from './model-session.js';

export interface ExportStageOptions {
  /** A checkpoint folder, or the folder that holds numbered ones: the newest is taken. */
  checkpoint: string;
  /** The model training started from. */
  model: string;
  out: string;
  weights: 'raw' | 'ema';
  dtype: ExportDtype;
  overwrite?: boolean;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** Turns a checkpoint into a model directory. */
export async function exportStage(options: ExportStageOptions): Promise<ExportReport> {
  await clearLeftovers(options.out);
  checkReplaceable(options);
  return exportModel({
    checkpoint: await findCheckpoint(options.checkpoint),
    base: resolveModelDir(options.model),
    output: options.out,
    weights: options.weights,
    dtype: options.dtype,
    overwrite: options.overwrite,
    signal: options.signal,
    onProgress: options.onProgress,
  });
}

/** Nothing but a model directory is ever replaced. @throws CheckpointError */
function checkReplaceable({ out, overwrite }: ExportStageOptions): void {
  if (!overwrite || !fs.existsSync(out)) return;
  const names = fs.statSync(out).isDirectory() ? fs.readdirSync(out) : null;
  if (names?.length === 0 || names?.includes(MODEL_FILES.llmConfig)) return;
  throw new CheckpointError('ERR_OUTPUT_EXISTS', 'what is there is no model directory', {
    file: out,
    expected: `an empty folder, or one with ${MODEL_FILES.llmConfig}`,
    hint: 'Choose another directory.',
  });
}

async function findCheckpoint(folder: string): Promise<string> {
  if (fs.existsSync(path.join(folder, 'trainer.json'))) return folder;
  for (const place of [folder, path.join(folder, 'checkpoints')]) {
    const newest = await newestCheckpoint(place);
    if (newest !== null) return newest.path;
  }
  throw new CheckpointError('ERR_NO_CHECKPOINT', 'the folder holds no checkpoint', {
    file: folder,
    expected: 'trainer.json in it, or numbered folders',
    hint: 'Give a checkpoint folder or the results folder of `srum train`.',
  });
}
