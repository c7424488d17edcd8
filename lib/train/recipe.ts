import path from 'node:path';
import { z } from 'zod';
import { BOX_FRAMES } from '../data/regional-reward.js';
import { SCHEDULE_KINDS } from '../optim/schedules.js';
import { ConfigError } from '../util/errors.js';
import { sha256 } from '../util/sha256.js';
import {
  type DatasetConfig,
  type DatasetInfo,
  datasetConfigSchema,
  datasetInfoSchema,
  readDatasetConfig,
  readDatasetInfo,
} from './dataset-config.js';
import { OBJECTIVES } from './objectives.js';
import { REWARD_MAPS } from './reward-maps.js';
import { type ConfigSource, readYaml, validate } from './yaml-config.js';

const flag = (value: boolean) => z.boolean().default(value);
const whole = (value: number, least = 0) => z.int().min(least).default(value);
const share = (value: number) => z.number().min(0).max(1).default(value);
const positive = (value: number) => z.number().positive().default(value);
const unused = z.unknown().optional();

/**
 * The training recipe: the reference trainer's options under their names, plus ours.
 *
 * Defaults are those of the released SRUM scripts where the reference's command-line defaults
 * cannot be meant (one step, nothing saved, lambda 0.1, 32768-token packs, und tower on).
 */
