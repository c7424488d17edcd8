import { DataError, messageOf, SrumError } from '../util/errors.js';
import type { JsonlProblem } from '../util/jsonl.js';
import { imagePath } from './image-folder.js';
import { readImage } from './images.js';
import {
  checkRewardRecord,
  type FrameSize,
  frameOf,
  type RewardRecord,
  readRewardRecords,
} from './rewards.js';
import type { PixelMap, Sample } from './sample.js';
import type { Tokenizer } from './tokenizer.js';
import type { ImageTransform } from './transforms.js';

/** A reward map with what was left out or altered while it was built. */
export interface BuiltMap extends PixelMap {
  /** Regions left out of the map, by their number in `vlm_rewards`. */
  skipped?: Array<{ index: number; reason: string }>;
  /** Regions cut at the image border. */
  cut?: Array<{ index: number; reason: string }>;
  /** Scores outside [-1, 1]. */
  outOfRange?: number;
}

/**
 * Builds the reward map of an image.
 *
 * @param rewards `vlm_rewards` of the record, untouched.
 * @param size the transformed image, whose pixels the map has.
 * @param frame the image the boxes refer to.
 * @throws DataError when the record cannot be used at all.
 */
export type MapBuilder = (rewards: unknown, size: FrameSize, frame: FrameSize) => BuiltMap;

/** What the boxes of reward records refer to; see `RegionalRewardOptions.boxFrame`. */
export const BOX_FRAMES = ['record', 'reference'] as const;
/** One of {@link BOX_FRAMES}. */
export type BoxFrame = (typeof BOX_FRAMES)[number];

/** Options of a regional-reward data set. */
export interface RegionalRewardOptions {
  /** Name for reports; default: the jsonl path. */
  name?: string;
  /** File of reward records, one a line. */
  jsonl: string;
  /** Folder of the images that are trained on and that the boxes refer to. */
  badDir: string;
  /** Folder of the target images. */
  goodDir: string;
  /** Of good and bad images alike. */
  transform: ImageTransform;
  /** Of the prompts. */
  tokenizer: Tokenizer;
  /** How rewards become a map of the transformed image. */
  buildMap: MapBuilder;
  /**
   * What the boxes refer to. `record` (default): the width and height the record gives, else the saved
   * image. `reference`: the transformed image, whatever size the saved one had, as the released code.
   */
  boxFrame?: BoxFrame;
  /**
   * How image tokens are counted for packing. `exact` (default): by `tokenPixels`. `reference`: as the
   * released code, which divides by the transform's stride where its square is meant.
   */
  tokenCount?: 'exact' | 'reference';
  /** Refuse records that break a rule of `checkRewardRecord`. Default false. */
  strict?: boolean;
  /** Image pixels per side of a latent token. Default 16. */
  tokenPixels?: number;
}

/** What reading a data set left out or altered. */
export interface RegionalRewardReport {
  /** Lines that are no usable record, with reasons; known from the start. */
  lines: JsonlProblem[];
  /** Records that failed when they were asked for (missing image, unusable score, ...). */
  records: Array<{ line: number; reason: string }>;
  /**
   * Regions left out of the maps of the records used so far; each record counts once, however often
   * it is used.
   */
  regionsSkipped: number;
  /** The same for regions cut at the image border. */
  regionsCut: number;
  /** The same for scores outside [-1, 1]. */
  scoresOutOfRange: number;
  /** The first region problems in detail. */
  regions: Array<{ line: number; index: number; reason: string }>;
}

const MAX_REGION_EXAMPLES = 20;

/** A jsonl of judged images as training samples, by position. */
export class RegionalRewardDataset {
  /** Name for reports. */
  readonly name: string;
  /** What was left out or altered so far; grows as samples are made. */
  readonly report: RegionalRewardReport;
  readonly #options: RegionalRewardOptions;
  /** Lines whose regions are in the report already. */
  readonly #counted = new Set<number>();
  readonly #records: Array<{ line: number; value: RewardRecord }>;

  /**
   * Reads and checks the jsonl; images are read sample by sample.
   *
   * @throws FileError; DataError when no line is usable.
   */
  constructor(options: RegionalRewardOptions) {
    const { records, problems } = readRewardRecords(options.jsonl, options.strict);
    if (records.length === 0) {
      throw new DataError('ERR_NO_RECORDS', 'the reward file has no usable record', {
        file: options.jsonl,
        line: problems[0]?.line,
        found: problems[0]?.reason ?? 'an empty file',
      });
    }
    this.#options = options;
    this.#records = records;
    this.name = options.name ?? options.jsonl;
    this.report = {
      lines: problems,
      records: [],
      regionsSkipped: 0,
      regionsCut: 0,
      scoresOutOfRange: 0,
      regions: [],
    };
  }

