import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import {
  enableGrad,
  Generator,
  grad,
  inferenceMode,
  noGrad,
  ops,
  randn,
  scope,
  type Tensor,
  tensor,
} from '../../lib/torch/index.js';

const close = (a: Tensor, b: Tensor, tolerance = 1e-6) => {
  assert.deepEqual(a.shape, b.shape);
  assert.ok(a.sub(b).abs().max().item() <= tolerance, `differ by ${a.sub(b).abs().max().item()}`);
};

describe('autograd', () => {
  it('accumulates into leaves', () => {
    const x = tensor([1, 2, 3]).requiresGrad_();
    x.mul(x).sum().backward();
    assert.deepEqual(x.grad?.toArray(), [2, 4, 6]);
    x.mul(3).backward(tensor([1, 1, 1]));
    assert.deepEqual(x.grad?.toArray(), [5, 7, 9]);
    x.grad = null;
    assert.equal(x.grad, null);
  });

  it('gives gradients without touching leaves, of second order too', () => {
    const x = tensor([2]).requiresGrad_();
    const [first] = grad([x.pow(3)], [x], { createGraph: true });
    assert.deepEqual(first?.toArray(), [12]);
    const [second] = grad([first as Tensor], [x]);
    assert.deepEqual(second?.toArray(), [12]);
    assert.equal(x.grad, null);
    const unused = tensor([1]).requiresGrad_();
    assert.deepEqual(grad([x.mul(1)], [unused], { allowUnused: true }), [null]);
    assert.throws(() => grad([x.mul(1)], [unused]), { code: 'ERR_AUTOGRAD' });
  });

  it('does not record in noGrad and inferenceMode, and recovers when the body throws', () => {
    const x = tensor([1]).requiresGrad_();
    assert.equal(noGrad(() => x.mul(2)).requiresGrad, false);
    assert.equal(noGrad(() => enableGrad(() => x.mul(2))).requiresGrad, true);
    assert.equal(inferenceMode(() => x.mul(2)).requiresGrad, false);
    assert.throws(() => noGrad(() => assert.fail('stop')), /stop/);
    assert.equal(x.mul(2).requiresGrad, true);
  });

  it('agrees with finite differences through a small network', () => {
    const generator = new Generator(3);
    const w = randn([4, 3], { generator, dtype: 'float64' }).requiresGrad_();
    const x = randn([5, 3], { generator, dtype: 'float64' });
    const loss = () => ops.gelu(ops.linear(x, w), { approximate: 'tanh' }).softmax(-1).pow(2).sum();
    loss().backward();
    const step = 1e-6;
    for (const [i, j] of [
      [0, 0],
      [2, 1],
      [3, 2],
    ]) {
      const at = (delta: number) =>
        noGrad(() => {
          w.indexPut_([i, j], delta, { accumulate: true });
          return loss().item();
        });
      const plus = at(step);
      const minus = at(-2 * step);
      at(step);
      assert.ok(
        Math.abs((plus - minus) / (2 * step) - (w.grad as Tensor).index(i, j).item()) < 1e-7,
      );
    }
  });

  it('runs backward off the main thread', async () => {
    const w = randn([256, 256], { generator: new Generator(1) }).requiresGrad_();
    const loss = w.matmul(w).sum();
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    await loss.backwardAsync();
    clearInterval(timer);
    const [expected] = grad([w.matmul(w).sum()], [w]);
    close(w.grad as Tensor, expected as Tensor, 1e-3);
    await assert.rejects(tensor([1]).backwardAsync(), { code: 'ERR_AUTOGRAD' });
  });
});

