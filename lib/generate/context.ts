import type { Bagel } from '../models/bagel/bagel.js';
import { latentDownsample } from '../models/bagel/config.js';
import { KvCache } from '../models/bagel/kv-cache.js';
import type { LatentAutoencoder, PosteriorSource } from '../models/bagel/latent-autoencoder.js';
import { packLatent, patchify } from '../models/bagel/patchify.js';
import { type Device, noGrad, ops, scope, type Tensor, tensor, zeros } from '../torch/index.js';
import { ConfigError, DataError } from '../util/errors.js';
import {
  type CellGrid,
  type ContextLengths,
  preparePrompts,
  prepareVaeImages,
  prepareVitImages,
  type SpecialTokens,
} from './prepare.js';

/**
 * What a batch of sequences has seen so far: keys and values of every layer, tokens per sequence, and
 * the next rotary position of each. Never changed: appending gives a new context, and a copy is a
 * second reference to the same one.
 */
export interface GenerationContext extends ContextLengths {
  readonly cache: KvCache;
}

/** Model, autoencoder and frame tokens: what every stage of generation needs. */
export interface GenerationModel {
  model: Bagel;
  /** Needed wherever pixels become latents or latents pixels. */
  vae?: LatentAutoencoder;
  special: SpecialTokens;
}

/** An empty context for `batch` sequences. */
export function emptyContext(g: GenerationModel, batch = 1): GenerationContext {
  return {
    cache: KvCache.empty(g.model.config.llm.num_hidden_layers, batch),
    kvLens: new Array<number>(batch).fill(0),
    ropes: new Array<number>(batch).fill(0),
  };
}

/** An int64 vector on the model's device. */
export function indexTensor(values: readonly number[], device: Device): Tensor {
  return tensor([...values], { dtype: 'int64', device });
}

/** Grid of latent cells, from the model's own settings. */
export function latentGrid(g: GenerationModel): CellGrid {
  const { bagel } = g.model.config;
  return {
    cell: latentDownsample(g.model.config),
    maxPerSide: bagel.max_latent_size,
    limit: 'max_latent_size',
    interpolate: bagel.interpolate_pos,
  };
}

/** Grid of vision patches, from the model's own settings. */
export function patchGrid(g: GenerationModel): CellGrid {
  const { bagel, vit } = g.model.config;
  return {
    cell: vit.patch_size,
    maxPerSide: bagel.vit_max_num_patch_per_side,
    limit: 'vit_max_num_patch_per_side',
    interpolate: bagel.interpolate_pos,
  };
}

/** Rows placed at given indexes of a `[length, width]` sequence; the lists together cover it. */
export function packRows(length: number, parts: Array<[Tensor, Tensor]>): Tensor {
  const first = parts[0][1];
  const out = zeros([length, first.shape[1]], { dtype: first.dtype, device: first.device });
  for (const [indexes, rows] of parts) out.indexCopy_(0, indexes, rows.to(first.dtype));
  return out;
}

/**
 * Appends a text segment `[bos] ids [eos]` to every sequence.
 *
 * @param prompts token ids without frame tokens, one list per sequence.
 */
export function prefillText(
  g: GenerationModel,
  context: GenerationContext,
  prompts: readonly (readonly number[])[],
): GenerationContext {
  const p = preparePrompts(context, prompts, g.special);
  const { device } = g.model;
  return inScope(() => {
    const cache = g.model.languageModel.prefill({
      query: g.model.languageModel.embed(indexTensor(p.packed_text_ids, device)),
      queryLens: p.text_token_lens,
      positionIds: indexTensor(p.packed_text_position_ids, device),
      cache: context.cache,
      causal: true,
      mode: 'und',
    });
    return { cache, kvLens: p.newKvLens, ropes: p.newRopes };
  });
}

/**
 * Appends one image per sequence as the vision tower sees it.
 *
 * @param images `[3, H, W]` float32 in [-1, 1], sides multiples of the patch size.
 * @throws DataError when the model has no vision tower.
 */