  /** Number of usable records. */
  get length(): number {
    return this.#records.length;
  }

  /** Line (1-based) of the jsonl that record `index` came from. */
  lineOf(index: number): number {
    return this.#record(index).line;
  }

  /** The record at a position. */
  recordOf(index: number): RewardRecord {
    return this.#record(index).value;
  }

  #record(index: number): { line: number; value: RewardRecord } {
    const record = this.#records[index];
    if (record !== undefined) return record;
    throw new DataError('ERR_INDEX', 'the data set has no such record', {
      file: this.#options.jsonl,
      expected: `0 to ${this.length - 1}`,
      found: String(index),
    });
  }

  /**
   * The sample of a record: its prompt as droppable condition, then the judged image with loss, its
   * target and its reward map.
   *
   * @throws FileError, ImageError, DataError when the record cannot be used (not noted in `report`).
   */
  async sample(index: number): Promise<Sample> {
    const { line, value: record } = this.#record(index);
    const { transform, tokenizer, badDir, goodDir } = this.#options;
    const bad = await readImage(imagePath(badDir, record.bad_image_file));
    const same = badDir === goodDir && record.bad_image_file === record.good_image_file;
    const good = same ? bad : await readImage(imagePath(goodDir, record.good_image_file));
    if (this.#options.strict) this.#checkAgainst(record, line, bad);
    const image = transform.apply(bad);
    const gtImage = same ? image : transform.apply(good);
    const ids = tokenizer.encode(record.prompt ?? '');
    return {
      sequencePlan: [
        { type: 'text', enable_cfg: 1, loss: 0 },
        { type: 'vae_image', enable_cfg: 0, loss: 1 },
      ],
      textIdsList: [ids],
      images: [image],
      numTokens: ids.length + this.#imageTokens(image),
      gtImage,
      rewardMap: this.#map(record, line, image, bad),
      source: { dataset: this.name, row: line },
    };
  }

  /** Like `sample`, but notes a record that cannot be used in `report.records` and returns null. */
  async trySample(index: number): Promise<Sample | null> {
    try {
      return await this.sample(index);
    } catch (error) {
      if (!(error instanceof SrumError)) throw error;
      const { line } = this.#record(index);
      if (!this.report.records.some((known) => known.line === line)) {
        this.report.records.push({ line, reason: messageOf(error) });
      }
      return null;
    }
  }

  #imageTokens(image: FrameSize): number {
    const { tokenCount, transform, tokenPixels = 16 } = this.#options;
    const pixels = image.width * image.height;
    return Math.floor(pixels / (tokenCount === 'reference' ? transform.stride : tokenPixels ** 2));
  }

  #checkAgainst(record: RewardRecord, line: number, saved: FrameSize): void {
    const [problem] = checkRewardRecord(record, saved);
    if (problem === undefined) return;
    throw new DataError('ERR_REWARD_RECORD', 'a reward record does not fit its image', {
      file: this.#options.jsonl,
      line,
      key: problem.key,
      found: problem.reason,
    });
  }

  #map(record: RewardRecord, line: number, size: FrameSize, saved: FrameSize): PixelMap {
    const transformed = { width: size.width, height: size.height };
    const frame =
      this.#options.boxFrame === 'reference'
        ? transformed
        : (frameOf(record) ?? { width: saved.width, height: saved.height });
    const built = this.#options.buildMap(record.vlm_rewards, transformed, frame);
    const { skipped = [], cut = [], outOfRange = 0 } = built;
    // Every epoch uses a record again; its regions are the same.
    if (!this.#counted.has(line)) {
      this.#counted.add(line);
      this.report.regionsSkipped += skipped.length;
      this.report.regionsCut += cut.length;
      this.report.scoresOutOfRange += outOfRange;
      for (const { index, reason } of [...skipped, ...cut]) {
        if (this.report.regions.length >= MAX_REGION_EXAMPLES) break;
        this.report.regions.push({ line, index, reason });
      }
    }
    return { width: built.width, height: built.height, data: built.data };
  }
}
