import { packPatches, padImages } from '../../lib/data/collate.js';
import {
  type LengthReduction,
  lengthToWeight,
  type PackedSequence,
  packSamples,
} from '../../lib/data/packing.js';
import { PackingLoop, sampleRows } from '../../lib/data/packing-loop.js';
import type { Sample } from '../../lib/data/sample.js';
import type { ChwImage } from '../../lib/data/transforms.js';
import { PackedLayout } from '../../lib/nn/packed-layout.js';
import { DataError } from '../../lib/util/errors.js';
import { handlers as datasetHandlers } from './datasets.js';
import { denseMask, planMask } from './dense-mask.js';
import { type GoldenCase, type Handler, type Json, optional } from './handler.js';

/** Values handed out one after another; an error past the end. */
function sequenceOf(name: string, values: ArrayLike<number>): () => number {
  let next = 0;
  return () => {
    if (next < values.length) return values[next++];
    throw new DataError('GOLDENS_DRAWS', 'more draws were asked for than the reference made', {
      key: name,
      expected: String(values.length),
    });
  };
}

/** The case's image where it is given, else a black one of the right size. */
function imageOf(c: GoldenCase, name: string, [height, width]: number[]): ChwImage {
  const data = c.hasInput(name)
    ? c.input(name).toFloat32Array()
    : new Float32Array(3 * height * width);
  return { width, height, data };
}

function sampleOf(c: GoldenCase, spec: Json, index: number): Sample {
  const sizes: number[][] = spec.image_sizes_hw;
  const name = `sample${index}`;
  const size = sizes[0] ?? [0, 0];
  const map = c.hasInput(`${name}_reward_map`) ? c.input(`${name}_reward_map`) : null;
  return {
    sequencePlan: spec.sequence_plan,
    textIdsList: spec.text_ids_list,
    images: sizes.map((hw, j) => imageOf(c, `${name}_image${j}`, hw)),
    numTokens: 0,
    gtImage: c.hasInput(`${name}_gt`) ? imageOf(c, `${name}_gt`, size) : undefined,
    rewardMap: map
      ? { height: map.shape[0], width: map.shape[1], data: map.toFloat32Array() }
      : undefined,
  };
}

interface Field {
  /** Values under the reference's name; null where the reference leaves the key out. */
  values: ArrayLike<number> | null;
  shape: number[];
}

/** Every tensor of the reference's batch, by its name there. */
function batchFields(p: PackedSequence, patch: number): Record<string, Field> {
  const list = (values: number[], when: boolean): Field => ({
    values: when ? values : null,
    shape: [values.length],
  });
  const vae = p.vaeImages.length > 0;
  const vit = p.vitImages.length > 0;
  const ce = p.ceLossIndexes.length > 0;
  const images = padImages(p.vaeImages.map(({ image }) => image));
  const targets = p.vaeImages.flatMap(({ gtImage }) => gtImage ?? []);
  const maps = p.vaeImages.flatMap(({ rewardMap }) => rewardMap ?? []);
  const gt = padImages(targets);
  const rewards = maps.flatMap(({ data }) => [...data]);
  return {
    packed_text_ids: list(p.packedTextIds, true),
    packed_text_indexes: list(p.packedTextIndexes, true),
    packed_position_ids: list(p.packedPositionIds, true),
    packed_latent_position_ids: list(p.packedLatentPositionIds, vae),
    packed_vae_token_indexes: list(p.packedVaeTokenIndexes, vae),
    packed_timesteps: list(p.packedTimesteps, vae),
    mse_loss_indexes: list(p.mseLossIndexes, vae),
    padded_images: { values: vae ? images.data : null, shape: images.shape },
    padded_gt_images: { values: targets.length > 0 ? gt.data : null, shape: gt.shape },
    regional_reward_map: {
      values: maps.length > 0 ? rewards : null,
      shape: [maps.length, maps[0]?.height ?? 0, maps[0]?.width ?? 0],
    },
    packed_vit_tokens: {
      values: vit ? packPatches(p.vitImages, patch) : null,
      shape: [p.packedVitTokenIndexes.length, patch * patch * 3],
    },
    packed_vit_position_ids: list(p.packedVitPositionIds, vit),
    packed_vit_token_indexes: list(p.packedVitTokenIndexes, vit),
    vit_token_seqlens: list(p.vitTokenSeqlens, vit),
    packed_label_ids: list(p.packedLabelIds, ce),
    ce_loss_indexes: list(p.ceLossIndexes, ce),
    ce_loss_weights: list(p.ceLossWeights, ce),
  };
}

