import type { Generator, Tensor } from '../torch/index.js';
import { ops } from '../torch/index.js';
import { onesInit, zerosInit } from './init.js';
import { Module, parameter, setParameter } from './module.js';

/** Normalisation over the last dimension with weight and bias, statistics in float32. */
export class LayerNorm extends Module {
  weight: Tensor;
  bias: Tensor;
  readonly eps: number;

  constructor(width: number, eps = 1e-5) {
    super();
    this.eps = eps;
    this.weight = parameter([width]);
    this.bias = parameter([width]);
  }

  /** [..., width] -> the same shape and dtype. */
  forward(x: Tensor): Tensor {
    return ops.layerNorm(x, [...this.weight.shape], this.weight, this.bias, this.eps);
  }

  /** Ones, and zeros for a bias; nothing is drawn. */
  override initWeights(_generator: Generator): this {
    setParameter(this, 'weight', onesInit([...this.weight.shape]));
    setParameter(this, 'bias', zerosInit([...this.bias.shape]));
    return this;
  }
}

/** Normalisation over groups of channels of [n, C, ...] with weight and bias per channel. */
export class GroupNorm extends Module {
  weight: Tensor;
  bias: Tensor;
  readonly groups: number;
  readonly eps: number;

  constructor(groups: number, channels: number, eps = 1e-5) {
    super();
    this.groups = groups;
    this.eps = eps;
    this.weight = parameter([channels]);
    this.bias = parameter([channels]);
  }

  /** [n, C, ...] -> the same shape and dtype. */
  forward(x: Tensor): Tensor {
    return ops.groupNorm(x, this.groups, this.weight, this.bias, this.eps);
  }

  /** Ones, and zeros for a bias; nothing is drawn. */
  override initWeights(_generator: Generator): this {
    setParameter(this, 'weight', onesInit([...this.weight.shape]));
    setParameter(this, 'bias', zerosInit([...this.bias.shape]));
    return this;
  }
}

/**
 * Root-mean-square normalisation over the last dimension:
 * `x * rsqrt(mean(x^2) + eps)` in float32, rounded to the dtype of `x`, then times the weight in
 * the promoted dtype of both (so a float32 input with a bfloat16 weight stays float32). The rounding
 * before the weight is part of the BAGEL reference's bfloat16 arithmetic.
 */
export class RMSNorm extends Module {
  weight: Tensor;
  readonly eps: number;

  constructor(width: number, eps = 1e-6) {
    super();
    this.eps = eps;
    this.weight = parameter([width]);
  }

  /** [..., width] -> the same shape. */
  forward(x: Tensor): Tensor {
    return ops.srum.rmsNorm(x, this.weight, this.eps);
  }

  /** Ones, and zeros for a bias; nothing is drawn. */
  override initWeights(_generator: Generator): this {
    setParameter(this, 'weight', onesInit([...this.weight.shape]));
    return this;
  }
}
