import type { Bagel, TrainOutputs } from '../../lib/models/bagel/bagel.js';
import type { PackedBatch } from '../../lib/models/bagel/batch.js';
import type { AttnMode } from '../../lib/nn/packed-layout.js';
import { AdamW } from '../../lib/optim/adamw.js';
import { clipGradNorm, globalNorm } from '../../lib/optim/clip.js';
import { learningRate } from '../../lib/optim/schedules.js';
import { noGrad, ops, scope, type Tensor, tensor } from '../../lib/torch/index.js';
import { latentRewards } from '../../lib/train/batch.js';
import { Ema } from '../../lib/train/ema.js';
import { crossEntropyLoss, flowLoss } from '../../lib/train/objectives.js';
import type { GoldenCase, Handler } from './handler.js';

/** The packed batch of a training case, with names from the reference. */
function batchOf(c: GoldenCase): PackedBatch {
  const given = (name: string): Tensor | undefined =>
    c.hasInput(name) ? c.input(name) : undefined;
  return {
    sequenceLength: c.params.sequence_length,
    sampleLens: c.params.sample_lens,
    splitLens: c.params.split_lens,
    attnModes: c.params.attn_modes as AttnMode[],
    patchifiedVaeLatentShapes: c.params.patchified_vae_latent_shapes,
    packedPositionIds: c.input('packed_position_ids'),
    packedTextIds: c.input('packed_text_ids'),
    packedTextIndexes: c.input('packed_text_indexes'),
    ceLossIndexes: given('ce_loss_indexes'),
    packedLabelIds: given('packed_label_ids'),
    ceLossWeights: given('ce_loss_weights'),
    packedVitTokens: given('packed_vit_tokens'),
    packedVitTokenIndexes: given('packed_vit_token_indexes'),
    packedVitPositionIds: given('packed_vit_position_ids'),
    vitTokenSeqlens: given('vit_token_seqlens')?.toIntArray(),
    packedLatentPositionIds: given('packed_latent_position_ids'),
    packedVaeTokenIndexes: given('packed_vae_token_indexes'),
    packedTimesteps: given('packed_timesteps'),
    mseLossIndexes: given('mse_loss_indexes'),
    paddedLatent: given('padded_latent'),
    paddedLatentGt: given('padded_latent_gt'),
  };
}

/** Reward of every latent token, or null for cases without maps. */
function rewardsOf(c: GoldenCase, batch: PackedBatch): Tensor | null {
  if (!c.hasInput('reward_map_0')) return null;
  const images = (batch.patchifiedVaeLatentShapes ?? []).map((grid, i) => {
    const map = c.input(`reward_map_${i}`);
    const [height, width] = map.shape;
    return { map: { height, width, data: map.toFloat32Array() }, grid };
  });
  const rewards = latentRewards(images, 'bilinear');
  return tensor(rewards, { shape: [rewards.length] });
}

interface Losses {
  out: TrainOutputs;
  ce: Tensor | null;
  mse: Tensor;
  total: Tensor;
}

/** Forward pass and losses as the reference trainer adds them up. */
function losses(c: GoldenCase, model: Bagel, batch: PackedBatch, noise: Tensor): Losses {
  const out = model.forwardTrain(batch, { noise });
  const rewards = rewardsOf(c, batch);
  const mse = flowLoss(
    rewards === null ? 'sft' : 'code',
    {
      velocity: out.velocity as Tensor,
      noise: out.noise as Tensor,
      bad: out.clean as Tensor,
      good: out.good,
      reward: rewards?.indexSelect(0, out.lossRows as Tensor) ?? null,
    },
    { lambdaConstraint: c.params.lambda_constraint },
  ).loss;
  const ce = out.cePerToken === null ? null : crossEntropyLoss(out.cePerToken);
  return { out, ce, mse, total: ce === null ? mse : mse.add(ce) };
}

function trainable(model: Bagel): Map<string, Tensor> {
  model.requiresGrad_(true);
  return new Map([...model.namedParameters()].filter(([, p]) => p.requiresGrad));
}

/**
 * Compares gradients: norms in the given order, whole ones, and that the rest has none at all.
 * Where the reference's gradient is exactly zero (the last layer's understanding rows, frozen
 * streams) our graph leaves the parameter out; none then counts as zero.
 */
function checkGradients(c: GoldenCase, params: ReadonlyMap<string, Tensor>): void {
  const grads = new Map<string, Tensor>();
  for (const [key, param] of params) {
    const grad = param.grad;
    if (grad !== null) grads.set(key, grad);
  }
  if ('grad_names' in c.params) {
    const names = new Set<string>(c.params.grad_names);
    c.expectEqual(
      'gradients the reference lacks',
      [...grads.keys()].filter((key) => !names.has(key)),
      [],
    );
    const norms = [...names].map((key) =>
      grads.has(key) ? ops.linalgVectorNorm(grads.get(key) as Tensor, 2).item() : 0,
    );
    c.expect('grad_norms', norms);
    for (const key of c.params.params_without_grad as string[]) {
      c.expectTrue(`no gradient: ${key}`, !grads.has(key), 'has a gradient');
    }
  }
  c.expect('grad_norm_total', [globalNorm([...grads.values()]).item()]);
  for (const name of c.outputNames().filter((n) => n.startsWith('grad/'))) {
    const key = name.slice('grad/'.length);
    const param = params.get(key);
    if (param === undefined) c.expectTrue(name, false, 'is not trained');
    else c.expect(name, grads.get(key) ?? ops.zerosLike(param));
  }
}