export function prefillVit(
  g: GenerationModel,
  context: GenerationContext,
  images: readonly Tensor[],
): GenerationContext {
  const { languageModel, config, device } = g.model;
  const p = prepareVitImages(context, images.map(sizeOf), patchGrid(g), g.special);
  return inScope(() => {
    const patches = ops.cat(
      images.map((image) => patchify(image, config.vit.patch_size)),
      0,
    );
    const positions = indexTensor(p.packed_vit_position_ids, device);
    const seen = g.model.embedPatches(patches.to({ device }), positions, p.vit_token_seqlens);
    const frame = languageModel.embed(indexTensor(p.packed_text_ids, device));
    const cache = languageModel.prefill({
      query: packRows(p.packed_position_ids.length, [
        [indexTensor(p.packed_text_indexes, device), frame],
        [indexTensor(p.packed_vit_token_indexes, device), seen],
      ]),
      queryLens: p.packed_seqlens,
      positionIds: indexTensor(p.packed_position_ids, device),
      cache: context.cache,
      causal: false,
      mode: 'und',
    });
    return { cache, kvLens: p.newKvLens, ropes: p.newRopes };
  });
}

/**
 * Appends one clean image per sequence as the generation expert sees it (time 0). Each image is encoded
 * by itself, so that its latent does not depend on the images beside it.
 *
 * @param images `[3, H, W]` float32 in [-1, 1], sides multiples of the latent cell.
 * @param posterior one source of posterior noise per image.
 * @throws ConfigError without an autoencoder.
 */
export function prefillVae(
  g: GenerationModel,
  context: GenerationContext,
  images: readonly Tensor[],
  posterior: readonly PosteriorSource[],
): GenerationContext {
  const { vae, model } = g;
  if (!vae) {
    throw new ConfigError('ERR_NO_AUTOENCODER', 'this needs the autoencoder (ae.safetensors)');
  }
  if (posterior.length !== images.length) {
    throw new DataError(
      'ERR_POSTERIOR_NOISE',
      'one source of posterior noise per image is needed',
      {
        expected: String(images.length),
        found: String(posterior.length),
      },
    );
  }
  const p = prepareVaeImages(context, images.map(sizeOf), latentGrid(g), g.special);
  const { device } = model;
  return inScope(() => {
    const latents = images.map((image, i) => {
      const z = vae.encode(image.unsqueeze(0), posterior[i]);
      const [rows, columns] = p.patchified_vae_latent_shapes[i];
      return packLatent(z.select(0, 0), rows, columns, model.config.bagel.latent_patch_size);
    });
    const clean = model.embedLatents(
      ops.cat(latents, 0).to({ device }),
      zeros([1], { device }),
      indexTensor(p.packed_vae_position_ids, device),
    );
    const frame = model.languageModel.embed(indexTensor(p.packed_text_ids, device));
    const undIndexes = indexTensor(p.packed_text_indexes, device);
    const genIndexes = indexTensor(p.packed_vae_token_indexes, device);
    const cache = model.languageModel.prefill({
      query: packRows(p.packed_position_ids.length, [
        [undIndexes, frame],
        [genIndexes, clean],
      ]),
      queryLens: p.packed_seqlens,
      positionIds: indexTensor(p.packed_position_ids, device),
      cache: context.cache,
      causal: false,
      mode: 'gen',
      undIndexes,
      genIndexes,
    });
    return { cache, kvLens: p.newKvLens, ropes: p.newRopes };
  });
}

/** (height, width) of a `[3, H, W]` image. */
function sizeOf(image: Tensor): [number, number] {
  if (image.ndim !== 3 || image.shape[0] !== 3) {
    throw new DataError('ERR_IMAGE_TENSOR', 'an image must be [3, height, width]', {
      found: `[${image.shape.join(', ')}]`,
    });
  }
  return [image.shape[1], image.shape[2]];
}

/** Runs without a graph and frees all temporaries but the new cache. */
function inScope(body: () => GenerationContext): GenerationContext {
  return noGrad(() => scope(body));
}
