import type { PackedSequence, PackedVaeImage } from '../data/packing.js';
import type { ChwImage } from '../data/transforms.js';
import type { Bagel, TrainOutputs } from '../models/bagel/bagel.js';
import type { PackedBatch } from '../models/bagel/batch.js';
import { Generator, noGrad, ops, randn, scope, type Tensor, tensor } from '../torch/index.js';
import { keyedSeed } from '../util/keyed-random.js';
import { batchTensors, latentRewards } from './batch.js';
import type { LatentEncoder } from './latents.js';
import {
  crossEntropyLoss,
  type FlowLoss,
  flowLoss,
  type Objective,
  tokenWeights,
} from './objectives.js';
import { defaultRewardMap, type RewardMapKind } from './reward-maps.js';

/** The options of a recipe that the loss of one pack depends on. */
export interface PackLossOptions {
  /** How rewards weigh the flow loss. */
  objective: Objective;
  /** How scores became rewards; default: the objective's own map. */
  reward_map?: RewardMapKind;
  /** Weight lambda of the constraint term, as in `flowLoss`. */
  lambda_constraint: number;
  /** Reach of the `nft` objective, as in `flowLoss`. */
  nft_beta: number;
  nft_gain: number;
  /** Factor of the flow loss in what is minimised. */
  mse_weight: number;
  /** Factor of the cross entropy in what is minimised. */
  ce_weight: number;
  /** Weighs every text by one over the square root of its length instead of its length. */
  ce_loss_reweighting: boolean;
  /** Seed of noise and posterior draws. */
  global_seed: number;
}

/** Where a pack stands in the run. */
export interface PackPlace {
  step: number;
  pack: number;
  /** Tokens with a flow loss in all packs of the step: the divisor of the flow loss. */
  lossTokens: number;
  /** Labels of all packs of the step, or the sum of their weights: the divisor of the cross entropy. */
  labels: number;
}

/** What one pack added to the loss of its step; null where the pack has no such tokens. */
export interface PackLosses {
  /** Weighted sum of flow loss and cross entropy. */
  loss: number;
  /** Flow loss before `mse_weight`. */
  mse: number | null;
  /** Reward term of the flow loss; null without rewards. */
  reward: number | null;
  /** Constraint term of the flow loss, before lambda. */
  constraint: number | null;
  /** Tokens whose weight `R + lambda` is below 0. */
  negativeTokens: number;
  /** Cross entropy per label in nats, before `ce_weight`. */
  ce: number | null;
}

/** The models a pack goes through. */
export interface PackModels {
  /** The trained model. */
  model: Bagel;
  /** Its frozen beginning, for objectives that compare with it. */
  reference: Bagel | null;
  encoder: LatentEncoder;
}

/**
 * Forward and backward pass of one pack; gradients are added to the parameters'. Everything made
 * on the way is freed.
 *
 * @returns the numbers for the log. When the loss is not finite no backward pass is made.
 */
export function trainOnPack(
  { model, reference, encoder }: PackModels,
  sequence: PackedSequence,
  place: PackPlace,
  options: PackLossOptions,
): PackLosses {
  return scope(() => {
    const { device, config } = model;
    const batch = batchTensors(sequence, config.vit.patch_size, device);
    let noise: Tensor | undefined;
    if (sequence.vaeImages.length > 0) {
      const latents = encodeImages(encoder, sequence, place, options.global_seed);
      batch.paddedLatent = latents.bad.map((z) => z.to({ device }));
      if (latents.good !== null) batch.paddedLatentGt = latents.good.map((z) => z.to({ device }));
      const width = latents.bad[0].shape[0] * config.bagel.latent_patch_size ** 2;
      const tokens = sequence.packedTimesteps.length;
      noise = flowNoise(options.global_seed, place, tokens, width).to({ device });
    }
    const out = model.forwardTrain(batch, { noise });
    const base =
      reference && noGrad(() => reference.forwardTrain(withoutLabels(batch), { noise }).velocity);
    const flow = flowPart(out, base, sequence, place, options);
    const ce =
      out.cePerToken === null
        ? null
        : crossEntropyLoss(
            out.cePerToken,
            options.ce_loss_reweighting ? (batch.ceLossWeights as Tensor) : null,
            place.labels,
          );
    const terms = [flow?.loss.mul(options.mse_weight), ce?.mul(options.ce_weight)];
    const total = terms.filter((t) => t !== undefined).reduce((a, b) => a.add(b));
    const loss = total.item();
    if (Number.isFinite(loss)) total.backward();
    return {
      loss,
      mse: flow?.loss.item() ?? null,
      reward: flow?.reward?.item() ?? null,
      constraint: flow?.constraint.item() ?? null,
      negativeTokens: flow?.negativeTokens ?? 0,
      ce: ce?.item() ?? null,
    };
  });
}

