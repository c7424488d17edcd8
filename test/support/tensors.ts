import { type Tensor, tensor } from '../../lib/torch/index.js';

export function ids(values: number[]): Tensor {
  return tensor(values, { dtype: 'int64' });
}

export function assertClose(got: Tensor, want: Tensor, tolerance: number, what = 'values'): void {
  if (got.shape.join() !== want.shape.join()) {
    throw new Error(`${what}: shape [${got.shape}] instead of [${want.shape}]`);
  }
  const error = got.to('float64').sub(want.to('float64')).abs().max().item();
  if (!(error <= tolerance)) throw new Error(`${what}: off by ${error}`);
}

/** Largest absolute difference of two lists of numbers. */
export function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (let i = 0; i < a.length; i++) worst = Math.max(worst, Math.abs(a[i] - b[i]));
  return worst;
}