export const recipeSchema = z.strictObject({
  // Model
  /** Model directory in the BAGEL layout. */
  model_path: z.string().min(1),
  /** Must be true: training starts from the weights in `model_path`. */
  finetune_from_hf: flag(true),
  /** With `resume_model_only`: take the averaged weights of the checkpoint where it has them. */
  finetune_from_ema: flag(true),
  /** Must be true: image generation is what is trained. */
  visual_gen: flag(true),
  /** Load the vision tower and its connector as well. */
  visual_und: flag(false),
  /** Leave both experts of the language model as they are. */
  freeze_llm: flag(false),
  /** Leave the vision tower as it is, not its connector. */
  freeze_vit: flag(true),
  /** Must be true. */
  freeze_vae: flag(true),
  /** Leave the understanding expert and what only feeds it as they are. */
  freeze_und: flag(false),
  // Data
  /** Dataset YAML; exactly one of this and `dataset` is needed. */
  dataset_config_file: z.string().min(1).optional(),
  /** The same in place. */
  dataset: datasetConfigSchema.optional(),
  /** The registry that says where data sets lie, in place or as the path of a YAML file. */
  dataset_info: z.union([z.string().min(1), datasetInfoSchema]).optional(),
  /** Seed of the order of the records, of condition dropout and of time steps. */
  data_seed: whole(42),
  /** Longer samples are left out and reported. */
  max_num_tokens_per_sample: whole(8192, 1),
  /** Tokens a pack may hold. */
  max_num_tokens: whole(9216, 1),
  /** A pack that has reached this many tokens is closed. */
  expected_num_tokens: whole(8192, 1),
  /** Below this many tokens a pack is filled from the buffer first. */
  prefer_buffer_before: whole(16384),
  /** Samples set aside because they did not fit the open pack. */
  max_buffer_size: whole(50),
  /** Probability that a prompt is dropped, for classifier-free guidance. */
  text_cond_dropout_prob: share(0.1),
  /** The same for clean condition images in the autoencoder branch. */
  vae_cond_dropout_prob: share(0.3),
  /** The same for condition images in the vision tower branch. */
  vit_cond_dropout_prob: share(0.3),
  // Objective
  /** How the rewards weigh the flow loss; see `OBJECTIVES`. */
  objective: z.enum(OBJECTIVES).default('code'),
  /** How regions and layout become a reward of each place; default: what the objective asks for. */
  reward_map: z.enum(REWARD_MAPS).optional(),
  /** Reach of the `nft` objective beyond the base model: smaller is stronger. */
  nft_beta: positive(1),
  /** Factor of the rewards of the `nft` objective before they are cut to [-1, 1]. */
  nft_gain: positive(2),
  /**
   * What the boxes of the reward records refer to. `record`: the image they were written for, so they
   * are scaled with it; `reference`: the transformed image, unscaled, as in the released code.
   */
  reward_box_frame: z.enum(BOX_FRAMES).default('record'),
  /** Weight lambda of the constraint term (SRUM eq. 3). */
  lambda_constraint: z.number().min(0).default(0.5),
  /** Shift of the time steps towards noise; 1 leaves them. */
  timestep_shift: positive(1),
  /** Factor of the flow loss. */
  mse_weight: z.number().min(0).default(1),
  /** Factor of the cross entropy of learned texts, which regional-reward data does not have. */
  ce_weight: z.number().min(0).default(1),
  /** Weighs each learned text by one over the square root of its length instead of its length. */
  ce_loss_reweighting: flag(false),
  // Optimisation
  /** Seed of noise and posterior samples. */
  global_seed: whole(4396),
  /** Optimiser steps of the whole run. */
  total_steps: whole(309, 1),
  /** Steps of the linear ramp of the learning rate from 0. */
  warmup_steps: whole(100),
  /** Course of the learning rate after the ramp. */
  lr_scheduler: z.enum(SCHEDULE_KINDS).default('constant'),
  /** Peak learning rate. */
  lr: positive(2e-5),
  /** Floor of the cosine schedule. */
  min_lr: z.number().min(0).default(1e-7),
  /** Decay of the first moment of AdamW. */
  beta1: z.number().min(0).lt(1).default(0.9),
  /** Decay of the second moment. */
  beta2: z.number().min(0).lt(1).default(0.95),
  /** Added to the root of the second moment. */
  eps: positive(1e-15),
  /** Decoupled weight decay, relative to the learning rate. */
  weight_decay: z.number().min(0).default(0),
  /** Gradients are scaled down to this global norm; 0 leaves them. */
  max_grad_norm: z.number().min(0).default(1),
  /** Packs per optimiser step; every token weighs the same whatever pack it is in. */
  gradient_accumulation_steps: whole(1, 1),
  /** Decay of the weight average; 0 turns it off. The reference accepts 0.9999 and ignores it. */
  ema: z.number().min(0).lt(1).default(0.99),
  // Output
  /** Folder of `metrics.jsonl`. */
  results_dir: z.string().min(1).default('results'),
  /** Folder of checkpoints; default `<results_dir>/checkpoints`. */
  checkpoint_dir: z.string().min(1).optional(),
  /** Steps between lines of `metrics.jsonl`. */
  log_every: whole(1, 1),
  /** Steps between checkpoints. */
  save_every: whole(100, 1),
  /** Write a checkpoint after the last step too. */
  save_at_end: flag(true),
  /** Checkpoints kept, newest first; 0 keeps all. */
  keep_last: whole(3),
  /** Go on from the newest whole checkpoint of `checkpoint_dir`. */
  auto_resume: flag(true),
  /** Checkpoint folder to go on from when `checkpoint_dir` has none to resume. */
  resume_from: z.string().min(1).nullable().default(null),
  /** Take only the weights of `resume_from` and start at step 0. */
  resume_model_only: flag(false),
  /** `cpu`, `cuda` or `cuda:<n>`. */
  device: z.string().min(1).default('cpu'),
  // Understood for the sake of existing recipes, without effect here: see `IGNORED`.
  llm_path: unused,
  llm_qk_norm: unused,
  tie_word_embeddings: unused,
  layer_module: unused,
  vae_path: unused,
  vit_path: unused,
  max_latent_size: unused,
  latent_patch_size: unused,
  vit_patch_size: unused,
  vit_max_num_patch_per_side: unused,
  connector_act: unused,
  interpolate_pos: unused,
  vit_select_layer: unused,
  vit_rope: unused,
  copy_init_moe: unused,
  prefetch_factor: unused,
  num_workers: unused,
  wandb_project: unused,
  wandb_name: unused,
  wandb_runid: unused,
  wandb_resume: unused,
  wandb_offline: unused,
  num_replicate: unused,
  num_shard: unused,
  sharding_strategy: unused,
  backward_prefetch: unused,
  cpu_offload: unused,
  use_flex: unused,
  save_at_end_as_hf: unused,
});

const FROM_MODEL = 'the model directory decides this';
const ONE_PROCESS = 'training runs in one process';

