import { z } from 'zod';
import { type PackLimits, sampleRows } from '../data/packing-loop.js';
import { CheckpointError } from '../util/errors.js';
import type { RewardDataset, RewardSample } from './dataset.js';

/** A place in the endless sequence of records: position `index` in the order of `epoch`. */
const refSchema = z.strictObject({ epoch: z.int().min(0), index: z.int().min(0) });

const positionSchema = z.strictObject({ next: refSchema, buffer: z.array(refSchema) });

export type RecordRef = z.output<typeof refSchema>;

/** Everything a pack stream needs to go on where it stopped; plain JSON. */
export type DataPosition = z.output<typeof positionSchema>;

/** What a pack stream needs of a data set. */
export type RecordSource = Pick<
  RewardDataset,
  'size' | 'order' | 'load' | 'reject' | 'idOf' | 'nothingUsable'
>;

/** A sample in a pack, with the place it came from: its randomness is keyed by that. */
export interface PackedSample {
  ref: RecordRef;
  sample: RewardSample;
}

/**
 * Groups the records of a data set into packs, epoch after epoch.
 *
 * The rule is the reference's greedy loop, except that no sample is ever lost: one that does not
 * fit any more when a pack closes opens the next pack instead. Unlike the general packing loop of
 * lib/data it can be left at any moment and taken up again at the same place.
 */
export class PackStream {
  readonly #dataset: RecordSource;
  readonly #limits: PackLimits;
  #next: RecordRef = { epoch: 0, index: 0 };
  #buffer: PackedSample[] = [];
  #order: { epoch: number; order: Uint32Array } | null = null;
  #usableInEpoch = 0;

  constructor(dataset: RecordSource, limits: PackLimits) {
    this.#dataset = dataset;
    this.#limits = limits;
  }

  /** Where the stream stands now. */
  position(): DataPosition {
    return { next: { ...this.#next }, buffer: this.#buffer.map((b) => ({ ...b.ref })) };
  }

  /**
   * Goes to a position saved earlier.
   *
   * @throws CheckpointError when it is none, or a buffered record can no longer be loaded.
   */
  async restore(position: unknown): Promise<void> {
    const parsed = positionSchema.safeParse(position);
    if (!parsed.success) {
      throw new CheckpointError('ERR_DATA_POSITION', 'the saved data position is not usable', {
        key: 'data',
        found: parsed.error.issues[0].message,
      });
    }
    const buffer: PackedSample[] = [];
    for (const ref of parsed.data.buffer) {
      const sample = await this.#dataset.load(this.#recordAt(ref));
      if (sample === null) {
        throw new CheckpointError(
          'ERR_DATA_POSITION',
          'a record the interrupted run had read ahead cannot be loaded any more',
          { key: this.#dataset.idOf(this.#recordAt(ref)) },
        );
      }
      buffer.push({ ref, sample });
    }
    this.#next = { ...parsed.data.next };
    this.#buffer = buffer;
    // Unknown for the part of the epoch before the interruption; one full epoch decides.
    this.#usableInEpoch = 1;
  }

  /** The next pack. @throws DataError when a whole epoch held nothing usable. */
  async nextPack(): Promise<PackedSample[]> {
    const limits = this.#limits;
    const pack: PackedSample[] = [];
    let tokens = 0;
    for (;;) {
      const buffered = tokens < limits.prefer_buffer_before ? this.#buffer.shift() : undefined;
      const item = buffered ?? (await this.#draw());
      const n = sampleRows(item.sample);
      if (tokens + n <= limits.max_num_tokens) {
        pack.push(item);
        tokens += n;
        if (tokens >= limits.expected_num_tokens) return pack;
      } else if (buffered === undefined && this.#buffer.length < limits.max_buffer_size) {
        this.#buffer.push(item);
      } else {
        this.#buffer.unshift(item);
        return pack;
      }
    }
  }

  /** The next usable sample of the sequence. */
  async #draw(): Promise<PackedSample> {
    const limit = Math.min(this.#limits.max_num_tokens_per_sample, this.#limits.max_num_tokens);
    for (;;) {
      if (this.#next.index >= this.#dataset.size) {
        if (this.#usableInEpoch === 0) throw this.#dataset.nothingUsable();
        this.#next = { epoch: this.#next.epoch + 1, index: 0 };
        this.#usableInEpoch = 0;
      }
      const ref = this.#next;
      this.#next = { epoch: ref.epoch, index: ref.index + 1 };
      const record = this.#recordAt(ref);
      const sample = await this.#dataset.load(record);
      if (sample === null) continue;
      const n = sampleRows(sample);
      if (n > limit) {
        this.#dataset.reject(record, `the sample has ${n} tokens, more than the ${limit} allowed`);
        continue;
      }
      this.#usableInEpoch += 1;
      return { ref, sample };
    }
  }

  #recordAt(ref: RecordRef): number {
    if (this.#order?.epoch !== ref.epoch) {
      this.#order = { epoch: ref.epoch, order: this.#dataset.order(ref.epoch) };
    }
    return this.#order.order[ref.index];
  }
}
