import assert from 'node:assert/strict';
import { toLatentGrid } from '../../lib/reward/latent-grid.js';
import {
  codeRewardMap,
  globalScoreOf,
  paperRewardMap,
  type RewardMap,
  strictRewardMap,
} from '../../lib/reward/reward-map.js';

const size = { width: 8, height: 6 };
const at = (map: RewardMap, x: number, y: number) => map.data[y * map.width + x];

function close(got: number, expected: number, tolerance = 1e-6): void {
  assert.ok(Math.abs(got - expected) <= tolerance, `${got} is not ${expected}`);
}

describe('codeRewardMap', () => {
  it('takes the maximum of overlapping weights over a canvas of one half', () => {
    const rewards = [
      { object: 'a', bbox: [0, 0, 4, 4], score: 0.2 },
      { object: 'b', bbox: [2, 2, 6, 6], score: 0.8 },
      { object: 'c', bbox: [3, 3, 5, 5], score: -1 },
    ];
    const map = codeRewardMap(rewards, size, 0.5);
    close(at(map, 0, 0), 0.6 * 0.75);
    close(at(map, 3, 3), 0.9 * 0.75);
    close(at(map, 7, 0), 0.5 * 0.75);
    assert.equal(map.painted, 3);
    assert.equal(map.data[0], Math.fround(Math.fround(0.6) * 0.75));
  });

  it('reads boxes as Python int() does', () => {
    const bbox = [' +1_0 ', -0.9, '1_2', true];
    const map = codeRewardMap([{ bbox, score: 1 }], { width: 16, height: 4 }, 1);
    assert.deepEqual(
      [...map.data.keys()].filter((i) => map.data[i] === 1),
      [10, 11],
    );
    for (const bad of ['1__0', '_1', '1.0', '', '0x4', [1], Number.NaN]) {
      const skipped = codeRewardMap([{ bbox: [bad, 0, 9, 9], score: 1 }], size).skipped;
      assert.equal(skipped.length, 1, String(bad));
    }
  });

  it('keeps scores beyond the range and counts them', () => {
    const map = codeRewardMap([{ bbox: [0, 0, 1, 1], score: 8 }], size, -1.5);
    assert.equal(map.outOfRange, 2);
    close(at(map, 0, 0), 4.5 * -0.25);
  });

  it('raises where the reference raises', () => {
    const box = [0, 0, 2, 2];
    for (const rewards of [
      [{ bbox: box, score: null }],
      [{ bbox: box, score: '0.5' }],
      [{ bbox: [0, 0, 2, Number.POSITIVE_INFINITY], score: 1 }],
      ['text'],
      'text',
      { bbox: box },
    ]) {
      assert.throws(() => codeRewardMap(rewards, size), { name: 'DataError' });
    }
    assert.throws(() => codeRewardMap([], size, '0.5'), { name: 'DataError' });
    assert.throws(() => codeRewardMap([], { width: 0, height: 3 }), { code: 'ERR_SIZE' });
  });

  it('scales boxes from the frame they were written for, after reading them as Python does', () => {
    const rewards = [{ object: 'a', bbox: ['40', 20.9, 80, '40'], score: 1 }];
    const map = codeRewardMap(rewards, size, 1, { width: 80, height: 60 });
    const painted = [...map.data.keys()].filter((i) => map.data[i] === 1);
    assert.deepEqual(
      painted.map((i) => [i % 8, Math.floor(i / 8)]),
      [2, 3].flatMap((y) => [4, 5, 6, 7].map((x) => [x, y])),
    );
    assert.equal(codeRewardMap(rewards, size, 1).skipped.length, 1);
    assert.throws(() => codeRewardMap([], size, 1, { width: 0, height: 1 }), { code: 'ERR_SIZE' });
  });

  it('skips a bad box before looking at its score, and treats falsy lists as empty', () => {
    const map = codeRewardMap([{ bbox: [3, 0, 1, 1], score: null }], size);
    assert.match(map.skipped[0].reason, /empty/);
    for (const none of [null, undefined, [], 0, '']) {
      assert.ok(codeRewardMap(none, size).data.every((v) => v === 0.25));
    }
  });
});

