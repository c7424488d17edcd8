import { flatPositionIds } from '../models/bagel/position-ids.js';
import type { AttnMode } from '../nn/packed-layout.js';
import { DataError, ImageError } from '../util/errors.js';
import type { PixelMap, PlanItem, Sample, SampleSource } from './sample.js';
import type { ChwImage } from './transforms.js';

/** Options of packing, with the key names of the reference. */
export interface PackConfig {
  /** Probability that a droppable text is left out. */
  text_cond_dropout_prob: number;
  /** The same for clean images of the autoencoder. */
  vae_cond_dropout_prob: number;
  /** The same for images of the vision tower. */
  vit_cond_dropout_prob: number;
  /** Image pixels per side of a latent token (VAE downsampling times latent patch). */
  vae_image_downsample: number;
  /** Side of the latent position table. */
  max_latent_size: number;
  /** Image pixels per side of a ViT token. */
  vit_patch_size: number;
  /** Side of the ViT position table. */
  max_num_patch_per_side: number;
  /** Spread positions over the whole table instead of using its top left corner. */
  interpolate_pos: boolean;
}

/** Boundary tokens; names as in BAGEL. */
export interface BoundaryTokens {
  bos_token_id: number;
  eos_token_id: number;
  start_of_image: number;
  end_of_image: number;
}

/** Sources of randomness, injected so that packing is a pure function of its arguments. */
export interface PackDraws {
  /** Standard normal number: the timestep (before the sigmoid) of the next noisy split. */
  timestep(): number;
  /** Uniform number in [0, 1): one per droppable item, which is dropped when below its probability. */
  uniform(): number;
}

/** A VAE image of a packed sequence with what belongs to it. */
export interface PackedVaeImage {
  /** Input of the autoencoder. */
  image: ChwImage;
  /** Whether the image is learned to be generated: its latents get noise. */
  loss: boolean;
  /** Clean target; null: the image itself. */
  gtImage: ChwImage | null;
  /** One reward per pixel; null where there are none. */
  rewardMap: PixelMap | null;
  /** Sample of the sequence it belongs to. */
  sample: number;
}

/**
 * A packed sequence as plain numbers. Indexes count rows of the sequence. Lists of VAE rows, MSE
 * rows and VAE images are in sequence order, and `vaeImages` keeps targets and reward maps beside their image.
 */
export interface PackedSequence {
  /** Rows of the sequence. */
  sequenceLength: number;
  /** Rows of each sample. */
  sampleLens: number[];
  /** Rows of each split; a split shares one attention mode. */
  splitLens: number[];
  /** Attention mode of each split. */
  attnModes: AttnMode[];
  /** Token ids of all text rows, boundary tokens of images included. */
  packedTextIds: number[];
  /** Rows of these ids. */
  packedTextIndexes: number[];
  /** Rope position of every row. */
  packedPositionIds: number[];
  /** Per VAE row: its place in the latent position table. */
  packedLatentPositionIds: number[];
  /** Rows of latent tokens. */
  packedVaeTokenIndexes: number[];
  /** Latent tokens (rows, columns) of each VAE image. */
  patchifiedVaeLatentShapes: Array<[number, number]>;
  /** Per VAE row: the drawn number, or -Infinity for clean images. */
  packedTimesteps: number[];
  /** Rows with a flow loss. */
  mseLossIndexes: number[];
  /** Rows of ViT tokens. */
  packedVitTokenIndexes: number[];
  /** Per ViT row: its place in the ViT position table. */
  packedVitPositionIds: number[];
  /** Tokens of each ViT image. */
  vitTokenSeqlens: number[];
  /** Labels of the cross-entropy: what should follow the row. */
  packedLabelIds: number[];
  /** Rows the labels belong to. */
  ceLossIndexes: number[];
  /** Weight of each label; see {@link lengthToWeight}. */
  ceLossWeights: number[];
  /** Images of the autoencoder branch. */
  vaeImages: PackedVaeImage[];
  /** Images of the vision tower branch. */
  vitImages: ChwImage[];
  /** Origin of each sample. */
  sources: Array<SampleSource | null>;
}

/** How the tokens of a text share its weight in the cross-entropy. */
export type LengthReduction = 'token' | 'sample' | 'square';

/** Weight of each of `length` learned tokens of a text (BAGEL's `len2weight`; training uses `square`). */
export function lengthToWeight(length: number, reduction: LengthReduction = 'square'): number {
  if (length === 0) return 0;
  if (reduction === 'token') return 1;
  return reduction === 'sample' ? 1 / length : 1 / Math.sqrt(length);
}

