import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { loadTokenizer, type Tokenizer } from '../../data/tokenizer.js';
import { ImageTransform } from '../../data/transforms.js';
import type { InferencerParts } from '../../generate/inferencer.js';
import type { Bagel } from '../../models/bagel/bagel.js';
import { type Config, latentDownsample } from '../../models/bagel/config.js';
import type { LatentAutoencoder } from '../../models/bagel/latent-autoencoder.js';
import { loadBagel, MODEL_FILES, TOKENIZER_FILES } from '../../models/bagel/load.js';
import { MANIFEST_FILE } from '../../models/bagel/manifest.js';
import { createTinyModel, TINY_VERSION } from '../../models/bagel/presets.js';
import { cacheRoot, packageRoot } from '../../native/paths.js';
import { cudaAvailable, type DType, setNumThreads } from '../../torch/index.js';
import { CheckpointError, ConfigError } from '../../util/errors.js';

/** Which model is used, and how. */
export interface ModelOptions {
  /**
   * A model directory in the BAGEL layout, `shapes` for the model of the Shapes world in
   * `assets/shapes`, or `tiny` for an untrained one.
   */
  model: string;
  /** `cpu`, `cuda`, `cuda:1`. Default: `cuda` where there is one. */
  device?: string;
  /** Default: float32 on the CPU, bfloat16 elsewhere. */
  dtype?: DType;
  /** Threads of the CPU operators. */
  threads?: number;
}

/** Name by which the embedded untrained model is asked for. */
export const TINY_MODEL = 'tiny';
/** Name by which the model of the Shapes world is asked for, once it has been trained. */
export const SHAPES_MODEL = 'shapes';

/** Folder of the embedded model's tokenizer. */
export function tinyTokenizerDir(): string {
  return path.join(packageRoot(), 'assets', 'tiny');
}

/** The directory of a model. `shapes` comes with the package; `tiny` is created in the cache at its first use. */
export function resolveModelDir(model: string): string {
  if (model === SHAPES_MODEL) return path.join(packageRoot(), 'assets', 'shapes');
  if (model !== TINY_MODEL) return model;
  const dir = path.join(cacheRoot(), 'models', `tiny-v${TINY_VERSION}`);
  createTinyModel(dir, tinyTokenizerDir());
  return dir;
}

/**
 * Finds out before anything is loaded or begun whether a model directory lacks files.
 *
 * @param drawing whether pictures will be drawn, which takes the autoencoder.
 * @throws CheckpointError naming the file.
 */
export function checkModelFiles(dir: string, drawing: boolean): void {
  const [missing] = missingFiles(dir).filter(({ part }) => drawing || part !== 'autoencoder');
  if (missing === undefined) return;
  const { code, part, expected } = missing;
  throw new CheckpointError(code, `the model directory has no ${part}`, {
    file: dir,
    expected,
    hint: 'Copy the missing files of the released model, or download the whole directory again.',
  });
}

/** Parts of a model directory besides configuration and weights that are not there. */
export function missingFiles(
  dir: string,
): Array<{ code: string; part: 'autoencoder' | 'tokenizer'; expected: string }> {
  const has = (name: string): boolean => fs.existsSync(path.join(dir, name));
  const missing: ReturnType<typeof missingFiles> = [];
  if (!has(MODEL_FILES.vae)) {
    missing.push({ code: 'ERR_NO_VAE', part: 'autoencoder', expected: MODEL_FILES.vae });
  }
  if (!has('tokenizer.json') && !(has('vocab.json') && has('merges.txt'))) {
    const expected = 'tokenizer.json, or vocab.json and merges.txt';
    missing.push({ code: 'ERR_NO_TOKENIZER', part: 'tokenizer', expected });
  }
  return missing;
}

/** @throws ConfigError for a name that is no device. */
export function checkDevice(device: string): string {
  if (/^(cpu|cuda(:\d+)?)$/.test(device)) return device;
  throw new ConfigError('ERR_DEVICE', 'there is no such kind of device', {
    key: 'device',
    expected: 'cpu, cuda or cuda:N',
    found: device,
  });
}

/**
 * The device and precision that will be used.
 *
 * @throws ConfigError for a name that is no device and for a CUDA device that is not there.
 */
export function resolvePlace(options: Pick<ModelOptions, 'device' | 'dtype'>): {
  device: string;
  dtype: DType;
} {
  const device = checkDevice(options.device ?? (cudaAvailable() ? 'cuda' : 'cpu'));
  if (device.startsWith('cuda') && !cudaAvailable()) {
    throw new ConfigError('ERR_NO_CUDA', 'there is no CUDA device', {
      key: 'device',
      found: device,
      hint: 'Run `srum doctor` to see why, or use --device cpu.',
    });
  }
  return { device, dtype: options.dtype ?? (device === 'cpu' ? 'float32' : 'bfloat16') };
}

