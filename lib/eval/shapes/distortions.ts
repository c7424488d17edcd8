import type { ChwImage } from '../../data/transforms.js';
import type { LatentAutoencoder } from '../../models/bagel/latent-autoencoder.js';
import { noGrad, scope, tensor } from '../../torch/index.js';
import { boxMuller } from '../../util/keyed-random.js';
import type { Random } from '../../util/seeded-random.js';

/** What is needed of an autoencoder to give pictures the faults of drawn ones. */
export type PatchCoder = Pick<LatentAutoencoder, 'downsample' | 'encode' | 'decode'>;

const normal = (random: Random): number => boxMuller(random.uniform(), random.uniform());

/**
 * A picture as it comes back from the latent code, with Gaussian noise of deviation `sigma` on its
 * latents (which have deviation 1); clamped to [-1, 1] and rounded to bytes like a drawn one.
 */
export function recoded(
  image: ChwImage,
  code: PatchCoder,
  sigma: number,
  random: Random,
): ChwImage {
  const { width, height } = image;
  const data = noGrad(() =>
    scope(() => {
      const x = tensor(image.data, { shape: [1, 3, height, width] });
      let z = code.encode(x, { deterministic: true });
      if (sigma > 0) {
        const noise = Float32Array.from({ length: z.numel }, () => sigma * normal(random));
        z = z.add(tensor(noise, { shape: [...z.shape] }));
      }
      return code.decode(z).toFloat32Array();
    }),
  );
  return { width, height, data: asBytes(data) };
}

/** `(1 - share) * image + share * ghost`: something half drawn shows through. */
export function blended(image: ChwImage, ghost: ChwImage, share: number): ChwImage {
  const data = image.data.map((value, i) => value + share * (ghost.data[i] - value));
  return { ...image, data };
}

/** A picture with Gaussian noise on its pixels, whose range is [-1, 1]. */
export function smudged(image: ChwImage, sigma: number, random: Random): ChwImage {
  return { ...image, data: asBytes(image.data.map((value) => value + sigma * normal(random))) };
}

/** Values as they are after a round trip through 8-bit pixels. */
function asBytes(data: Float32Array): Float32Array {
  return data.map((value) => {
    const byte = Math.round((Math.min(1, Math.max(-1, value)) + 1) * 127.5);
    return byte / 127.5 - 1;
  });
}