describe('srum.packedAttention', () => {
  type Call = { q: [number, number]; k: [number, number]; causal: boolean };
  const run = (q: Tensor, k: Tensor, v: Tensor, calls: Call[], kernel: string) =>
    (ops.srum.packedAttention as (...args: unknown[]) => Tensor)(
      q,
      k,
      v,
      calls.map((c) => c.q[0]),
      calls.map((c) => c.q[1]),
      calls.map((c) => c.k[0]),
      calls.map((c) => c.k[1]),
      calls.map((c) => c.causal),
      0.3,
      { kernel },
    );
  /** The same by a dense mask in float64. */
  const dense = (q: Tensor, k: Tensor, v: Tensor, calls: Call[]) => {
    const [rows, heads] = q.shape;
    const keys = k.shape[0];
    const seen = new Uint8Array(rows * keys);
    for (const c of calls) {
      const shift = c.k[1] - c.k[0] - (c.q[1] - c.q[0]);
      for (let i = c.q[0]; i < c.q[1]; i++)
        for (let j = c.k[0]; j < c.k[1]; j++)
          if (!c.causal || j - c.k[0] <= shift + i - c.q[0]) seen[i * keys + j] = 1;
    }
    const mask = tensor(seen, { shape: [rows, keys], dtype: 'bool' });
    const group = heads / k.shape[1];
    const full = (t: Tensor) => t.to('float64').repeatInterleave(group, 1).permute([1, 0, 2]);
    const scores = q.to('float64').permute([1, 0, 2]).matmul(full(k).transpose(1, 2)).mul(0.3);
    const weights = scores
      .maskedFill(mask.logicalNot(), Number.NEGATIVE_INFINITY)
      .softmax(-1)
      .nanToNum(0);
    return weights.matmul(full(v)).permute([1, 0, 2]);
  };
  const calls: Call[] = [
    { q: [0, 5], k: [0, 7], causal: true },
    { q: [5, 8], k: [0, 3], causal: false },
    { q: [5, 8], k: [6, 9], causal: true },
    { q: [8, 9], k: [4, 5], causal: false },
    { q: [9, 9], k: [0, 4], causal: false },
  ];

  for (const kernel of ['flash', 'math']) {
    for (const [dtype, tolerance] of [
      ['float32', 2e-6],
      ['float64', 1e-12],
      ['bfloat16', 4e-2],
    ] as const) {
      it(`equals dense attention, forward and backward: ${kernel}, ${dtype}`, () => {
        const generator = new Generator(7);
        const make = (rows: number, heads: number) =>
          randn([rows, heads, 16], { generator, dtype: 'float64' }).to(dtype).requiresGrad_();
        const [q, k, v] = [make(11, 4), make(9, 2), make(9, 2)];
        const weight = randn([11, 4, 16], { generator, dtype: 'float64' });
        const out = run(q, k, v, calls, kernel);
        assert.equal(out.dtype, dtype);
        const expected = dense(q, k, v, calls);
        close(out.to('float64'), expected, tolerance);
        const got = grad([out.to('float64').mul(weight).sum()], [q, k, v]) as Tensor[];
        const want = grad([expected.mul(weight).sum()], [q, k, v]) as Tensor[];
        got.forEach((g, i) => {
          const scale = want[i].to('float64').norm().item();
          assert.ok(
            g.to('float64').sub(want[i].to('float64')).norm().item() / scale < tolerance,
            `${'qkv'[i]}`,
          );
        });
      });
    }
  }

  it('refuses bad plans and shapes', () => {
    const q = randn([4, 2, 8], { generator: new Generator(1) });
    const bad: [Call[], RegExp][] = [
      [[{ q: [0, 5], k: [0, 4], causal: false }], /query range/],
      [[{ q: [0, 4], k: [0, 9], causal: false }], /key range/],
      [[{ q: [0, 4], k: [0, 2], causal: true }], /at least as many keys/],
      [
        [
          { q: [0, 4], k: [0, 2], causal: false },
          { q: [1, 2], k: [0, 2], causal: false },
        ],
        /overlap/,
      ],
    ];
    for (const [plan, message] of bad) assert.throws(() => run(q, q, q, plan, 'auto'), message);
    assert.throws(() => run(q, q, q.to('float64'), [], 'auto'), { code: 'ERR_DTYPE' });
    assert.throws(() => run(q, randn([4, 3, 8]), randn([4, 3, 8]), [], 'auto'), {
      code: 'ERR_SHAPE',
    });
    assert.throws(() => run(q, q, q, [], 'fast'), /unknown kernel/);
  });

  it('gives zeros to rows that no call covers', () => {
    const result = scope(() =>
      run(randn([3, 1, 8]), randn([3, 1, 8]), randn([3, 1, 8]), [], 'auto'),
    );
    assert.equal(result.abs().sum().item(), 0);
  });
});
