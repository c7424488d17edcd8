import { ConfigError, DataError } from '../util/errors.js';
import type { Sample, SampleSource } from './sample.js';

/** Limits of a pack, with the option names of the trainer. */
export interface PackLimits {
  /** A pack with at least this many rows is handed out. */
  expected_num_tokens: number;
  /** No pack has more rows than this. */
  max_num_tokens: number;
  /** Samples with more rows are skipped. */
  max_num_tokens_per_sample: number;
  /** Samples set aside are taken up again while the pack is shorter than this. */
  prefer_buffer_before: number;
  /** Samples that can be set aside. */
  max_buffer_size: number;
}

/** What packing needs to know of a sample. */
export type PackableSample = Pick<Sample, 'numTokens' | 'sequencePlan' | 'source'>;

/** A stream of samples that takes part in packing. */
export interface SampleGroup<S extends PackableSample = Sample> {
  /** Relative share of the draws. */
  weight: number;
  /** At least one sample of this group opens every pack. */
  mandatory?: boolean;
  /** Where its samples come from. */
  stream: Iterator<S> | AsyncIterator<S>;
}

/**
 * `lossless`: no sample that fits a pack is ever lost.
 * `reference`: as the released code, which drops the sample in hand when a pack is full and the
 * buffer is too, or when the sample came from the buffer.
 */
export type PackMode = 'lossless' | 'reference';

/** A sample that did not reach any pack, and why. */
export interface PackSkip {
  source: SampleSource | null;
  /** What {@link sampleRows} says. */
  rows: number;
  /** `too_long`: more rows than a sample may have. `overflow`: dropped in the reference mode. */
  reason: 'too_long' | 'overflow';
}

/** Counts of a packing loop, for the report of a run. */
export interface PackReport {
  /** Packs handed out. */
  packs: number;
  /** Samples that joined a pack. */
  packed: number;
  skipped: Record<PackSkip['reason'], number>;
  /** The first skips, in detail. */
  examples: PackSkip[];
}

/** Rows a sample takes at most: its tokens and two boundary tokens per plan item. */
export function sampleRows(sample: PackableSample): number {
  return sample.numTokens + 2 * sample.sequencePlan.length;
}

function checkLimits(limits: PackLimits): void {
  for (const [key, value] of Object.entries(limits)) {
    if (!Number.isInteger(value) || value < 0) {
      throw new ConfigError('ERR_PACK_LIMITS', 'a packing limit is out of range', {
        key,
        expected: 'a whole number from 0',
        found: String(value),
      });
    }
  }
  if (limits.max_num_tokens_per_sample > limits.max_num_tokens) {
    throw new ConfigError('ERR_PACK_LIMITS', 'a sample may be longer than a pack', {
      key: 'max_num_tokens_per_sample',
      expected: `at most max_num_tokens (${limits.max_num_tokens})`,
      found: String(limits.max_num_tokens_per_sample),
    });
  }
}

function checkWeights(groups: ReadonlyArray<{ weight: number }>): void {
  const total = groups.reduce((sum, { weight }) => sum + weight, 0);
  if (total > 0 && groups.every(({ weight }) => weight >= 0 && Number.isFinite(weight))) return;
  throw new ConfigError('ERR_PACK_WEIGHTS', 'the weights of the dataset groups are unusable', {
    key: 'weight',
    expected: 'numbers from 0, not all 0',
    found: groups.map(({ weight }) => weight).join(', ') || 'no groups',
  });
}

const MAX_EXAMPLES = 20;
/** Samples in a row that are all too long before the loop gives up instead of spinning forever. */
const MAX_FRUITLESS = 10_000;

/** Samples that were drawn but are in no pack yet: all that a loop remembers between two packs. */
export interface PackingState<S> {
  /** Did not fit the last pack and goes into the next one. */
  carried: S | null;
  /** Set aside, oldest first. */
  buffer: S[];
}

