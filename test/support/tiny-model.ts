import { Autoencoder } from '../../lib/models/bagel/autoencoder.js';
import { Bagel } from '../../lib/models/bagel/bagel.js';
import { type Config, parseBagelConfig } from '../../lib/models/bagel/config.js';
import { setParameter } from '../../lib/nn/index.js';
import { Generator, noGrad, randn } from '../../lib/torch/index.js';

export interface TinyOverrides {
  llm?: object;
  vit?: object;
  bagel?: object;
}

/** A BAGEL of a few thousand parameters. */
export function tinyConfig(overrides: TinyOverrides = {}): Config {
  return parseBagelConfig({
    llm: {
      vocab_size: 40,
      hidden_size: 32,
      intermediate_size: 48,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      rope_theta: 1e6,
      ...overrides.llm,
    },
    vit: {
      hidden_size: 16,
      intermediate_size: 24,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      image_size: 56,
      ...overrides.vit,
    },
    vae: { ch: 32, ch_mult: [1, 1, 1, 1], num_res_blocks: 1, z_channels: 4 },
    bagel: { max_latent_size: 8, vit_max_num_patch_per_side: 4, ...overrides.bagel },
  });
}

/** The model and its autoencoder, randomly filled. */
export function tinyModel(config: Config, seed: number): { bagel: Bagel; vae: Autoencoder } {
  const generator = new Generator(seed);
  const bagel = new Bagel(config);
  bagel.initWeights(generator);
  // A fresh model predicts no motion at all; give its output layer something to do.
  const [rows, columns] = bagel.llm2vae.weight.shape;
  setParameter(
    bagel.llm2vae,
    'weight',
    noGrad(() => randn([rows, columns], { generator }).mul(0.2)),
  );
  const vae = new Autoencoder(config.vae);
  vae.initWeights(generator);
  return { bagel, vae };
}