function emptySequence(): PackedSequence {
  return {
    sequenceLength: 0,
    sampleLens: [],
    splitLens: [],
    attnModes: [],
    packedTextIds: [],
    packedTextIndexes: [],
    packedPositionIds: [],
    packedLatentPositionIds: [],
    packedVaeTokenIndexes: [],
    patchifiedVaeLatentShapes: [],
    packedTimesteps: [],
    mseLossIndexes: [],
    packedVitTokenIndexes: [],
    packedVitPositionIds: [],
    vitTokenSeqlens: [],
    packedLabelIds: [],
    ceLossIndexes: [],
    ceLossWeights: [],
    vaeImages: [],
    vitImages: [],
    sources: [],
  };
}

function appendRange(list: number[], from: number, count: number): void {
  for (let i = 0; i < count; i++) list.push(from + i);
}

function appendSame(list: number[], value: number, count: number): void {
  for (let i = 0; i < count; i++) list.push(value);
}

/** Everything the samples of one sequence are packed with; see `add`. */
export class SequencePacker {
  readonly #config: PackConfig;
  readonly #tokens: BoundaryTokens;
  readonly #draws: PackDraws;
  #out = emptySequence();
  /** Rope position of the next token of the sample being packed. */
  #rope = 0;
  /** Rows of the split being packed. */
  #split = 0;
  /** Timestep shared by the images of the split being packed. */
  #timestep = Number.NEGATIVE_INFINITY;

  /** @param draws where timesteps and dropout decisions come from. */
  constructor(config: PackConfig, tokens: BoundaryTokens, draws: PackDraws) {
    this.#config = config;
    this.#tokens = tokens;
    this.#draws = draws;
  }

  /** Rows packed so far. */
  get length(): number {
    return this.#out.sequenceLength;
  }

  /** Samples packed so far. */
  get count(): number {
    return this.#out.sampleLens.length;
  }

  /**
   * Appends one sample: texts as bos + ids + eos (causal), images between their boundary tokens
   * (full; noise where they are generated). Droppable items are dropped by chance: a dropped text leaves no
   * trace, a dropped image still moves the rope position by one.
   *
   * @throws DataError when plan, texts and images contradict each other; ImageError when an image
   * does not fit the token grid. The packer is not to be used after that.
   */
  add(sample: Sample): void {
    checkSample(sample);
    const start = this.length;
    const texts = sample.textIdsList[Symbol.iterator]();
    const images = sample.images[Symbol.iterator]();
    this.#rope = 0;
    let dropped = false;
    for (const item of sample.sequencePlan) {
      const begins = item.split_start ?? true;
      if (begins) {
        this.#split = 0;
        // The frames of one split are kept or dropped together.
        dropped = item.enable_cfg === 1 && this.#draws.uniform() < this.#dropout(item);
      }
      if (item.type === 'text') {
        const ids = texts.next().value as number[];
        if (dropped) continue;
        this.#text(item, ids);
      } else {
        const image = images.next().value as ChwImage;
        if (dropped) {
          this.#rope += 1;
          continue;
        }
        if (item.type === 'vit_image') this.#vitImage(item, image);
        else this.#vaeImage(item, image, sample, begins);
      }
      if (item.split_end ?? true) this.#out.splitLens.push(this.#split);
    }
    this.#out.sampleLens.push(this.length - start);
    this.#out.sources.push(sample.source ?? null);
  }

  /** The sequence packed so far; the packer then starts a new one. */
  finish(): PackedSequence {
    const done = this.#out;
    this.#out = emptySequence();
    return done;
  }

