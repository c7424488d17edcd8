import fs from 'node:fs';
import path from 'node:path';
import type { BoundaryTokens, PackConfig, PackedSequence } from '../data/packing.js';
import type { Bagel } from '../models/bagel/bagel.js';
import type { LatentAutoencoder } from '../models/bagel/latent-autoencoder.js';
import { AdamW } from '../optim/adamw.js';
import { clipGradNorm } from '../optim/clip.js';
import { schedule } from '../optim/schedules.js';
import { scope, type Tensor } from '../torch/index.js';
import { ConfigError, NumericError } from '../util/errors.js';
import { makeFolder } from '../util/files.js';
import { KEYED_SCHEME } from '../util/keyed-random.js';
import { packKeyedSamples } from './batch.js';
import {
  newestCheckpoint,
  pruneCheckpoints,
  removeStaleCheckpoints,
  saveCheckpoint,
  verifyCheckpoint,
  type WholeCheckpoint,
} from './checkpoint.js';
import { Ema } from './ema.js';
import { LatentEncoder } from './latents.js';
import { MetricsFile, type StepMetrics } from './metrics.js';
import { type PackedSample, PackStream } from './pack-stream.js';
import { computationOf, recipeHash, type TrainerOptions } from './recipe.js';
import { checkSameRun, loadModelFrom, loadTrainingState } from './resume.js';
import type { DatasetReport, SampleSet } from './sample-set.js';
import { allFinite, type PackLosses, trainOnPack } from './step.js';
import { freeze, trainableParameters } from './trainable.js';

/** What a trainer works on: a model with real float32 weights, its autoencoder and the data. */
export interface TrainerParts {
  /** Trained in place. */
  model: Bagel;
  /** Only encodes; never trained. */
  vae: LatentAutoencoder;
  /** Another copy of the model, for objective `nft`, which compares with the run's beginning. */
  reference?: Bagel;
  /** The records to train on. */
  dataset: SampleSet;
  /** Boundary tokens of the tokenizer the data set uses. */
  tokens: BoundaryTokens;
}

/** How a caller follows a run and stops it. */
export interface TrainerHooks {
  /** Told about everything the user should know and about resumption. */
  onNote?: (note: string) => void;
  /** Called after every step. */
  onStep?: (metrics: StepMetrics, totalSteps: number) => void;
  /** Called after a checkpoint was written. */
  onCheckpoint?: (folder: string, step: number) => void;
  /** Stops the run after the current step, with a checkpoint. */
  signal?: AbortSignal;
}

/** How a run ended. */
export interface TrainSummary {
  /** Completed optimiser steps. */
  step: number;
  /** `total_steps` of the recipe. */
  totalSteps: number;
  /** Step the run was resumed from; 0 for a new run. */
  resumedFrom: number;
  /** Whether the run was stopped before `totalSteps`. */
  aborted: boolean;
  /** Newest checkpoint; null when none was written. */
  checkpoint: string | null;
  /** Path of `metrics.jsonl`. */
  metrics: string;
  /** Metrics of the last step made by this call; null when none was left to make. */
  last: StepMetrics | null;
  /** Samples of all steps, those before a resumption included. */
  samples: number;
  /** What became of the records. */
  data: DatasetReport;
}

interface StepPlan {
  packs: PackedSample[][];
  sequences: PackedSequence[];
  tokens: number;
  lossTokens: number;
  /** Labels, or the sum of their weights with `ce_loss_reweighting`. */
  labels: number;
}

/**
 * Trains a model on packed samples: flow matching on images to be generated, weighted by their rewards
 * where they have some, and cross entropy on texts to be written.
 *
 * All randomness is keyed by seeds and places in the run, and a checkpoint holds weights, averages,
 * moments, the step and the place in the data. A run that is killed at any moment and started again
 * therefore ends with bit-identical weights on the same machine with the same number of threads.
 */
