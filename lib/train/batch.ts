import { packPatches } from '../data/collate.js';
import {
  type BoundaryTokens,
  type PackConfig,
  type PackedSequence,
  SequencePacker,
} from '../data/packing.js';
import type { PixelMap } from '../data/sample.js';
import type { PackedBatch } from '../models/bagel/batch.js';
import { type LatentReduction, toLatentGrid } from '../reward/latent-grid.js';
import { type Device, type Tensor, tensor } from '../torch/index.js';
import { keyedNormal, keyedUniform } from '../util/keyed-random.js';
import type { PackedSample } from './pack-stream.js';

/** What packing a step's samples needs besides the samples. */
export interface BatchOptions {
  /** Sizes of patches and position tables, and dropout probabilities. */
  config: PackConfig;
  /** Ids of the boundary tokens. */
  tokens: BoundaryTokens;
  /** Seed of dropout and time steps. */
  seed: number;
}

/**
 * Packs samples into one sequence. Whether a prompt is dropped and which time step an image gets
 * depends only on the seed, the epoch and the sample's place in it.
 *
 * @throws DataError when a sample contradicts itself, ImageError when an image does not fit the
 * token grid.
 */
export function packKeyedSamples(
  samples: readonly PackedSample[],
  options: BatchOptions,
): PackedSequence {
  let place: [number, number] = [0, 0];
  let draws = 0;
  const packer = new SequencePacker(options.config, options.tokens, {
    timestep: () => keyedNormal(options.seed, 'timestep', ...place, draws++),
    uniform: () => keyedUniform(options.seed, 'dropout', ...place, draws++),
  });
  for (const sample of samples) {
    place = [sample.ref.epoch, sample.ref.index];
    draws = 0;
    packer.add(sample);
  }
  return packer.finish();
}

/**
 * A packed sequence as tensors, apart from its latents: indexes, ids and positions as int64 [n],
 * timesteps and loss weights as float32 [n], ViT patches as float32 [n, patch * patch * 3]. Belongs
 * in a scope.
 *
 * @param vitPatch pixels per side of a ViT patch.
 */
export function batchTensors(
  sequence: PackedSequence,
  vitPatch: number,
  device: Device = 'cpu',
): PackedBatch {
  const ints = (values: readonly number[]): Tensor =>
    tensor(BigInt64Array.from(values, BigInt), { shape: [values.length], dtype: 'int64', device });
  const floats = (values: readonly number[]): Tensor =>
    tensor(Float32Array.from(values), { shape: [values.length], device });
  const batch: PackedBatch = {
    sequenceLength: sequence.sequenceLength,
    sampleLens: sequence.sampleLens,
    splitLens: sequence.splitLens,
    attnModes: sequence.attnModes,
    packedPositionIds: ints(sequence.packedPositionIds),
    packedTextIds: ints(sequence.packedTextIds),
    packedTextIndexes: ints(sequence.packedTextIndexes),
  };
  if (sequence.ceLossIndexes.length > 0) {
    batch.ceLossIndexes = ints(sequence.ceLossIndexes);
    batch.packedLabelIds = ints(sequence.packedLabelIds);
    batch.ceLossWeights = floats(sequence.ceLossWeights);
  }
  if (sequence.vitImages.length > 0) {
    const rows = sequence.packedVitTokenIndexes.length;
    batch.packedVitTokens = tensor(packPatches(sequence.vitImages, vitPatch), {
      shape: [rows, vitPatch * vitPatch * 3],
      device,
    });
    batch.packedVitTokenIndexes = ints(sequence.packedVitTokenIndexes);
    batch.packedVitPositionIds = ints(sequence.packedVitPositionIds);
    batch.vitTokenSeqlens = sequence.vitTokenSeqlens;
  }
  if (sequence.vaeImages.length > 0) {
    batch.patchifiedVaeLatentShapes = sequence.patchifiedVaeLatentShapes;
    batch.packedLatentPositionIds = ints(sequence.packedLatentPositionIds);
    batch.packedVaeTokenIndexes = ints(sequence.packedVaeTokenIndexes);
    batch.packedTimesteps = floats(sequence.packedTimesteps);
    batch.mseLossIndexes = ints(sequence.mseLossIndexes);
  }
  return batch;
}

/** The reward map of an image and the latent grid it is brought to. */
export interface RewardGrid {
  /** One reward per pixel of the transformed image; null for clean conditions. */
  map: PixelMap | null;
  /** Latent tokens (rows, columns) of the image. */
  grid: readonly [number, number];
}

/**
 * Rewards of all latent tokens of a batch, image after image, row by row: [tokens] float32.
 * Images without a map get zeros; their tokens carry no flow loss.
 */
export function latentRewards(
  images: readonly RewardGrid[],
  reduction: LatentReduction,
): Float32Array {
  const parts = images.map(({ map, grid }) =>
    map === null
      ? new Float32Array(grid[0] * grid[1])
      : toLatentGrid(map.data, { from: [map.height, map.width], to: grid }, reduction),
  );
  const out = new Float32Array(parts.reduce((n, p) => n + p.length, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}