describe('paperRewardMap', () => {
  it('is signed inside regions, zero outside, and scaled by alpha', () => {
    const rewards = [
      { object: 'global_layout_reward', bbox: [0, 0, 8, 6], score: 0.5 },
      { object: 'good', bbox: [0, 0, 2, 2], score: 0.8 },
      { object: 'bad', bbox: [4, 0, 6, 2], score: -0.6 },
    ];
    const map = paperRewardMap(rewards, size, 0.5);
    assert.equal(map.alpha, 0.75);
    close(at(map, 1, 1), 0.6);
    close(at(map, 5, 1), -0.45);
    assert.equal(at(map, 3, 3), 0);
    assert.equal(map.painted, 2);
  });

  it('paints smaller regions over larger ones, whatever their order', () => {
    const large = { bbox: [0, 0, 6, 6], score: 0.9 };
    const small = { bbox: [2, 2, 4, 4], score: -1 };
    for (const rewards of [
      [large, small],
      [small, large],
    ]) {
      const map = paperRewardMap(rewards, size, 1);
      close(at(map, 3, 3), -1);
      close(at(map, 5, 5), 0.9);
    }
  });

  it('scales boxes from the frame of the record and keeps thin ones', () => {
    const rewards = [
      { bbox: [256, 512, 512, 768], score: 1 },
      { bbox: [900, 0, 901, 1], score: 0.5 },
    ];
    const map = paperRewardMap(rewards, size, 1, { width: 1024, height: 768 });
    const painted = [...map.data.keys()].filter((i) => map.data[i] === 1);
    assert.deepEqual(painted, [34, 35, 42, 43]);
    assert.equal(at(map, 7, 0), 0.5);
  });

  it('clamps scores and reports what it alters or leaves out', () => {
    const rewards = [
      { bbox: [0, 0, 2, 2], score: 95 },
      { bbox: [6, 4, 12, 9], score: -0.5 },
      { bbox: [20, 0, 22, 2], score: 1 },
      { object: 'x', bbox: [0, 0, 2, 2], score: null },
      { bbox: [0, 0, 2, Number.POSITIVE_INFINITY], score: 0.1 },
    ];
    const map = paperRewardMap(rewards, size, -3);
    assert.equal(map.outOfRange, 2);
    assert.equal(map.alpha, 0);
    assert.deepEqual(
      map.skipped.map((s) => s.index),
      [3, 4, 2].sort(),
    );
    assert.deepEqual(
      map.cut.map((s) => s.index),
      [1],
    );
    assert.equal(paperRewardMap(rewards, size, 1).data[0], 1);
  });

  it('stays within alpha for any input', () => {
    let state = 7;
    const next = () => {
      state = (state * 1103515245 + 12345) % 2147483648;
      return state / 2147483648;
    };
    for (let round = 0; round < 200; round += 1) {
      const rewards = Array.from({ length: 6 }, () => ({
        bbox: [next() * 12 - 3, next() * 9 - 3, next() * 12 - 1, next() * 9 - 1],
        score: next() * 4 - 2,
      }));
      const map = paperRewardMap(rewards, size, next() * 4 - 2);
      assert.ok(map.alpha >= 0 && map.alpha <= 1);
      assert.ok(map.data.every((v) => Math.abs(v) <= map.alpha + 1e-6));
      assert.equal(map.painted + map.skipped.length, 6);
    }
  });
});

describe('globalScoreOf', () => {
  it('takes the first layout entry, and tells a missing score from a neutral one', () => {
    const entry = (score: unknown) => ({ object: 'global_layout_reward', score });
    assert.equal(globalScoreOf([{ object: 'a', score: 1 }, entry(0), entry(0.5)]), 0);
    assert.equal(globalScoreOf([entry(null), entry(0.5)]), null);
    assert.equal(globalScoreOf([{ object: 'a' }]), null);
    assert.equal(globalScoreOf(null), null);
    assert.throws(() => globalScoreOf([entry('0.5')]), { name: 'DataError' });
  });
});

