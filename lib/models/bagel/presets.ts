import fs from 'node:fs';
import path from 'node:path';
import { normalInit } from '../../nn/init.js';
import { setParameter } from '../../nn/module.js';
import { Generator, noGrad, scope } from '../../torch/index.js';
import { fileError } from '../../util/files.js';
import { Autoencoder } from './autoencoder.js';
import { Bagel } from './bagel.js';
import { type Config, parseBagelConfig } from './config.js';
import { saveBagel } from './save.js';

/**
 * The smallest model with every part of BAGEL: both experts, vision tower, connector, autoencoder.
 * 272 token ids (16 reserved, one per byte), pictures of up to 128 x 128 pixels.
 */
export const TINY_CONFIG: Config = parseBagelConfig({
  llm: {
    vocab_size: 272,
    hidden_size: 64,
    intermediate_size: 160,
    num_hidden_layers: 3,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 4096,
    rope_theta: 1e6,
  },
  vit: {
    hidden_size: 48,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    image_size: 140,
    patch_size: 14,
  },
  vae: { ch: 32, ch_mult: [1, 1, 2, 2], num_res_blocks: 1, z_channels: 16 },
  bagel: { max_latent_size: 8, vit_max_num_patch_per_side: 10 },
});

/** Changes whenever the same seed gives other weights, so that stored copies are told apart. */
export const TINY_VERSION = 1;

/** How far the untrained flow moves the latents; a fresh model's output projection would be zero. */
const VELOCITY_STD = 0.35;

/** The tiny model with random weights that depend on the seed alone. */
export function tinyModel(seed = 0): { bagel: Bagel; vae: Autoencoder } {
  const generator = new Generator(seed);
  const bagel = new Bagel(TINY_CONFIG).initWeights(generator);
  setParameter(
    bagel.llm2vae,
    'weight',
    normalInit([...bagel.llm2vae.weight.shape], VELOCITY_STD, generator),
  );
  // Rows for the ids of the tokenizer are of unit size in trained models; noise of 0.02 would drown
  // the prompts in the position of their tokens, and all pictures would look alike.
  noGrad(() => scope(() => bagel.languageModel.model.embedTokens.weight.mul_(50)));
  const vae = new Autoencoder(TINY_CONFIG.vae).initWeights(generator);
  return { bagel, vae };
}

/**
 * Writes the tiny model as a model directory, like any other in the BAGEL layout. The directory appears
 * whole or not at all; one that is there already is left as it is.
 *
 * @param tokenizerDir directory whose tokenizer files are copied along.
 * @returns whether it had to be written.
 * @throws FileError when it cannot be written.
 */
export function createTinyModel(dir: string, tokenizerDir: string, seed = 0): boolean {
  if (fs.existsSync(dir)) return false;
  const target = path.resolve(dir);
  const partial = path.join(
    path.dirname(target),
    `.${path.basename(target)}.partial-${process.pid}`,
  );
  try {
    fs.rmSync(partial, { recursive: true, force: true });
    const { bagel, vae } = tinyModel(seed);
    saveBagel(partial, { bagel, vae, tokenizerDir });
    bagel.dispose();
    vae.dispose();
    fs.renameSync(partial, target);
    return true;
  } catch (error) {
    fs.rmSync(partial, { recursive: true, force: true });
    // Somebody else was faster: the content is the same.
    if (fs.existsSync(dir)) return false;
    throw fileError('write the model directory', dir, error);
  }
}
