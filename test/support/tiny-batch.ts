import type { PackedBatch } from '../../lib/models/bagel/batch.js';
import { type Config, patchLatentDim } from '../../lib/models/bagel/config.js';
import { Generator, ops, randn, type Tensor } from '../../lib/torch/index.js';
import { ids } from './tensors.js';

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
