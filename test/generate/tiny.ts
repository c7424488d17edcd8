import type { RgbImage } from '../../lib/data/images.js';
import { ImageTransform } from '../../lib/data/transforms.js';
import type { InferencerParts, TextCodec } from '../../lib/generate/inferencer.js';
import { Autoencoder } from '../../lib/models/bagel/autoencoder.js';
import { Bagel } from '../../lib/models/bagel/bagel.js';
import { type Config, parseBagelConfig } from '../../lib/models/bagel/config.js';
import { setParameter } from '../../lib/nn/index.js';
import { Generator, noGrad, randn } from '../../lib/torch/index.js';

/** Shape of the test model: every part present, nothing larger than it must be. */
export const tinyConfig: Config = parseBagelConfig({
  llm: {
    vocab_size: 300,
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    rope_theta: 1e6,
  },
  vit: {
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    image_size: 112,
    patch_size: 14,
  },
  vae: { ch: 32, ch_mult: [1, 1, 1, 1], num_res_blocks: 1, z_channels: 4 },
  bagel: { max_latent_size: 8, vit_max_num_patch_per_side: 8 },
});

/** One token per UTF-8 byte, after 16 ids for special use; ids from 272 on do not exist. */
export const byteCodec: TextCodec = {
  vocabSize: 272,
  encode: (text) => [...new TextEncoder().encode(text)].map((byte) => byte + 16),
  decode: (ids) =>
    new TextDecoder().decode(
      Uint8Array.from(
        ids.filter((id) => id >= 16),
        (id) => id - 16,
      ),
    ),
};

/** A randomly filled model with everything generation needs. */
export function tinyParts(seed = 1): Required<InferencerParts> {
  const model = new Bagel(tinyConfig);
  const generator = new Generator(seed);
  model.initWeights(generator);
  // A fresh model has a velocity of zero; give it one.
  const [rows, columns] = model.llm2vae.weight.shape;
  setParameter(
    model.llm2vae,
    'weight',
    noGrad(() => randn([rows, columns], { generator }).mul(0.2)),
  );
  const vae = new Autoencoder(tinyConfig.vae);
  vae.initWeights(generator);
  return {
    model,
    vae,
    special: { bos_token_id: 1, eos_token_id: 2, start_of_image: 3, end_of_image: 4 },
    tokenizer: byteCodec,
    vaeTransform: new ImageTransform({ max_image_size: 64, min_image_size: 32, image_stride: 16 }),
    vitTransform: new ImageTransform({ max_image_size: 56, min_image_size: 28, image_stride: 14 }),
  };
}

/** A picture in which no two neighbouring pixels are alike. */
export function tinyImage(width: number, height: number): RgbImage {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 37) % 251);
  return { width, height, data };
}

/** Largest absolute difference of two lists of numbers. */
export function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (let i = 0; i < a.length; i++) worst = Math.max(worst, Math.abs(a[i] - b[i]));
  return worst;
}
