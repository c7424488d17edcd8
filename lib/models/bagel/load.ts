import fs from 'node:fs';
import path from 'node:path';
import { compareKeys, requireFit } from '../../nn/key-report.js';
import type { Device, DType, Tensor } from '../../torch/index.js';
import { keep, noGrad, scope } from '../../torch/index.js';
import { CheckpointError } from '../../util/errors.js';
import { isObject } from '../../util/json-values.js';
import { readJsonFile } from '../../util/jsonl.js';
import { Bagel } from './bagel.js';
import { buildAutoencoder } from './build-autoencoder.js';
import type { BagelConfig, Config, LlmConfig } from './config.js';
import { parseBagelConfig } from './config.js';
import { sincosTable } from './embeddings.js';
import type { LatentAutoencoder } from './latent-autoencoder.js';
import type { Manifest } from './manifest.js';
import { MANIFEST_FILE, readManifest } from './manifest.js';
import { patchEmbeddingToLinear } from './siglip.js';
import { countLayers, isPositionTable, isVisionKey } from './state-keys.js';
import type { WeightSource } from './weight-files.js';
import { findWeights, openWeights } from './weight-files.js';

/** Files of a BAGEL model directory besides the weights. */
export const MODEL_FILES = {
  llmConfig: 'llm_config.json',
  vitConfig: 'vit_config.json',
  vae: 'ae.safetensors',
} as const;

/** Files a tokenizer of a model directory consists of; not all of them exist everywhere. */
export const TOKENIZER_FILES = [
  'vocab.json',
  'merges.txt',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'generation_config.json',
] as const;

/** How a model directory is loaded; by default everything it holds. */
export interface LoadBagelOptions {
  device?: Device;
  /** Precision of the weights and the residual stream. Default: float32 on the CPU, else bfloat16. */
  dtype?: DType;
  /** Weight file to load instead of the directory's own choice. */
  weights?: string;
  /** Vision tower: true requires it, false leaves it out, default: as the weights have it. */
  vision?: boolean;
  /** Autoencoder: true requires it, false leaves it out, default: if the file is there. */
  vae?: boolean;
  /** Told after each tensor of the model was read and converted. */
  onProgress?: (done: number, total: number) => void;
  /** Settings of this run that are no property of the weights. */
  overrides?: {
    llm?: Partial<Pick<LlmConfig, 'freeze_und'>>;
    bagel?: Partial<BagelConfig>;
  };
}

/** A loaded model directory, and what was done about keys that did not match one to one. */
export interface LoadedBagel {
  bagel: Bagel;
  /** null when the directory has no autoencoder or none was asked for. */
  vae: LatentAutoencoder | null;
  config: Config;
  /** Directory with the tokenizer's files; null when the model directory has none. */
  tokenizerDir: string | null;
  /** The weight file (or shard index) that was read. */
  weightsFile: string;
  /** Keys of fixed tables the file lacks, which were computed. */
  computed: string[];
  /** Keys of the file that belong to parts which were left out on request. */
  skipped: string[];
}

/**
 * Loads a BAGEL or SRUM model directory.
 * @throws CheckpointError for missing files; its child StateDictError lists every missing, unexpected
 *   and misshapen key. ConfigError for wrong configuration files.
 */
export function loadBagel(dir: string, options: LoadBagelOptions = {}): LoadedBagel {
  const manifest = readManifest(dir);
  const source = findWeights(dir, options.weights ?? manifest?.weights);
  const keys = source.keys();
  const vision = options.vision ?? keys.some(isVisionKey);
  const config = directoryConfig(dir, manifest, source, vision, options.overrides);
  const device = options.device ?? 'cpu';
  const dtype = options.dtype ?? (device === 'cpu' ? 'float32' : 'bfloat16');

  const bagel = new Bagel(config, { vision });
  const skipped = vision ? [] : keys.filter(isVisionKey);
  const computed = loadWeights(bagel, source, {
    device,
    dtype,
    skip: new Set(skipped),
    onProgress: options.onProgress,
  });
  return {
    bagel,
    vae: options.vae === false ? null : loadVae(dir, config, device, options.vae === true),
    config,
    tokenizerDir: hasTokenizer(dir) ? dir : null,
    weightsFile: source.file,
    computed,
    skipped,
  };
}

/** The configuration of a model directory, without loading weights. */
export function readModelConfig(dir: string): Config {
  const manifest = readManifest(dir);
  const source = findWeights(dir, manifest?.weights);
  return directoryConfig(dir, manifest, source, source.keys().some(isVisionKey));
}

/** Loads only the autoencoder of a model directory, in float32. */
export function loadAutoencoder(
  dir: string,
  config: Config,
  device: Device = 'cpu',
): LatentAutoencoder {
  return loadVae(dir, config, device, true) as LatentAutoencoder;
}

/**
 * Puts a file's tensors into a model, converted one by one.
 * @returns keys of position tables that the file lacks and that were computed instead
 */
export function loadWeights(
  bagel: Bagel,
  source: WeightSource,
  options: {
    device: Device;
    dtype: DType;
    /** Keys of the file to leave out. */
    skip?: ReadonlySet<string>;
    onProgress?: (done: number, total: number) => void;
  },
): string[] {
  const { device, dtype, skip, onProgress } = options;
  const expected = new Map([...bagel.namedParameters()].map(([key, t]) => [key, t.shape]));
  const found = new Map(
    source
      .keys()
      .filter((key) => !skip?.has(key))
      .map((key) => [key, linearShape(key, source.shape(key))]),
  );
  // A tied output head may be stored a second time; it is the embedding table.
  const tied = bagel.languageModel.lmHead === undefined;
  const allowUnexpected = (key: string) => tied && key === 'language_model.lm_head.weight';
  requireFit(
    compareKeys(expected, found, { allowMissing: isPositionTable, allowUnexpected }),
    source.file,
  );
  const computed: string[] = [];
  const tensors = new Map<string, Tensor>();
  for (const [key, shape] of expected) {
    const table = !found.has(key);
    if (table) computed.push(key);
    const tensor = noGrad(() =>
      scope(() => {
        const raw = table
          ? sincosTable(shape[1], Math.round(Math.sqrt(shape[0])))
          : asLinear(key, source.get(key));
        return raw.to({ device, dtype });
      }),
    );
    tensors.set(key, keep(tensor));
    onProgress?.(tensors.size, expected.size);
  }
  bagel.loadStateDict(tensors, { source: source.file });
  return computed;
}

