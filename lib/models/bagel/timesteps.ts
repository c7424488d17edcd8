import type { Tensor } from '../../torch/index.js';
import { scope } from '../../torch/index.js';

/** `s*t / (1 + (s-1)*t)`: moves times in [0, 1] towards 1 (noise) for s > 1. Any shape, float32. */
export function shiftTimesteps(t: Tensor, shift: number): Tensor {
  return scope(() => t.mul(shift).div(t.mul(shift - 1).add(1)));
}

/** Training times from normal draws: sigmoid, then the shift; -inf (a clean image) becomes 0. */
export function trainingTimesteps(raw: Tensor, shift: number): Tensor {
  return scope(() => shiftTimesteps(raw.sigmoid(), shift));
}
