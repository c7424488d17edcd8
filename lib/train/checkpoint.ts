import fs from 'node:fs';
import { readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { type Tensor, writeSafetensors } from '../torch/index.js';
import { CheckpointError, messageOf } from '../util/errors.js';
import { fileError, makeFolder, syncFolder } from '../util/files.js';
import { readJsonFile, writeJsonFile } from '../util/jsonl.js';
import { isRunning } from '../util/processes.js';
import { faultDetails, schemaFaults } from '../util/schema-faults.js';
import { sha256OfFile } from '../util/sha256.js';

/** File names inside a checkpoint folder. */
export const CHECKPOINT_FILES = {
  model: 'model.safetensors',
  ema: 'ema.safetensors',
  optimizer: 'optimizer.safetensors',
  state: 'trainer.json',
} as const;

const SCHEMA = 1;
const FOLDER = /^\d{7,}$/;
const TEMPORARY = /^\.(?:partial|trash)-\d+-(\d+)(?:-\d+)?$/;

const fileSchema = z.strictObject({ bytes: z.int().min(0), sha256: z.string().length(64) });

const manifestSchema = z.object({
  schema: z.literal(SCHEMA),
  step: z.int().min(1),
  recipe_hash: z.string(),
  computation: z.record(z.string(), z.unknown()),
  data_hash: z.string(),
  rng: z.object({ scheme: z.string(), global_seed: z.int(), data_seed: z.int() }),
  data: z.unknown(),
  totals: z.object({ tokens: z.number(), samples: z.number() }),
  files: z.record(z.string(), fileSchema),
});

/**
 * `trainer.json`: what a run needs besides tensors to go on exactly where it stopped, and the size
 * and sha256 of every tensor file, by which a whole checkpoint is told from a damaged one.
 */
export type CheckpointManifest = z.output<typeof manifestSchema>;

/** Tensors of a checkpoint by file; `ema` only where an average is kept. */
export interface CheckpointTensors {
  /** Every weight of the model, trained or frozen. */
  model: ReadonlyMap<string, Tensor>;
  ema: ReadonlyMap<string, Tensor> | null;
  /** The moments of the optimiser, as `AdamW.stateDict` names them. */
  optimizer: ReadonlyMap<string, Tensor>;
}

/** A checkpoint folder that was found unfit, and why. */
export interface RejectedCheckpoint {
  path: string;
  reason: string;
}

/** A checkpoint that passed all checks. */
export interface WholeCheckpoint {
  path: string;
  manifest: CheckpointManifest;
}

/** Name of the folder for a number of completed steps. */
export function checkpointName(step: number): string {
  return String(step).padStart(7, '0');
}

let count = 0;

/**
 * Writes `<dir>/<7-digit step>/` so that it is there whole or not at all: everything goes into a
 * hidden folder, is flushed to the disk, and only then gets its name. A folder of that name that
 * is already there is replaced.
 *
 * @returns the path of the folder.
 * @throws FileError (disk full, read-only, no access); nothing is left behind then.
 */
export async function saveCheckpoint(
  dir: string,
  tensors: CheckpointTensors,
  state: Omit<CheckpointManifest, 'schema' | 'files'>,
): Promise<string> {
  const target = path.join(dir, checkpointName(state.step));
  makeFolder(dir);
  count += 1;
  const partial = path.join(dir, `.partial-${state.step}-${process.pid}-${count}`);
  try {
    fs.mkdirSync(partial);
    const files: CheckpointManifest['files'] = {};
    for (const part of ['model', 'ema', 'optimizer'] as const) {
      const entries = tensors[part];
      if (entries === null) continue;
      const name = CHECKPOINT_FILES[part];
      const file = path.join(partial, name);
      writeSafetensors(file, entries, { format: 'pt' });
      files[name] = { bytes: fs.statSync(file).size, sha256: await sha256OfFile(file) };
    }
    const manifest: CheckpointManifest = { schema: SCHEMA, ...state, files };
    writeJsonFile(path.join(partial, CHECKPOINT_FILES.state), manifest);
    syncFolder(partial);
    await discard(target);
    await rename(partial, target);
    syncFolder(dir);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw fileError('write the checkpoint', target, error);
  }
  return target;
}

/** All numbered folders of `dir`, newest first. Other names are passed over. */
export async function listCheckpoints(dir: string): Promise<Array<{ step: number; path: string }>> {
  let names: fs.Dirent[];
  try {
    names = await readdir(dir, { withFileTypes: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw fileError('list the checkpoints', dir, error);
  }
  return names
    .filter((e) => e.isDirectory() && FOLDER.test(e.name))
    .map((e) => ({ step: Number(e.name), path: path.join(dir, e.name) }))
    .sort((a, b) => b.step - a.step);
}

/**
 * Checks a checkpoint folder: `trainer.json` as it should be, every file it lists present with the
 * recorded size and sha256.
 *
 * @throws CheckpointError saying what is wrong with which file.
 */
export async function verifyCheckpoint(folder: string): Promise<WholeCheckpoint> {
  const broken = (file: string, message: string, details = {}) =>
    new CheckpointError('ERR_CHECKPOINT', message, {
      file: path.join(folder, file),
      hint: 'Delete the folder to go on from an older checkpoint.',
      ...details,
    });
  if (fs.statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new CheckpointError('ERR_CHECKPOINT', 'there is no such checkpoint folder', {
      file: folder,
    });
  }
  const stateFile = CHECKPOINT_FILES.state;
  let raw: unknown;
  try {
    raw = readJsonFile(path.join(folder, stateFile));
  } catch (error) {
    throw broken(stateFile, `the checkpoint cannot be used: ${messageOf(error)}`);
  }
  const parsed = manifestSchema.safeParse(raw);
  if (!parsed.success) {
    const [fault] = schemaFaults(parsed.error, raw);
    throw broken(stateFile, 'the checkpoint state is not as expected', faultDetails(fault));
  }
  const manifest = parsed.data;
  for (const needed of [CHECKPOINT_FILES.model, CHECKPOINT_FILES.optimizer]) {
    if (manifest.files[needed] === undefined) throw broken(needed, 'the checkpoint lacks a file');
  }
  for (const [name, expected] of Object.entries(manifest.files)) {
    const file = path.join(folder, name);
    const size = fs.statSync(file, { throwIfNoEntry: false })?.size;
    if (size === undefined) throw broken(name, 'a file of the checkpoint is missing');
    if (size !== expected.bytes) {
      throw broken(name, 'a file of the checkpoint has the wrong length', {
        expected: `${expected.bytes} bytes`,
        found: `${size} bytes`,
      });
    }
    const sha256 = await sha256OfFile(file);
    if (sha256 !== expected.sha256) {
      throw broken(name, 'the content of a checkpoint file has changed', {
        expected: `sha256 ${expected.sha256}`,
        found: `sha256 ${sha256}`,
      });
    }
  }
  return { path: folder, manifest };
}

/**
 * The newest whole checkpoint of `dir`, with the newer ones that had to be passed over.
 *
 * @returns null when the folder holds no checkpoint at all.
 * @throws CheckpointError when there are checkpoints but every one is damaged.
 */
export async function newestCheckpoint(
  dir: string,
): Promise<(WholeCheckpoint & { rejected: RejectedCheckpoint[] }) | null> {
  const rejected: RejectedCheckpoint[] = [];
  for (const { path: folder } of await listCheckpoints(dir)) {
    try {
      return { ...(await verifyCheckpoint(folder)), rejected };
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      rejected.push({ path: folder, reason: error.message });
    }
  }
  if (rejected.length === 0) return null;
  throw new CheckpointError('ERR_NO_WHOLE_CHECKPOINT', 'no checkpoint of the folder is whole', {
    file: dir,
    found: rejected.map((r) => r.reason).join(' | '),
    hint: 'Move the folder away to start the run from the beginning.',
  });
}

/** Deletes all but the newest `keep` checkpoints; 0 keeps all. @returns the paths deleted. */
export async function pruneCheckpoints(dir: string, keep: number): Promise<string[]> {
  if (keep <= 0) return [];
  const old = (await listCheckpoints(dir)).slice(keep);
  for (const { path: folder } of old) await discard(folder);
  return old.map((c) => c.path);
}

/** Removes hidden folders that killed processes left in `dir`. @returns their names. */
export async function removeStaleCheckpoints(dir: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw fileError('list the checkpoints', dir, error);
  }
  const stale = names.filter((name) => {
    const match = TEMPORARY.exec(name);
    return match !== null && (Number(match[1]) === process.pid || !isRunning(Number(match[1])));
  });
  for (const name of stale) await rm(path.join(dir, name), { recursive: true, force: true });
  return stale;
}

/** Takes a folder out of sight with one rename before deleting it, so that no half is ever seen. */
async function discard(folder: string): Promise<void> {
  if (fs.statSync(folder, { throwIfNoEntry: false }) === undefined) return;
  count += 1;
  const step = Number(path.basename(folder));
  const trash = path.join(path.dirname(folder), `.trash-${step}-${process.pid}-${count}`);
  await rename(folder, trash);
  await rm(trash, { recursive: true, force: true });
}
