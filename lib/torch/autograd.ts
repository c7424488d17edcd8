import { native } from './native.js';
import { type Tensor, wrapAll } from './tensor.js';

/** Runs `body` without recording gradients. */
export function noGrad<T>(body: () => T): T {
  return withGrad(false, body);
}

/** Runs `body` with gradients recorded, also inside {@link noGrad}. */
export function enableGrad<T>(body: () => T): T {
  return withGrad(true, body);
}

function withGrad<T>(flag: boolean, body: () => T): T {
  const previous = native.setGradEnabled(flag);
  try {
    return body();
  } finally {
    native.setGradEnabled(previous);
  }
}

/** Runs `body` in inference mode: faster than {@link noGrad}, its tensors can never take part in autograd. */
export function inferenceMode<T>(body: () => T): T {
  native.pushInferenceMode();
  try {
    return body();
  } finally {
    native.popInferenceMode();
  }
}

/** Options of {@link grad}. */
export interface GradOptions {
  /**
   * Gradient of each output, of its shape; null stands for one, which only scalars can do without.
   */
  gradOutputs?: readonly (Tensor | null)[];
  /** Keep the graph for another pass. Default: as `createGraph`. */
  retainGraph?: boolean;
  /** Record the gradients too, so that they can be differentiated. Default false. */
  createGraph?: boolean;
  /** Return null for an input that does not take part, instead of throwing. */
  allowUnused?: boolean;
}

/**
 * Gradients of the summed outputs with respect to `inputs`, without touching any `grad`.
 *
 * @returns one tensor per input, of its shape and dtype; null only with `allowUnused`.
 * @throws {TorchError} when an output has no graph, an input takes no part, or shapes do not fit.
 */
export function grad(
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  options: GradOptions = {},
): (Tensor | null)[] {
  const create = options.createGraph ?? false;
  return wrapAll(
    native.gradients(
      outputs.map((tensor) => tensor.handle),
      inputs.map((tensor) => tensor.handle),
      options.gradOutputs?.map((tensor) => tensor?.handle ?? null) ?? null,
      options.retainGraph ?? create,
      create,
      options.allowUnused ?? false,
    ),
  );
}
