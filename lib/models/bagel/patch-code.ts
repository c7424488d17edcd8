import { noGrad, ops, scope, type Tensor, tensor, zeros } from '../../torch/index.js';
import { DataError } from '../../util/errors.js';
import { parse, vaeConfigSchema } from './config.js';
import { PatchAutoencoder, patchRows } from './patch-autoencoder.js';

/** An image as 3 planes of `height` rows of `width` values in [-1, 1]. */
export interface PixelPlanes {
  width: number;
  height: number;
  data: Float32Array;
}

/** Moments of all patches seen, in float64. */
interface PatchMoments {
  count: number;
  mean: Tensor;
  covariance: Tensor;
}

/**
 * Fits a patch code by principal components: the `channels` orthonormal patches that carry most of
 * the variance of the given images, strongest first. `scale_factor` is chosen so that the latents of
 * these images have a standard deviation of 1 over all channels. The result depends on the images and
 * their order alone: each component is given the sign that makes its largest value positive.
 *
 * @param images sides must be multiples of `patch`.
 * @param options `patch`: pixels per side of a patch; `channels`: values per patch.
 * @throws DataError for images that do not fit, or none, or images without any differences.
 */
export function fitPatchCode(
  images: Iterable<PixelPlanes>,
  options: { patch: number; channels: number },
): PatchAutoencoder {
  const { patch, channels } = options;
  const values = 3 * patch * patch;
  if (!(channels >= 1 && channels <= values)) {
    throw new DataError('ERR_PATCH_CODE', 'the patch code has a wrong number of channels', {
      key: 'channels',
      expected: `1 to ${values}`,
      found: String(channels),
    });
  }
  return noGrad(() =>
    scope(() => {
      const { mean, covariance } = patchMoments(images, patch);
      // Eigenvalues ascend, so the strongest components come last.
      const [strengths, vectors] = ops.linalgEigh(covariance, 'L');
      const variance = strengths
        .narrow(0, values - channels, channels)
        .mean()
        .item();
      if (!(variance > 1e-12)) {
        throw new DataError('ERR_PATCH_CODE', 'the images have nothing to tell patches apart by');
      }
      const rows = vectors
        .narrow(1, values - channels, channels)
        .t()
        .flip([0]);
      const peaks = rows.gather(1, rows.abs().argmax(1, true));
      const config = parse(vaeConfigSchema, {
        type: 'patch',
        downsample: patch,
        z_channels: channels,
        scale_factor: 1 / Math.sqrt(variance),
        shift_factor: 0,
      });
      const code = new PatchAutoencoder(config);
      code.loadStateDict([
        ['patch.weight', rows.mul(peaks.sign()).to('float32').contiguous()],
        ['patch.mean', mean.to('float32')],
      ]);
      return code;
    }),
  );
}

function patchMoments(images: Iterable<PixelPlanes>, patch: number): PatchMoments {
  const values = 3 * patch * patch;
  const sum = zeros([values], { dtype: 'float64' });
  const products = zeros([values, values], { dtype: 'float64' });
  let count = 0;
  for (const { width, height, data } of images) {
    if (width % patch || height % patch || data.length !== 3 * width * height) {
      throw new DataError('ERR_PATCH_CODE', 'an image does not fit the patch code', {
        expected: `3 planes with sides divisible by ${patch}`,
        found: `${width}x${height}, ${data.length} values`,
      });
    }
    scope(() => {
      const pixels = tensor(data, { shape: [1, 3, height, width] }).to('float64');
      const rows = patchRows(pixels, patch).reshape([-1, values]);
      sum.add_(rows.sum([0]));
      products.add_(rows.t().matmul(rows));
    });
    count += (width / patch) * (height / patch);
  }
  if (count === 0) {
    throw new DataError('ERR_PATCH_CODE', 'there is no image to fit the patch code to');
  }
  const mean = sum.div(count);
  return { count, mean, covariance: products.div(count).sub(ops.outer(mean, mean)) };
}
