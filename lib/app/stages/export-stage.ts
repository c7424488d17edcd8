import fs from 'node:fs';
import path from 'node:path';
import { newestCheckpoint } from '../../train/checkpoint.js';
import { type ExportDtype, type ExportReport, exportModel } from '../../train/export.js';
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
  removeLeftovers(options.out);
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

/** Removes what exports to the same place left when they were killed. */
function removeLeftovers(out: string): void {
  const parent = path.dirname(path.resolve(out));
  const prefix = `.${path.basename(out)}.partial-`;
  if (!fs.existsSync(parent)) return;
  for (const name of fs.readdirSync(parent)) {
    const pid = name.startsWith(prefix)
      ? Number.parseInt(name.slice(prefix.length), 10)
      : Number.NaN;
    if (Number.isNaN(pid) || isRunning(pid)) continue;
    // An export that was killed while it replaced the old directory must not lose it.
    const from = path.join(parent, name);
    if (name.endsWith('-old') && !fs.existsSync(out)) fs.renameSync(from, out);
    else fs.rmSync(from, { recursive: true, force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
