import assert from 'node:assert/strict';
import { KvCache } from '../../../lib/models/bagel/kv-cache.js';
import type { Tensor } from '../../../lib/torch/index.js';
import { full, liveTensors, scope } from '../../../lib/torch/index.js';
import { DataError } from '../../../lib/util/errors.js';

const format = { kvHeads: 1, headDim: 2, dtype: 'float32', device: 'cpu' } as const;

/** Writes rows of one value and returns the cache that holds them. */
function append(cache: KvCache, lens: number[], value: number): KvCache {
  write(cache, lens, value);
  return cache.append(lens);
}

function write(cache: KvCache, lens: number[], value: number): void {
  const step = cache.begin(lens, true, format);
  const rows = full([step.rows.size(0), 1, 2], value);
  for (let layer = 0; layer < cache.layers; layer++) {
    step.key(layer).indexCopy_(0, step.rows, rows);
    step.value(layer).indexCopy_(0, step.rows, rows.neg());
  }
}

function rowsOf(tensor: Tensor | null): number[] {
  return tensor === null ? [] : [...tensor.select(2, 0).flatten().toFloat32Array()];
}

describe('KvCache', () => {
  it('lays samples one behind the other', () => {
    const first = append(KvCache.empty(2, 2), [2, 1], 1);
    const second = append(first, [1, 2], 5);
    assert.deepEqual(second.lens, [3, 3]);
    assert.deepEqual(rowsOf(second.key(1)), [1, 1, 5, 1, 5, 5]);
    assert.deepEqual(rowsOf(second.value(0)), [-1, -1, -5, -1, -5, -5]);
    assert.deepEqual(second.key(0)?.shape, [6, 1, 2]);
  });

  it('never changes what an older cache shows', () => {
    const base = append(KvCache.empty(1, 1), [2], 1);
    const left = append(base, [1], 2);
    const right = append(base, [2], 3);
    const longer = append(left, [100], 4);
    write(base, [5], 9);
    write(right, [3], 8);
    assert.deepEqual(rowsOf(base.key(0)), [1, 1]);
    assert.deepEqual(rowsOf(left.key(0)), [1, 1, 2]);
    assert.deepEqual(rowsOf(right.key(0)), [1, 1, 3, 3]);
    assert.deepEqual(rowsOf(longer.key(0)).slice(0, 5), [1, 1, 2, 4, 4]);
  });

  it('shows nothing of rows that were not appended', () => {
    const base = append(KvCache.empty(1, 1), [1], 1);
    write(base, [4], 7);
    assert.deepEqual(rowsOf(base.key(0)), [1]);
    assert.deepEqual(rowsOf(append(base, [1], 2).key(0)), [1, 2]);
  });

  it('selects samples', () => {
    const batch = append(append(KvCache.empty(1, 3), [1, 2, 1], 1), [1, 1, 1], 2);
    const picked = batch.select([2, 1]);
    assert.deepEqual(picked.lens, [2, 3]);
    assert.deepEqual(rowsOf(picked.key(0)), [1, 2, 1, 1, 2]);
    assert.deepEqual(rowsOf(append(picked, [1, 0], 6).key(0)), [1, 2, 6, 1, 1, 2]);
  });

  it('frees its memory once, when its last sharer is gone', () => {
    const before = liveTensors();
    scope(() => {
      const base = append(KvCache.empty(1, 1), [2], 1);
      const next = append(base, [1], 2);
      base.dispose();
      base.dispose();
      assert.deepEqual(rowsOf(next.key(0)), [1, 1, 2]);
      next.dispose();
      assert.throws(() => next.key(0), DataError);
    });
    assert.ok(liveTensors() <= before, `${liveTensors() - before} tensors left`);
  });

  it('refuses another batch size and is empty at first', () => {
    const empty = KvCache.empty(1, 2);
    assert.equal(empty.key(0), null);
    assert.throws(() => empty.begin([1], true, format), DataError);
  });
});