export class Trainer {
  readonly #recipe: TrainerOptions;
  readonly #parts: TrainerParts;
  readonly #hooks: TrainerHooks;
  readonly #params: Map<string, Tensor>;
  readonly #optimizer: AdamW;
  readonly #ema: Ema | null;
  readonly #encoder: LatentEncoder;
  readonly #stream: PackStream;
  readonly #rate: (step: number) => number;
  #step = 0;
  #totals = { tokens: 0, samples: 0 };
  #saved: { step: number; path: string } | null = null;

  /** @throws ConfigError when everything is frozen or an image size cannot be cut into tokens. */
  constructor(recipe: TrainerOptions, parts: TrainerParts, hooks: TrainerHooks = {}) {
    this.#recipe = recipe;
    this.#parts = parts;
    this.#hooks = hooks;
    freeze(parts.model, recipe);
    this.#params = trainableParameters(parts.model);
    this.#optimizer = new AdamW(this.#params, {
      betas: [recipe.beta1, recipe.beta2],
      eps: recipe.eps,
      weightDecay: recipe.weight_decay,
    });
    this.#ema = recipe.ema > 0 ? new Ema(this.#params, recipe.ema) : null;
    this.#encoder = new LatentEncoder(parts.vae);
    this.#stream = new PackStream(parts.dataset, {
      expected_num_tokens: recipe.expected_num_tokens,
      max_num_tokens: recipe.max_num_tokens,
      max_num_tokens_per_sample: recipe.max_num_tokens_per_sample,
      prefer_buffer_before: recipe.prefer_buffer_before,
      max_buffer_size: recipe.max_buffer_size,
    });
    this.#rate = schedule({
      kind: recipe.lr_scheduler,
      lr: recipe.lr,
      minLr: recipe.min_lr,
      warmupSteps: recipe.warmup_steps,
      totalSteps: recipe.total_steps,
    });
  }

  /**
   * Resumes or starts, trains to `total_steps` and saves.
   *
   * @throws NumericError when loss or gradients leave the finite numbers; nothing is saved then.
   * @throws CheckpointError when a checkpoint cannot be continued, DataError when no record can be
   * used, FileError when results cannot be written.
   */
  async run(): Promise<TrainSummary> {
    const recipe = this.#recipe;
    const { signal } = this.#hooks;
    makeFolder(recipe.results_dir);
    makeFolder(recipe.checkpoint_dir);
    await removeStaleCheckpoints(recipe.checkpoint_dir);
    await this.#loadReference();
    const resumedFrom = await this.#resume();
    const file = path.join(recipe.results_dir, 'metrics.jsonl');
    const metrics = new MetricsFile(file, this.#step);
    let last: StepMetrics | null = null;
    try {
      while (this.#step < recipe.total_steps && !signal?.aborted) {
        last = await this.#oneStep();
        if (last.step % recipe.log_every === 0) metrics.append(last);
        this.#hooks.onStep?.(last, recipe.total_steps);
        if (this.#step % recipe.save_every === 0) await this.#save();
        // One macrotask per step: timers, signals and finalisers get their turn.
        await new Promise((resolve) => setImmediate(resolve));
      }
      const unsaved = this.#saved?.step !== this.#step && this.#step > 0;
      if (unsaved && (recipe.save_at_end || signal?.aborted)) await this.#save();
    } finally {
      metrics.close();
    }
    return {
      step: this.#step,
      totalSteps: recipe.total_steps,
      resumedFrom,
      aborted: this.#step < recipe.total_steps,
      checkpoint: this.#saved?.path ?? null,
      metrics: file,
      last,
      samples: this.#totals.samples,
      data: this.#parts.dataset.report(),
    };
  }

  /** Frees moments, averages and cached latents; the model stays. */
  dispose(): void {
    this.#optimizer.dispose();
    this.#ema?.dispose();
    this.#encoder.dispose();
  }

  async #oneStep(): Promise<StepMetrics> {
    const recipe = this.#recipe;
    const step = this.#step;
    const started = performance.now();
    const plan = await this.#plan();
    const losses: PackLosses[] = [];
    this.#optimizer.zeroGrad();
    for (const [pack, sequence] of plan.sequences.entries()) {
      const place = { step, pack, lossTokens: plan.lossTokens, labels: plan.labels };
      const { model, reference = null } = this.#parts;
      const models = { model, reference, encoder: this.#encoder };
      const result = trainOnPack(models, sequence, place, recipe);
      if (!Number.isFinite(result.loss)) throw this.#notFinite('the loss', result.loss, plan);
      losses.push(result);
    }
    const lr = this.#rate(step);
    const norm = scope(() =>
      clipGradNorm([...this.#optimizer.gradients().values()], recipe.max_grad_norm),
    );
    if (!Number.isFinite(norm)) throw this.#notFinite('the gradient norm', norm, plan);
    this.#optimizer.step(lr);
    this.#optimizer.zeroGrad();
    this.#ema?.update();
    this.#step = step + 1;
    const samples = plan.packs.reduce((n, p) => n + p.length, 0);
    this.#totals.tokens += plan.tokens;
    this.#totals.samples += samples;
    // What no pack of the step has is null rather than 0.
    const sum = (key: keyof PackLosses): number | null => {
      const parts = losses.map((l) => l[key]).filter((value) => value !== null);
      return parts.length === 0 ? null : parts.reduce((a, b) => a + b);
    };
    return {
      step,
      loss: sum('loss') as number,
      mse: sum('mse'),
      mse_reward: sum('reward'),
      mse_constraint: sum('constraint'),
      ce: sum('ce'),
      lr,
      grad_norm: norm,
      negative_token_fraction: (sum('negativeTokens') as number) / Math.max(1, plan.lossTokens),
      tokens: plan.tokens,
      loss_tokens: plan.lossTokens,
      samples,
      epoch: plan.packs.at(-1)?.at(-1)?.ref.epoch ?? 0,
      tokens_per_second: plan.tokens / ((performance.now() - started) / 1000),
    };
  }

  /** The packs of one step, packed into sequences before any arithmetic, so that all are counted. */
  async #plan(): Promise<StepPlan> {
    const {
      gradient_accumulation_steps: count,
      data_seed: seed,
      ce_loss_reweighting,
    } = this.#recipe;
    const packs: PackedSample[][] = [];
    for (let i = 0; i < count; i++) packs.push(await this.#stream.nextPack());
    const options = { config: this.#packConfig(), tokens: this.#parts.tokens, seed };
    const sequences = packs.map((pack) => packKeyedSamples(pack, options));
    return {
      packs,
      sequences,
      tokens: sequences.reduce((n, s) => n + s.sequenceLength, 0),
      lossTokens: sequences.reduce((n, s) => n + s.mseLossIndexes.length, 0),
      labels: sequences.reduce((n, s) => n + labelCount(s, ce_loss_reweighting), 0),
    };
  }

  #packConfig(): PackConfig {
    const { bagel, vit } = this.#parts.model.config;
    return {
      text_cond_dropout_prob: this.#recipe.text_cond_dropout_prob,
      vae_cond_dropout_prob: this.#recipe.vae_cond_dropout_prob,
      vit_cond_dropout_prob: this.#recipe.vit_cond_dropout_prob,
      vae_image_downsample: this.#parts.vae.downsample * bagel.latent_patch_size,
      max_latent_size: bagel.max_latent_size,
      vit_patch_size: vit.patch_size,
      max_num_patch_per_side: bagel.vit_max_num_patch_per_side,
      interpolate_pos: bagel.interpolate_pos,
    };
  }

  #notFinite(what: string, value: number, plan: StepPlan): NumericError {
    const samples = plan.packs.flat().map((p) => p.id);
    return new NumericError('ERR_NOT_FINITE', `${what} of step ${this.#step} is not finite`, {
      key: samples.join(', '),
      found: String(value),
      hint:
        'Nothing was saved after the last checkpoint. Look at these records and their rewards, ' +
        'lower lr or lambda_constraint, or raise warmup_steps, and run again to resume.',
    });
  }

  /** The reference is the model as the run began with it, also when it goes on. */
  async #loadReference(): Promise<void> {
    const { resume_from, resume_model_only, finetune_from_ema } = this.#recipe;
    const { reference } = this.#parts;
    if (reference === undefined || resume_from === null || !resume_model_only) return;
    const own = new Map(reference.namedParameters());
    const trained = [...this.#params.keys()].map((key) => [key, own.get(key) as Tensor] as const);
    loadModelFrom(new Map(trained), await verifyCheckpoint(resume_from), finetune_from_ema);
  }

  /** Takes up an earlier run where the recipe allows it. @returns the step, 0 for a new run. */
  async #resume(): Promise<number> {
    const recipe = this.#recipe;
    const note = this.#hooks.onNote ?? (() => {});
    if (recipe.auto_resume) {
      const newest = await newestCheckpoint(recipe.checkpoint_dir);
      for (const { path: folder, reason } of newest?.rejected ?? []) {
        note(`passed over the damaged checkpoint ${folder}: ${reason}`);
      }
      if (newest !== null) return this.#continueFrom(newest);
    } else if (recipe.resume_from === null && hasCheckpoints(recipe.checkpoint_dir)) {
      throw new ConfigError('ERR_CHECKPOINTS_EXIST', 'the checkpoint folder is already in use', {
        file: recipe.checkpoint_dir,
        hint: 'Set auto_resume to true to go on, or choose another checkpoint_dir.',
      });
    }
    if (recipe.resume_from === null) return 0;
    const whole = await verifyCheckpoint(recipe.resume_from);
    if (!recipe.resume_model_only) return this.#continueFrom(whole);
    loadModelFrom(this.#params, whole, recipe.finetune_from_ema);
    this.#ema?.restart();
    note(`starts from the weights of ${whole.path}`);
    return 0;
  }

  async #continueFrom(whole: WholeCheckpoint): Promise<number> {
    checkSameRun(whole, this.#recipe, this.#parts.dataset.fingerprint);
    loadTrainingState(whole, this.#params, this.#optimizer, this.#ema);
    await this.#stream.restore(whole.manifest.data);
    this.#step = whole.manifest.step;
    this.#totals = { ...whole.manifest.totals };
    this.#saved = { step: this.#step, path: whole.path };
    this.#hooks.onNote?.(`resumes after step ${this.#step} from ${whole.path}`);
    return this.#step;
  }

  async #save(): Promise<void> {
    const { model, dataset } = this.#parts;
    const recipe = this.#recipe;
    const weights = model.stateDict();
    if (!allFinite(this.#params.values())) {
      throw new NumericError('ERR_NOT_FINITE', `the weights of step ${this.#step} are not finite`, {
        hint: 'They are not saved. Lower lr and run again to resume from the last checkpoint.',
      });
    }
    const average = this.#ema?.stateDict() ?? null;
    const optimizer = this.#optimizer.stateDict();
    const folder = await saveCheckpoint(
      recipe.checkpoint_dir,
      {
        model: weights,
        // A whole model again: frozen parts have no average of their own.
        ema: average === null ? null : new Map([...weights, ...average]),
        optimizer,
      },
      {
        step: this.#step,
        recipe_hash: recipeHash(recipe),
        computation: computationOf(recipe),
        data_hash: dataset.fingerprint,
        rng: {
          scheme: KEYED_SCHEME,
          global_seed: recipe.global_seed,
          data_seed: recipe.data_seed,
        },
        data: this.#stream.position(),
        totals: { ...this.#totals },
      },
    );
    this.#saved = { step: this.#step, path: folder };
    this.#hooks.onCheckpoint?.(folder, this.#step);
    await pruneCheckpoints(recipe.checkpoint_dir, recipe.keep_last);
  }
}

/** Divisor of the cross entropy that a sequence contributes. */
function labelCount(sequence: PackedSequence, reweighted: boolean): number {
  if (!reweighted) return sequence.ceLossIndexes.length;
  return sequence.ceLossWeights.reduce((a, b) => a + b, 0);
}

function hasCheckpoints(dir: string): boolean {
  return fs.existsSync(dir) && fs.readdirSync(dir).some((name) => /^\d{7,}$/.test(name));
}
