import assert from 'node:assert/strict';
import type { DType } from '../../lib/torch/index.js';
import {
  Generator,
  getNumThreads,
  grad,
  noGrad,
  ops,
  randn,
  scope,
  setNumThreads,
  type Tensor,
  tensor,
  zeros,
} from '../../lib/torch/index.js';
import { type Random, seededRandom } from '../../lib/util/seeded-random.js';
import { choosesInstructions, passesPlainly } from '../support/plain-instructions.js';

interface Call {
  qStart: number;
  qEnd: number;
  kStart: number;
  kEnd: number;
  causal: boolean;
}

interface Layout {
  calls: Call[];
  queries: number;
  keys: number;
}

function attend(
  [q, k, v]: readonly Tensor[],
  calls: readonly Call[],
  kernel = 'auto',
  scale = 0.3,
): Tensor {
  const numbers = (key: 'qStart' | 'qEnd' | 'kStart' | 'kEnd') => calls.map((call) => call[key]);
  return ops.srum.packedAttention(
    q,
    k,
    v,
    numbers('qStart'),
    numbers('qEnd'),
    numbers('kStart'),
    numbers('kEnd'),
    calls.map((call) => call.causal),
    scale,
    kernel,
  );
}

/** Groups of one to `longest` rows behind gaps, each over up to three ranges anywhere in the keys, some of them empty. */
function randomLayout(random: Random, longest: number): Layout {
  const keys = longest + 1 + random.below(4 * longest);
  const calls: Call[] = [];
  let row = 0;
  for (let left = 1 + random.below(6); left > 0; left--) {
    row += random.below(3);
    const rows = random.below(3) === 0 ? 1 : 1 + random.below(longest);
    const range = { qStart: row, qEnd: row + rows };
    for (let more = random.below(3); more > 0; more--) {
      const kStart = random.below(keys + 1);
      const kEnd = kStart + random.below(keys - kStart + 1);
      const causal = random.below(4) === 0 && kEnd - kStart >= rows;
      calls.push({ ...range, kStart, kEnd, causal });
    }
    const kEnd = rows + random.below(keys - rows + 1);
    const kStart = random.below(kEnd - rows + 1);
    calls.push({ ...range, kStart, kEnd, causal: random.below(2) === 0 });
    row += rows;
  }
  return { calls, queries: row + random.below(3), keys };
}

/** How often each query row sees each key row: [queries, keys]; ranges of one group may overlap. */
function counts({ calls, queries, keys }: Layout): Float64Array {
  const seen = new Float64Array(queries * keys);
  for (const { qStart, qEnd, kStart, kEnd, causal } of calls) {
    for (let q = qStart; q < qEnd; q++) {
      const end = causal ? kEnd - (qEnd - 1 - q) : kEnd;
      for (let key = kStart; key < end; key++) seen[q * keys + key] += 1;
    }
  }
  return seen;
}

/** The dense form in float64: weights count * exp(score) over their sum; zeros for rows that see nothing. */
function reference([q, k, v]: readonly Tensor[], layout: Layout, scale = 0.3): Tensor {
  const shared = q.size(1) / k.size(1);
  const heads = (x: Tensor) => x.repeatInterleave(shared, 1).transpose(0, 1);
  const seen = tensor(counts(layout), { shape: [layout.queries, layout.keys], dtype: 'float64' });
  const scores = q.transpose(0, 1).matmul(heads(k).transpose(1, 2)).mul(scale);
  const shift = scores.detach().amax([-1], true);
  const weights = scores.sub(shift).exp().mul(seen);
  const total = weights.sum([-1], { keepdim: true });
  return weights
    .div(total.add(total.eq(0)))
    .matmul(heads(v))
    .transpose(0, 1);
}

/** Of what is nearly nothing, such as gradients of scores with a single key, the absolute error. */
function relativeError(got: Tensor, want: Tensor): number {
  const difference = got.to('float64').sub(want).pow(2).sum().item();
  const norm = want.pow(2).sum().item();
  return Math.sqrt(difference) / Math.max(Math.sqrt(norm), 1);
}

/** Output and gradients of q, k and v. */
function withGradients(inputs: Tensor[], weight: Tensor, run: () => Tensor): Tensor[] {
  const out = run();
  return [out.detach(), ...(grad([out], inputs, { gradOutputs: [weight] }) as Tensor[])];
}

