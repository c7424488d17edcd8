import { ops, type Tensor } from '../torch/index.js';
import { ConfigError, DataError } from '../util/errors.js';

/**
 * The ways a recipe can weigh the flow loss.
 *
 * - `code`: the loss of the released SRUM trainer, together with its reward map in [0, 1].
 * - `paper`: the same formula on a signed map `R` in [-1, 1] times the layout score `alpha`
 *   (SRUM, arXiv 2510.12784, eq. 1-3). With one image as both target and reference this is a
 *   weight of `alpha * R + lambda` per token, negative where a region scored badly.
 * - `sft`: plain flow matching on the good image; rewards are not looked at.
 * - `nft`: forward-process fine-tuning on good and bad at once (DiffusionNFT, arXiv 2509.16117), with
 *   SRUM's dense rewards: where the reward is high the velocity is drawn to the image, where it is low
 *   it is pushed to the other side of the frozen base model's velocity, by as much. Unlike a negative
 *   weight this has a minimum, and a neutral reward keeps the token where the base model has it. It
 *   looks at the bad image only: rewards are about that one.
 */
export const OBJECTIVES = ['code', 'paper', 'sft', 'nft'] as const;
/** One of {@link OBJECTIVES}. */
export type Objective = (typeof OBJECTIVES)[number];

/** Everything the flow loss looks at, restricted to the loss tokens; n tokens of c latent values. */
export interface FlowTerms {
  /** Predicted velocity `v`, [n, c]. */
  velocity: Tensor;
  /** The noise `eps` mixed into the input, [n, c]. */
  noise: Tensor;
  /** Latents `x_bad` the noisy input was built from, [n, c]. */
  bad: Tensor;
  /** Latents `x_good` of the target image, [n, c]; absent when it is the same image. */
  good?: Tensor | null;
  /** Reward `R` of each token, [n]; absent means plain flow matching, as `sft`. */
  reward?: Tensor | null;
  /** Velocity of the frozen base model on the same input, [n, c]; `nft` needs it. */
  reference?: Tensor | null;
}

/** Numbers the flow loss depends on besides tensors. */
export interface FlowLossOptions {
  /** Weight lambda of the constraint term. Paper and released scripts: 0.5. */
  lambdaConstraint: number;
  /**
   * Tokens to divide by instead of n. With gradient accumulation this is the count over all packs
   * of the step, so that every token weighs the same whatever pack it sits in.
   */
  tokens?: number;
  /** How far `nft` reaches beyond the base model for the same pull; default 1, smaller is stronger. */
  nftBeta?: number;
  /** Factor of the rewards of `nft` before they are cut to [-1, 1]; default 1. */
  nftGain?: number;
}

/** The flow loss and its two parts, each a float32 scalar. */
export interface FlowLoss {
  /** `reward + lambda constraint`, or `constraint` alone without rewards. */
  loss: Tensor;
  /** mean(R (v - (eps - x_bad))^2); null without rewards. */
  reward: Tensor | null;
  /** mean((v - (eps - x_good))^2), before lambda. */
  constraint: Tensor;
}

/**
 * The SRUM flow loss (eq. 3): `mean(R (v - (eps - x_bad))^2) + lambda mean((v - (eps - x_good))^2)`,
 * means over tokens and latent values, everything in float32.
 *
 * `sft`, and any batch without rewards, is `mean((v - (eps - x_good))^2)` with weight 1. Where the
 * good image is absent its place is taken by the bad one, so that the loss becomes
 * `mean((R + lambda) (v - (eps - x))^2)`.
 *
 * @throws ConfigError for an unknown objective, DataError for shapes that do not fit.
 */
export function flowLoss(
  objective: Objective,
  terms: FlowTerms,
  options: FlowLossOptions,
): FlowLoss {
  if (!OBJECTIVES.includes(objective)) {
    throw new ConfigError('ERR_OBJECTIVE', 'unknown objective', {
      key: 'objective',
      expected: OBJECTIVES.join(', '),
      found: String(objective),
    });
  }
  checkShapes(terms);
  const velocity = terms.velocity.to('float32');
  const noise = terms.noise.to('float32');
  const [rows, width] = velocity.shape;
  const count = (options.tokens ?? rows) * width;
  const errorOf = (x: Tensor) => velocity.sub(noise.sub(x.to('float32'))).pow(2);
  const mean = (t: Tensor) => (count === t.numel ? t.mean() : t.sum().div(count));

  const reward = objective === 'sft' ? null : (terms.reward ?? null);
  if (reward === null) {
    const constraint = mean(errorOf(terms.good ?? terms.bad));
    return { loss: constraint, reward: null, constraint };
  }
  if (objective === 'nft') {
    const pull = contrastPull(reward, options.nftGain ?? 1);
    return contrastLoss(terms, pull, options.nftBeta ?? 1, mean);
  }
  const badError = errorOf(terms.bad);
  const rewardTerm = mean(badError.mul(reward.to('float32').unsqueeze(-1)));
  const goodError = terms.good ? errorOf(terms.good) : badError;
  const constraint = mean(goodError);
  return {
    loss: rewardTerm.add(constraint.mul(options.lambdaConstraint)),
    reward: rewardTerm,
    constraint,
  };
}

