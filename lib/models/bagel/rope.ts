import type { Device, DType, Tensor } from '../../torch/index.js';
import { arange, ops, scope } from '../../torch/index.js';

/** cos and signed sin of one set of positions, ready to be applied: both [T, 1, headDim]. */
export interface RopeTable {
  cos: Tensor;
  /** The sines of `angle`, negated in the first half, so that rotation is a swap of halves. */
  signedSin: Tensor;
}

/** `theta^(-2j/headDim)`, j = 0 .. headDim/2 - 1: [headDim/2] float32. */
export function inverseFrequencies(headDim: number, theta: number, device: Device = 'cpu'): Tensor {
  return scope(() => {
    const exponent = arange(0, headDim, 2, { dtype: 'int64' }).to('float32').div(headDim);
    return ops.pow(theta, exponent).reciprocal().to({ dtype: 'float32', device });
  });
}

/**
 * cos and sin of `position * inverse frequency`, computed in float32, each half repeated
 * (rotate-half layout: element j belongs with element j + headDim/2).
 * @param positionIds [T] int64
 * @returns cos and sin [T, headDim] in `dtype`
 */
export function ropeCosSin(
  positionIds: Tensor,
  inverse: Tensor,
  dtype: DType = 'float32',
): { cos: Tensor; sin: Tensor } {
  return scope(() => {
    const angle = positionIds.to('float32').unsqueeze(1).mul(inverse);
    const both = ops.cat([angle, angle], 1);
    return { cos: both.cos().to(dtype), sin: both.sin().to(dtype) };
  });
}

/** The table for a set of positions: [T] int64 -> cos, signedSin [T, 1, headDim] in `dtype`. */
export function ropeTable(positionIds: Tensor, inverse: Tensor, dtype: DType): RopeTable {
  return scope(() => {
    const { cos, sin } = ropeCosSin(positionIds, inverse, dtype);
    const [first, second] = sin.chunk(2, 1);
    const signedSin = ops.cat([first.neg(), second], 1);
    return { cos: cos.unsqueeze(1), signedSin: signedSin.unsqueeze(1) };
  });
}

/**
 * Rotates every head by its token's angles: `x * cos + rotateHalf(x) * sin`.
 * @param x [T, heads, headDim]
 * @returns the same shape in the promoted dtype of x and the table
 */
export function applyRope(x: Tensor, table: RopeTable): Tensor {
  return ops.srum.rope(x, table.cos, table.signedSin);
}
