import assert from 'node:assert/strict';
import { keyedNormal, keyedSeed, keyedShuffle, keyedUniform } from '../../lib/util/keyed-random.js';

describe('keyed randomness', () => {
  it('depends on the key alone and tells keys apart', () => {
    assert.equal(keyedSeed(1, 'a', 2), keyedSeed(1, 'a', 2));
    const keys = [
      [1, 'a'],
      [1, 'b'],
      [2, 'a'],
      ['1', 'a'],
      [1, 'a', 0],
      ['ab', 'c'],
      ['a', 'bc'],
    ];
    assert.equal(new Set(keys.map((k) => keyedSeed(...k))).size, keys.length);
    for (const k of keys) assert.ok(keyedSeed(...k) >= 0n && keyedSeed(...k) < 2n ** 63n);
  });

  it('draws uniform and normal numbers', () => {
    const n = 4000;
    const uniform = Array.from({ length: n }, (_, i) => keyedUniform('u', i));
    assert.ok(uniform.every((u) => u >= 0 && u < 1));
    const mean = (xs: number[]) => xs.reduce((a, b) => a + b, 0) / xs.length;
    assert.ok(Math.abs(mean(uniform) - 0.5) < 0.02);
    const normal = Array.from({ length: n }, (_, i) => keyedNormal('z', i));
    assert.ok(Math.abs(mean(normal)) < 0.06);
    assert.ok(Math.abs(mean(normal.map((z) => z * z)) - 1) < 0.1);
    assert.ok(normal.every((z) => z === Math.fround(z)));
  });

  it('shuffles every number into a place, differently for different keys', () => {
    const order = keyedShuffle(100, 42, 'order', 0);
    assert.deepEqual(
      [...order].sort((a, b) => a - b),
      Array.from({ length: 100 }, (_, i) => i),
    );
    assert.deepEqual(order, keyedShuffle(100, 42, 'order', 0));
    assert.notDeepEqual(order, keyedShuffle(100, 42, 'order', 1));
    assert.equal(keyedShuffle(0, 1).length, 0);
  });

  it('reaches every order of three things about equally often', () => {
    const counts = new Map<string, number>();
    for (let i = 0; i < 1200; i++) {
      const key = keyedShuffle(3, 'fair', i).join('');
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    assert.equal(counts.size, 6);
    for (const [key, count] of counts) assert.ok(count > 140 && count < 260, `${key}: ${count}`);
  });
});