/** Options of a packing loop. */
export interface PackingOptions<S extends PackableSample> {
  /** Default `lossless`. */
  mode?: PackMode;
  /**
   * Called for every sample as it joins the open pack; returns the rows it really took (condition
   * dropout makes it shorter than estimated). Default: the estimate.
   */
  onAdd?: (sample: S) => number;
  /** Called for every sample that will reach no pack. */
  onSkip?: (sample: S, skip: PackSkip) => void;
  /** Goes on from the `state` of an earlier loop over the same streams. */
  state?: PackingState<S>;
}

/**
 * Packs samples of weighted groups greedily into lists of samples within the limits. `reference`
 * ends with the first stream that ends, as its streams never do; `lossless` goes on with the others
 * and hands out everything that is left.
 */
export class PackingLoop<S extends PackableSample = Sample> {
  /** What became of the samples so far. */
  readonly report: PackReport = {
    packs: 0,
    packed: 0,
    skipped: { too_long: 0, overflow: 0 },
    examples: [],
  };
  readonly #groups: SampleGroup<S>[];
  readonly #limits: PackLimits;
  readonly #uniform: () => number;
  readonly #lossless: boolean;
  readonly #onAdd: (sample: S) => number;
  readonly #onSkip: (sample: S, skip: PackSkip) => void;
  readonly #ended = new Set<SampleGroup<S>>();
  readonly #buffer: S[];
  /** A sample that did not fit the last pack and goes into the next one. */
  #carried: S | null;
  /** The next pack opens without the mandatory groups. */
  #freely = false;
  #pack: S[] = [];
  #rows = 0;
  #fruitless = 0;

  /**
   * @param uniform numbers in [0, 1); one is drawn each time a sample is taken from a group's stream
   *   (not for mandatory samples and samples set aside).
   * @throws ConfigError for limits or weights out of range.
   */
  constructor(
    groups: SampleGroup<S>[],
    limits: PackLimits,
    uniform: () => number,
    options: PackingOptions<S> = {},
  ) {
    checkLimits(limits);
    checkWeights(groups);
    this.#groups = groups;
    this.#limits = limits;
    this.#uniform = uniform;
    this.#lossless = (options.mode ?? 'lossless') === 'lossless';
    this.#onAdd = options.onAdd ?? sampleRows;
    this.#onSkip = options.onSkip ?? (() => {});
    this.#buffer = [...(options.state?.buffer ?? [])];
    this.#carried = options.state?.carried ?? null;
  }

