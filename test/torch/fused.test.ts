import assert from 'node:assert/strict';
import type { DType } from '../../lib/torch/index.js';
import {
  empty,
  Generator,
  getNumThreads,
  grad,
  ops,
  randn,
  scope,
  setNumThreads,
  type Tensor,
  tensor,
} from '../../lib/torch/index.js';
import { choosesInstructions, passesPlainly } from '../support/plain-instructions.js';

interface Case {
  name: string;
  /** Shapes of the inputs. */
  shapes: number[][];
  fused(...inputs: Tensor[]): Tensor;
  /** The same as a chain of single operators. */
  chain(...inputs: Tensor[]): Tensor;
  /** How many of the inputs are differentiated. */
  differentiable: number;
}

const rmsNorm = (shape: number[]): Case => ({
  name: `rmsNorm of [${shape}]`,
  shapes: [shape, shape.slice(-1)],
  fused: (x, w) => ops.srum.rmsNorm(x, w, 1e-6),
  chain: (x, w) => ops.rmsNorm(x, [...w.shape], null, 1e-6).mul(w),
  differentiable: 2,
});
const swiglu = (shape: number[]): Case => ({
  name: `swiglu of [${shape}]`,
  shapes: [shape, shape],
  fused: (gate, up) => ops.srum.swiglu(gate, up),
  chain: (gate, up) => ops.silu(gate).mul(up),
  differentiable: 2,
});
const rope = (rows: number, heads: number, d: number): Case => ({
  name: `rope of [${[rows, heads, d]}]`,
  shapes: [
    [rows, heads, d],
    [rows, 1, d],
    [rows, 1, d],
  ],
  fused: (x, cos, sin) => ops.srum.rope(x, cos, sin),
  chain: (x, cos, sin) => x.mul(cos).add(x.roll([d / 2], [2]).mul(sin)),
  differentiable: 1,
});

/** Among them sizes that fill no vector, and enough rows for several threads. */
const CASES = [
  rmsNorm([700, 128]),
  rmsNorm([3, 4, 32]),
  rmsNorm([5, 7]),
  rmsNorm([1, 3]),
  rmsNorm([2, 1037]),
  swiglu([300, 341]),
  swiglu([3]),
  rope(400, 4, 32),
  rope(7, 3, 10),
  rope(5, 2, 24),
  rope(2, 1, 2),
];

function draw(shapes: number[][], seed: number, dtypes: DType[]): Tensor[] {
  const generator = new Generator(seed);
  return shapes.map((shape, i) => randn(shape, { generator }).to(dtypes[i] ?? dtypes[0]));
}

function relativeError(got: Tensor, want: Tensor): number {
  const difference = got.to('float64').sub(want).pow(2).sum().item();
  return Math.sqrt(difference / Math.max(want.pow(2).sum().item(), 1e-12));
}

function gradients(c: Case, run: 'fused' | 'chain', inputs: Tensor[], weight: Tensor): Tensor[] {
  const leaves = inputs.map((x, i) => x.detach().requiresGrad_(i < c.differentiable));
  const out = c[run](...leaves);
  const wanted = leaves.slice(0, c.differentiable);
  return [out.detach(), ...(grad([out], wanted, { gradOutputs: [weight] }) as Tensor[])];
}

function check(c: Case, dtypes: DType[], tolerance: number): void {
  scope(() => {
    const inputs = draw(c.shapes, 1, dtypes);
    const out = c.chain(...inputs);
    const [weight] = draw([[...out.shape]], 2, [out.dtype]);
    const got = gradients(c, 'fused', inputs, weight);
    const wide = inputs.map((x) => x.to('float64'));
    const want = gradients(c, 'chain', wide, weight.to('float64'));
    assert.equal(got[0].dtype, out.dtype);
    for (const [i, x] of got.entries()) {
      if (i > 0) assert.equal(x.dtype, inputs[i - 1].dtype);
      assert.deepEqual(x.shape, want[i].shape);
      const error = relativeError(x, want[i]);
      assert.ok(error <= tolerance, `${c.name} ${dtypes}, ${i}: relative error ${error}`);
    }
  });
}

