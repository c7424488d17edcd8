import type { ChwImage } from '../data/transforms.js';
import type { LatentAutoencoder } from '../models/bagel/latent-autoencoder.js';
import { Generator, keep, noGrad, randn, scope, type Tensor, tensor } from '../torch/index.js';
import { keyedSeed } from '../util/keyed-random.js';

/** What an image's latents are drawn with: the run's seed and the place of the image in the run. */
export interface PosteriorKey {
  /** Global seed of the run. */
  seed: number;
  /** Optimiser step, counted from 0. */
  step: number;
  /** Number of the pack within the step. */
  pack: number;
  /** Number of the image within the pack. */
  image: number;
  /** Input (`bad`) or target (`good`) of a record. */
  side: 'bad' | 'good';
}

/**
 * Encodes training images, one at a time: padding images of different sizes to a common batch
 * would change the latents of the smaller ones.
 *
 * The posterior's mean and deviation depend on the image alone and are kept for the most recently
 * used images; only the noise is drawn anew each time.
 */
export class LatentEncoder {
  readonly #vae: LatentAutoencoder;
  readonly #limit: number;
  readonly #cache = new Map<string, Tensor>();
  #bytes = 0;

  /** @param cacheBytes memory for kept moments. */
  constructor(vae: LatentAutoencoder, cacheBytes = 256 * 2 ** 20) {
    this.#vae = vae;
    this.#limit = cacheBytes;
  }

  /**
   * A sample of the scaled latent of an image: [C, H / f, W / f] float32 with the autoencoder's
   * downsampling f (8 in BAGEL), without gradient. The caller owns it.
   *
   * @param name names the image's content; the same name must always mean the same pixels.
   */
  encode(name: string, image: ChwImage, key: PosteriorKey): Tensor {
    return noGrad(() =>
      scope(() => {
        const [mean, logvar] = this.#moments(name, image).chunk(2, 1);
        const generator = new Generator(
          keyedSeed(key.seed, 'posterior', key.step, key.pack, key.image, key.side),
        );
        const { dtype, device } = mean;
        const noise = randn(mean.shape, { generator }).to({ dtype, device });
        const z = mean.add(logvar.mul(0.5).exp().mul(noise));
        return this.#vae.scale(z).squeeze(0).to('float32');
      }),
    );
  }

  #moments(name: string, image: ChwImage): Tensor {
    const kept = this.#cache.get(name);
    if (kept !== undefined) {
      this.#cache.delete(name);
      this.#cache.set(name, kept);
      return kept;
    }
    const { width, height } = image;
    const moments = this.#vae.moments(tensor(image.data, { shape: [1, 3, height, width] }));
    if (moments.nbytes > this.#limit) return moments;
    keep(moments);
    this.#cache.set(name, moments);
    this.#bytes += moments.nbytes;
    for (const [oldest, old] of this.#cache) {
      if (this.#bytes <= this.#limit) break;
      this.#bytes -= old.nbytes;
      this.#cache.delete(oldest);
      old.dispose();
    }
    return moments;
  }

  /** Frees the kept moments. */
  dispose(): void {
    for (const moments of this.#cache.values()) moments.dispose();
    this.#cache.clear();
    this.#bytes = 0;
  }
}