/** Reference options that do nothing here, and why; each use is reported as a note. */
const IGNORED: Readonly<Record<string, string>> = {
  llm_path: FROM_MODEL,
  llm_qk_norm: FROM_MODEL,
  tie_word_embeddings: FROM_MODEL,
  layer_module: FROM_MODEL,
  vae_path: FROM_MODEL,
  vit_path: FROM_MODEL,
  max_latent_size: FROM_MODEL,
  latent_patch_size: FROM_MODEL,
  vit_patch_size: FROM_MODEL,
  vit_max_num_patch_per_side: FROM_MODEL,
  connector_act: FROM_MODEL,
  interpolate_pos: FROM_MODEL,
  vit_select_layer: FROM_MODEL,
  vit_rope: FROM_MODEL,
  copy_init_moe: 'both experts are read from the model directory',
  prefetch_factor: ONE_PROCESS,
  num_workers: ONE_PROCESS,
  wandb_project: 'metrics go to metrics.jsonl',
  wandb_name: 'metrics go to metrics.jsonl',
  wandb_runid: 'metrics go to metrics.jsonl',
  wandb_resume: 'metrics go to metrics.jsonl',
  wandb_offline: 'metrics go to metrics.jsonl',
  num_replicate: ONE_PROCESS,
  num_shard: ONE_PROCESS,
  sharding_strategy: ONE_PROCESS,
  backward_prefetch: ONE_PROCESS,
  cpu_offload: ONE_PROCESS,
  use_flex: 'attention never builds a mask',
  save_at_end_as_hf: 'use `srum export`',
};

/** A recipe without the model and the data. */
const trainerOptionsSchema = recipeSchema.omit({
  model_path: true,
  dataset_config_file: true,
  dataset: true,
  dataset_info: true,
});

type ParsedOptions = z.output<typeof trainerOptionsSchema>;

/** Validated options of a trainer, whatever its model and data are. */
export interface TrainerOptions extends Omit<ParsedOptions, 'checkpoint_dir'> {
  /** Folder of the numbered checkpoints; default `<results_dir>/checkpoints`. */
  checkpoint_dir: string;
  /** File the options were read from, for messages. */
  file: string;
  /** Things the user should hear: options without effect, odd combinations. */
  notes: string[];
}

/** A validated recipe: every option resolved, data sets read in, checkpoint folder decided. */
export interface Recipe extends TrainerOptions {
  /** Model directory training starts from. */
  model_path: string;
  /** File the data sets were read from; absent when they were given in place. */
  dataset_config_file?: string;
  /** The dataset YAML, given in place or read from `dataset_config_file`. */
  dataset: DatasetConfig;
  /** The registry, given in place or read from its file. */
  dataset_info: DatasetInfo;
}

/**
 * Reads a recipe. `overrides` (the command line) win over the file and are checked the same way.
 *
 * Paths are relative to the working directory, as the reference's options are.
 *
 * @throws ConfigError naming file, line, key and the nearest known key; FileError when a file that
 * the recipe names cannot be read.
 */
export function loadRecipe(
  file: string,
  overrides: Readonly<Record<string, unknown>> = {},
): Recipe {
  return resolveRecipe(readYaml(file), overrides);
}

/** As `loadRecipe` for options given as an object; `name` stands for the file in messages. */
export function recipeFrom(options: Readonly<Record<string, unknown>>, name = 'options'): Recipe {
  return resolveRecipe({ file: name, value: options, lineOf: () => undefined }, {});
}

/**
 * As `loadRecipe` for runs whose model and data come from a program: a file with the options of
 * the trainer alone.
 */
export function loadTrainerOptions(
  file: string,
  overrides: Readonly<Record<string, unknown>> = {},
): TrainerOptions {
  const source = readYaml(file);
  const { parsed, merged } = resolveOptions(trainerOptionsSchema, source, overrides);
  return completed(parsed, merged, source.file);
}

/** As `loadTrainerOptions` for options given as an object; `name` stands for the file. */
export function trainerOptionsFrom(
  options: Readonly<Record<string, unknown>>,
  name = 'options',
): TrainerOptions {
  const source = { file: name, value: options, lineOf: () => undefined };
  const { parsed, merged } = resolveOptions(trainerOptionsSchema, source, {});
  return completed(parsed, merged, name);
}

type Fail = (key: string, message: string, details?: object) => never;

/** Checks options against a schema, and those that depend on each other. */
function resolveOptions<T extends ParsedOptions>(
  schema: z.ZodType<T>,
  source: ConfigSource,
  overrides: Readonly<Record<string, unknown>>,
): { parsed: T; merged: Record<string, unknown>; fail: Fail } {
  const given = Object.fromEntries(Object.entries(overrides).filter(([, v]) => v !== undefined));
  const merged = { ...(source.value as Record<string, unknown>), ...given };
  const parsed = validate(schema, {
    file: source.file,
    value: merged,
    lineOf: (p) => (String(p[0]) in given ? undefined : source.lineOf(p)),
  });
  const fail: Fail = (key, message, details = {}) => {
    throw new ConfigError('ERR_RECIPE', message, {
      file: source.file,
      line: key in given ? undefined : source.lineOf([key]),
      key,
      ...details,
    });
  };
  checkCombinations(parsed, fail);
  return { parsed, merged, fail };
}

