import type { PackedBatch } from '../../../lib/models/bagel/batch.js';
import type { Config } from '../../../lib/models/bagel/config.js';
import { parseBagelConfig, patchLatentDim } from '../../../lib/models/bagel/config.js';
import type { Tensor } from '../../../lib/torch/index.js';
import { Generator, ops, randn, tensor } from '../../../lib/torch/index.js';

export interface TinyOverrides {
  llm?: object;
  vit?: object;
  bagel?: object;
}

/** A BAGEL of a few thousand parameters. */
export function tinyConfig(overrides: TinyOverrides = {}): Config {
  return parseBagelConfig({
    llm: {
      vocab_size: 40,
      hidden_size: 32,
      intermediate_size: 48,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      rope_theta: 1e6,
      ...overrides.llm,
    },
    vit: {
      hidden_size: 16,
      intermediate_size: 24,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      image_size: 56,
      ...overrides.vit,
    },
    vae: { ch: 32, ch_mult: [1, 1, 1, 1], num_res_blocks: 1, z_channels: 4 },
    bagel: { max_latent_size: 8, vit_max_num_patch_per_side: 4, ...overrides.bagel },
  });
}

export function ids(values: number[]): Tensor {
  return tensor(values, { dtype: 'int64' });
}

/** Text, a noised image of 2x2 tokens, a ViT image of 1x2 patches, and an answer: one sample. */
export function tinyBatch(config: Config, seed = 1): { batch: PackedBatch; noise: Tensor } {
  const generator = new Generator(seed);
  const p = patchLatentDim(config);
  const patch = config.vit.patch_size ** 2 * config.vit.num_channels;
  const batch: PackedBatch = {
    sequenceLength: 16,
    sampleLens: [16],
    splitLens: [3, 6, 4, 3],
    attnModes: ['causal', 'noise', 'full', 'causal'],
    packedPositionIds: ids([0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 5, 6]),
    packedTextIds: ids([1, 20, 2, 3, 4, 3, 4, 1, 30, 2]),
    packedTextIndexes: ids([0, 1, 2, 3, 8, 9, 12, 13, 14, 15]),
    ceLossIndexes: ids([13, 14]),
    packedLabelIds: ids([30, 2]),
    packedVitTokens: randn([2, patch], { generator }),
    packedVitTokenIndexes: ids([10, 11]),
    packedVitPositionIds: ids([0, 1]),
    vitTokenSeqlens: [2],
    paddedLatent: randn([1, config.vae.z_channels, 4, 4], { generator }),
    patchifiedVaeLatentShapes: [[2, 2]],
    packedLatentPositionIds: ids([0, 1, 8, 9]),
    packedVaeTokenIndexes: ids([4, 5, 6, 7]),
    packedTimesteps: ops.full([4], 0.3, { dtype: 'float32' }),
    mseLossIndexes: ids([4, 5, 6, 7]),
  };
  return { batch, noise: randn([4, p], { generator }) };
}

export function assertClose(got: Tensor, want: Tensor, tolerance: number, what = 'values'): void {
  if (got.shape.join() !== want.shape.join()) {
    throw new Error(`${what}: shape [${got.shape}] instead of [${want.shape}]`);
  }
  const error = got.to('float64').sub(want.to('float64')).abs().max().item();
  if (!(error <= tolerance)) throw new Error(`${what}: off by ${error}`);
}
