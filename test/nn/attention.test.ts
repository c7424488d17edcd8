import assert from 'node:assert/strict';
import { packedAttention } from '../../lib/nn/attention.js';
import type { LayoutSpec } from '../../lib/nn/packed-layout.js';
import { inferencePlan, PackedLayout } from '../../lib/nn/packed-layout.js';
import { TorchError } from '../../lib/torch/errors.js';
import type { Tensor } from '../../lib/torch/index.js';
import { Generator, ops, randn, scope, tensor } from '../../lib/torch/index.js';
import { denseMask, planMask } from '../../scripts/goldens/dense-mask.js';

/** Softmax of the masked score matrix, in the dtype of the inputs. */
function oracle(q: Tensor, k: Tensor, v: Tensor, mask: Uint8Array, scale: number): Tensor {
  const groups = q.size(1) / k.size(1);
  const heads = (x: Tensor) => x.repeatInterleave(groups, 1).transpose(0, 1);
  const visible = tensor(mask, { shape: [q.size(0), k.size(0)], dtype: 'bool' });
  const scores = q.transpose(0, 1).matmul(heads(k).transpose(1, 2)).mul(scale);
  const weights = scores.maskedFill(visible.logicalNot(), -Infinity).softmax(-1);
  return weights.matmul(heads(v)).transpose(0, 1);
}

function close(got: Tensor, want: Tensor, tolerance: number, what: string): void {
  const error = got.to('float64').sub(want.to('float64')).abs().max().item();
  assert.ok(error <= tolerance, `${what}: off by ${error}`);
}

const specs: LayoutSpec[] = [
  { sampleLens: [1], splitLens: [1], attnModes: ['causal'] },
  { sampleLens: [9], splitLens: [9], attnModes: ['causal'] },
  {
    sampleLens: [17, 11],
    splitLens: [5, 6, 1, 5, 4, 0, 7],
    attnModes: ['causal', 'noise', 'full', 'causal', 'noise', 'full', 'causal'],
  },
  {
    sampleLens: [100],
    splitLens: [33, 40, 20, 7],
    attnModes: ['full', 'noise', 'causal', 'noise'],
  },
];

describe('packedAttention', () => {
  for (const [heads, kvHeads, d] of [
    [4, 4, 16],
    [4, 2, 16],
    [7, 1, 24],
  ]) {
    it(`equals the softmax of the masked scores: ${heads} heads, ${kvHeads} kv heads of ${d}`, () => {
      const generator = new Generator(3);
      for (const spec of specs) {
        scope(() => {
          const { calls, length } = PackedLayout.plan(spec);
          const draw = (n: number) => randn([length, n, d], { generator }).requiresGrad_();
          const [q, k, v] = [draw(heads), draw(kvHeads), draw(kvHeads)];
          const weight = randn([length, heads, d], { generator });
          const got = packedAttention(q, k, v, calls);
          const gotGrads = gradients(got, weight, [q, k, v]);
          const wide = [q, k, v].map((t) => t.detach().to('float64').requiresGrad_());
          const want = oracle(wide[0], wide[1], wide[2], denseMask(spec), 1 / Math.sqrt(d));
          const wantGrads = gradients(want, weight.to('float64'), wide);
          close(got, want, 2e-6, 'output');
          for (const [i, name] of ['q', 'k', 'v'].entries()) {
            close(gotGrads[i], wantGrads[i], 1e-5, `gradient of ${name}`);
          }
        });
      }
    });
  }

  it('aligns causal calls over a longer past at the bottom right', () => {
    const generator = new Generator(4);
    const rowByRow = inferencePlan({ queryLens: [3, 2], pastLens: [4, 0], causal: true });
    const whole = [{ qStart: 0, qEnd: 3, kStart: 0, kEnd: 7, causal: true }, rowByRow[3]];
    const q = randn([5, 2, 16], { generator });
    const k = randn([9, 2, 16], { generator });
    const v = randn([9, 2, 16], { generator });
    const mask = new Uint8Array(5 * 9);
    for (const [row, [from, to]] of [
      [0, 5],
      [0, 6],
      [0, 7],
      [7, 8],
      [7, 9],
    ].entries()) {
      mask.fill(1, row * 9 + from, row * 9 + to);
    }
    for (const plan of [rowByRow, whole]) {
      close(packedAttention(q, k, v, plan), oracle(q, k, v, mask, 0.25), 2e-6, 'output');
      assert.equal(planMask(plan, 9).slice(0, 9).join(''), '111110000');
    }
  });

  it('takes another scale and keeps the dtype of its inputs', () => {
    const generator = new Generator(5);
    const spec = specs[2];
    const { calls, length } = PackedLayout.plan(spec);
    const draw = () => randn([length, 2, 16], { generator }).to('bfloat16');
    const [q, k, v] = [draw(), draw(), draw()];
    const got = packedAttention(q, k, v, calls, { scale: 0.5 });
    assert.equal(got.dtype, 'bfloat16');
    const wide = [q, k, v].map((t) => t.to('float32'));
    close(got, oracle(wide[0], wide[1], wide[2], denseMask(spec), 0.5), 2e-2, 'output');
  });

  it('refuses ranges outside the tensors and head counts that do not divide', () => {
    const x = ops.ones([4, 2, 8]);
    const over = [{ qStart: 0, qEnd: 4, kStart: 0, kEnd: 5, causal: false }];
    assert.throws(() => packedAttention(x, x, x, over), TorchError);
    const fine = [{ qStart: 0, qEnd: 4, kStart: 0, kEnd: 4, causal: false }];
    const odd = ops.ones([4, 3, 8]);
    assert.throws(() => packedAttention(odd, x, x, fine), TorchError);
  });
});

function gradients(out: Tensor, weight: Tensor, inputs: Tensor[]): Tensor[] {
  out.mul(weight).sum().backward();
  return inputs.map((input) => input.grad as Tensor);
}