function completed<T extends ParsedOptions>(
  parsed: T,
  merged: Record<string, unknown>,
  file: string,
): T & { checkpoint_dir: string; file: string; notes: string[] } {
  return {
    ...parsed,
    checkpoint_dir: parsed.checkpoint_dir ?? path.join(parsed.results_dir, 'checkpoints'),
    file,
    notes: notesOf(parsed, merged),
  };
}

function resolveRecipe(source: ConfigSource, overrides: Readonly<Record<string, unknown>>): Recipe {
  const { parsed, merged, fail } = resolveOptions(recipeSchema, source, overrides);
  if ((parsed.dataset === undefined) === (parsed.dataset_config_file === undefined)) {
    fail('dataset_config_file', 'give the data either as a dataset YAML or in place', {
      expected: 'exactly one of dataset_config_file and dataset',
    });
  }
  const info = parsed.dataset_info;
  if (info === undefined) {
    fail('dataset_info', 'a required key is missing', {
      expected: 'the dataset registry, or the path of a file that holds it',
    });
  }
  const recipe: Recipe = {
    ...completed(parsed, merged, source.file),
    dataset: parsed.dataset ?? readDatasetConfig(parsed.dataset_config_file as string),
    dataset_info: typeof info === 'string' ? readDatasetInfo(info) : (info as DatasetInfo),
  };
  if (parsed.dataset?.regional_reward?.num_used_data !== undefined) {
    recipe.notes.push('num_used_data has no effect on regional_reward: all records are used');
  }
  return recipe;
}

function checkCombinations(r: ParsedOptions, fail: Fail): void {
  if (!r.freeze_vae) fail('freeze_vae', 'the autoencoder is never trained', { expected: 'true' });
  if (!r.finetune_from_hf) {
    fail('finetune_from_hf', 'training starts from the weights in model_path', {
      expected: 'true',
      hint: 'To continue a run use auto_resume or resume_from.',
    });
  }
  if (!r.visual_gen) {
    fail('visual_gen', 'a regional-reward run trains image generation', { expected: 'true' });
  }
  if (r.expected_num_tokens > r.max_num_tokens) {
    fail('expected_num_tokens', 'a pack can never be filled', {
      expected: `at most max_num_tokens = ${r.max_num_tokens}`,
      found: String(r.expected_num_tokens),
    });
  }
  if (r.lr_scheduler === 'cosine' && r.min_lr > r.lr) {
    fail('min_lr', 'the floor lies above the peak', {
      expected: `at most lr = ${r.lr}`,
      found: String(r.min_lr),
    });
  }
}

function notesOf(r: ParsedOptions, given: Record<string, unknown>): string[] {
  const notes: string[] = [];
  for (const [key, reason] of Object.entries(IGNORED)) {
    if (given[key] !== undefined) notes.push(`${key} has no effect: ${reason}`);
  }
  if (r.warmup_steps >= r.total_steps) {
    notes.push(
      `warmup_steps (${r.warmup_steps}) is not below total_steps (${r.total_steps}): ` +
        `the learning rate never reaches ${r.lr}`,
    );
  }
  return notes;
}

/** Options that may change between a run and its continuation without changing a single weight. */
const FREE = new Set([
  'model_path',
  'finetune_from_ema',
  'dataset_config_file',
  'results_dir',
  'checkpoint_dir',
  'log_every',
  'save_every',
  'save_at_end',
  'keep_last',
  'auto_resume',
  'resume_from',
  'resume_model_only',
  'device',
  'dataset',
  'dataset_info',
  'file',
  'notes',
  ...Object.keys(IGNORED),
]);

/**
 * The options that determine the trained weights, as a flat object in a fixed order. `total_steps`
 * counts only where the schedule depends on it, so a constant-rate run can be prolonged.
 */
export function computationOf(recipe: TrainerOptions | Recipe): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  const transform =
    'dataset' in recipe ? recipe.dataset.regional_reward?.image_transform_args : undefined;
  for (const key of Object.keys(recipe).sort()) {
    if (FREE.has(key)) continue;
    if (key === 'total_steps' && recipe.lr_scheduler === 'constant') continue;
    out[key] = (recipe as unknown as Record<string, unknown>)[key];
  }
  if (transform !== undefined) out.image_transform_args = transform;
  return out;
}

/** sha256 of `computationOf`. */
export function recipeHash(recipe: TrainerOptions): string {
  return sha256(JSON.stringify(computationOf(recipe)));
}
