import type { Tensor } from '../../torch/index.js';
import { scope } from '../../torch/index.js';
import { ImageError } from '../../util/errors.js';

/**
 * Cuts [C, H, W] into square patches: [H/p * W/p, p * p * C], patches row by row, inside a patch
 * row, column, channel (channel fastest).
 * @throws ImageError when a side is not a multiple of the patch.
 */
export function patchify(image: Tensor, patch: number): Tensor {
  const [channels, height, width] = image.shape;
  if (image.ndim !== 3 || height % patch !== 0 || width % patch !== 0) {
    throw new ImageError('ERR_PATCH_SIZE', 'The image cannot be cut into whole patches', {
      expected: `[channels, height, width] with sides divisible by ${patch}`,
      found: `[${image.shape.join(', ')}]`,
    });
  }
  const rows = height / patch;
  const cols = width / patch;
  return scope(() =>
    image
      .reshape([channels, rows, patch, cols, patch])
      .permute([1, 3, 2, 4, 0])
      .reshape([rows * cols, patch * patch * channels]),
  );
}

/** The inverse of {@link patchify}: [rows * cols, p * p * C] -> [C, rows * p, cols * p]. */
export function unpatchify(tokens: Tensor, rows: number, cols: number, patch: number): Tensor {
  const channels = tokens.shape[1] / (patch * patch);
  if (tokens.ndim !== 2 || tokens.shape[0] !== rows * cols || !Number.isInteger(channels)) {
    throw new ImageError('ERR_PATCH_SIZE', 'The tokens do not form this grid', {
      expected: `[${rows * cols}, ${patch * patch} * channels]`,
      found: `[${tokens.shape.join(', ')}]`,
    });
  }
  return scope(() =>
    tokens
      .reshape([rows, cols, patch, patch, channels])
      .permute([4, 0, 2, 1, 3])
      .reshape([channels, rows * patch, cols * patch]),
  );
}

/**
 * Packs a latent into tokens: [C, H, W], possibly padded on the right and at the bottom, is cropped
 * to rows * p x cols * p and cut into [rows * cols, p * p * C].
 */
export function packLatent(latent: Tensor, rows: number, cols: number, patch: number): Tensor {
  const [, height, width] = latent.shape;
  if (latent.ndim !== 3 || height < rows * patch || width < cols * patch) {
    throw new ImageError('ERR_PATCH_SIZE', 'The latent is smaller than its token grid', {
      expected: `[channels, at least ${rows * patch}, at least ${cols * patch}]`,
      found: `[${latent.shape.join(', ')}]`,
    });
  }
  return scope(() => patchify(latent.narrow(1, 0, rows * patch).narrow(2, 0, cols * patch), patch));
}

/** The inverse of {@link packLatent} (without the padding). */
export function unpackLatent(tokens: Tensor, rows: number, cols: number, patch: number): Tensor {
  return unpatchify(tokens, rows, cols, patch);
}