function inputsFor(layout: Layout, heads: number, kvHeads: number, d: number, seed: number) {
  const generator = new Generator(seed);
  const draw = (rows: number, n: number) => randn([rows, n, d], { generator });
  return {
    q: draw(layout.queries, heads),
    k: draw(layout.keys, kvHeads),
    v: draw(layout.keys, kvHeads),
    weight: draw(layout.queries, heads),
  };
}

function compare(layout: Layout, size: number[], seed: number, dtype: DType, tolerance: number) {
  scope(() => {
    const [heads, kvHeads, d] = size;
    const { q, k, v, weight } = inputsFor(layout, heads, kvHeads, d, seed);
    const narrow = [q, k, v].map((x) => x.to(dtype).detach().requiresGrad_());
    const wide = narrow.map((x) => x.detach().to('float64').requiresGrad_());
    const w = weight.to(dtype);
    const got = withGradients(narrow, w, () => attend(narrow, layout.calls, 'short'));
    const want = withGradients(wide, w.to('float64'), () => reference(wide, layout));
    for (const [i, name] of ['output', 'dq', 'dk', 'dv'].entries()) {
      assert.equal(got[i].dtype, dtype);
      const error = relativeError(got[i], want[i]);
      const where = `${name}, heads ${heads}/${kvHeads} of ${d}, ${JSON.stringify(layout.calls)}`;
      assert.ok(error <= tolerance, `${where}: relative error ${error}`);
    }
  });
}

/** Query heads, key heads and their size; among them sizes that fill no vector. */
const SIZES = [
  [4, 2, 32],
  [2, 2, 16],
  [7, 1, 24],
  [3, 3, 5],
  [4, 1, 64],
  [14, 2, 128],
  [1, 1, 1],
  [2, 1, 20],
];

