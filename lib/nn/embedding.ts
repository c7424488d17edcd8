import type { Generator, Tensor } from '../torch/index.js';
import { ops } from '../torch/index.js';
import { normalInit } from './init.js';
import { Module, parameter, setParameter } from './module.js';

/** A table of rows that ids look up: weight [count, width]. */
export class Embedding extends Module {
  weight: Tensor;

  constructor(count: number, width: number) {
    super();
    this.weight = parameter([count, width]);
  }

  /** ids [...] int64 -> [..., width]. An id outside the table is a TorchError. */
  forward(ids: Tensor): Tensor {
    return ops.embedding(this.weight, ids);
  }

  /** Standard normal rows. */
  override initWeights(generator: Generator): this {
    setParameter(this, 'weight', normalInit([...this.weight.shape], 1, generator));
    return this;
  }
}