function directoryConfig(
  dir: string,
  manifest: Manifest | null,
  source: WeightSource,
  vision: boolean,
  overrides: LoadBagelOptions['overrides'] = {},
): Config {
  const llm = {
    ...readConfigFile(dir, MODEL_FILES.llmConfig),
    // BAGEL's code sets these whatever the file says.
    qk_norm: true,
    layer_module: 'Qwen2MoTDecoderLayer',
    tie_word_embeddings: false,
    freeze_und: false,
    ...manifest?.llm,
    ...overrides.llm,
  };
  const bagel = {
    ...tableSides(source),
    ...manifest?.bagel,
    ...overrides.bagel,
  };
  const vit = vitConfig(dir, manifest, vision);
  const { judge, proposer } = manifest ?? {};
  const own = manifest === null ? undefined : path.join(dir, MANIFEST_FILE);
  return parseBagelConfig(
    {
      llm,
      vit,
      vae: manifest?.vae ?? {},
      bagel,
      ...(judge && { judge }),
      ...(proposer && { proposer }),
    },
    {
      llm: path.join(dir, MODEL_FILES.llmConfig),
      vit: path.join(dir, MODEL_FILES.vitConfig),
      vae: own,
      bagel: own,
      judge: own,
    },
  );
}

/** The tower as it is built: BAGEL drops the layers behind the selected one. */
function vitConfig(dir: string, manifest: Manifest | null, vision: boolean): object {
  if (!vision && !fs.existsSync(path.join(dir, MODEL_FILES.vitConfig))) return SIGLIP_SO400M;
  const json = readConfigFile(dir, MODEL_FILES.vitConfig);
  const select = manifest?.vit?.select_layer ?? -2;
  const layers = json.num_hidden_layers;
  return {
    ...json,
    num_hidden_layers: typeof layers === 'number' ? layers + 1 + select : layers,
    rope: manifest?.vit?.rope ?? false,
  };
}

/** The released model's tower, for directories that say nothing about one. */
const SIGLIP_SO400M = {
  hidden_size: 1152,
  intermediate_size: 4304,
  num_hidden_layers: 26,
  num_attention_heads: 16,
};

/** Sides of the position tables, as the stored tables have them. */
function tableSides(source: WeightSource): Partial<BagelConfig> {
  const sides: Partial<BagelConfig> = {};
  const keys = new Set(source.keys());
  const side = (key: string) => Math.round(Math.sqrt(source.shape(key)[0]));
  if (keys.has('latent_pos_embed.pos_embed')) {
    sides.max_latent_size = side('latent_pos_embed.pos_embed');
  }
  if (keys.has('vit_pos_embed.pos_embed')) {
    sides.vit_max_num_patch_per_side = side('vit_pos_embed.pos_embed');
  }
  return sides;
}

function loadVae(dir: string, config: Config, device: Device, required: boolean) {
  const file = path.join(dir, MODEL_FILES.vae);
  if (!fs.existsSync(file)) {
    if (!required) return null;
    throw new CheckpointError('ERR_NO_VAE', 'The model directory has no autoencoder', {
      file,
      hint: 'Images cannot be read or drawn without it; download the whole model directory.',
    });
  }
  const source = openWeights(file);
  const vae = buildAutoencoder(config.vae);
  const tensors = source.keys().map((key): [string, Tensor] => {
    // The reference's autoencoder always computes in float32.
    const tensor = noGrad(() => scope(() => source.get(key).to({ dtype: 'float32', device })));
    return [key, tensor];
  });
  return vae.loadStateDict(tensors, { source: file });
}

function readConfigFile(dir: string, name: string): Record<string, unknown> {
  const file = path.join(dir, name);
  if (!fs.existsSync(file)) {
    throw new CheckpointError('ERR_NO_CONFIG', 'The model directory lacks a configuration file', {
      file,
    });
  }
  const json = readJsonFile(file);
  if (isObject(json)) return json;
  throw new CheckpointError('ERR_NO_CONFIG', 'A configuration file is no JSON object', { file });
}

function hasTokenizer(dir: string): boolean {
  const has = (name: string) => fs.existsSync(path.join(dir, name));
  return has('tokenizer.json') || (has('vocab.json') && has('merges.txt'));
}

const PATCH_WEIGHT = 'vit_model.vision_model.embeddings.patch_embedding.weight';

/** The shape a stored tensor has in the model: a convolution's patch embedding becomes a matrix. */
function linearShape(key: string, shape: readonly number[]): readonly number[] {
  if (key !== PATCH_WEIGHT || shape.length !== 4) return shape;
  return [shape[0], shape[1] * shape[2] * shape[3]];
}

function asLinear(key: string, tensor: Tensor): Tensor {
  return key === PATCH_WEIGHT ? patchEmbeddingToLinear(tensor) : tensor;
}

/** Layers of decoder and tower that a weight file holds, for messages and `inspect`. */
export function storedLayers(source: WeightSource): { llm: number; vit: number } {
  return countLayers(source.keys());
}
