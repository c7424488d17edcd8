import assert from 'node:assert/strict';
import { conditionText, targetImage } from '../../lib/data/sample.js';
import { PackStream, type RecordSource } from '../../lib/train/pack-stream.js';
import type { NamedSample } from '../../lib/train/sample-set.js';
import { CheckpointError, DataError } from '../../lib/util/errors.js';
import { keyedShuffle } from '../../lib/util/keyed-random.js';

const limits = {
  expected_num_tokens: 60,
  max_num_tokens: 80,
  max_num_tokens_per_sample: 50,
  prefer_buffer_before: 20,
  max_buffer_size: 2,
};

/** A source whose record i has `sizes[i]` tokens; null stands for a record that cannot be used. */
function sourceOf(sizes: Array<number | null>): RecordSource & { rejected: Set<number> } {
  const rejected = new Set<number>();
  return {
    rejected,
    size: sizes.length,
    order: (epoch) => keyedShuffle(sizes.length, 'test', epoch),
    load: async (index) => {
      const numTokens = sizes[index];
      if (numTokens === null || rejected.has(index)) return null;
      return {
        id: String(index),
        numTokens,
        sequencePlan: [conditionText(), targetImage()],
      } as NamedSample;
    },
    reject: (index) => rejected.add(index),
    idOf: String,
    nothingUsable: () => new DataError('ERR_NO_DATA', 'nothing'),
  };
}

const sizes = Array.from({ length: 40 }, (_, i) => 5 + ((i * 17) % 41));

describe('pack stream', () => {
  it('keeps the limits and loses no sample', async () => {
    const stream = new PackStream(sourceOf(sizes), limits);
    const seen = new Map<string, number>();
    while (stream.position().next.epoch < 3) {
      const pack = await stream.nextPack();
      assert.ok(pack.length > 0);
      const tokens = pack.reduce((n, p) => n + p.numTokens + 4, 0);
      assert.ok(tokens <= limits.max_num_tokens, `${tokens}`);
      for (const { ref } of pack) {
        const key = `${ref.epoch}/${ref.index}`;
        seen.set(key, (seen.get(key) ?? 0) + 1);
      }
    }
    assert.ok([...seen.values()].every((n) => n === 1));
    for (let epoch = 0; epoch < 2; epoch++) {
      for (let index = 0; index < sizes.length; index++) {
        assert.ok(seen.has(`${epoch}/${index}`), `epoch ${epoch}, place ${index}`);
      }
    }
  });

  it('goes on from any position as if it had never stopped', async () => {
    const straight = new PackStream(sourceOf(sizes), limits);
    const packs: string[] = [];
    const positions: unknown[] = [];
    const text = (pack: Awaited<ReturnType<PackStream['nextPack']>>) =>
      pack.map((p) => `${p.ref.epoch}/${p.ref.index}`).join(' ');
    for (let i = 0; i < 30; i++) {
      positions.push(JSON.parse(JSON.stringify(straight.position())));
      packs.push(text(await straight.nextPack()));
    }
    for (let from = 0; from < 30; from += 7) {
      const resumed = new PackStream(sourceOf(sizes), limits);
      await resumed.restore(positions[from]);
      for (let i = from; i < 30; i++) assert.equal(text(await resumed.nextPack()), packs[i]);
    }
  });

  it('passes over records that cannot be used or are too long', async () => {
    const source = sourceOf([10, null, 10, 47, 10]);
    const stream = new PackStream(source, { ...limits, expected_num_tokens: 40 });
    const ids = new Set<string>();
    for (let i = 0; i < 4; i++) for (const { id } of await stream.nextPack()) ids.add(id);
    assert.deepEqual([...ids].sort(), ['0', '2', '4']);
    assert.deepEqual([...source.rejected], [3]);
  });

  it('ends with an error instead of spinning when nothing is usable', async () => {
    await assert.rejects(new PackStream(sourceOf([null, 100]), limits).nextPack(), DataError);
    const none = sourceOf([null, null]);
    const stream = new PackStream(none, limits);
    await stream.restore({ next: { epoch: 2, index: 1 }, carried: null, buffer: [] });
    await assert.rejects(stream.nextPack(), DataError);
  });

  it('refuses positions it cannot return to', async () => {
    const stream = new PackStream(sourceOf([null, null]), limits);
    for (const bad of [null, {}, { next: { epoch: -1, index: 0 }, carried: null, buffer: [] }]) {
      await assert.rejects(stream.restore(bad), CheckpointError);
    }
    const lost = { next: { epoch: 0, index: 0 }, carried: null, buffer: [{ epoch: 0, index: 1 }] };
    await assert.rejects(stream.restore(lost), /cannot be loaded any more/);
  });
});
