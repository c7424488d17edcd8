import type { Generator, Tensor } from '../torch/index.js';
import { ops } from '../torch/index.js';
import { fanInInit } from './init.js';
import { Module, parameter, setParameter } from './module.js';

/** `y = x W^T + b`; weight [out, in], bias [out]. */
export class Linear extends Module {
  weight: Tensor;
  bias?: Tensor;

  constructor(inFeatures: number, outFeatures: number, options: { bias?: boolean } = {}) {
    super();
    this.weight = parameter([outFeatures, inFeatures]);
    if (options.bias ?? true) this.bias = parameter([outFeatures]);
  }

  /** [..., in] -> [..., out], in the dtype of input and weight. */
  forward(x: Tensor): Tensor {
    return ops.linear(x, this.weight, this.bias);
  }

  /** Uniform weights and bias within `1 / sqrt(in)`, as PyTorch starts a linear layer. */
  override initWeights(generator: Generator): this {
    const [out, fanIn] = this.weight.shape;
    setParameter(this, 'weight', fanInInit([out, fanIn], fanIn, generator));
    if (this.bias !== undefined) setParameter(this, 'bias', fanInInit([out], fanIn, generator));
    return this;
  }
}