/** How strongly `nft` draws (up to 1) or pushes (down to -1) a token: `gain R`, cut. */
function contrastPull(reward: Tensor, gain: number): Tensor {
  return reward.to('float32').mul(gain).clamp(-1, 1);
}

/**
 * `mean(r (v+ - u)^2 + (1 - r) (v- - u)^2)` with `u = eps - x`, `r = (pull + 1) / 2`,
 * `v+ = (1 - beta) v_base + beta v` and `v- = (1 + beta) v_base - beta v` (DiffusionNFT, arXiv 2509.16117).
 */
function contrastLoss(
  terms: FlowTerms,
  pull: Tensor,
  beta: number,
  mean: (t: Tensor) => Tensor,
): FlowLoss {
  if (!terms.reference) {
    throw new ConfigError(
      'ERR_NO_REFERENCE',
      'objective nft needs the base model beside the trained one',
      {
        key: 'reference',
      },
    );
  }
  const base = terms.reference.detach().to('float32');
  const target = terms.noise.to('float32').sub(terms.bad.to('float32'));
  const step = terms.velocity.to('float32').sub(base).mul(beta);
  const ahead = base.sub(target);
  const share = pull.add(1).div(2).unsqueeze(-1);
  const drawn = ahead.add(step).pow(2).mul(share);
  const pushed = ahead.sub(step).pow(2).mul(share.neg().add(1));
  return {
    loss: mean(drawn.add(pushed)),
    reward: mean(drawn),
    constraint: mean(terms.velocity.to('float32').sub(target).pow(2)),
  };
}

/**
 * Cross entropy over label tokens: the plain mean, or with `weights` the weighted mean
 * `sum(w ce) / sum(w)` (BAGEL's re-weighting, where a text of n labels has w = 1 / sqrt(n)).
 *
 * @param perToken cross entropy of each label token, [n] of any float dtype.
 * @param weights weight of each token, [n].
 * @param total replaces the divisor, for accumulation over several packs.
 * @returns a float32 scalar.
 */
export function crossEntropyLoss(
  perToken: Tensor,
  weights: Tensor | null = null,
  total?: number,
): Tensor {
  const ce = perToken.to('float32');
  if (weights === null) return total === undefined ? ce.mean() : ce.sum().div(total);
  const weighted = ce.mul(weights).sum();
  return total === undefined ? weighted.div(weights.sum()) : weighted.div(total);
}

/**
 * Weight `R + lambda` of every loss token: what the loss multiplies its squared error with when
 * good and bad are the same image. 1 everywhere for `sft` or without rewards; for `nft` its pull in [-1, 1].
 *
 * @param reward reward of each loss token, [rows].
 * @returns [rows] float32.
 */
export function tokenWeights(
  objective: Objective,
  reward: Tensor | null,
  rows: number,
  options: Pick<FlowLossOptions, 'lambdaConstraint' | 'nftGain'>,
): Tensor {
  if (objective === 'sft' || reward === null) return ops.ones([rows]);
  if (objective === 'nft') return contrastPull(reward, options.nftGain ?? 1);
  return reward.to('float32').add(options.lambdaConstraint);
}

function checkShapes(terms: FlowTerms): void {
  const [rows, width] = terms.velocity.shape;
  const fail = (key: string, expected: string, found: readonly number[]): never => {
    throw new DataError('ERR_FLOW_SHAPE', 'the flow loss got tensors that do not fit', {
      key,
      expected,
      found: `[${found.join(', ')}]`,
    });
  };
  if (terms.velocity.ndim !== 2) fail('velocity', '[n, c]', terms.velocity.shape);
  for (const key of ['noise', 'bad', 'good', 'reference'] as const) {
    const t = terms[key];
    if (!t) continue;
    if (t.ndim !== 2 || t.shape[0] !== rows || t.shape[1] !== width) {
      fail(key, `[${rows}, ${width}]`, t.shape);
    }
  }
  const { reward } = terms;
  if (reward && (reward.ndim !== 1 || reward.shape[0] !== rows)) {
    fail('reward', `[${rows}]`, reward.shape);
  }
}