describe('toLatentGrid', () => {
  const ramp = Float32Array.from(
    { length: 32 * 48 },
    (_, i) => (i % 48) + 100 * Math.floor(i / 48),
  );

  it('reads the four centre pixels of each cell when bilinear', () => {
    const [first] = toLatentGrid(ramp, { from: [32, 48], to: [2, 3] }, 'bilinear');
    close(first, 7.5 + 750, 1e-3);
    const dot = new Float32Array(32 * 48);
    dot[5] = 1;
    assert.ok(
      toLatentGrid(dot, { from: [32, 48], to: [2, 3] }, 'bilinear').every((v) => v === 0),
      'a single pixel falls through',
    );
  });

  it('rounds a position once, as a fused multiply-add does', () => {
    const dot = new Float32Array(987);
    dot[512] = 1;
    const grid = toLatentGrid(dot, { from: [1, 987], to: [1, 26] }, 'bilinear');
    // 987 / 26 * 13.5 - 0.5 in float32; with the product rounded as well it would be 511.9807739.
    close(grid[13], 511.98080444 - 511, 1e-6);
  });

  it('takes the mean of each cell by area, fractions of pixels included', () => {
    const [first] = toLatentGrid(ramp, { from: [32, 48], to: [2, 3] }, 'area');
    close(first, 7.5 + 750, 1e-3);
    const dot = new Float32Array(32 * 48);
    dot[5] = 256;
    assert.equal(toLatentGrid(dot, { from: [32, 48], to: [2, 3] }, 'area')[0], 1);
    const thirds = toLatentGrid(Float32Array.of(1, 2), { from: [1, 2], to: [1, 3] }, 'area');
    close(thirds[0], 1);
    close(thirds[1], 1.5);
    close(thirds[2], 2);
  });

  it('keeps the mean of the map by area, whatever the grid', () => {
    const mean = (data: Float32Array) => data.reduce((a, b) => a + b, 0) / data.length;
    for (const to of [
      [1, 1],
      [5, 7],
      [31, 48],
      [40, 60],
    ] as const) {
      close(mean(toLatentGrid(ramp, { from: [32, 48], to }, 'area')), mean(ramp), 1e-2);
    }
  });

  it('refuses a map that is not as large as said', () => {
    const grid = { from: [4, 4], to: [2, 2] } as const;
    assert.throws(() => toLatentGrid(new Float32Array(15), grid, 'area'), { name: 'DataError' });
  });
});

describe('strictRewardMap', () => {
  const rewards = [
    { object: 'good', bbox: [0, 0, 2, 2], score: 0.8 },
    { object: 'bad', bbox: [4, 0, 6, 2], score: -0.6 },
  ];

  it('is the least of region and layout; outside, what is wrong with the layout', () => {
    const fine = strictRewardMap(rewards, size, 0.5);
    close(at(fine, 1, 1), 0.5);
    close(at(fine, 5, 1), -0.6);
    assert.ok(Object.is(at(fine, 3, 3), 0));
    const wrong = strictRewardMap(rewards, size, -0.9);
    close(at(wrong, 1, 1), -0.9);
    close(at(wrong, 5, 1), -0.9);
    close(at(wrong, 3, 3), -0.9);
  });

  it('gives a faultless picture its layout score outside all regions and in neutral ones', () => {
    const faultless = [rewards[0], { object: 'nothing', bbox: [4, 0, 6, 2], score: 0 }];
    const fine = strictRewardMap(faultless, size, 0.9);
    close(at(fine, 1, 1), 0.8);
    close(at(fine, 5, 1), 0.9);
    close(at(fine, 3, 3), 0.9);
    close(at(strictRewardMap(faultless, size, -0.3), 5, 1), -0.3);
    close(at(strictRewardMap([], size, 0.7), 3, 3), 0.7);
  });

  it('goes by the regions alone where no layout was judged', () => {
    for (const none of [null, undefined]) {
      const map = strictRewardMap(rewards, size, none);
      close(at(map, 1, 1), 0.8);
      close(at(map, 5, 1), -0.6);
      assert.equal(at(map, 3, 3), 0);
    }
  });
});