  #dropout(item: PlanItem): number {
    if (item.type === 'text') return this.#config.text_cond_dropout_prob;
    if (item.type === 'vit_image') return this.#config.vit_cond_dropout_prob;
    return this.#config.vae_cond_dropout_prob;
  }

  /** Takes `count` rows of the sequence and of the split; returns the first. */
  #take(count: number): number {
    const first = this.#out.sequenceLength;
    this.#out.sequenceLength += count;
    this.#split += count;
    return first;
  }

  #textRow(id: number): number {
    const row = this.#take(1);
    this.#out.packedTextIds.push(id);
    this.#out.packedTextIndexes.push(row);
    return row;
  }

  #label(row: number, id: number, weight: number): void {
    this.#out.ceLossIndexes.push(row);
    this.#out.packedLabelIds.push(id);
    this.#out.ceLossWeights.push(weight);
  }

  /** Closing boundary token, which may have a label of its own. */
  #close(item: PlanItem, id: number): void {
    const row = this.#textRow(id);
    if (item.special_token_loss === 1) this.#label(row, item.special_token_label as number, 1);
  }

  #text(item: PlanItem, ids: number[]): void {
    const { bos_token_id, eos_token_id } = this.#tokens;
    const weight = lengthToWeight(ids.length + 1);
    for (const [i, id] of [bos_token_id, ...ids].entries()) {
      const row = this.#textRow(id);
      if (item.loss === 1) this.#label(row, i < ids.length ? ids[i] : eos_token_id, weight);
    }
    this.#close(item, eos_token_id);
    this.#out.attnModes.push('causal');
    appendRange(this.#out.packedPositionIds, this.#rope, ids.length + 2);
    this.#rope += ids.length + 2;
  }

  #positions({ height, width }: ChwImage, patch: number, side: number): number[] {
    const interpolate = this.#config.interpolate_pos;
    return flatPositionIds({ height, width, patch, side, interpolate });
  }

  #vitImage(item: PlanItem, image: ChwImage): void {
    const { vit_patch_size: patch, max_num_patch_per_side: side } = this.#config;
    checkGrid(image, patch);
    this.#textRow(this.#tokens.start_of_image);
    const ids = this.#positions(image, patch, side);
    appendRange(this.#out.packedVitTokenIndexes, this.#take(ids.length), ids.length);
    for (const id of ids) this.#out.packedVitPositionIds.push(id);
    this.#out.vitTokenSeqlens.push(ids.length);
    this.#out.vitImages.push(image);
    this.#close(item, this.#tokens.end_of_image);
    this.#out.attnModes.push('full');
    appendSame(this.#out.packedPositionIds, this.#rope, ids.length + 2);
    this.#rope += 1;
  }

  #vaeImage(item: PlanItem, image: ChwImage, sample: Sample, begins: boolean): void {
    const { vae_image_downsample: patch, max_latent_size: side } = this.#config;
    checkGrid(image, patch);
    this.#textRow(this.#tokens.start_of_image);
    const ids = this.#positions(image, patch, side);
    const first = this.#take(ids.length);
    for (const id of ids) this.#out.packedLatentPositionIds.push(id);
    appendRange(this.#out.packedVaeTokenIndexes, first, ids.length);
    this.#out.patchifiedVaeLatentShapes.push([image.height / patch, image.width / patch]);
    const loss = item.loss === 1;
    if (loss) appendRange(this.#out.mseLossIndexes, first, ids.length);
    if (begins && loss) this.#timestep = this.#draws.timestep();
    const timestep = loss ? this.#timestep : Number.NEGATIVE_INFINITY;
    appendSame(this.#out.packedTimesteps, timestep, ids.length);
    this.#out.vaeImages.push({
      image,
      loss,
      gtImage: (loss && sample.gtImage) || null,
      rewardMap: (loss && sample.rewardMap) || null,
      sample: this.count,
    });
    this.#close(item, this.#tokens.end_of_image);
    const video = item.frame_delta !== undefined;
    if (begins) this.#out.attnModes.push(loss && !video ? 'noise' : 'full');
    appendSame(this.#out.packedPositionIds, this.#rope, ids.length + 2);
    this.#rope += item.frame_delta ?? (loss ? 0 : 1);
  }
}

/** Packs samples into one sequence; see `SequencePacker`. */
export function packSamples(
  samples: Iterable<Sample>,
  config: PackConfig,
  tokens: BoundaryTokens,
  draws: PackDraws,
): PackedSequence {
  const packer = new SequencePacker(config, tokens, draws);
  for (const sample of samples) packer.add(sample);
  return packer.finish();
}

function checkGrid(image: ChwImage, patch: number): void {
  if (image.width % patch === 0 && image.height % patch === 0 && image.width * image.height > 0) {
    return;
  }
  throw new ImageError('ERR_IMAGE_SIZE', 'the image does not fit the token grid', {
    expected: `sides that are multiples of ${patch}`,
    found: `${image.width}x${image.height}`,
  });
}

function checkSample(sample: Sample): void {
  const { sequencePlan: plan, textIdsList, images } = sample;
  const texts = plan.filter((item) => item.type === 'text').length;
  const pictures = plan.length - texts;
  const where = sample.source && `${sample.source.dataset}, row ${sample.source.row}`;
  const bad = (message: string, expected: string, found: string) =>
    new DataError('ERR_SAMPLE', message, { key: where, expected, found });
  if (texts !== textIdsList.length) {
    throw bad('plan and texts of a sample differ', `${texts} texts`, `${textIdsList.length}`);
  }
  if (pictures > images.length) {
    throw bad('plan and images of a sample differ', `${pictures} images`, `${images.length}`);
  }
  let open = false;
  for (const item of plan) {
    if ((item.split_start ?? true) === open) {
      throw bad('splits of a sample overlap', 'every split ended before the next', 'an open split');
    }
    open = !(item.split_end ?? true);
    if (open && item.type !== 'vae_image') {
      throw bad('a split holds more than frames', 'vae_image items', item.type);
    }
    if (item.special_token_loss === 1 && !Number.isInteger(item.special_token_label)) {
      throw bad('a boundary token lacks its label', 'special_token_label', 'none');
    }
  }
  if (open) throw bad('the last split of a sample is open', 'split_end', 'none');
}
