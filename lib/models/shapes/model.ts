import { Embedding, Linear, type Module, setParameter } from '../../nn/index.js';
import { normalInit, zerosInit } from '../../nn/init.js';
import { Generator } from '../../torch/index.js';
import { Bagel } from '../bagel/bagel.js';
import type { LatentAutoencoder } from '../bagel/latent-autoencoder.js';
import { PatchAutoencoder } from '../bagel/patch-autoencoder.js';
import { SHAPES_CONFIG } from './config.js';

/** Small logits: a fresh model finds all tokens about equally likely. */
const HEAD_STD = 0.02;

/** Layers whose output is added to a residual stream, by the last part of their key. */
const RESIDUAL = new Set(['o_proj', 'o_proj_moe_gen', 'out_proj', 'down_proj', 'fc2']);

/**
 * A Shapes model with fresh weights that depend on the seed alone, ready to be trained from scratch.
 *
 * BAGEL starts from trained parts; its default of 0.02 is made for much greater widths and would leave
 * the signal of 128 dimensions to the residual path. Here linear weights have a standard deviation of
 * 1 / sqrt(inputs), which keeps the size of what passes, and biases are 0. Projections back into a residual
 * stream of n layers are smaller by sqrt(2n), so that all layers together add about as much as there
 * was (GPT-2's rule), and embeddings have a standard deviation of 1, the size of what layers add: what a word
 * says is not lost beside what a first, still blind, look at the picture adds to it. The velocity head
 * is 0, as in BAGEL.
 *
 * @param vae code of the pictures, e.g. from `fitPatchCode`; default a random one.
 */
export function shapesModel(
  seed = 0,
  vae?: LatentAutoencoder,
): { bagel: Bagel; vae: LatentAutoencoder } {
  const generator = new Generator(seed);
  const code = vae ?? new PatchAutoencoder(SHAPES_CONFIG.vae).initWeights(generator);
  const bagel = new Bagel({ ...SHAPES_CONFIG, vae: code.config });
  // Norms and position tables keep their usual beginnings, and the velocity head its zeros.
  bagel.initWeights(generator);
  const visit = (module: Module, key: string): void => {
    if (module instanceof Linear && module !== bagel.llm2vae) {
      const std = module === bagel.languageModel.lmHead ? HEAD_STD : linearStd(module, key);
      setParameter(module, 'weight', normalInit([...module.weight.shape], std, generator));
      if (module.bias) setParameter(module, 'bias', zerosInit([...module.bias.shape]));
    } else if (module instanceof Embedding) {
      setParameter(module, 'weight', normalInit([...module.weight.shape], 1, generator));
    }
    for (const [name, child] of module.namedChildren()) visit(child, `${key}.${name}`);
  };
  visit(bagel, '');
  return { bagel, vae: code };
}

function linearStd(layer: Linear, key: string): number {
  const std = 1 / Math.sqrt(layer.weight.shape[1]);
  const name = key.slice(key.lastIndexOf('.') + 1);
  if (!key.includes('.layers.') || !RESIDUAL.has(name)) return std;
  const { llm, vit } = SHAPES_CONFIG;
  const layers = key.startsWith('.vit_model.') ? vit.num_hidden_layers : llm.num_hidden_layers;
  return std / Math.sqrt(2 * layers);
}
