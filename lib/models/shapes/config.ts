import { type Config, parseBagelConfig } from '../bagel/config.js';

/**
 * A BAGEL of the Shapes world: small enough to be trained on a CPU within minutes, large enough to
 * draw up to four objects from a sentence and to judge pictures. 32 x 32 pixels are 16 latent tokens of
 * an 8 x 8 patch code each, and 16 patches for the vision tower.
 */
export const SHAPES_CONFIG: Config = parseBagelConfig({
  llm: {
    // As many ids as assets/shapes/tokenizer.json has.
    vocab_size: 519,
    hidden_size: 128,
    intermediate_size: 352,
    num_hidden_layers: 6,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 1024,
    rope_theta: 10000,
  },
  vit: {
    hidden_size: 96,
    intermediate_size: 192,
    num_hidden_layers: 3,
    num_attention_heads: 4,
    image_size: 32,
    patch_size: 8,
  },
  vae: { type: 'patch', downsample: 8, z_channels: 48, scale_factor: 1, shift_factor: 0 },
  bagel: {
    latent_patch_size: 1,
    max_latent_size: 4,
    vit_max_num_patch_per_side: 4,
    timestep_shift: 3,
  },
  judge: {
    version: 'shapes-judge-5',
    system: '',
    regions: 'request: {request}\n{regions}\nregions?',
    // One token says where to look, and stands right before what is seen there.
    region: '{id}:{cell}',
    place: '{cell}',
    counterpart: true,
    layout: 'request: {request}\nlayout?',
    describe: true,
    coordinates: 'pixels',
    think: false,
  },
  // Its pictures are separate things on a plain ground.
  proposer: 'blobs',
});
