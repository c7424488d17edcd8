import type { Generator, Tensor } from '../torch/index.js';
import { full, noGrad, ones, rand, randn, scope, zeros } from '../torch/index.js';

/** Values of N(0, std^2), drawn on the CPU in row-major order: [shape] float32. */
export function normalInit(shape: number[], std: number, generator: Generator): Tensor {
  return noGrad(() => scope(() => randn(shape, { generator }).mul_(std)));
}

/** Values of U(-bound, bound): [shape] float32. */
export function uniformInit(shape: number[], bound: number, generator: Generator): Tensor {
  return noGrad(() =>
    scope(() =>
      rand(shape, { generator })
        .mul_(2 * bound)
        .sub_(bound),
    ),
  );
}

/** PyTorch's default for linear and convolution weights: U(-1/sqrt(fanIn), 1/sqrt(fanIn)). */
export function fanInInit(shape: number[], fanIn: number, generator: Generator): Tensor {
  return uniformInit(shape, fanIn > 0 ? 1 / Math.sqrt(fanIn) : 0, generator);
}

/** Xavier/Glorot uniform for a weight [out, in]. */
export function xavierInit(shape: [number, number], generator: Generator): Tensor {
  return uniformInit(shape, Math.sqrt(6 / (shape[0] + shape[1])), generator);
}

/** Zeros: [shape] float32. */
export function zerosInit(shape: number[]): Tensor {
  return zeros(shape);
}

/** Ones: [shape] float32. */
export function onesInit(shape: number[]): Tensor {
  return ones(shape);
}

/** One value everywhere: [shape] float32. */
export function constantInit(shape: number[], value: number): Tensor {
  return full(shape, value);
}
