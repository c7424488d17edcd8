import { Linear } from '../../nn/linear.js';
import { Module, parameter, setParameter } from '../../nn/module.js';
import type { Generator, Tensor } from '../../torch/index.js';
import { arange, keep, noGrad, ops, scope, zeros } from '../../torch/index.js';
import { ConfigError } from '../../util/errors.js';

const MAX_PERIOD = 10000;

/** A layer without parameters that keeps its place in a numbered list. */
class SiLU extends Module {
  forward(x: Tensor): Tensor {
    return ops.silu(x);
  }
}

/**
 * Sinusoidal features of times: `[cos(t*f_j), sin(t*f_j)]`, `f_j = exp(-ln(10000) * j / half)`,
 * t as it is (in [0, 1], not scaled); an odd width ends with a zero column.
 * @param t [n]
 * @returns [n, dim] float32
 */
export function timestepFeatures(t: Tensor, dim: number): Tensor {
  return scope(() => {
    const half = Math.floor(dim / 2);
    const steps = arange(0, half, 1, { dtype: 'float32', device: t.device });
    const frequencies = steps.mul(-Math.log(MAX_PERIOD)).div(half).exp();
    const angles = t.to('float32').unsqueeze(1).mul(frequencies);
    const parts = [angles.cos(), angles.sin()];
    if (dim % 2 === 1) parts.push(zeros([t.shape[0], 1], { device: t.device }));
    return ops.cat(parts, 1);
  });
}

/** Time -> vector of the model's width: sinusoidal features, Linear, SiLU, Linear. */
export class TimestepEmbedder extends Module {
  mlp: [Linear, SiLU, Linear];
  readonly frequencyDim: number;

  constructor(hiddenSize: number, frequencyDim = 256) {
    super();
    this.frequencyDim = frequencyDim;
    this.mlp = [
      new Linear(frequencyDim, hiddenSize),
      new SiLU(),
      new Linear(hiddenSize, hiddenSize),
    ];
  }

  /** [n] -> [n, hidden] in the dtype of the weights. */
  forward(t: Tensor): Tensor {
    return scope(() => {
      const [first, act, second] = this.mlp;
      const features = timestepFeatures(t, this.frequencyDim).to(first.weight.dtype);
      return second.forward(act.forward(first.forward(features)));
    });
  }
}

/**
 * The fixed 2-D sine-cosine table, computed in float64: row `row * side + col` holds
 * `[enc(col), enc(row)]`, `enc(x) = [sin(x*w_k), cos(x*w_k)]`, `w_k = 10000^(-k / (width/4))`.
 * @returns [side * side, width] float32
 */
export function sincosTable(width: number, side: number): Tensor {
  if (width % 4 !== 0) {
    throw new ConfigError(
      'ERR_MODEL_CONFIG',
      'A 2-D sine-cosine table needs a width divisible by 4',
      {
        found: `${width}`,
      },
    );
  }
  return noGrad(() =>
    scope(() => {
      const quarter = width / 4;
      const exponents = arange(0, quarter, 1, { dtype: 'float64' }).div(quarter);
      const omega = ops.pow(MAX_PERIOD, exponents).reciprocal();
      const coordinates = arange(0, side, 1, { dtype: 'float64' });
      const angles = coordinates.unsqueeze(1).mul(omega);
      const encoded = ops.cat([angles.sin(), angles.cos()], 1);
      const columns = encoded.repeat([side, 1]);
      const rows = encoded.repeatInterleave(side, 0);
      return ops.cat([columns, rows], 1).to('float32');
    }),
  );
}

/** A stored (never trained) 2-D sine-cosine table: `posEmbed` [side * side, width]. */
export class PositionEmbedding extends Module {
  posEmbed: Tensor;
  readonly side: number;

  constructor(side: number, width: number) {
    super();
    this.side = side;
    this.posEmbed = parameter([side * side, width]);
  }

  /** ids [n] int64 -> [n, width]. */
  forward(ids: Tensor): Tensor {
    return this.posEmbed.indexSelect(0, ids);
  }

  /** Frozen by nature: marking a model as trainable leaves the table as it is. */
  override requiresGrad_(_value = true): this {
    return this;
  }

  /** Computes the fixed table; nothing is drawn. */
  override initWeights(_generator?: Generator): this {
    setParameter(this, 'posEmbed', keep(sincosTable(this.posEmbed.shape[1], this.side)));
    return this;
  }
}
