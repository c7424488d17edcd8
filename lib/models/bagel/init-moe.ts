import type { Module } from '../../nn/module.js';
import type { Tensor } from '../../torch/index.js';
import { noGrad } from '../../torch/index.js';
import { genFromUnd } from './state-keys.js';

/**
 * Starts the generation expert as a copy of the understanding expert, as when a plain Qwen2.5
 * checkpoint becomes a BAGEL (the reference's `copy_init_moe`).
 * @param module the language model, or a model that contains it
 * @returns how many parameters were copied
 */
export function initMoe(module: Module): number {
  const state = module.stateDict();
  const mapping = genFromUnd(state.keys());
  const copies = noGrad(() =>
    [...mapping].map(([gen, und]): [string, Tensor] => {
      const source = state.get(und) as Tensor;
      return [gen, source.detach().clone()];
    }),
  );
  module.loadStateDict(copies, { allowMissing: (key) => !mapping.has(key) });
  return mapping.size;
}
