import { createHash } from 'node:crypto';
import { type BoxFrame, RegionalRewardDataset } from '../data/regional-reward.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { ImageTransform } from '../data/transforms.js';
import { DataError } from '../util/errors.js';
import { keyedShuffle } from '../util/keyed-random.js';
import type { ImageTransformArgs, RewardSource } from './dataset-config.js';
import { buildRewardMap, type RewardMapKind } from './reward-maps.js';
import type { DatasetReport, NamedSample, RecordProblem, SampleSet } from './sample-set.js';

export interface RewardDatasetOptions {
  /** Read in this order, which numbers the records. */
  sources: readonly RewardSource[];
  /** Of the good and the bad images alike. */
  transform: ImageTransformArgs;
  /** How scores become a dense reward. */
  rewardMap: RewardMapKind;
  /** Default `record`: boxes are scaled from the image they were written for to the transformed one. */
  boxFrame?: BoxFrame;
  /** Of the prompts. */
  tokenizer: Tokenizer;
  /** Pixels per side of a latent token (16 in BAGEL). */
  tokenPixels: number;
  /** Decides, with the epoch, the order of the records. */
  seed: number;
}

/**
 * The records of one or more regional-reward files as one numbered list.
 *
 * The order of an epoch is a pure function of (seed, epoch). A record that cannot be used is
 * counted with its reason and passed over; nothing is dropped silently.
 */
export class RewardDataset implements SampleSet {
  /** sha256 over everything the records say; a resumed run must find the same. */
  readonly fingerprint: string;
  readonly #seed: number;
  readonly #files: string[];
  readonly #sets: RegionalRewardDataset[];
  /** For each record: its set and its position in it. */
  readonly #places: Array<readonly [number, number]> = [];
  readonly #rejected = new Map<number, string>();

  /**
   * Reads the files' lines; images are opened later.
   *
   * @throws FileError when a file cannot be read, DataError when one has no usable line or the
   * transform cannot give whole latent tokens, ConfigError for transform options out of range.
   */
  constructor(options: RewardDatasetOptions) {
    const transform = new ImageTransform(options.transform);
    if (transform.stride % options.tokenPixels !== 0) {
      throw new DataError('ERR_IMAGE_STRIDE', 'images would not divide into latent tokens', {
        key: 'image_transform_args.image_stride',
        expected: `a multiple of ${options.tokenPixels}`,
        found: String(transform.stride),
      });
    }
    this.#seed = options.seed;
    this.#files = options.sources.map((s) => s.jsonl);
    this.#sets = options.sources.map(
      (source) =>
        new RegionalRewardDataset({
          name: source.name,
          jsonl: source.jsonl,
          badDir: source.badDir,
          goodDir: source.goodDir,
          transform,
          tokenizer: options.tokenizer,
          tokenPixels: options.tokenPixels,
          boxFrame: options.boxFrame,
          buildMap: (rewards, size, frame) =>
            buildRewardMap(options.rewardMap, rewards, size, frame),
        }),
    );
    const hash = createHash('sha256');
    for (const [s, set] of this.#sets.entries()) {
      for (let i = 0; i < set.length; i++) {
        this.#places.push([s, i]);
        hash.update(`${JSON.stringify([set.name, set.lineOf(i), set.recordOf(i)])}\n`);
      }
    }
    this.fingerprint = hash.digest('hex');
  }

  /** Number of records; those found unusable later keep their number. */
  get size(): number {
    return this.#places.length;
  }

  /** Name of a record: `<data set>:<line>`. */
  idOf(index: number): string {
    const [s, i] = this.#places[index];
    return `${this.#sets[s].name}:${this.#sets[s].lineOf(i)}`;
  }

  /** Order in which an epoch visits the records. */
  order(epoch: number): Uint32Array {
    return keyedShuffle(this.size, this.#seed, 'order', epoch);
  }

  /**
   * Loads one record: images transformed, prompt tokenized, reward map built.
   *
   * @returns null when the record cannot be used; the reason is in the report.
   */
  async load(index: number): Promise<NamedSample | null> {
    if (this.#rejected.has(index)) return null;
    const [s, i] = this.#places[index];
    const sample = await this.#sets[s].trySample(i);
    if (sample === null) return null;
    const [image] = sample.images;
    const { gtImage } = sample;
    if (gtImage && (gtImage.width !== image.width || gtImage.height !== image.height)) {
      const sizes = `${gtImage.width}x${gtImage.height} and ${image.width}x${image.height}`;
      this.reject(index, `good and bad image have different sizes after the transform: ${sizes}`);
      return null;
    }
    return { ...sample, id: this.idOf(index) };
  }

  /** Marks a record as unusable for a reason found later, e.g. too many tokens. */
  reject(index: number, reason: string): void {
    this.#rejected.set(index, reason);
  }

  /** What became of the records so far. */
  report(): DatasetReport {
    const problems: RecordProblem[] = [];
    const regions: RecordProblem[] = [];
    const sums = { regionsSkipped: 0, regionsCut: 0, scoresOutOfRange: 0 };
    let failed = this.#rejected.size;
    for (const { name, report } of this.#sets) {
      const named = ({ line, reason }: { line: number; reason: string }) => ({
        id: `${name}:${line}`,
        reason,
      });
      problems.push(...report.lines.map(named), ...report.records.map(named));
      regions.push(...report.regions.map(named));
      failed += report.records.length;
      sums.regionsSkipped += report.regionsSkipped;
      sums.regionsCut += report.regionsCut;
      sums.scoresOutOfRange += report.scoresOutOfRange;
    }
    for (const [index, reason] of this.#rejected) problems.push({ id: this.idOf(index), reason });
    return { usable: this.size - failed, problems, ...sums, regions };
  }

  /** The error for a run that has nothing to train on. */
  nothingUsable(): DataError {
    const { problems } = this.report();
    const shown = problems.slice(0, 5).map(({ id, reason }) => `${id}: ${reason}`);
    return new DataError('ERR_NO_DATA', 'no record of the data sets can be used', {
      file: this.#files.join(', '),
      found: `${problems.length} unusable records; ${shown.join(' | ')}`,
      hint: 'Check the image directories in the dataset registry.',
    });
  }
}
