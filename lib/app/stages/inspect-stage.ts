import fs from 'node:fs';
import path from 'node:path';
import { buildAutoencoder } from '../../models/bagel/build-autoencoder.js';
import { type Config, headDim, latentDownsample } from '../../models/bagel/config.js';
import { MODEL_FILES, readModelConfig } from '../../models/bagel/load.js';
import { MANIFEST_FILE, readManifest } from '../../models/bagel/manifest.js';
import {
  expectedKeys,
  isGenKey,
  isPositionTable,
  isVisionKey,
} from '../../models/bagel/state-keys.js';
import { findWeights } from '../../models/bagel/weight-files.js';
import { compareKeys, type KeyReport } from '../../nn/key-report.js';
import { openSafetensors } from '../../torch/index.js';
import { readJsonFile } from '../../util/jsonl.js';
import {
  imageTransforms,
  missingFiles,
  modelFingerprint,
  resolveModelDir,
} from './model-session.js';

/** A stored tensor. */
export interface TensorEntry {
  key: string;
  dtype: string;
  shape: number[];
}

/** What a model directory holds. */
export interface ModelReport {
  dir: string;
  fingerprint: string;
  weights_file: string;
  architecture: Config;
  /** Picture sizes the model works with, in pixels. */
  images: { draws_up_to: number; looks_up_to: number; latent_token: number; patch: number };
  /** Parameters by part. */
  parameters: Record<string, number>;
  /** Stored values by dtype. */
  dtypes: Record<string, number>;
  keys: KeyReport;
  /** The same for the autoencoder; null when there is none. */
  autoencoder_keys: KeyReport | null;
  /** Files without which some commands do not work. */
  missing_files: Array<{ part: string; expected: string }>;
  /** Whether the weights, the autoencoder's included, can be loaded. */
  loadable: boolean;
  files: Array<{ name: string; bytes: number }>;
  memory: MemoryEstimate;
  tensors: TensorEntry[];
}

/** Rough memory needs in bytes; activations are not in it. */
export interface MemoryEstimate {
  weights_bfloat16: number;
  weights_float32: number;
  /** Weights, gradients and two moments in float32. */
  training_float32: number;
  /** Keys and values of one token in bfloat16. */
  kv_cache_per_token_bfloat16: number;
}

/** Which part of the model a key belongs to. */
export function partOf(key: string): string {
  if (isPositionTable(key)) return 'position tables';
  if (key.startsWith('connector.')) return 'connector';
  if (isVisionKey(key)) return 'vision tower';
  if (key === 'language_model.model.embed_tokens.weight') return 'token embeddings';
  if (key === 'language_model.lm_head.weight') return 'output head';
  if (!key.startsWith('language_model.')) return 'flow projections';
  return isGenKey(key) ? 'generation expert' : 'understanding expert';
}

/**
 * Describes a model directory without loading its weights.
 *
 * @throws CheckpointError, ConfigError when it is no model directory at all; differences between weights
 *   and configuration are part of the report.
 */
export function inspectModel(model: string): ModelReport {
  const dir = resolveModelDir(model);
  const config = readModelConfig(dir);
  const source = findWeights(dir, readManifest(dir)?.weights);
  const tensors = storedTensors(source.file);
  const vision = tensors.some(({ key }) => isVisionKey(key));
  const expected = expectedKeys(config, { vision });
  const shapes = new Map(tensors.map(({ key, shape }) => [key, linearShape(shape)]));
  const keys = compareKeys(expected, shapes, { allowMissing: isPositionTable });
  const parameters: Record<string, number> = {};
  const dtypes: Record<string, number> = {};
  let total = 0;
  for (const { key, dtype, shape } of tensors) {
    const count = product(shape);
    parameters[partOf(key)] = (parameters[partOf(key)] ?? 0) + count;
    dtypes[dtype] = (dtypes[dtype] ?? 0) + count;
    total += count;
  }
  let vaeKeys: KeyReport | null = null;
  const vae = path.join(dir, MODEL_FILES.vae);
  if (fs.existsSync(vae)) {
    const stored = storedTensors(vae);
    const found = new Map(stored.map(({ key, shape }) => [key, shape]));
    const wanted = buildAutoencoder(config.vae).stateDict();
    const shapesOf = new Map([...wanted].map(([key, { shape }]) => [key, shape]));
    vaeKeys = compareKeys(shapesOf, found);
    parameters.autoencoder = stored.reduce((sum, { shape }) => sum + product(shape), 0);
  }
  const { llm } = config;
  const transforms = imageTransforms(config);
  return {
    dir,
    fingerprint: modelFingerprint(dir),
    weights_file: source.file,
    architecture: config,
    images: {
      draws_up_to: transforms.vaeTransform.options.max_image_size,
      looks_up_to: transforms.vitTransform.options.max_image_size,
      latent_token: latentDownsample(config),
      patch: config.vit.patch_size,
    },
    parameters,
    dtypes,
    keys,
    autoencoder_keys: vaeKeys,
    missing_files: missingFiles(dir).map(({ part, expected }) => ({ part, expected })),
    loadable: fits(keys) && (vaeKeys === null || fits(vaeKeys)),
    files: modelFiles(dir),
    memory: {
      weights_bfloat16: 2 * total + 4 * (parameters.autoencoder ?? 0),
      weights_float32: 4 * (total + (parameters.autoencoder ?? 0)),
      training_float32: 16 * total + 4 * (parameters.autoencoder ?? 0),
      kv_cache_per_token_bfloat16:
        2 * 2 * llm.num_hidden_layers * llm.num_key_value_heads * headDim(llm),
    },
    tensors,
  };
}

function fits({ missing, unexpected, misshapen }: KeyReport): boolean {
  return missing.length + unexpected.length + misshapen.length === 0;
}

/** A convolution's patch embedding is stored with four axes and used as a matrix. */
function linearShape(shape: readonly number[]): readonly number[] {
  return shape.length === 4 ? [shape[0], shape[1] * shape[2] * shape[3]] : shape;
}

function storedTensors(file: string): TensorEntry[] {
  const files = file.endsWith('.index.json') ? shardsOf(file) : [file];
  return files.flatMap((name) => {
    const opened = openSafetensors(name);
    return [...opened.keys()].map((key) => {
      const { dtype, shape } = opened.info(key);
      return { key, dtype, shape: [...shape] };
    });
  });
}

function shardsOf(index: string): string[] {
  const { weight_map } = readJsonFile(index) as { weight_map: Record<string, string> };
  const names = [...new Set(Object.values(weight_map))].sort();
  return names.map((name) => path.join(path.dirname(index), name));
}

function modelFiles(dir: string): ModelReport['files'] {
  return fs
    .readdirSync(dir)
    .filter((name) => name === MANIFEST_FILE || /\.(json|safetensors|txt)$/.test(name))
    .sort()
    .map((name) => ({ name, bytes: fs.statSync(path.join(dir, name)).size }));
}

function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
