import type { AttnMode } from '../../nn/packed-layout.js';
import type { Tensor } from '../../torch/index.js';

/**
 * A packed training batch; the names are the BAGEL reference's, in camelCase. Index tensors are
 * int64 and count rows of the packed sequence; every row is a text, a ViT or a VAE row.
 */
export interface PackedBatch {
  /** T: rows of the packed sequence. */
  sequenceLength: number;
  /** Tokens per sample; may include a trailing padding pseudo-sample. */
  sampleLens: number[];
  splitLens: number[];
  attnModes: AttnMode[];
  /** [T] rope positions. */
  packedPositionIds: Tensor;
  /** [text] token ids, boundary tokens included. */
  packedTextIds: Tensor;
  /** [text] their rows. */
  packedTextIndexes: Tensor;

  /** [ce] rows that predict a label. */
  ceLossIndexes?: Tensor;
  /** [ce] labels. */
  packedLabelIds?: Tensor;
  /** [ce] float32 weights of the reweighted loss. */
  ceLossWeights?: Tensor;

  /** [vit, patch * patch * 3] float32 pixels. */
  packedVitTokens?: Tensor;
  /** [vit] rows. */
  packedVitTokenIndexes?: Tensor;
  /** [vit] flattened 2-D position ids. */
  packedVitPositionIds?: Tensor;
  /** Patches per ViT image. */
  vitTokenSeqlens?: number[];

  /** [images, 3, H, W] float32 in [-1, 1], zero padded on the right and at the bottom. */
  paddedImages?: Tensor;
  /** The clean targets of the same images. */
  paddedGtImages?: Tensor;
  /** [images, C, H/8, W/8] scaled latents (zero padded), or one [C, h, w] per image. */
  paddedLatent?: Tensor | Tensor[];
  /** Latents of the clean targets; without it the targets are the inputs themselves. */
  paddedLatentGt?: Tensor | Tensor[];
  /** Latent tokens (rows, columns) of each VAE image. */
  patchifiedVaeLatentShapes?: Array<[number, number]>;
  /** [vae] flattened 2-D position ids. */
  packedLatentPositionIds?: Tensor;
  /** [vae] rows, in sequence order. */
  packedVaeTokenIndexes?: Tensor;
  /** [vae] float32 timesteps before the sigmoid; -inf marks a clean image. */
  packedTimesteps?: Tensor;
  /** [mse] the VAE rows with a flow loss, same order. */
  mseLossIndexes?: Tensor;
  /** Reward map [H, W] float32 of each VAE image, in pixels of the transformed image. */
  rewardMaps?: Tensor[];
}