function pack(c: GoldenCase): void {
  const { params } = c;
  const draws = c.hasInput('timestep_draws') ? c.input('timestep_draws').toFloat32Array() : [];
  // A probability of 0 or 1 decides whatever is drawn; other cases list their draws.
  const uniforms = optional(params, 'uniform_draws');
  const uniform = uniforms ? sequenceOf('uniform_draws', uniforms) : () => 0.5;
  const p = packSamples(
    params.samples.map((spec: Json, i: number) => sampleOf(c, spec, i)),
    params.data_config,
    c.specialTokens,
    { timestep: sequenceOf('timestep_draws', draws), uniform },
  );
  c.expectParam('sample_lens', p.sampleLens);
  c.expectParam('sequence_length', p.sequenceLength);
  c.expectParam('split_lens', p.splitLens);
  c.expectParam('attn_modes', p.attnModes);
  c.expectParam('patchified_vae_latent_shapes', p.patchifiedVaeLatentShapes);
  const padding = params.flex_max_num_tokens - p.sequenceLength;
  c.expectParam('flex_sample_lens', [...p.sampleLens, padding]);
  c.expectParam('flex_split_lens', [...p.splitLens, padding]);
  c.expectParam('flex_attn_modes', [...p.attnModes, 'causal']);

  const fields = batchFields(p, params.data_config.vit_patch_size);
  const padded = fields.padded_images;
  c.expectParam('padded_images_shape', padded.values === null ? null : padded.shape);
  for (const key of params.absent_keys) {
    c.expectEqual(`absent ${key}`, fields[key]?.values ?? null, null);
  }
  for (const name of c.outputNames()) {
    if (name === 'mask') expectMask(c, p);
    else if (fields[name]?.values) c.expect(name, fields[name].values, fields[name].shape);
  }
}

/** The layout by its definition, and the plan that training really runs. */
function expectMask(c: GoldenCase, p: PackedSequence): void {
  const shape = [p.sequenceLength, p.sequenceLength];
  c.expect('mask', denseMask(p), shape);
  c.expect('mask', planMask(PackedLayout.plan(p).calls, p.sequenceLength), shape);
}

function lengthWeights(c: GoldenCase): void {
  for (const name of c.outputNames()) {
    const weights = c.params.lengths.map((n: number) => lengthToWeight(n, name as LengthReduction));
    c.expect(name, weights);
  }
}

/** A text sample of a stream, known by its place in it. */
function textSample(group: number, index: number, tokens: number) {
  return {
    numTokens: tokens,
    sequencePlan: [{ type: 'text', enable_cfg: 0, loss: 1 } as const],
    source: { dataset: String(group), row: index },
  };
}

async function packingLoop(c: GoldenCase): Promise<void> {
  const { params } = c;
  const groups = params.group_sizes.map((sizes: number[], g: number) => ({
    weight: params.group_weights[g],
    stream: sizes.map((tokens, i) => textSample(g, i, tokens)).values(),
  }));
  const loop = new PackingLoop<ReturnType<typeof textSample>>(
    groups,
    {
      expected_num_tokens: params.expected_num_tokens,
      max_num_tokens: params.max_num_tokens,
      max_num_tokens_per_sample: params.max_num_tokens_per_sample,
      prefer_buffer_before: params.prefer_buffer_before,
      max_buffer_size: params.max_buffer_size,
    },
    sequenceOf('uniform_draws', params.uniform_draws),
    { mode: 'reference' },
  );
  const batches: Json[] = [];
  for await (const samples of loop.packs()) {
    batches.push({
      samples: samples.map(({ source }) => [Number(source.dataset), source.row]),
      sample_lens: samples.map(sampleRows),
    });
    if (batches.length === params.batches.length) break;
  }
  c.expectParam('batches', batches);
}

/** Packed batches, the packing loop and the dataset readers. */
export const handlers: Handler[] = [
  [/^pack_/, pack],
  [/^len2weight/, lengthWeights],
  [/^packing_loop/, packingLoop],
  ...datasetHandlers,
];
