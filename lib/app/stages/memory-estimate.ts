import { type Config, headDim } from '../../models/bagel/config.js';
import type { DType } from '../../torch/index.js';

/** Bytes of one number of a floating-point dtype. */
export function bytesOf(dtype: DType): number {
  return dtype === 'float64' ? 8 : dtype === 'float32' ? 4 : 2;
}

/** Bytes that the keys and values of one token take in all layers. */
export function cacheBytesPerToken({ llm }: Config, dtype: DType): number {
  return 2 * llm.num_hidden_layers * llm.num_key_value_heads * headDim(llm) * bytesOf(dtype);
}

/** How many items of a size fit into memory: at least 1, at most `most`. */
export function fitting(memory: number, perItem: number, most: number): number {
  return Math.min(most, Math.max(1, Math.floor(memory / perItem)));
}
