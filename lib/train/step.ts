import type { PackedSequence, PackedVaeImage } from '../data/packing.js';
import type { ChwImage } from '../data/transforms.js';
import type { Bagel } from '../models/bagel/bagel.js';
import { Generator, ops, randn, scope, type Tensor, tensor } from '../torch/index.js';
import { keyedSeed } from '../util/keyed-random.js';
import type { LatentEncoder } from './latents.js';
import { flowLoss, type Objective, tokenWeights } from './objectives.js';
import { batchTensors, latentRewards } from './reward-batch.js';

/** The options of a recipe that the loss of one pack depends on. */
export interface PackLossOptions {
  /** How the flow loss uses the rewards. */
  objective: Objective;
  /** Weight of the constraint term. */
  lambda_constraint: number;
  /** Factor of the whole flow loss. */
  mse_weight: number;
  /** Seed of noise and posterior samples. */
  global_seed: number;
}

/** Where a pack stands in the run. */
export interface PackPlace {
  /** Optimiser step, counted from 0. */
  step: number;
  /** Number of the pack within the step. */
  pack: number;
  /** Loss tokens of all packs of the step: the divisor of the loss. */
  lossTokens: number;
}

/** What one pack added to the loss of its step. */
export interface PackLosses {
  /** Share of the step's loss, times `mse_weight`. */
  loss: number;
  /** The same before `mse_weight`. */
  mse: number;
  /** Share of mean(R (v - target)^2); null without rewards. */
  reward: number | null;
  /** Share of mean((v - target)^2) towards the good image, before lambda. */
  constraint: number;
  /** Loss tokens whose weight `R + lambda` is below 0. */
  negativeTokens: number;
}

/**
 * Forward and backward pass of one pack; gradients are added to the parameters'. Everything made
 * on the way is freed.
 *
 * @returns the numbers for the log. When the loss is not finite no backward pass is made.
 */
export function trainOnPack(
  model: Bagel,
  encoder: LatentEncoder,
  sequence: PackedSequence,
  place: PackPlace,
  options: PackLossOptions,
): PackLosses {
  return scope(() => {
    const { device } = model;
    const batch = batchTensors(sequence, device);
    const latents = encodeImages(encoder, sequence, place, options.global_seed);
    batch.paddedLatent = latents.bad.map((z) => z.to({ device }));
    if (latents.good !== null) batch.paddedLatentGt = latents.good.map((z) => z.to({ device }));
    const { latent_patch_size: patch } = model.config.bagel;
    const width = latents.bad[0].shape[0] * patch * patch;
    const noise = flowNoise(options.global_seed, place, sequence.packedTimesteps.length, width);
    const out = model.forwardTrain(batch, { noise: noise.to({ device }) });
    const velocity = out.velocity as Tensor;
    const reward = rewardsOf(sequence, options.objective);
    const lossReward =
      reward === null
        ? null
        : tensor(reward, { shape: [reward.length] })
            .to({ device })
            .indexSelect(0, out.lossRows as Tensor);
    const terms = flowLoss(
      options.objective,
      {
        velocity,
        noise: out.noise as Tensor,
        bad: out.clean as Tensor,
        good: out.good,
        reward: lossReward,
      },
      { lambdaConstraint: options.lambda_constraint, tokens: place.lossTokens },
    );
    const total = terms.loss.mul(options.mse_weight);
    const loss = total.item();
    if (Number.isFinite(loss)) total.backward();
    const weights = tokenWeights(
      options.objective,
      lossReward,
      velocity.shape[0],
      options.lambda_constraint,
    );
    return {
      loss,
      mse: terms.loss.item(),
      reward: terms.reward?.item() ?? null,
      constraint: terms.constraint.item(),
      negativeTokens: weights.lt(0).sum().item(),
    };
  });
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

/** Rewards of all latent tokens of a pack, or null where the objective has no use for them. */
function rewardsOf(sequence: PackedSequence, objective: Objective): Float32Array | null {
  if (objective === 'sft') return null;
  const images = sequence.vaeImages.map(({ rewardMap }, i) => ({
    map: rewardMap,
    grid: sequence.patchifiedVaeLatentShapes[i],
  }));
  // The released code samples the map at the cells' centres; the mean over a cell loses nothing.
  return latentRewards(images, objective === 'code' ? 'bilinear' : 'area');
}

/** Whether every element of every tensor is finite. */
export function allFinite(tensors: Iterable<Tensor>): boolean {
  return scope(() => {
    for (const t of tensors) if (ops.isfinite(t).all().item() === 0) return false;
    return true;
  });
}
