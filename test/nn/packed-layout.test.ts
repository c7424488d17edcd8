import assert from 'node:assert/strict';
import type { AttnMode, LayoutSpec } from '../../lib/nn/packed-layout.js';
import { inferencePlan, PackedLayout, segmentPlan } from '../../lib/nn/packed-layout.js';
import { DataError } from '../../lib/util/errors.js';
import { denseMask, planMask } from '../../scripts/goldens/dense-mask.js';

/** Small deterministic generator of whole numbers, so that a failure can be repeated. */
function randomInts(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function randomSpec(next: (below: number) => number): LayoutSpec {
  const modes: AttnMode[] = ['causal', 'full', 'noise'];
  const sampleLens: number[] = [];
  const splitLens: number[] = [];
  const attnModes: AttnMode[] = [];
  for (let sample = next(4) + 1; sample > 0; sample--) {
    let length = 0;
    for (let split = next(6); split > 0; split--) {
      const len = next(4) === 0 ? next(2) : next(7);
      splitLens.push(len);
      attnModes.push(modes[next(3)]);
      length += len;
    }
    sampleLens.push(length);
  }
  return { sampleLens, splitLens, attnModes };
}

describe('PackedLayout', () => {
  it('plans exactly the attention predicate, for thousands of random layouts', () => {
    const next = randomInts(1);
    for (let round = 0; round < 5000; round++) {
      const spec = randomSpec(next);
      const { calls, length } = PackedLayout.plan(spec);
      assert.deepEqual(planMask(calls, length), denseMask(spec), JSON.stringify(spec));
    }
  });

  it('cuts off trailing padding without changing the rest', () => {
    const next = randomInts(2);
    for (let round = 0; round < 1000; round++) {
      const spec = randomSpec(next);
      const full = PackedLayout.plan(spec);
      const length = next(full.length + 1);
      const cut = full.clip(length);
      assert.equal(cut.length, length);
      const mask = denseMask(spec);
      const got = planMask(cut.calls, length);
      for (let q = 0; q < length; q++) {
        // Rows of a split that is itself cut see only what is left of it.
        const row = [...mask.subarray(q * full.length, q * full.length + length)];
        assert.deepEqual([...got.subarray(q * length, (q + 1) * length)], row);
      }
    }
  });

  it('merges what is contiguous into one call', () => {
    const plan = (splitLens: number[], attnModes: AttnMode[]) =>
      PackedLayout.plan({
        sampleLens: [splitLens.reduce((a, b) => a + b, 0)],
        splitLens,
        attnModes,
      }).calls;
    assert.deepEqual(plan([3, 2, 4], ['causal', 'causal', 'causal']), [
      { qStart: 0, qEnd: 9, kStart: 0, kEnd: 9, causal: true },
    ]);
    assert.deepEqual(plan([3, 4], ['causal', 'noise']), [
      { qStart: 0, qEnd: 3, kStart: 0, kEnd: 3, causal: true },
      { qStart: 3, qEnd: 7, kStart: 0, kEnd: 7, causal: false },
    ]);
    assert.deepEqual(plan([3, 4, 2, 2], ['full', 'noise', 'causal', 'causal']), [
      { qStart: 0, qEnd: 3, kStart: 0, kEnd: 3, causal: false },
      { qStart: 3, qEnd: 7, kStart: 0, kEnd: 7, causal: false },
      { qStart: 7, qEnd: 11, kStart: 0, kEnd: 3, causal: false },
      { qStart: 7, qEnd: 11, kStart: 7, kEnd: 11, causal: true },
    ]);
  });

  it('handles empty splits, empty samples and empty batches', () => {
    const { calls } = PackedLayout.plan({
      sampleLens: [0, 2, 0],
      splitLens: [0, 1, 0, 1, 0],
      attnModes: ['noise', 'causal', 'full', 'full', 'causal'],
    });
    assert.deepEqual(calls, [
      { qStart: 0, qEnd: 1, kStart: 0, kEnd: 1, causal: false },
      { qStart: 1, qEnd: 2, kStart: 0, kEnd: 2, causal: false },
    ]);
    assert.deepEqual(PackedLayout.plan({ sampleLens: [], splitLens: [], attnModes: [] }).calls, []);
  });

  it('refuses contradictory layouts', () => {
    const bad: Array<Partial<LayoutSpec>> = [
      { splitLens: [2, 3, 1] },
      { sampleLens: [3, 2] },
      { sampleLens: [5, 1] },
      { splitLens: [2.5, 2.5] },
      { splitLens: [6, -1] },
      { attnModes: ['causal', 'sideways' as AttnMode] },
      { length: 6 },
      { length: -1 },
    ];
    const good: LayoutSpec = { sampleLens: [5], splitLens: [2, 3], attnModes: ['causal', 'full'] };
    PackedLayout.plan(good);
    for (const change of bad) {
      assert.throws(() => PackedLayout.plan({ ...good, ...change }), DataError);
    }
  });
});

describe('segmentPlan', () => {
  it('gives each segment its own range and skips empty ones', () => {
    assert.deepEqual(segmentPlan([2, 0, 3]), [
      { qStart: 0, qEnd: 2, kStart: 0, kEnd: 2, causal: false },
      { qStart: 2, qEnd: 5, kStart: 2, kEnd: 5, causal: false },
    ]);
  });
});

describe('inferencePlan', () => {
  it('lays samples out as past rows followed by new rows', () => {
    assert.deepEqual(inferencePlan({ queryLens: [7, 2], pastLens: [3, 0], causal: true }), [
      { qStart: 0, qEnd: 7, kStart: 0, kEnd: 10, causal: true },
      { qStart: 7, qEnd: 9, kStart: 10, kEnd: 12, causal: true },
    ]);
  });

  it('takes a few causal rows behind a past one by one, each with what it sees', () => {
    assert.deepEqual(inferencePlan({ queryLens: [2, 1], pastLens: [3, 0], causal: true }), [
      { qStart: 0, qEnd: 1, kStart: 0, kEnd: 4, causal: false },
      { qStart: 1, qEnd: 2, kStart: 0, kEnd: 5, causal: false },
      { qStart: 2, qEnd: 3, kStart: 5, kEnd: 6, causal: false },
    ]);
  });

  it('takes regions that have room behind them', () => {
    const plan = inferencePlan({
      queryLens: [1, 0, 2],
      pastLens: [3, 2, 0],
      causal: false,
      keyOffsets: [0, 10, 20],
    });
    assert.deepEqual(plan, [
      { qStart: 0, qEnd: 1, kStart: 0, kEnd: 4, causal: false },
      { qStart: 1, qEnd: 3, kStart: 20, kEnd: 22, causal: false },
    ]);
  });

  it('refuses a query of another batch size', () => {
    assert.throws(
      () => inferencePlan({ queryLens: [1], pastLens: [1, 1], causal: true }),
      DataError,
    );
  });
});