  /** What the loop remembers; between two packs it decides, with the streams, all that follows. */
  get state(): PackingState<S> {
    return { carried: this.#carried, buffer: [...this.#buffer] };
  }

  /**
   * Packs, one list of samples each. The samples of a pack have been passed to `onAdd` when it is
   * handed out, those of the next pack have not.
   *
   * @throws DataError when thousands of samples in a row are too long to be packed.
   */
  async *packs(): AsyncGenerator<S[]> {
    while (this.#pack.length > 0 || (await this.#open())) {
      const { sample, origin } = await this.#next();
      if (sample === undefined) break;
      const rows = sampleRows(sample);
      if (rows > this.#limits.max_num_tokens_per_sample) {
        this.#skip(sample, 'too_long');
        continue;
      }
      if (this.#rows + rows > this.#limits.max_num_tokens) {
        const room = this.#buffer.length < this.#limits.max_buffer_size;
        if (origin === 'stream' && room) {
          this.#buffer.push(sample);
          continue;
        }
        if (this.#lossless) this.#carried = sample;
        else this.#skip(sample, 'overflow');
        // Carried before and still no room beside the mandatory samples: a pack without them.
        this.#freely = this.#lossless && origin === 'carried';
        yield this.#emit();
      } else {
        this.#add(sample);
      }
      if (this.#pack.length > 0 && this.#rows >= this.#limits.expected_num_tokens) {
        yield this.#emit();
      }
    }
    if (this.#lossless) yield* this.#drain();
  }

  /** Hands out what is left when the streams have ended. */
  *#drain(): Generator<S[]> {
    const { max_num_tokens, expected_num_tokens } = this.#limits;
    while (this.#buffer.length > 0) {
      if (this.#rows + sampleRows(this.#buffer[0]) > max_num_tokens) yield this.#emit();
      this.#add(this.#buffer.shift() as S);
      if (this.#rows >= expected_num_tokens) yield this.#emit();
    }
    if (this.#pack.length > 0) yield this.#emit();
  }

  /** Opens a pack with a sample of every mandatory group; false when `reference` has to end. */
  async #open(): Promise<boolean> {
    const groups = this.#freely ? [] : this.#groups;
    this.#freely = false;
    for (const group of groups) {
      while (group.mandatory && !this.#ended.has(group)) {
        const sample = await this.#pull(group);
        if (sample === undefined) {
          if (this.#lossless) break;
          return false;
        }
        const rows = sampleRows(sample);
        if (rows > this.#limits.max_num_tokens_per_sample) {
          this.#skip(sample, 'too_long');
        } else if (this.#lossless && this.#rows + rows > this.#limits.max_num_tokens) {
          this.#buffer.push(sample);
          break;
        } else {
          this.#add(sample);
          break;
        }
      }
    }
    return true;
  }

  async #next(): Promise<{ sample?: S; origin: 'carried' | 'buffer' | 'stream' }> {
    if (this.#carried !== null) {
      const sample = this.#carried;
      this.#carried = null;
      return { sample, origin: 'carried' };
    }
    if (this.#rows < this.#limits.prefer_buffer_before && this.#buffer.length > 0) {
      return { sample: this.#buffer.shift(), origin: 'buffer' };
    }
    for (;;) {
      const group = this.#choose();
      if (group === undefined) return { origin: 'stream' };
      const sample = await this.#pull(group);
      if (sample !== undefined || !this.#lossless) return { sample, origin: 'stream' };
    }
  }

  /** Draws a group by weight among those that still have samples. */
  #choose(): SampleGroup<S> | undefined {
    const groups = this.#groups.filter((group) => !this.#ended.has(group) && group.weight > 0);
    const total = groups.reduce((sum, { weight }) => sum + weight, 0);
    if (groups.length === 0) return undefined;
    const u = this.#uniform();
    let cumulative = 0;
    for (const group of groups) {
      cumulative += group.weight;
      if (u < cumulative / total) return group;
    }
    return groups.at(-1);
  }

  async #pull(group: SampleGroup<S>): Promise<S | undefined> {
    const { value, done } = await group.stream.next();
    if (!done) return value;
    this.#ended.add(group);
    return undefined;
  }

  #add(sample: S): void {
    this.#pack.push(sample);
    this.#rows += this.#onAdd(sample);
    this.report.packed += 1;
    this.#fruitless = 0;
  }

  #emit(): S[] {
    const pack = this.#pack;
    this.#pack = [];
    this.#rows = 0;
    this.report.packs += 1;
    return pack;
  }

  #skip(sample: S, reason: PackSkip['reason']): void {
    const rows = sampleRows(sample);
    this.report.skipped[reason] += 1;
    const skip = { source: sample.source ?? null, rows, reason };
    if (this.report.examples.length < MAX_EXAMPLES) this.report.examples.push(skip);
    this.#onSkip(sample, skip);
    this.#fruitless += 1;
    if (this.#fruitless < MAX_FRUITLESS) return;
    throw new DataError('ERR_NO_SAMPLE_FITS', 'no sample fits the packing limits', {
      key: 'max_num_tokens_per_sample',
      expected: `samples of at most ${this.#limits.max_num_tokens_per_sample} rows`,
      found: `${MAX_FRUITLESS} longer ones in a row, the last with ${rows}`,
      hint: 'Raise the limits, or use smaller images (a smaller max_image_size).',
    });
  }
}
