import { Module } from '../../nn/module.js';
import type { Generator, Tensor } from '../../torch/index.js';
import { randn, scope } from '../../torch/index.js';
import { DataError } from '../../util/errors.js';
import type { VaeConfig } from './config.js';

/** Where the posterior's randomness comes from: given numbers, a generator, or none (the mean). */
export type PosteriorSource =
  | { posteriorNoise: Tensor }
  | { generator: Generator }
  | { deterministic: true };

/**
 * What turns pixels into the latents that BAGEL draws in, and back. The variants differ in the code
 * itself; posterior sampling and scaling are the same for all.
 *
 * The parameters decide dtype and device: inputs are brought there, results stay there.
 */
export abstract class LatentAutoencoder extends Module {
  readonly #config: VaeConfig;

  constructor(config: VaeConfig) {
    super();
    this.#config = config;
  }

  /** The shape it was built with. */
  get config(): VaeConfig {
    return this.#config;
  }

  /** Pixels per latent cell along one side. */
  abstract get downsample(): number;

  /** Moments of an image that fits: `[B, 3, H, W]` -> `[B, 2z, H/f, W/f]`. */
  protected abstract encodeMoments(x: Tensor): Tensor;

  /** Image of a latent in its own, unscaled range: `[B, z, h, w]` -> `[B, 3, h*f, w*f]`. */
  protected abstract decodeRaw(z: Tensor): Tensor;

  /**
   * Mean and log-variance of the posterior, stacked along the channels; the log-variance is not clamped.
   *
   * @param x `[B, 3, H, W]` in [-1, 1].
   * @returns `[B, 2z, H/f, W/f]`.
   * @throws DataError when a side is not a multiple of the downsampling factor.
   */
  moments(x: Tensor): Tensor {
    const [, channels, height, width] = x.shape;
    const f = this.downsample;
    if (x.ndim !== 4 || channels !== this.#config.in_channels || height % f || width % f) {
      throw new DataError('ERR_VAE_IMAGE', 'image does not fit the autoencoder', {
        expected: `[batch, ${this.#config.in_channels}, H, W] with sides divisible by ${f}`,
        found: `[${x.shape.join(', ')}]`,
      });
    }
    return this.encodeMoments(this.#adopt(x));
  }

  /**
   * Scaled latent `scale * (mean + exp(logvar / 2) * noise - shift)`.
   *
   * @param x `[B, 3, H, W]` in [-1, 1].
   * @returns `[B, z, H/f, W/f]`.
   */
  encode(x: Tensor, source: PosteriorSource): Tensor {
    return scope(() => {
      const [mean, logvar] = this.moments(x).chunk(2, 1);
      return this.scale(samplePosterior(mean, logvar, source));
    });
  }

  /** Raw posterior sample -> the range the transformer works in. */
  scale(z: Tensor): Tensor {
    return z.sub(this.#config.shift_factor).mul(this.#config.scale_factor);
  }

  /**
   * @param z scaled latent `[B, z, h, w]`.
   * @returns `[B, 3, h*f, w*f]`, nominally in [-1, 1] but not clamped.
   */
  decode(z: Tensor): Tensor {
    return scope(() => {
      const raw = this.#adopt(z).div(this.#config.scale_factor).add(this.#config.shift_factor);
      return this.decodeRaw(raw);
    });
  }

  /** Brings a tensor to the dtype and device of the weights. */
  #adopt(x: Tensor): Tensor {
    const { dtype, device } = this.parameters()[0];
    return x.to({ dtype, device });
  }
}

/** `mean + exp(logvar / 2) * noise`; noise is drawn in float32 on the generator's device. */
function samplePosterior(mean: Tensor, logvar: Tensor, source: PosteriorSource): Tensor {
  if ('deterministic' in source) return mean;
  const noise =
    'posteriorNoise' in source
      ? source.posteriorNoise
      : randn(mean.shape, { generator: source.generator, device: source.generator.device });
  if (noise.shape.join() !== mean.shape.join()) {
    throw new DataError('ERR_POSTERIOR_NOISE', 'posterior noise has a wrong shape', {
      expected: `[${mean.shape.join(', ')}]`,
      found: `[${noise.shape.join(', ')}]`,
    });
  }
  const { dtype, device } = mean;
  return mean.add(logvar.mul(0.5).exp().mul(noise.to({ dtype, device })));
}
