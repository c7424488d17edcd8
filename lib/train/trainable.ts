import type { Bagel } from '../models/bagel/bagel.js';
import { isGenKey, isPositionTable, isVisionKey } from '../models/bagel/state-keys.js';
import type { Tensor } from '../torch/index.js';
import { ConfigError } from '../util/errors.js';

/** Which parts stay as they are; names as in the reference's options. */
export interface FreezeOptions {
  /** Both experts of the language model. */
  freeze_llm: boolean;
  /** The vision tower, not its connector. */
  freeze_vit: boolean;
  /** The understanding expert and what only feeds it. */
  freeze_und: boolean;
}

const LM_HEAD = 'language_model.lm_head.weight';

/**
 * Whether a parameter is trained.
 *
 * - position tables never are: they are fixed sine-cosine tables;
 * - `freeze_llm`: both experts of the language model stay;
 * - `freeze_und`: the understanding expert stays with everything that only feeds it (token
 *   embeddings, vision tower, connector). The reference detaches its streams instead, which gives
 *   these parameters gradients of exactly zero: the weights end up the same, without the memory;
 * - `freeze_vit`: the vision tower stays; the connector is still trained, as in the reference.
 */
export function isTrainable(key: string, options: FreezeOptions): boolean {
  if (isPositionTable(key)) return false;
  const llm = key.startsWith('language_model.');
  if (llm && options.freeze_llm) return false;
  if (options.freeze_vit && key.startsWith('vit_model.')) return false;
  if (options.freeze_und) {
    if (isVisionKey(key)) return false;
    if (llm && !isGenKey(key) && key !== LM_HEAD) return false;
  }
  return true;
}

/**
 * Marks every parameter of a model as trained or frozen.
 *
 * @throws ConfigError for a trained parameter that is not float32: updates of relative size 1e-3
 * and less would be lost in a narrower dtype.
 */
export function freeze(model: Bagel, options: FreezeOptions): void {
  for (const [key, tensor] of model.namedParameters()) {
    const trained = isTrainable(key, options);
    if (trained && tensor.dtype !== 'float32') {
      throw new ConfigError('ERR_TRAIN_DTYPE', 'trained weights must be float32', {
        key,
        expected: 'float32',
        found: tensor.dtype,
        hint: 'Convert the model with model.to({ dtype: "float32" }) before training.',
      });
    }
    tensor.requiresGrad_(trained);
  }
}

/** The parameters that take gradients, by key. @throws ConfigError when there are none. */
export function trainableParameters(model: Bagel): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
  for (const [key, tensor] of model.namedParameters()) {
    if (tensor.requiresGrad) found.set(key, tensor);
  }
  if (found.size === 0) {
    throw new ConfigError('ERR_ALL_FROZEN', 'everything is frozen, nothing can be trained', {
      key: 'freeze_llm, freeze_vit, freeze_und',
    });
  }
  return found;
}
