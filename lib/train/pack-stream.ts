import { z } from 'zod';
import { PackingLoop, type PackingState, type PackLimits } from '../data/packing-loop.js';
import { CheckpointError } from '../util/errors.js';
import { faultDetails, keyText, schemaFaults } from '../util/schema-faults.js';
import type { NamedSample, SampleSet } from './sample-set.js';

const refSchema = z.strictObject({ epoch: z.int().min(0), index: z.int().min(0) });

const positionSchema = z.strictObject({
  next: refSchema,
  carried: refSchema.nullable(),
  buffer: z.array(refSchema),
});

/** A place in the endless sequence of records: position `index` in the order of `epoch`. */
export type RecordRef = z.output<typeof refSchema>;

/** Everything a pack stream needs to go on where it stopped; plain JSON. */
export type DataPosition = z.output<typeof positionSchema>;

/** What a pack stream needs of a sample set. */
export type RecordSource = Omit<SampleSet, 'fingerprint' | 'report'>;

/** A sample in a pack, with the place it came from: its randomness is keyed by that. */
export interface PackedSample extends NamedSample {
  /** Place in the order of the epoch, which an interrupted run comes back to. */
  ref: RecordRef;
}

/**
 * The packs of a data set, epoch after epoch without an end, made by the lossless packing loop. The
 * stream can be left between any two packs and taken up again at the same place.
 */
export class PackStream {
  readonly #dataset: RecordSource;
  readonly #limits: PackLimits;
  #loop: PackingLoop<PackedSample>;
  #packs: AsyncGenerator<PackedSample[]>;
  #next: RecordRef = { epoch: 0, index: 0 };
  #order: { epoch: number; order: Uint32Array } | null = null;
  #usableInEpoch = 0;

  /** @throws ConfigError for limits out of range. */
  constructor(dataset: RecordSource, limits: PackLimits) {
    this.#dataset = dataset;
    const most = Math.min(limits.max_num_tokens_per_sample, limits.max_num_tokens);
    this.#limits = { ...limits, max_num_tokens_per_sample: most };
    this.#loop = this.#open();
    this.#packs = this.#loop.packs();
  }

  /** Where the stream stands now. */
  position(): DataPosition {
    const { carried, buffer } = this.#loop.state;
    return {
      next: { ...this.#next },
      carried: carried && { ...carried.ref },
      buffer: buffer.map(({ ref }) => ({ ...ref })),
    };
  }

  /**
   * Goes to a position saved earlier.
   *
   * @throws CheckpointError when it is none, or a record read ahead can no longer be loaded.
   */
  async restore(position: unknown): Promise<void> {
    const parsed = positionSchema.safeParse(position);
    if (!parsed.success) {
      const [fault] = schemaFaults(parsed.error, position);
      throw new CheckpointError('ERR_DATA_POSITION', 'the saved data position is not usable', {
        ...faultDetails(fault),
        key: keyText(['data', ...fault.path]),
      });
    }
    const { next, carried, buffer } = parsed.data;
    const state: PackingState<PackedSample> = { carried: null, buffer: [] };
    if (carried !== null) state.carried = await this.#reload(carried);
    for (const ref of buffer) state.buffer.push(await this.#reload(ref));
    this.#next = { ...next };
    this.#loop = this.#open(state);
    this.#packs = this.#loop.packs();
    // Unknown for the part of the epoch before the interruption; one full epoch decides.
    this.#usableInEpoch = Number.POSITIVE_INFINITY;
  }

  /** The next pack. @throws DataError when a whole epoch held nothing usable. */
  async nextPack(): Promise<PackedSample[]> {
    const { value, done } = await this.#packs.next();
    // The loop ends only with its stream, which has no end; an earlier error has ended it for good.
    if (done) throw this.#dataset.nothingUsable();
    return value;
  }

  #open(state?: PackingState<PackedSample>): PackingLoop<PackedSample> {
    const group = { weight: 1, stream: this.#samples() };
    return new PackingLoop([group], this.#limits, () => 0, {
      state,
      onSkip: ({ ref }, { rows }) => {
        const most = this.#limits.max_num_tokens_per_sample;
        const reason = `the sample has ${rows} tokens, more than the ${most} allowed`;
        this.#dataset.reject(this.#recordAt(ref), reason);
        this.#usableInEpoch -= 1;
      },
    });
  }

  /** The usable records from `next` on, each epoch in an order of its own. */
  async *#samples(): AsyncGenerator<PackedSample> {
    for (;;) {
      if (this.#next.index >= this.#dataset.size) {
        if (this.#usableInEpoch === 0) throw this.#dataset.nothingUsable();
        this.#next = { epoch: this.#next.epoch + 1, index: 0 };
        this.#usableInEpoch = 0;
      }
      const ref = this.#next;
      this.#next = { epoch: ref.epoch, index: ref.index + 1 };
      const sample = await this.#dataset.load(this.#recordAt(ref));
      if (sample === null) continue;
      this.#usableInEpoch += 1;
      yield { ...sample, ref };
    }
  }

  async #reload(ref: RecordRef): Promise<PackedSample> {
    const record = this.#recordAt(ref);
    const sample = await this.#dataset.load(record);
    if (sample !== null) return { ...sample, ref };
    throw new CheckpointError(
      'ERR_DATA_POSITION',
      'a record the interrupted run had read ahead cannot be loaded any more',
      { key: this.#dataset.idOf(record) },
    );
  }

  #recordAt(ref: RecordRef): number {
    if (this.#order?.epoch !== ref.epoch) {
      this.#order = { epoch: ref.epoch, order: this.#dataset.order(ref.epoch) };
    }
    return this.#order.order[ref.index];
  }
}
