import { zerosInit } from '../../nn/init.js';
import { Module, parameter, setParameter } from '../../nn/module.js';
import type { Generator, Tensor } from '../../torch/index.js';
import { full, noGrad, ops, randn, scope } from '../../torch/index.js';
import type { VaeConfig } from './config.js';
import { LatentAutoencoder } from './latent-autoencoder.js';

/** So low that its standard deviation, `exp(logvar / 2)`, is exactly 0: the mean is the posterior. */
const NO_VARIANCE = -1000;

/** A linear code of patches of `p` x `p` pixels, laid out as [channel, row, column]. */
class PatchCode extends Module {
  /** [z, channels * p * p]; the rows are orthonormal. */
  weight: Tensor;
  /** [channels * p * p]: the patch that has the code 0. */
  mean: Tensor;

  constructor(channels: number, values: number) {
    super();
    this.weight = parameter([channels, values]);
    this.mean = parameter([values]);
  }

  /** A random orthonormal code around grey. */
  override initWeights(generator: Generator): this {
    const [channels, values] = this.weight.shape;
    const rows = noGrad(() =>
      scope(() =>
        ops
          .linalgQr(randn([values, channels], { generator }))[0]
          .t()
          .contiguous(),
      ),
    );
    setParameter(this, 'weight', rows);
    setParameter(this, 'mean', zerosInit([values]));
    return this;
  }
}

/**
 * A frozen linear code in place of the FLUX autoencoder, for small models of small pictures: every
 * patch of `downsample` x `downsample` pixels by itself becomes `z_channels` values, its coordinates
 * along orthonormal patches. State keys are `patch.weight` and `patch.mean`.
 *
 * Its posterior has no variance, so sampling it gives its mean. Fit one with `fitPatchCode`.
 */
export class PatchAutoencoder extends LatentAutoencoder {
  patch: PatchCode;

  constructor(config: VaeConfig) {
    super(config);
    this.patch = new PatchCode(config.z_channels, config.in_channels * config.downsample ** 2);
  }

  override get downsample(): number {
    return this.config.downsample;
  }

  protected override encodeMoments(x: Tensor): Tensor {
    return scope(() => {
      const rows = patchRows(x, this.downsample);
      const code = rows.sub(this.patch.mean).matmul(this.patch.weight.t());
      const mean = code.permute([0, 3, 1, 2]);
      const { dtype, device } = mean;
      return ops.cat([mean, full(mean.shape, NO_VARIANCE, { dtype, device })], 1);
    });
  }

  protected override decodeRaw(z: Tensor): Tensor {
    return scope(() => {
      const rows = z.permute([0, 2, 3, 1]).matmul(this.patch.weight).add(this.patch.mean);
      const [b, h, w] = rows.shape;
      const p = this.downsample;
      return rows
        .reshape([b, h, w, -1, p, p])
        .permute([0, 3, 1, 4, 2, 5])
        .reshape([b, -1, h * p, w * p]);
    });
  }
}

/** Patches as rows in the order of a patch code: `[B, C, h*p, w*p]` -> `[B, h, w, C*p*p]`. */
export function patchRows(x: Tensor, p: number): Tensor {
  const [b, c, height, width] = x.shape;
  return x
    .reshape([b, c, height / p, p, width / p, p])
    .permute([0, 2, 4, 1, 3, 5])
    .reshape([b, height / p, width / p, c * p * p]);
}
