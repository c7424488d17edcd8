import fs from 'node:fs';
import { readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { readManifest } from '../models/bagel/manifest.js';
import { patchEmbeddingToLinear } from '../models/bagel/siglip.js';
import { findWeights, openWeights, type WeightSource } from '../models/bagel/weight-files.js';
import {
  type DType,
  noGrad,
  ops,
  type SafetensorsEntry,
  scope,
  type Tensor,
  writeSafetensors,
} from '../torch/index.js';
import { CheckpointError, ConfigError, NumericError } from '../util/errors.js';
import { fileError, makeFolder } from '../util/files.js';
import { writeJsonFile } from '../util/jsonl.js';
import { isRunning } from '../util/processes.js';
import { sha256OfFile } from '../util/sha256.js';
import { CHECKPOINT_FILES, type CheckpointManifest, verifyCheckpoint } from './checkpoint.js';

/** Dtypes an exported model can be stored in. */
export const EXPORT_DTYPES = ['bfloat16', 'float32'] as const;
/** One of {@link EXPORT_DTYPES}. */
export type ExportDtype = (typeof EXPORT_DTYPES)[number];

/** What to export, and where to. */
export interface ExportOptions {
  /** A checkpoint folder (`<checkpoint_dir>/0000309`). */
  checkpoint: string;
  /** The model directory training started from. */
  base: string;
  /** Directory to create. */
  output: string;
  /** `raw`: the trained weights; `ema`: their moving average. */
  weights: 'raw' | 'ema';
  /** Dtype of every tensor of the output. */
  dtype: ExportDtype;
  /** Replace an output directory that is already there. */
  overwrite?: boolean;
  /** Told as tensors are checked in the written file. */
  onProgress?: (done: number, total: number) => void;
  /** Stops while the written file is read back; nothing is left behind then. */
  signal?: AbortSignal;
}

/** What an export did; also stored as `export.json` in the output directory. */
export interface ExportReport {
  output: string;
  checkpoint: string;
  /** Optimiser steps the checkpoint was written after. */
  step: number;
  weights: 'raw' | 'ema';
  dtype: ExportDtype;
  /** Number of tensors in `model.safetensors`. */
  tensors: number;
  /** Keys the checkpoint lacks (parts that were not built for training), taken from the base. */
  from_base: string[];
  /** Files copied from the base directory. */
  copied: string[];
  /** Of `model.safetensors`, in hex. */
  sha256: string;
}

const WEIGHTS = 'model.safetensors';
/** Name under which most programs of the reference look for the weights. */
const ALIAS = 'ema.safetensors';
const REPORT = 'export.json';
/** Ends the name of a directory that is being replaced. */
const OLD = '-old';
const PATCH_WEIGHT = 'patch_embedding.weight';
let count = 0;

/** Where the tensors of an export come from. */
interface Sources {
  trained: WeightSource;
  base: WeightSource;
  own: ReadonlySet<string>;
  dtype: DType;
}

/**
 * Turns a checkpoint into a model directory in the BAGEL layout: configurations, tokenizer and
 * autoencoder copied from the base, `model.safetensors` with exactly the base's key set and shapes
 * (keys that training did not hold come from the base), and `ema.safetensors` as a second name of
 * the same file, so that every program finds the trained weights whichever name it opens.
 *
 * The directory appears whole or not at all. Before that every tensor is read back from the
 * written file and compared with its source.
 *
 * @throws CheckpointError when checkpoint and base do not fit together or the written file does not
 * hold what it should, NumericError for weights that are not finite, ConfigError when the output
 * is in the way, FileError.
 */
export async function exportModel(options: ExportOptions): Promise<ExportReport> {
  const { checkpoint, base, output, dtype } = options;
  await clearLeftovers(output);
  checkOutput(options);
  const whole = await verifyCheckpoint(checkpoint);
  const part = trainedPart(options, whole.manifest);
  const trained = openWeights(path.join(checkpoint, CHECKPOINT_FILES[part]));
  const wanted = readManifest(base)?.weights;
  const sources: Sources = {
    trained,
    base: findWeights(base, wanted),
    own: new Set(trained.keys()),
    dtype,
  };
  const fromBase = checkKeys(sources);
  const parent = path.dirname(path.resolve(output));
  makeFolder(parent);
  count += 1;
  const partial = path.join(parent, `.${path.basename(output)}.partial-${process.pid}-${count}`);
  try {
    fs.mkdirSync(partial);
    const copied = await copyBase(base, partial);
    const file = path.join(partial, WEIGHTS);
    noGrad(() => writeSafetensors(file, convertAll(sources), { format: 'pt' }));
    await readBack(file, sources, options);
    for (const name of new Set([ALIAS, wanted ?? ALIAS])) {
      if (name !== WEIGHTS) fs.linkSync(file, path.join(partial, name));
    }
    const report: ExportReport = {
      output,
      checkpoint,
      step: whole.manifest.step,
      weights: options.weights,
      dtype,
      tensors: sources.base.keys().length,
      from_base: fromBase,
      copied,
      sha256: await sha256OfFile(file),
    };
    writeJsonFile(path.join(partial, REPORT), report);
    await moveInto(partial, output);
    return report;
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw fileError('write the model directory', output, error);
  }
}

function checkOutput({ output, base, overwrite }: ExportOptions): void {
  if (path.resolve(output) === path.resolve(base)) {
    throw new ConfigError('ERR_OUTPUT_IS_BASE', 'the output must not be the base directory', {
      file: output,
    });
  }
  if (fs.existsSync(output) && !overwrite) {
    throw new ConfigError('ERR_OUTPUT_EXISTS', 'the output directory is already there', {
      file: output,
      hint: 'Choose another directory, or allow overwriting.',
    });
  }
}

function trainedPart(options: ExportOptions, manifest: CheckpointManifest): 'model' | 'ema' {
  if (options.weights === 'raw') return 'model';
  if (manifest.files[CHECKPOINT_FILES.ema] === undefined) {
    throw new CheckpointError('ERR_NO_EMA', 'the checkpoint holds no moving average', {
      file: options.checkpoint,
      hint: 'Export the raw weights, or train with ema above 0.',
    });
  }
  return 'ema';
}

/** Removes what killed exports to the same place left; a directory they were replacing comes back. */
export async function clearLeftovers(output: string): Promise<void> {
  const parent = path.dirname(path.resolve(output));
  const start = `.${path.basename(output)}.partial-`;
  if (fs.statSync(parent, { throwIfNoEntry: false })?.isDirectory() !== true) return;
  for (const name of await readdir(parent)) {
    const pid = name.startsWith(start) ? Number.parseInt(name.slice(start.length), 10) : Number.NaN;
    if (Number.isNaN(pid) || isRunning(pid)) continue;
    const from = path.join(parent, name);
    if (name.endsWith(OLD) && !fs.existsSync(output)) await rename(from, output);
    else await rm(from, { recursive: true, force: true });
  }
}

/** Gives a finished folder its name, in place of an older one. */
async function moveInto(partial: string, output: string): Promise<void> {
  const old = `${partial}${OLD}`;
  const exists = fs.existsSync(output);
  if (exists) await rename(output, old);
  await rename(partial, output);
  if (exists) await rm(old, { recursive: true, force: true });
}

/** Copies every regular file of the base except weights and earlier reports. */
async function copyBase(base: string, target: string): Promise<string[]> {
  const copied: string[] = [];
  for (const { name } of await readdir(base, { withFileTypes: true })) {
    const from = path.join(base, name);
    if (name.startsWith('.') || name === REPORT || isWeights(name)) continue;
    if (!fs.statSync(from).isFile()) continue;
    fs.copyFileSync(from, path.join(target, name), fs.constants.COPYFILE_FICLONE);
    // A read-only source must not make the copy impossible to replace.
    fs.chmodSync(path.join(target, name), 0o644);
    copied.push(name);
  }
  return copied.sort();
}

/** Weight files of the model itself, whole or in shards; the autoencoder's file is none. */
function isWeights(name: string): boolean {
  return name !== 'ae.safetensors' && /\.safetensors(\.index\.json)?$/.test(name);
}

/** Checks that the trained keys are the base's, shapes included. @returns the keys only the base has. */
function checkKeys({ trained, base, own }: Sources): string[] {
  const known = new Set(base.keys());
  const faults: string[] = [];
  for (const key of own) {
    if (!known.has(key)) {
      faults.push(`${key}: not in the base`);
      continue;
    }
    const shape = trained.shape(key);
    const stored = linearShape(key, base.shape(key));
    if (shape.join('x') !== stored.join('x')) {
      faults.push(`${key}: [${shape.join(', ')}] instead of [${stored.join(', ')}]`);
    }
  }
  if (faults.length > 0) {
    const more = faults.length > 20 ? `; ${faults.length} in all` : '';
    throw new CheckpointError('ERR_KEYS', 'the checkpoint does not fit the base model', {
      file: trained.file,
      expected: `keys and shapes of ${base.file}`,
      found: `${faults.slice(0, 20).join('; ')}${more}`,
    });
  }
  return [...known].filter((key) => !own.has(key));
}

/** A base may hold the patch embedding as the convolution it once was. */
function linearShape(key: string, shape: readonly number[]): readonly number[] {
  if (!key.endsWith(PATCH_WEIGHT) || shape.length !== 4) return shape;
  return [shape[0], shape[1] * shape[2] * shape[3]];
}

/** All tensors of the export, each made when it is its turn to be written. */
function* convertAll(sources: Sources): Iterable<SafetensorsEntry> {
  const { base, dtype } = sources;
  for (const key of base.keys()) {
    const shape = linearShape(key, base.shape(key));
    yield [key, { dtype, shape }, () => convert(sources, key)];
  }
}

function convert({ trained, base, own, dtype }: Sources, key: string): Tensor {
  const tensor = own.has(key) ? trained.get(key) : base.get(key);
  const linear = key.endsWith(PATCH_WEIGHT) && tensor.ndim === 4;
  return (linear ? patchEmbeddingToLinear(tensor) : tensor).to(dtype);
}

/** Reads every tensor of the written file back and compares it with its source. */
async function readBack(file: string, sources: Sources, options: ExportOptions): Promise<void> {
  const wrong = (key: string, message: string) =>
    new CheckpointError('ERR_EXPORT', message, { file, key });
  const written = openWeights(file);
  const keys = sources.base.keys();
  const found = new Set(written.keys());
  const lost = keys.find((key) => !found.has(key));
  if (lost !== undefined || found.size !== keys.length) {
    throw wrong(lost ?? '', 'the written file does not hold the keys it should');
  }
  for (const [done, key] of keys.entries()) {
    options.signal?.throwIfAborted();
    scope(() => {
      const want = convert(sources, key);
      const got = written.get(key);
      if (got.dtype !== want.dtype || got.shape.join('x') !== want.shape.join('x')) {
        throw wrong(key, 'a tensor was written with another dtype or shape');
      }
      if (ops.isfinite(want).all().item() === 0) {
        throw new NumericError('ERR_NOT_FINITE', 'the weights are not finite', {
          file: sources.own.has(key) ? sources.trained.file : sources.base.file,
          key,
        });
      }
      if (!ops.equal(got, want)) throw wrong(key, 'a tensor reads back differently');
    });
    if (done % 64 === 63 || done === keys.length - 1) {
      options.onProgress?.(done + 1, keys.length);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
