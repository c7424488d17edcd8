import { Conv2d, GroupNorm, Module } from '../../nn/index.js';
import { ops, scope, type Tensor } from '../../torch/index.js';
import { ConfigError } from '../../util/errors.js';
import type { VaeConfig } from './config.js';
import { LatentAutoencoder } from './latent-autoencoder.js';

const groups = 32;
const eps = 1e-6;

/** Group norm, swish, convolution, twice; a 1x1 convolution on the shortcut when the width changes. */
export class ResnetBlock extends Module {
  norm1: GroupNorm;
  conv1: Conv2d;
  norm2: GroupNorm;
  conv2: Conv2d;
  ninShortcut?: Conv2d;

  constructor(inChannels: number, outChannels: number) {
    super();
    this.norm1 = new GroupNorm(groups, inChannels, eps);
    this.conv1 = new Conv2d(inChannels, outChannels, 3, { padding: 1 });
    this.norm2 = new GroupNorm(groups, outChannels, eps);
    this.conv2 = new Conv2d(outChannels, outChannels, 3, { padding: 1 });
    if (inChannels !== outChannels) this.ninShortcut = new Conv2d(inChannels, outChannels, 1);
  }

  /** `[B, in, H, W]` -> `[B, out, H, W]`. */
  forward(x: Tensor): Tensor {
    return scope(() => {
      const h = this.conv1.forward(ops.silu(this.norm1.forward(x)));
      const y = this.conv2.forward(ops.silu(this.norm2.forward(h)));
      return (this.ninShortcut ? this.ninShortcut.forward(x) : x).add(y);
    });
  }
}

/**
 * Attention of one head over all pixels, with a residual. The fused operator works through the
 * scores in tiles: a full matrix of a 1024 px image would take a gigabyte.
 */
export class AttnBlock extends Module {
  norm: GroupNorm;
  q: Conv2d;
  k: Conv2d;
  v: Conv2d;
  projOut: Conv2d;

  constructor(channels: number) {
    super();
    this.norm = new GroupNorm(groups, channels, eps);
    this.q = new Conv2d(channels, channels, 1);
    this.k = new Conv2d(channels, channels, 1);
    this.v = new Conv2d(channels, channels, 1);
    this.projOut = new Conv2d(channels, channels, 1);
  }

  /** `[B, C, H, W]` -> `[B, C, H, W]`. */
  forward(x: Tensor): Tensor {
    return scope(() => {
      const [b, c, height, width] = x.shape;
      const h = this.norm.forward(x);
      const rows = (t: Tensor): Tensor =>
        t
          .reshape([b, 1, c, height * width])
          .transpose(2, 3)
          .contiguous();
      const out = ops.scaledDotProductAttention(
        rows(this.q.forward(h)),
        rows(this.k.forward(h)),
        rows(this.v.forward(h)),
      );
      return x.add(this.projOut.forward(out.transpose(2, 3).reshape([b, c, height, width])));
    });
  }
}

/** Halves both sides: one zero column right, one zero row below, then a 3x3 convolution of stride 2. */
export class Downsample extends Module {
  conv: Conv2d;

  constructor(channels: number) {
    super();
    this.conv = new Conv2d(channels, channels, 3, { stride: 2 });
  }

  /** `[B, C, H, W]` -> `[B, C, floor(H/2), floor(W/2)]`. */
  forward(x: Tensor): Tensor {
    return this.conv.forward(ops.constantPadNd(x, [0, 1, 0, 1], 0));
  }
}

/** Doubles both sides by repetition, then smooths with a 3x3 convolution. */
export class Upsample extends Module {
  conv: Conv2d;

  constructor(channels: number) {
    super();
    this.conv = new Conv2d(channels, channels, 3, { padding: 1 });
  }

  /** `[B, C, H, W]` -> `[B, C, 2H, 2W]`. */
  forward(x: Tensor): Tensor {
    const size = [x.shape[2] * 2, x.shape[3] * 2];
    return this.conv.forward(ops.upsampleNearest2d(x, size));
  }
}

/** The part at the lowest resolution: residual, attention, residual. */
class MidBlock extends Module {
  block_1: ResnetBlock;
  attn_1: AttnBlock;
  block_2: ResnetBlock;

  constructor(channels: number) {
    super();
    this.block_1 = new ResnetBlock(channels, channels);
    this.attn_1 = new AttnBlock(channels);
    this.block_2 = new ResnetBlock(channels, channels);
  }

  forward(x: Tensor): Tensor {
    return this.block_2.forward(this.attn_1.forward(this.block_1.forward(x)));
  }
}

/** One resolution of the encoder. */
class DownLevel extends Module {
  block: ResnetBlock[];
  downsample?: Downsample;

  constructor(inChannels: number, outChannels: number, blocks: number, shrink: boolean) {
    super();
    this.block = Array.from(
      { length: blocks },
      (_, i) => new ResnetBlock(i === 0 ? inChannels : outChannels, outChannels),
    );
    if (shrink) this.downsample = new Downsample(outChannels);
  }

  forward(x: Tensor): Tensor {
    let h = x;
    for (const block of this.block) h = block.forward(h);
    return this.downsample ? this.downsample.forward(h) : h;
  }
}

/** One resolution of the decoder. */
class UpLevel extends Module {
  block: ResnetBlock[];
  upsample?: Upsample;

  constructor(inChannels: number, outChannels: number, blocks: number, grow: boolean) {
    super();
    this.block = Array.from(
      { length: blocks },
      (_, i) => new ResnetBlock(i === 0 ? inChannels : outChannels, outChannels),
    );
    if (grow) this.upsample = new Upsample(outChannels);
  }

