import type { AttentionCall } from '../../nn/packed-layout.js';
import { inferencePlan } from '../../nn/packed-layout.js';
import type { Device, DType, Tensor } from '../../torch/index.js';
import { arange, empty, keep, noGrad, ops, scope } from '../../torch/index.js';
import { DataError } from '../../util/errors.js';

/** What the rows of a cache look like. */
export interface KvFormat {
  kvHeads: number;
  headDim: number;
  dtype: DType;
  device: Device;
}

/** Free rows that an enlarged store keeps per sample, so that decoding token by token rarely copies. */
const MIN_RESERVE = 64;

/**
 * Rows of all layers, each sample in its own region with room behind it. Several caches may show
 * different lengths of one store: rows below a cache's length never change, and only the cache that
 * ends where the written rows end may write behind them.
 */
class KvStore {
  readonly keys: Tensor[] = [];
  readonly values: Tensor[] = [];
  /** First row of each sample's region. */
  readonly offsets: number[] = [];
  readonly capacities: readonly number[];
  /** Rows of each sample that belong to some cache. */
  readonly written: number[];
  #owners = 0;

  constructor(layers: number, capacities: readonly number[], format: KvFormat) {
    this.capacities = capacities;
    this.written = capacities.map(() => 0);
    let rows = 0;
    for (const capacity of capacities) {
      this.offsets.push(rows);
      rows += capacity;
    }
    const shape = [rows, format.kvHeads, format.headDim];
    const { dtype, device } = format;
    for (let layer = 0; layer < layers; layer++) {
      this.keys.push(keep(empty(shape, { dtype, device })));
      this.values.push(keep(empty(shape, { dtype, device })));
    }
  }

  retain(): this {
    this.#owners += 1;
    return this;
  }

  release(): void {
    this.#owners -= 1;
    if (this.#owners > 0) return;
    for (const tensor of [...this.keys, ...this.values]) tensor.dispose();
  }
}

/**
 * One forward pass's view of a cache: where the new rows of each layer go and over which key rows the
 * new queries attend.
 */
export class KvStep {
  readonly plan: readonly AttentionCall[];
  /** [M] int64: row in the store of each new token. */
  readonly rows: Tensor;
  readonly #store: KvStore;

  /** @internal */
  constructor(
    store: KvStore,
    pastLens: readonly number[],
    queryLens: readonly number[],
    causal: boolean,
  ) {
    this.#store = store;
    this.plan = inferencePlan({ queryLens, pastLens, causal, keyOffsets: store.offsets });
    const { device } = store.keys[0];
    const ranges = queryLens.map((len, sample) => {
      const start = store.offsets[sample] + pastLens[sample];
      return arange(start, start + len, 1, { dtype: 'int64', device });
    });
    this.rows = ops.cat(ranges, 0);
  }

  /** All rows of a layer: [store rows, kvHeads, headDim]; new rows are written into it in place. */
  key(layer: number): Tensor {
    return this.#store.keys[layer];
  }

  /** The same for values. */
  value(layer: number): Tensor {
    return this.#store.values[layer];
  }
}

/**
 * Keys (after norm and rotation) and values of all layers for a batch of contexts. A cache never
 * changes what it shows: appending gives a new cache. Copying a context is keeping the old one.
 */
export class KvCache {
  readonly layers: number;
  /** Cached tokens of each sample. */
  readonly lens: readonly number[];
  #store: KvStore | null;
  #disposed = false;

  private constructor(layers: number, lens: readonly number[], store: KvStore | null) {
    this.layers = layers;
    this.lens = lens;
    this.#store = store?.retain() ?? null;
  }

  /** A cache of `batch` samples without tokens. */
  static empty(layers: number, batch: number): KvCache {
    return new KvCache(layers, new Array<number>(batch).fill(0), null);
  }

  /** Keys of a layer, samples one behind the other: [T, kvHeads, headDim]; null while empty. */
  key(layer: number): Tensor | null {
    return this.#gather((store) => store.keys[layer]);
  }

  /** Values of a layer in the layout of {@link key}. */
  value(layer: number): Tensor | null {
    return this.#gather((store) => store.values[layer]);
  }