describe('fused operators', () => {
  it('equal their chains in value and gradients, in float32', () => {
    for (const c of CASES) check(c, ['float32'], 3e-6);
  });

  it('equal their chains in bfloat16 and mixed types', () => {
    for (const c of CASES) {
      check(c, ['bfloat16'], 8e-3);
      if (!c.name.startsWith('swiglu')) check(c, ['float32', 'bfloat16', 'bfloat16'], 8e-3);
    }
  });

  it('leave what they have no kernel for to the chain', () => {
    for (const c of CASES) {
      check(c, ['float64'], 1e-14);
      check(c, ['float16'], 2e-3);
      check(c, ['bfloat16', 'float32', 'float32'], 8e-3);
      if (c.name.startsWith('rope')) continue; // LibTorch cannot roll without data
      const meta = c.shapes.map((shape) => empty(shape, { device: 'meta' }));
      assert.deepEqual(c.fused(...meta).shape, c.shapes[0]);
    }
  });

  it('round in bfloat16 where the chains round', () => {
    for (const c of CASES) {
      const inputs = draw(c.shapes, 3, ['bfloat16']);
      const got = c.fused(...inputs).to('float32');
      const want = c.chain(...inputs).to('float32');
      const off = got.ne(want).to('float32').mean().item();
      // A sum in another order can fall on the other side of a rounding border.
      assert.ok(off <= (c.name.startsWith('rope') ? 0 : 0.002), `${c.name}: ${off} differ`);
    }
  });

  it('read strided inputs and gradients', () => {
    const generator = new Generator(4);
    const x = randn([32, 6, 40], { generator }).transpose(0, 2);
    const w = randn([32, 2], { generator }).select(1, 0);
    const table = randn([32, 1, 40], { generator }).transpose(0, 2);
    for (const run of [
      (y: Tensor) => ops.srum.rmsNorm(y, w, 1e-6),
      (y: Tensor) => ops.srum.swiglu(y, y.mul(2)),
      (y: Tensor) => ops.srum.rope(y, table, table),
    ]) {
      const [a, b] = [x, x.contiguous()].map((y) => y.detach().requiresGrad_());
      const [outA, outB] = [run(a), run(b)];
      assert.ok(ops.equal(outA, outB));
      const [gradA] = grad([outA], [a], { gradOutputs: [x] }) as Tensor[];
      const [gradB] = grad([outB], [b], { gradOutputs: [x.contiguous()] }) as Tensor[];
      assert.ok(ops.equal(gradA, gradB));
    }
  });

  it('can be differentiated twice', () => {
    for (const c of [rmsNorm([4, 12]), swiglu([4, 5]), rope(3, 2, 8)]) {
      const second = (run: 'fused' | 'chain') => {
        const inputs = draw(c.shapes, 5, ['float32']);
        for (const x of inputs.slice(0, c.differentiable)) x.requiresGrad_();
        const wanted = inputs.slice(0, c.differentiable);
        // A rotation is linear: of it only the square has a second derivative.
        const first = grad(
          [
            c[run](...inputs)
              .pow(2)
              .sum(),
          ],
          wanted,
          { createGraph: true },
        );
        const sum = (first as Tensor[]).map((g) => g.pow(2).sum()).reduce((a, b) => a.add(b));
        return grad([sum], wanted) as Tensor[];
      };
      const want = second('chain');
      for (const [i, got] of second('fused').entries()) {
        assert.ok(relativeError(got, want[i].to('float64')) < 1e-5, `${c.name}, ${i}`);
      }
    }
  });

  it('take tables that are differentiated', () => {
    const [x, cos, sin] = draw(rope(3, 2, 8).shapes, 6, ['float32']);
    for (const t of [x, cos, sin]) t.requiresGrad_();
    const got = grad([ops.srum.rope(x, cos, sin).sum()], [cos]) as Tensor[];
    assert.ok(relativeError(got[0], x.detach().sum([1], { keepdim: true }).to('float64')) < 1e-6);
  });

  it('give the same bits with any number of threads', () => {
    const threads = getNumThreads();
    const run = (count: number) => {
      setNumThreads(count);
      return CASES.flatMap((c) => {
        const inputs = draw(c.shapes, 7, ['float32']);
        return gradients(c, 'fused', inputs, inputs[0]);
      });
    };
    try {
      const [one, two, five] = [1, 2, 5].map(run);
      for (const [i, x] of one.entries()) {
        assert.ok(ops.equal(x, two[i]));
        assert.ok(ops.equal(x, five[i]));
      }
    } finally {
      setNumThreads(threads);
    }
  });

  it('stand numbers of any size', () => {
    const gate = tensor([-1e4, -100, -88, 0, 88, 100, 1e4, Infinity, NaN]);
    const up = ops.onesLike(gate);
    const got = ops.srum.swiglu(gate, up).toArray() as number[];
    assert.deepEqual(got.slice(3, 8), [0, 88, 100, 1e4, Infinity]);
    assert.ok(got.slice(0, 3).every((y) => Math.abs(y) < 1e-30));
    assert.ok(Number.isNaN(got[8]));
    const x = gate.narrow(0, 0, 7).requiresGrad_();
    const [slope] = grad([ops.srum.swiglu(x, up.narrow(0, 0, 7)).sum()], [x]) as Tensor[];
    const slopes = slope.toArray() as number[];
    assert.ok(slopes.slice(0, 3).every((y) => Math.abs(y) < 1e-30));
    assert.deepEqual(slopes.slice(3), [0.5, 1, 1, 1]);
    const zero = ops.srum.rmsNorm(ops.zeros([2, 8]), ops.ones([8]), 1e-6);
    assert.equal(zero.abs().sum().item(), 0);
  });

  it('take empty batches', () => {
    assert.deepEqual(ops.srum.rmsNorm(ops.zeros([0, 8]), ops.ones([8]), 1e-6).shape, [0, 8]);
    assert.deepEqual(ops.srum.swiglu(ops.zeros([0]), ops.zeros([0])).shape, [0]);
    const table = ops.zeros([0, 1, 8]);
    assert.deepEqual(ops.srum.rope(ops.zeros([0, 2, 8]), table, table).shape, [0, 2, 8]);
  });

  it('refuse shapes that do not belong together', () => {
    const x = ops.ones([4, 2, 8]);
    assert.throws(() => ops.srum.rmsNorm(x, ops.ones([4]), 1e-6), { code: 'ERR_SHAPE' });
    assert.throws(() => ops.srum.swiglu(x, ops.ones([8])), { code: 'ERR_SHAPE' });
    const table = ops.ones([3, 1, 8]);
    assert.throws(() => ops.srum.rope(x, table, table), { code: 'ERR_SHAPE' });
    const odd = ops.ones([4, 2, 7]);
    assert.throws(() => ops.srum.rope(odd, odd, odd), { code: 'ERR_SHAPE' });
  });

  if (choosesInstructions) {
    it('pass the same tests with the plainest instruction set', function () {
      this.timeout(300_000);
      passesPlainly(import.meta.url, 'equal|any size', 3);
    });
  }
});
