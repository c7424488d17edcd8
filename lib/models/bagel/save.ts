import fs from 'node:fs';
import path from 'node:path';
import type { Module } from '../../nn/module.js';
import type { DType, SafetensorsEntry } from '../../torch/index.js';
import { noGrad, writeSafetensors } from '../../torch/index.js';
import { makeFolder } from '../../util/files.js';
import { writeJsonFile } from '../../util/jsonl.js';
import type { Bagel } from './bagel.js';
import type { VaeConfig } from './config.js';
import type { LatentAutoencoder } from './latent-autoencoder.js';
import { MODEL_FILES, TOKENIZER_FILES } from './load.js';
import { MANIFEST_FILE } from './manifest.js';

export interface SaveBagelOptions {
  bagel: Bagel;
  vae?: LatentAutoencoder | null;
  /** Directory whose tokenizer files are copied along. */
  tokenizerDir?: string | null;
  /** Precision of the stored weights; default: as they are. The autoencoder stays as it is. */
  dtype?: DType;
  /** Name of the weight file; default `ema.safetensors`, which every BAGEL program reads. */
  weights?: string;
}

/**
 * Writes a model directory in the layout of the released BAGEL: `llm_config.json`,
 * `vit_config.json`, weights, `ae.safetensors`, tokenizer files, and our manifest for the settings those
 * leave open. Each file appears whole or not at all; the weights come last.
 */
export function saveBagel(dir: string, options: SaveBagelOptions): void {
  const { bagel, vae, tokenizerDir, dtype, weights = 'ema.safetensors' } = options;
  const { llm, vit, bagel: settings, judge, proposer } = bagel.config;
  makeFolder(dir);
  writeJsonFile(path.join(dir, MODEL_FILES.llmConfig), {
    architectures: ['Qwen2ForCausalLM'],
    model_type: 'qwen2',
    ...llm,
    freeze_und: false,
  });
  if (bagel.vitModel !== undefined) {
    writeJsonFile(path.join(dir, MODEL_FILES.vitConfig), {
      architectures: ['SiglipVisionModel'],
      model_type: 'siglip_vision_model',
      ...vit,
      // BAGEL reads one layer more than it builds.
      num_hidden_layers: vit.num_hidden_layers + 1,
    });
  }
  for (const name of tokenizerDir ? TOKENIZER_FILES : []) {
    const from = path.join(tokenizerDir as string, name);
    if (fs.existsSync(from)) fs.copyFileSync(from, path.join(dir, name));
  }
  writeJsonFile(path.join(dir, MANIFEST_FILE), {
    format: 1,
    weights,
    llm: {
      qk_norm: llm.qk_norm,
      layer_module: llm.layer_module,
      tie_word_embeddings: llm.tie_word_embeddings,
    },
    vit: { rope: vit.rope, select_layer: -2 },
    // A patch code is fitted after the model is configured, and knows its own scale.
    vae: vaeSettings(vae?.config ?? bagel.config.vae),
    bagel: settings,
    ...(judge && { judge }),
    ...(proposer && { proposer }),
  });
  if (vae) writeSafetensors(path.join(dir, MODEL_FILES.vae), vae.namedParameters());
  writeSafetensors(path.join(dir, weights), converted(bagel, dtype));
}

/** The settings that mean something for the kind of autoencoder. */
function vaeSettings(config: VaeConfig): Partial<VaeConfig> {
  if (config.type === 'flux') return config;
  const { type, in_channels, out_ch, downsample, z_channels, scale_factor, shift_factor } = config;
  return { type, in_channels, out_ch, downsample, z_channels, scale_factor, shift_factor };
}

/**
 * A module's tensors in the dtype they are to be stored in, each converted when it is its turn to be
 * written; as they are without a dtype.
 */
function* converted(module: Module, dtype?: DType): IterableIterator<SafetensorsEntry> {
  for (const [key, tensor] of module.namedParameters()) {
    if (dtype === undefined || dtype === tensor.dtype) yield [key, tensor];
    else yield [key, { dtype, shape: tensor.shape }, () => noGrad(() => tensor.detach().to(dtype))];
  }
}