/** A model that is ready to draw, look and answer. */
export class ModelSession {
  readonly dir: string;
  readonly config: Config;
  readonly tokenizer: Tokenizer;
  readonly parts: InferencerParts;
  readonly #owned: Array<Bagel | LatentAutoencoder>;

  constructor(dir: string, model: Bagel, vae: LatentAutoencoder | null, tokenizer: Tokenizer) {
    this.dir = dir;
    this.config = model.config;
    this.tokenizer = tokenizer;
    this.#owned = vae === null ? [model] : [model, vae];
    this.parts = {
      model,
      vae: vae ?? undefined,
      tokenizer,
      special: tokenizer.special,
      ...imageTransforms(model.config),
    };
  }

  /** Frees the weights. */
  dispose(): void {
    for (const part of this.#owned) part.dispose();
  }
}

/** Loads a model. @throws CheckpointError, ConfigError */
export function openModel(options: ModelOptions): ModelSession {
  const dir = resolveModelDir(options.model);
  const place = resolvePlace(options);
  if (options.threads !== undefined) setNumThreads(options.threads);
  const { bagel, vae, tokenizerDir } = loadBagel(dir, place);
  if (tokenizerDir === null) {
    throw new CheckpointError('ERR_NO_TOKENIZER', 'the model directory has no tokenizer', {
      file: dir,
      expected: 'tokenizer.json, or vocab.json and merges.txt',
    });
  }
  return new ModelSession(dir, bagel, vae, loadTokenizer(tokenizerDir));
}

/**
 * The image transforms of the reference's programs in terms of the position tables: pictures up to
 * the table's side, from half of it (VAE) or 16 of 70 patches (vision tower). For BAGEL-7B this gives
 * its own 1024/512/16 and 980/224/14.
 */
export function imageTransforms(
  config: Config,
): Pick<InferencerParts, 'vaeTransform' | 'vitTransform'> {
  const cell = latentDownsample(config);
  const { max_latent_size: latents, vit_max_num_patch_per_side: patches } = config.bagel;
  const patch = config.vit.patch_size;
  return {
    vaeTransform: new ImageTransform({
      max_image_size: latents * cell,
      min_image_size: Math.max(1, Math.floor(latents / 2)) * cell,
      image_stride: cell,
    }),
    vitTransform: new ImageTransform({
      max_image_size: patches * patch,
      min_image_size: Math.max(1, Math.round((patches * 16) / 70)) * patch,
      image_stride: patch,
    }),
  };
}

/** The largest square (height, width) a model draws, but none above BAGEL's own 1024 x 1024. */
export function defaultImageSize(config: Config): [height: number, width: number] {
  const cell = latentDownsample(config);
  const side = Math.min(cell * config.bagel.max_latent_size, Math.floor(1024 / cell) * cell);
  return [side, side];
}

/** Files up to this size are hashed whole; of larger ones the header and blocks at even distances. */
const WHOLE = 256 * 2 ** 20;
const BLOCK = 2 ** 20;
const BLOCKS = 64;

/**
 * Fingerprint of a model directory: names, sizes and contents of its files, of weights above 256 MB
 * only samples (a 29 GB file would take a minute to read). Moving or renaming the directory does not
 * change it, training or converting the model does.
 *
 * @throws CheckpointError when the directory cannot be read.
 */
export function modelFingerprint(model: string): string {
  const dir = resolveModelDir(model);
  let names: string[];
  try {
    names = fs.readdirSync(dir);
  } catch (cause) {
    throw new CheckpointError(
      'ERR_NO_MODEL',
      'the model directory cannot be read',
      { file: dir, hint: 'Give the directory that holds llm_config.json and the weights.' },
      { cause },
    );
  }
  const known = new Set<string>([...Object.values(MODEL_FILES), ...TOKENIZER_FILES, MANIFEST_FILE]);
  const hash = createHash('sha256');
  for (const name of names.sort()) {
    if (!known.has(name) && !/\.safetensors(\.index\.json)?$/.test(name)) continue;
    hash.update(`${name}\0${hashFile(path.join(dir, name))}\n`);
  }
  return hash.digest('hex');
}

function hashFile(file: string): string {
  const hash = createHash('sha256');
  const fd = fs.openSync(file, 'r');
  try {
    const { size } = fs.fstatSync(fd);
    hash.update(`${size}\0`);
    const step = size <= WHOLE ? BLOCK : Math.floor((size - BLOCK) / (BLOCKS - 1));
    const buffer = Buffer.allocUnsafe(BLOCK);
    for (let at = 0; at < size; at += step) {
      hash.update(buffer.subarray(0, fs.readSync(fd, buffer, 0, BLOCK, at)));
    }
  } finally {
    fs.closeSync(fd);
  }
  return hash.digest('hex');
}