  forward(x: Tensor): Tensor {
    let h = x;
    for (const block of this.block) h = block.forward(h);
    return this.upsample ? this.upsample.forward(h) : h;
  }
}

/** Image -> posterior moments. */
export class Encoder extends Module {
  convIn: Conv2d;
  down: DownLevel[];
  mid: MidBlock;
  normOut: GroupNorm;
  convOut: Conv2d;

  constructor(config: VaeConfig) {
    super();
    const levels = config.ch_mult.length;
    this.convIn = new Conv2d(config.in_channels, config.ch, 3, { padding: 1 });
    this.down = config.ch_mult.map(
      (mult: number, i: number) =>
        new DownLevel(
          config.ch * (i === 0 ? 1 : config.ch_mult[i - 1]),
          config.ch * mult,
          config.num_res_blocks,
          i < levels - 1,
        ),
    );
    const width = config.ch * config.ch_mult[levels - 1];
    this.mid = new MidBlock(width);
    this.normOut = new GroupNorm(groups, width, eps);
    this.convOut = new Conv2d(width, 2 * config.z_channels, 3, { padding: 1 });
  }

  /** `[B, 3, H, W]` -> `[B, 2z, H/f, W/f]`, mean first, log-variance second. */
  forward(x: Tensor): Tensor {
    return scope(() => {
      let h = this.convIn.forward(x);
      for (const level of this.down) h = level.forward(h);
      h = this.mid.forward(h);
      return this.convOut.forward(ops.silu(this.normOut.forward(h)));
    });
  }
}

/** Latent -> image; `up.0` is the full resolution and runs last. */
export class Decoder extends Module {
  convIn: Conv2d;
  mid: MidBlock;
  up: UpLevel[];
  normOut: GroupNorm;
  convOut: Conv2d;

  constructor(config: VaeConfig) {
    super();
    const levels = config.ch_mult.length;
    const top = config.ch * config.ch_mult[levels - 1];
    this.convIn = new Conv2d(config.z_channels, top, 3, { padding: 1 });
    this.mid = new MidBlock(top);
    this.up = config.ch_mult.map(
      (mult: number, i: number) =>
        new UpLevel(
          i === levels - 1 ? top : config.ch * config.ch_mult[i + 1],
          config.ch * mult,
          config.num_res_blocks + 1,
          i > 0,
        ),
    );
    const bottom = config.ch * config.ch_mult[0];
    this.normOut = new GroupNorm(groups, bottom, eps);
    this.convOut = new Conv2d(bottom, config.out_ch, 3, { padding: 1 });
  }

  /** `[B, z, h, w]` -> `[B, 3, h*f, w*f]`, nominally in [-1, 1] but not clamped. */
  forward(z: Tensor): Tensor {
    return scope(() => {
      let h = this.mid.forward(this.convIn.forward(z));
      for (const level of [...this.up].reverse()) h = level.forward(h);
      return this.convOut.forward(ops.silu(this.normOut.forward(h)));
    });
  }
}

/**
 * The FLUX autoencoder. State keys are `encoder.*` and `decoder.*`, as in `ae.safetensors`.
 */
export class Autoencoder extends LatentAutoencoder {
  encoder: Encoder;
  decoder: Decoder;

  constructor(config: VaeConfig) {
    super(config);
    const multiples = [config.ch, ...config.ch_mult.map((m: number) => m * config.ch)];
    const odd = multiples.find((width) => width % groups !== 0);
    if (odd !== undefined) {
      throw new ConfigError('ERR_VAE_WIDTH', 'autoencoder widths must fit the group norm', {
        key: 'ch, ch_mult',
        expected: `multiples of ${groups}`,
        found: String(odd),
      });
    }
    this.encoder = new Encoder(config);
    this.decoder = new Decoder(config);
  }

  /** Pixels per latent cell along one side: 2 to the number of downsamplings. */
  override get downsample(): number {
    return 2 ** (this.config.ch_mult.length - 1);
  }

  protected override encodeMoments(x: Tensor): Tensor {
    return this.encoder.forward(x);
  }

  protected override decodeRaw(z: Tensor): Tensor {
    return this.decoder.forward(z);
  }

  /**
   * The part of the network a state key points into, e.g. `encoder.down.1.block.0`.
   *
   * @throws ConfigError when nothing has that name.
   */
  submodule(key: string): Module & { forward(x: Tensor): Tensor } {
    let node: unknown = this;
    for (const part of key.split('.')) {
      const name = part.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
      node = (node as Record<string, unknown> | undefined)?.[name];
    }
    if (!(node instanceof Module) || !('forward' in node)) {
      throw new ConfigError('ERR_VAE_MODULE', 'the autoencoder has no such part', { key });
    }
    return node as Module & { forward(x: Tensor): Tensor };
  }
}

/**
 * Decoder output as pixels: `clamp(x / 2 + 1/2, 0, 1) * 255`, truncated (not rounded), as the BAGEL
 * reference stores images.
 *
 * @param image `[3, H, W]` or `[B, 3, H, W]`.
 * @returns uint8 `[H, W, 3]` or `[B, H, W, 3]` on the CPU.
 */
export function toUint8(image: Tensor): Tensor {
  return scope(() => {
    const channelsLast = image.ndim === 4 ? [0, 2, 3, 1] : [1, 2, 0];
    return image
      .detach()
      .to('float32')
      .mul(0.5)
      .add(0.5)
      .clamp(0, 1)
      .mul(255)
      .permute(channelsLast)
      .to({ dtype: 'uint8', device: 'cpu' })
      .contiguous();
  });
}