/** Every loss the case lists, then the gradients. */
function checkStep(
  c: GoldenCase,
  batch: PackedBatch,
  { out, mse, total }: Losses,
  params: ReadonlyMap<string, Tensor>,
): void {
  if (out.cePerToken !== null) {
    c.expect('ce_per_token', out.cePerToken);
    const weights = batch.ceLossWeights as Tensor;
    c.expect('ce_reweighted', [crossEntropyLoss(out.cePerToken, weights).item()]);
  }
  const rewards = rewardsOf(c, batch);
  if (rewards !== null) c.expect('reward_per_latent_token', rewards);
  c.expect('mse', [mse.item()]);
  c.expect('total_loss', [total.item()]);
  total.backward();
  checkGradients(c, params);
}

function trainLoss(c: GoldenCase): void {
  scope(() => {
    const model = c.bagel();
    const params = trainable(model);
    const batch = batchOf(c);
    checkStep(c, batch, losses(c, model, batch, c.input('noise')), params);
  });
}

function stepFromImages(c: GoldenCase): void {
  scope(() => {
    const model = c.bagel();
    const vae = c.vae();
    const params = trainable(model);
    const batch = batchOf(c);
    const encode = (images: string, noise: string) =>
      noGrad(() => vae.encode(c.input(images), { posteriorNoise: c.input(noise) }));
    batch.paddedLatent = encode('padded_images', 'posterior_noise');
    batch.paddedLatentGt = encode('padded_gt_images', 'posterior_noise_gt');
    c.expect('latent', batch.paddedLatent);
    c.expect('latent_gt', batch.paddedLatentGt);
    checkStep(c, batch, losses(c, model, batch, c.input('noise')), params);
  });
}

/** Optimiser steps on one batch; updates are judged per tensor by their relative L2 error. */
function adamwSteps(c: GoldenCase): void {
  const { lr, betas, eps, weight_decay, max_grad_norm, ema_decay, steps } = c.params;
  const source = c.otherCase(c.params.batch_from_case);
  const model = c.bagel({ fresh: true });
  const params = trainable(model);
  const before = new Map([...params].map(([key, p]) => [key, p.detach().clone()]));
  const optimizer = new AdamW(params, { betas, eps, weightDecay: weight_decay });
  const ema = new Ema(params, ema_decay);
  const table: number[] = [];
  const norms: number[] = [];
  for (let step = 0; step < steps; step++) {
    scope(() => {
      const batch = batchOf(source);
      batch.packedTimesteps = c.input(`packed_timesteps_${step}`);
      optimizer.zeroGrad();
      const { ce, mse, total } = losses(source, model, batch, c.input(`noise_${step}`));
      total.backward();
      table.push(total.item(), ce?.item() ?? 0, mse.item());
      norms.push(clipGradNorm([...optimizer.gradients().values()], max_grad_norm));
      optimizer.step(lr);
      ema.update();
    });
  }
  c.expect('loss_total_ce_mse_per_step', table, [steps, 3]);
  c.expect('grad_norm_before_clip', norms);
  const listed = c.outputNames().filter((n) => /^(param|ema)\//.test(n));
  const averages = ema.stateDict();
  for (const name of listed) {
    const key = name.slice(name.indexOf('/') + 1);
    const values = name.startsWith('ema/') ? averages : params;
    c.expect(name, values.get(key) as Tensor);
  }
  if (listed.length === 0) {
    checkUpdates(c, '05_adamw_params', before, params, steps * lr);
    checkUpdates(c, '05_adamw_ema', before, averages, steps * lr);
  }
  optimizer.dispose();
  ema.dispose();
}

function checkUpdates(
  c: GoldenCase,
  name: string,
  before: ReadonlyMap<string, Tensor>,
  after: ReadonlyMap<string, Tensor>,
  furthest: number,
): void {
  const file = c.tensorsFile(name);
  const unstable = new Set<string>(c.params.unstable_params);
  for (const stored of file.keys()) {
    scope(() => {
      const key = stored.replace(/^.*\/(?:param|ema)\//, '');
      const label = `${name}: ${key}`;
      const old = before.get(key);
      const now = after.get(key);
      if (old === undefined || now === undefined) {
        // Fixed tables are stored too; they must not have moved and we do not even hold a copy.
        c.expectTrue(label, key.endsWith('pos_embed'), 'is not trained');
        return;
      }
      const update = now.sub(old);
      if (unstable.has(key)) {
        // A gradient of zero in exact arithmetic: Adam makes full steps out of rounding noise.
        c.expectAtMost(label, update.abs().max().item(), furthest * (3.1 / 3));
        return;
      }
      const wanted = file.get(stored).sub(old);
      const scale = ops.linalgVectorNorm(wanted, 2).item();
      const error = ops.linalgVectorNorm(update.sub(wanted), 2).item();
      const limit = c.params.update_rel_l2_tol[key];
      c.expectTrue(`${label} has a limit`, limit !== undefined, 'no limit is listed');
      c.expectAtMost(label, scale === 0 ? error : error / scale, limit ?? 0);
    });
  }
}

function lrSchedules(c: GoldenCase): void {
  for (const [i, s] of c.params.schedules.entries()) {
    const options = {
      kind: s.kind,
      lr: s.lr,
      minLr: s.min_lr,
      warmupSteps: s.warmup_steps,
      totalSteps: s.total_steps,
    };
    const rates = s.lrs.map((_: number, step: number) => learningRate(step, options));
    c.expectClose(`schedule ${i}`, rates, s.lrs, { rtol: c.params.rtol });
  }
}

export const handlers: Handler[] = [
  [/^train_step_from_images/, stepFromImages],
  [/^train_/, trainLoss],
  [/^adamw/, adamwSteps],
  [/^lr_schedules/, lrSchedules],
];
