import assert from 'node:assert/strict';
import { RMSNorm } from '../../lib/nn/norm.js';
import { Generator, ops, randn } from '../../lib/torch/index.js';

describe('RMSNorm', () => {
  const generator = new Generator(1);
  const x = randn([64, 48], { generator });
  const weight = randn([48], { generator });

  function norm(w = weight) {
    return new RMSNorm(48, 1e-6).loadStateDict([['weight', w]]);
  }

  it('rounds to the input dtype before the weight', () => {
    const half = x.to('bfloat16');
    const wide = half.to('float32');
    const normal = wide.mul(wide.pow(2).mean([-1], { keepdim: true }).add(1e-6).rsqrt());
    const w = weight.to('bfloat16');
    const got = norm(w).forward(half);
    assert.equal(got.dtype, 'bfloat16');
    assert.ok(ops.equal(got, normal.to('bfloat16').mul(w)));
    const late = normal.mul(w.to('float32')).to('bfloat16');
    assert.ok(!ops.equal(got, late), 'the inputs cannot tell the two orders apart');
  });

  it('promotes a float32 input with a bfloat16 weight to float32', () => {
    const got = norm(weight.to('bfloat16')).forward(x);
    assert.equal(got.dtype, 'float32');
  });
});
