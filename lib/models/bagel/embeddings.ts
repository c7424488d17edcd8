import { Linear } from '../../nn/linear.js';
import { Module, parameter, setParameter } from '../../nn/module.js';
import type { Device, Generator, Tensor } from '../../torch/index.js';
import { arange, keep, noGrad, ops, scope, tensor, zeros } from '../../torch/index.js';
import { ConfigError, ImageError } from '../../util/errors.js';

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

  override initWeights(_generator?: Generator): this {
    setParameter(this, 'posEmbed', keep(sincosTable(this.posEmbed.shape[1], this.side)));
    return this;
  }
}

/** Which flattened 2-D ids an image of `height` x `width` pixels uses. */
export interface FlatPositionSpec {
  height: number;
  width: number;
  /** Pixels per side of a token. */
  patch: number;
  /** Side of the table. */
  side: number;
  /** Spread the ids over the whole table instead of using its top left corner. */
  interpolate?: boolean;
  device?: Device;
}

/**
 * Flattened 2-D position ids `bucket(row) * side + bucket(col)` in row-major order: [n] int64.
 * `extrapolate` (default): bucket(i) = i. `interpolate`: bucket(i) = floor(i * side / count), in
 * integers (the reference's floating-point buckets are one lower for a few pairs, by rounding).
 * @throws ImageError when the image needs positions that the table does not have.
 */
export function flatPositionIds(spec: FlatPositionSpec): Tensor {
  const { height, width, patch, side, interpolate = false, device = 'cpu' } = spec;
  const rows = Math.floor(height / patch);
  const cols = Math.floor(width / patch);
  if (!interpolate && (rows > side || cols > side)) {
    throw new ImageError('ERR_IMAGE_SIZE', 'The image has more tokens per side than positions', {
      expected: `at most ${side * patch}x${side * patch} pixels`,
      found: `${width}x${height}`,
      hint: 'Resize the image, or use a model with a larger position table.',
    });
  }
  const bucket = (i: number, n: number) => (interpolate ? Math.floor((i * side) / n) : i);
  const ids = new BigInt64Array(rows * cols);
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      ids[row * cols + col] = BigInt(bucket(row, rows) * side + bucket(col, cols));
    }
  }
  return tensor(ids, { shape: [rows * cols], dtype: 'int64', device });
}
