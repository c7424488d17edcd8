import assert from 'node:assert/strict';
import { seededRandom } from '../../lib/util/seeded-random.js';

describe('seeded random numbers', () => {
  it('are a pure function of the key', () => {
    const draw = (...key: [number, ...string[]]) => {
      const random = seededRandom(...key);
      return Array.from({ length: 700 }, () => random.uniform());
    };
    assert.deepEqual(draw(1, 'a'), draw(1, 'a'));
    assert.notDeepEqual(draw(1, 'a'), draw(1, 'b'));
    assert.notDeepEqual(draw(1, 'a'), draw(2, 'a'));
    assert.equal(new Set(draw(1, 'a')).size, 700, 'no block is given twice');
    assert.deepEqual(draw(1, 'a').slice(0, 2), [0.5945117237164095, 0.19682115734952021]);
  });

  it('are uniform', () => {
    const random = seededRandom(3);
    const counts = new Array(7).fill(0);
    for (let i = 0; i < 70_000; i++) counts[random.below(7)] += 1;
    // Six standard deviations of a binomial count of 10 000.
    for (const count of counts) assert.ok(Math.abs(count - 10_000) < 556, String(counts));
  });
});