/** The flow loss of a pack; null when it has no image to generate. */
function flowPart(
  out: TrainOutputs,
  base: Tensor | null,
  sequence: PackedSequence,
  place: PackPlace,
  options: PackLossOptions,
): (FlowLoss & { negativeTokens: number }) | null {
  const { velocity, noise, clean, good, lossRows } = out;
  if (velocity === null || noise === null || clean === null || lossRows === null) return null;
  const { objective } = options;
  const all =
    objective === 'sft'
      ? null
      : rewardsOf(sequence, options.reward_map ?? defaultRewardMap(objective));
  const reward =
    all === null
      ? null
      : tensor(all, { shape: [all.length] })
          .to({ device: velocity.device })
          .indexSelect(0, lossRows);
  const factors = {
    lambdaConstraint: options.lambda_constraint,
    nftBeta: options.nft_beta,
    nftGain: options.nft_gain,
  };
  const loss = flowLoss(
    objective,
    { velocity, noise, bad: clean, good, reward, reference: base },
    { ...factors, tokens: place.lossTokens },
  );
  const weights = tokenWeights(objective, reward, velocity.shape[0], factors);
  return { ...loss, negativeTokens: weights.lt(0).sum().item() };
}

/** The same batch without texts to be learned, for a pass that is asked for velocities only. */
function withoutLabels(batch: PackedBatch): PackedBatch {
  return { ...batch, ceLossIndexes: undefined, packedLabelIds: undefined };
}

/** Noise of a pack's latent tokens: [tokens, width] float32, a pure function of (seed, step, pack). */
export function flowNoise(
  seed: number,
  place: { step: number; pack: number },
  tokens: number,
  width: number,
): Tensor {
  const generator = new Generator(keyedSeed(seed, 'noise', place.step, place.pack));
  return randn([tokens, width], { generator });
}

/** Latents of all images of a pack; `good` is null when no image has a target of its own. */
function encodeImages(
  encoder: LatentEncoder,
  sequence: PackedSequence,
  place: PackPlace,
  seed: number,
): { bad: Tensor[]; good: Tensor[] | null } {
  const key = { seed, step: place.step, pack: place.pack };
  const nameOf = (i: number) => {
    const source = sequence.sources[sequence.vaeImages[i].sample];
    return `${source?.dataset}:${source?.row}`;
  };
  const bad = sequence.vaeImages.map(({ image }, i) =>
    encoder.encode(`${nameOf(i)}/bad`, image, { ...key, image: i, side: 'bad' }),
  );
  const own = ({ image, gtImage }: PackedVaeImage) => gtImage === null || gtImage === image;
  if (sequence.vaeImages.every(own)) return { bad, good: null };
  // Where good and bad are the same file they share one draw of the posterior as well.
  const good = sequence.vaeImages.map((v, i) =>
    own(v)
      ? bad[i]
      : encoder.encode(`${nameOf(i)}/good`, v.gtImage as ChwImage, {
          ...key,
          image: i,
          side: 'good',
        }),
  );
  return { bad, good };
}

/** Rewards of all latent tokens of a pack. */
function rewardsOf(sequence: PackedSequence, kind: RewardMapKind): Float32Array {
  const images = sequence.vaeImages.map(({ rewardMap }, i) => ({
    map: rewardMap,
    grid: sequence.patchifiedVaeLatentShapes[i],
  }));
  // The released code samples the map at the cells' centres; the mean over a cell loses nothing.
  return latentRewards(images, kind === 'code' ? 'bilinear' : 'area');
}

/** Whether every element of every tensor is finite. */
export function allFinite(tensors: Iterable<Tensor>): boolean {
  return scope(() => {
    for (const t of tensors) if (ops.isfinite(t).all().item() === 0) return false;
    return true;
  });
}
