import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import { Generator, ops, rand, randn } from '../../lib/torch/index.js';

describe('Generator', () => {
  it('gives the numbers PyTorch gives for the same seed', () => {
    const first = randn([3], { generator: new Generator(42) }).toFloat32Array();
    for (const [i, value] of [0.33669036, 0.12880941, 0.23446237].entries())
      assert.ok(Math.abs(first[i] - value) < 1e-7);
  });

  it('repeats itself, goes on from a stored state, and is independent of others', () => {
    const a = new Generator(7);
    const b = new Generator(7);
    assert.deepEqual(rand([5], { generator: a }).toArray(), rand([5], { generator: b }).toArray());
    const state = a.state();
    const next = randn([20], { generator: a }).toArray();
    rand([3], { generator: new Generator(1) });
    const c = new Generator(0);
    c.setState(state);
    assert.deepEqual(randn([20], { generator: c }).toArray(), next);
    assert.notDeepEqual(
      randn([4], { generator: new Generator(8) }).toArray(),
      randn([4], { generator: new Generator(9) }).toArray(),
    );
  });

  it('accepts any 64-bit seed and refuses a bad state', () => {
    const generator = new Generator(2n ** 64n - 1n);
    assert.equal(ops.multinomial(rand([4], { generator }), 2, false, { generator }).shape[0], 2);
    assert.throws(() => generator.setState(rand([2])), { name: 'TorchError' });
    assert.throws(() => new Generator(2n ** 64n), { code: 'ERR_ARGUMENT' });
  });
});