describe('packed attention, kernel short', () => {
  it('equals the dense softmax over random ranges, in value and gradients', () => {
    const random = seededRandom(11, 'ranges');
    for (let round = 0; round < 96; round++) {
      const layout = randomLayout(random, [3, 12, 40][round % 3]);
      compare(layout, SIZES[round % SIZES.length], round, 'float32', 1e-5);
    }
  });

  it('takes long ranges in blocks of rows', () => {
    const calls = [
      { qStart: 0, qEnd: 90, kStart: 30, kEnd: 1500, causal: true },
      { qStart: 90, qEnd: 91, kStart: 0, kEnd: 1400, causal: false },
      { qStart: 91, qEnd: 180, kStart: 100, kEnd: 200, causal: true },
      { qStart: 91, qEnd: 180, kStart: 600, kEnd: 1300, causal: true },
    ];
    const layout = { calls, queries: 180, keys: 1500 };
    compare(layout, [4, 2, 32], 1, 'float32', 1e-5);
    compare(layout, [3, 1, 40], 2, 'float32', 1e-5);
  });

  it('takes 16-bit numbers and computes in float32', () => {
    const random = seededRandom(12, 'ranges');
    for (let round = 0; round < 24; round++) {
      const layout = randomLayout(random, 30);
      // Output and gradients are rounded to 8 or 11 bits, and the output once more inside the gradients.
      compare(layout, SIZES[round % SIZES.length], round, 'bfloat16', 1e-2);
      compare(layout, SIZES[round % SIZES.length], round, 'float16', 1.5e-3);
    }
  });

  it('agrees with the other kernels', () => {
    const random = seededRandom(13, 'ranges');
    for (let round = 0; round < 12; round++) {
      scope(() => {
        const layout = randomLayout(random, 20);
        const { q, k, v } = inputsFor(layout, 4, 2, 32, round);
        const [short, flash, math] = ['short', 'flash', 'math'].map((kernel) =>
          attend([q, k, v], layout.calls, kernel).to('float64'),
        );
        assert.ok(relativeError(short, flash) < 1e-6);
        assert.ok(relativeError(short, math) < 1e-6);
      });
    }
  });

  it('gives the same bits with any number of threads', () => {
    const threads = getNumThreads();
    const random = seededRandom(14, 'ranges');
    const runs: Tensor[][] = [1, 2, 5].map(() => []);
    try {
      for (let round = 0; round < 8; round++) {
        // Many groups over few keys: every key row gets gradients from several of them.
        const calls: Call[] = [];
        for (let i = 0; i < 60; i++) {
          const [qStart, qEnd] = [9 * i, 9 * i + 9];
          const kStart = random.below(200);
          calls.push({ qStart, qEnd, kStart, kEnd: kStart + 30, causal: i % 2 === 0 });
        }
        const { q, k, v, weight } = inputsFor({ calls, queries: 540, keys: 400 }, 8, 4, 32, round);
        const inputs = [q, k, v].map((x) => x.requiresGrad_());
        for (const [i, count] of [1, 2, 5].entries()) {
          setNumThreads(count);
          runs[i].push(...withGradients(inputs, weight, () => attend(inputs, calls, 'short')));
        }
      }
    } finally {
      setNumThreads(threads);
    }
    for (const other of runs.slice(1)) {
      for (const [i, x] of other.entries()) assert.ok(ops.equal(x, runs[0][i]));
    }
  });

  it('reads strided inputs and gives zeros to rows without a call', () => {
    const generator = new Generator(15);
    const whole = randn([12, 32, 6], { generator });
    const q = whole.transpose(1, 2).narrow(1, 0, 4);
    const k = whole.transpose(1, 2).narrow(1, 4, 2);
    const calls = [{ qStart: 2, qEnd: 9, kStart: 0, kEnd: 12, causal: false }];
    const inputs = [q, k, k];
    const got = attend(inputs, calls, 'short');
    const copies = inputs.map((x) => x.contiguous());
    assert.ok(ops.equal(got, attend(copies, calls, 'short')));
    assert.ok(ops.equal(got.narrow(0, 0, 2), zeros([2, 4, 32])));
    assert.ok(ops.equal(got.narrow(0, 9, 3), zeros([3, 4, 32])));
    assert.equal(got.narrow(0, 2, 7).eq(0).any().item(), 0);
  });

  it('hands on what is not a number and stands scores of any size', () => {
    const calls = [
      { qStart: 0, qEnd: 2, kStart: 0, kEnd: 5, causal: false },
      { qStart: 2, qEnd: 3, kStart: 5, kEnd: 9, causal: false },
    ];
    const { q, k, v } = inputsFor({ calls, queries: 3, keys: 9 }, 2, 1, 16, 16);
    const huge = attend([q.mul(1e4), k.mul(1e4), v], calls, 'short');
    assert.ok(
      relativeError(huge, attend([q.mul(1e4), k.mul(1e4), v], calls, 'math').to('float64')) < 1e-5,
    );
    k.narrow(0, 7, 1).fill_(NaN);
    const got = attend([q, k, v], calls, 'short').isnan();
    assert.deepEqual(got.all(2).all(1).toArray(), [false, false, true]);
    assert.equal(got.narrow(0, 0, 2).any().item(), 0);
  });

  it('sees the same in the single row of a causal and of a whole call', () => {
    const call = { qStart: 0, qEnd: 1, kStart: 0, kEnd: 7, causal: false };
    const { q, k, v } = inputsFor({ calls: [call], queries: 1, keys: 7 }, 4, 2, 32, 17);
    for (const kernel of ['short', 'flash', 'math']) {
      const causal = attend([q, k, v], [{ ...call, causal: true }], kernel);
      assert.ok(ops.equal(causal, attend([q, k, v], [call], kernel)), kernel);
    }
  });

  it('runs without calls and without rows', () => {
    const x = zeros([0, 2, 8]);
    assert.deepEqual(attend([x, x, x], [], 'short').shape, [0, 2, 8]);
    const q = zeros([3, 2, 8]).requiresGrad_();
    const k = zeros([2, 2, 8]).requiresGrad_();
    attend([q, k, k], [], 'short').sum().backward();
    assert.deepEqual([q.grad?.sum().item(), k.grad?.sum().item()], [0, 0]);
  });

  it('refuses float64, which the automatic choice computes in full', () => {
    const calls = [{ qStart: 0, qEnd: 4, kStart: 0, kEnd: 4, causal: false }];
    const x = randn([4, 1, 8], { generator: new Generator(18), dtype: 'float64' });
    assert.throws(() => attend([x, x, x], calls, 'short'), { code: 'ERR_DTYPE' });
    const layout = { calls, queries: 4, keys: 4 };
    const error = noGrad(() =>
      relativeError(attend([x, x, x], calls), reference([x, x, x], layout)),
    );
    assert.ok(error < 1e-12, `${error}`);
    assert.throws(() => attend([x, x, x], calls, 'quick'), { code: 'ERR_ARGUMENT' });
  });

  if (choosesInstructions) {
    it('passes the same tests with the plainest instruction set', function () {
      this.timeout(300_000);
      passesPlainly(import.meta.url, 'equals|blocks|16-bit', 3);
    });
  }
});