  /** Samples of `indexes`, in that order, as a cache of its own. */
  select(indexes: readonly number[]): KvCache {
    const lens = indexes.map((index) => this.lens[index]);
    const source = this.#live();
    if (source === null || lens.every((len) => len === 0)) {
      return new KvCache(this.layers, lens, null);
    }
    return new KvCache(this.layers, lens, copyRows(source, lens, lens, indexes));
  }

  /**
   * Makes room for new rows and says where they go. The rows become part of a cache only through
   * {@link append} with the same lengths; without it they are overwritten by the next step.
   */
  begin(queryLens: readonly number[], causal: boolean, format: KvFormat): KvStep {
    if (queryLens.length !== this.lens.length) {
      throw new DataError('ERR_BATCH', 'The query has another batch size than the cache', {
        expected: `${this.lens.length} samples`,
        found: `${queryLens.length}`,
      });
    }
    const store = this.#room(queryLens, format);
    return new KvStep(store, this.lens, queryLens, causal);
  }

  /** The cache that ends with the rows written in the step begun last with these lengths. */
  append(queryLens: readonly number[]): KvCache {
    const lens = this.lens.map((len, sample) => len + queryLens[sample]);
    const store = this.#live();
    if (store !== null) for (const [sample, len] of lens.entries()) store.written[sample] = len;
    const appended = new KvCache(this.layers, lens, store);
    // An empty cache shows nothing of the store, so it need not keep it alive.
    if (this.lens.every((len) => len === 0)) {
      this.#store = null;
      store?.release();
    }
    return appended;
  }

  /** Frees this cache's share of the memory; caches made from it stay valid. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#store?.release();
    this.#store = null;
  }

  #live(): KvStore | null {
    if (this.#disposed)
      throw new DataError('ERR_CACHE_DISPOSED', 'The cache was disposed of before');
    return this.#store;
  }

  /** A store whose rows behind this cache's are free, the present one where possible. */
  #room(queryLens: readonly number[], format: KvFormat): KvStore {
    const old = this.#live();
    const needed = this.lens.map((len, sample) => len + queryLens[sample]);
    const fits =
      old?.written.every((written, sample) => written === this.lens[sample]) === true &&
      needed.every((rows, sample) => rows <= old.capacities[sample]);
    if (old !== null && fits) return old;
    // The first rows are stored tightly: a context that is only read needs no reserve.
    const reserve = (rows: number) => Math.max(MIN_RESERVE, Math.ceil(rows / 4));
    const capacities = needed.map((rows) => (old === null ? rows : rows + reserve(rows)));
    const store =
      old === null
        ? new KvStore(this.layers, capacities, format)
        : copyRows(old, this.lens, capacities);
    this.#store = store.retain();
    old?.release();
    return store;
  }

  #gather(pick: (store: KvStore) => Tensor): Tensor | null {
    const store = this.#live();
    if (store === null || this.lens.every((len) => len === 0)) return null;
    return scope(() => {
      const parts = this.lens.map((len, s) => pick(store).narrow(0, store.offsets[s], len));
      return parts.length === 1 ? parts[0] : ops.cat(parts, 0);
    });
  }
}

/** A new store with the first `lens` rows of the chosen samples (default: all) of another one. */
function copyRows(
  source: KvStore,
  lens: readonly number[],
  capacities: readonly number[],
  samples: readonly number[] = lens.map((_, sample) => sample),
): KvStore {
  const [, kvHeads, headDim] = source.keys[0].shape;
  const { dtype, device } = source.keys[0];
  const format = { kvHeads, headDim, dtype, device };
  const store = new KvStore(source.keys.length, capacities, format);
  noGrad(() =>
    scope(() => {
      for (const [sample, len] of lens.entries()) {
        if (len === 0) continue;
        const from = source.offsets[samples[sample]];
        for (let layer = 0; layer < source.keys.length; layer++) {
          const pairs = [
            [source.keys[layer], store.keys[layer]],
            [source.values[layer], store.values[layer]],
          ];
          for (const [old, fresh] of pairs) {
            fresh.narrow(0, store.offsets[sample], len).copy_(old.narrow(0, from, len));
          }
        }
        store.written[sample] = len;
      }
    }),
  );
  return store;
}
