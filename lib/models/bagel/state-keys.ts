import type { Tensor } from '../../torch/index.js';
import type { BagelOptions } from './bagel.js';
import { Bagel } from './bagel.js';
import type { Config } from './config.js';

/** What a weight file of this configuration must hold: every key with its shape. */
export function expectedKeys(config: Config, options: BagelOptions = {}): Map<string, number[]> {
  const model = new Bagel(config, options);
  const keys = new Map<string, number[]>();
  for (const [key, tensor] of model.namedParameters()) keys.set(key, [...tensor.shape]);
  model.dispose();
  return keys;
}

/** Keys of the fixed position tables, which can be computed when a file lacks them. */
export function isPositionTable(key: string): boolean {
  return key === 'latent_pos_embed.pos_embed' || key === 'vit_pos_embed.pos_embed';
}

/** Keys of the parts that only look at images: vision tower, connector and its position table. */
export function isVisionKey(key: string): boolean {
  return /^(vit_model|connector|vit_pos_embed)\./.test(key);
}

/** Whether a key belongs to the generation expert. */
export function isGenKey(key: string): boolean {
  return key.includes('_moe_gen');
}

/** The understanding parameter that a generation parameter is initialised from. */
export function undKeyOf(genKey: string): string {
  return genKey.replace('_moe_gen', '');
}

/** Every generation key among `keys` with the understanding key it is initialised from. */
export function genFromUnd(keys: Iterable<string>): Map<string, string> {
  const mapping = new Map<string, string>();
  for (const key of keys) if (isGenKey(key)) mapping.set(key, undKeyOf(key));
  return mapping;
}

/** The layout of a set of tensors, e.g. of a weight file: number of layers found in it by kind. */
export function countLayers(keys: Iterable<string>): { llm: number; vit: number } {
  const count = { llm: 0, vit: 0 };
  for (const key of keys) {
    const llm = /^language_model\.model\.layers\.(\d+)\./.exec(key);
    const vit = /^vit_model\.vision_model\.encoder\.layers\.(\d+)\./.exec(key);
    if (llm) count.llm = Math.max(count.llm, Number(llm[1]) + 1);
    if (vit) count.vit = Math.max(count.vit, Number(vit[1]) + 1);
  }
  return count;
}

/** Total number of values in a state. */
export function countParameters(state: Iterable<[string, Tensor]>): number {
  let total = 0;
  for (const [, tensor] of state) total += tensor.numel;
  return total;
}
