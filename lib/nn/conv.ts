import type { Generator, Tensor } from '../torch/index.js';
import { ops } from '../torch/index.js';
import { fanInInit } from './init.js';
import { Module, parameter, setParameter } from './module.js';

/** Stride (default 1), zero padding on every side (default 0), and whether there is a bias (default true). */
export interface Conv2dOptions {
  stride?: number;
  padding?: number;
  bias?: boolean;
}

/** Two-dimensional convolution with a square kernel; weight [out, in, k, k], bias [out]. */
export class Conv2d extends Module {
  weight: Tensor;
  bias?: Tensor;
  readonly stride: number;
  readonly padding: number;

  constructor(
    inChannels: number,
    outChannels: number,
    kernel: number,
    options: Conv2dOptions = {},
  ) {
    super();
    this.stride = options.stride ?? 1;
    this.padding = options.padding ?? 0;
    this.weight = parameter([outChannels, inChannels, kernel, kernel]);
    if (options.bias ?? true) this.bias = parameter([outChannels]);
  }

  /** [n, in, H, W] -> [n, out, H', W']. */
  forward(x: Tensor): Tensor {
    const { stride, padding } = this;
    return ops.conv2d(x, this.weight, this.bias, [stride, stride], [padding, padding]);
  }

  /** Uniform weights and bias within `1 / sqrt(fan in)`, as PyTorch starts a convolution. */
  override initWeights(generator: Generator): this {
    const [out, inChannels, kernel] = this.weight.shape;
    const fanIn = inChannels * kernel * kernel;
    setParameter(this, 'weight', fanInInit([out, inChannels, kernel, kernel], fanIn, generator));
    if (this.bias !== undefined) setParameter(this, 'bias', fanInInit([out], fanIn, generator));
    return this;
  }
}
