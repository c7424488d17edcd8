import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { describe, it } from 'mocha';
import {
  empty,
  full,
  Generator,
  getNumThreads,
  ops,
  setNumThreads,
  type Tensor,
  tensor,
  zeros,
} from '../../lib/torch/index.js';
import { native } from '../../lib/torch/native.js';

// Each of these once ended the process, hung it, or wrote to memory that was not its own.

const bind = (name: string, overload = '') => native.bindOperator(`aten::${name}`, overload);

describe('operators that are not offered', () => {
  for (const [name, reason] of [
    ['aten::_remove_batch_dim', /a step inside other operators/],
    ['aten::_cdist_backward', /a step of differentiation/],
    ['aten::native_layer_norm_backward', /a step of differentiation/],
    ['aten::choose_qparams_optimized', /packed or quantized/],
    ['quantized::add', /operators of this library/],
  ] as const) {
    it(`say why: ${name}`, () => {
      assert.throws(() => native.bindOperator(name, ''), {
        code: 'ERR_NOT_IMPLEMENTED',
        message: reason,
      });
    });
  }

  it('are neither the elementwise ones nor those of use to others', () => {
    const x = tensor([1, -1]);
    assert.deepEqual(ops.thresholdBackward(x, tensor([2, -2]), 0).toArray(), [1, 0]);
    assert.deepEqual(ops._softmax(zeros([2]), 0, false).toArray(), [0.5, 0.5]);
    assert.deepEqual(ops._foreachAdd([x], 1)[0].toArray(), [2, 0]);
  });
});

describe('arguments that are checked before the call', () => {
  const nan = tensor([Number.NaN]);
  const half = tensor([0.5]);

  it('bounds what decides how often a step is repeated', () => {
    const degree = { code: 'ERR_ARGUMENT', message: /'n' must be at most 2\^20/ };
    assert.throws(() => ops.specialLaguerrePolynomialL(half, 2 ** 31), degree);
    assert.throws(() => ops.specialChebyshevPolynomialT(half, tensor([2 ** 40])), degree);
    assert.ok(Number.isFinite(ops.specialLegendrePolynomialP(half, tensor([3])).item()));
    assert.throws(() => bind('matrix_power')(bind('eye')(2, 'float32'), -(2n ** 63n)), {
      code: 'ERR_ARGUMENT',
      message: /'n' must be greater than -2\^63/,
    });
    assert.throws(() => bind('random_', 'from')(half.clone().handle, 2n ** 63n - 1n, null), {
      code: 'ERR_ARGUMENT',
      message: /'from' must be less/,
    });
    const generator = new Generator(1);
    assert.throws(() => ops.binomial(nan, half, { generator }), /'count' must not contain NaN/);
    assert.throws(() => ops.binomial(half, nan, { generator }), /'prob' must not contain NaN/);
  });

  it('wants a whole step in a range of integers', () => {
    const fraction = { code: 'ERR_ARGUMENT', message: /'step' must be 1 or more/ };
    assert.throws(() => ops.range(0, 1, 0.5, { dtype: 'int16' }), fraction);
    assert.throws(
      () => ops.range(0, 1, { out: tensor([0], { dtype: 'int64' }), step: 0 }),
      fraction,
    );
    assert.deepEqual(ops.range(0, 1, 0.5).toArray(), [0, 0.5, 1]);
  });

  it('bounds the entries of lists of sizes, and their number', () => {
    const x = zeros([1, 1, 4, 4]);
    assert.throws(() => ops.avgPool2d(x, [2 ** 50, 1]), {
      code: 'ERR_SHAPE',
      message: /'kernel_size' has an entry beyond 2\^48/,
    });
    assert.throws(() => ops.avgPool2d(x, [2, 2, 2]), {
      code: 'ERR_ARGUMENT',
      message: /'kernel_size' must have 1 or 2 entries, found 3/,
    });
    assert.deepEqual(ops.avgPool2d(x, [2]).shape, [1, 1, 2, 2]);
  });

  it('wants one dimension of the offsets of bags', () => {
    const indices = zeros([0], { dtype: 'int64' });
    const bags = (offsets: Tensor) => ops.embeddingBag(zeros([2, 3]), indices, offsets);
    assert.throws(() => bags(zeros([5, 0], { dtype: 'int64' })), {
      code: 'ERR_SHAPE',
      message: /'offsets' must have one dimension/,
    });
    assert.deepEqual(bags(zeros([1], { dtype: 'int64' }))[0].shape, [1, 3]);
  });

  it('keeps tensors without memory away from those with', () => {
    const meta = empty([2, 2], { device: 'meta' });
    const real = zeros([2, 2]);
    for (const call of [
      () => ops.cat([real, meta], 0),
      () => ops.embedding(meta, tensor([0], { dtype: 'int64' })),
      () => ops.bmm(real.unsqueeze(0), meta.unsqueeze(0)),
    ])
      assert.throws(call, { code: 'ERR_DEVICE', message: /one has no memory/ });
    assert.deepEqual(ops.cat([meta, meta], 0).shape, [4, 2]);
    // A scalar goes everywhere, and copying into nothing is nothing.
    assert.equal(ops.maximum(meta, tensor(1)).device, 'meta');
    assert.equal(meta.copy_(real).device, 'meta');
  });

  it('lets no thread pool be asked for that the machine could not make', () => {
    const before = getNumThreads();
    const most = Math.min(Math.max(64, 8 * availableParallelism()), 1024);
    assert.throws(() => setNumThreads(most * 8), { code: 'ERR_ARGUMENT', message: /1 to \d+/ });
    assert.throws(() => setNumThreads(1025), { code: 'ERR_ARGUMENT' });
    assert.equal(getNumThreads(), before);
  });
});

describe('memory that operators believe', () => {
  const coo = (indices: Tensor) => ops.sparseCooTensor(indices, full([2], 1), [2, 2]);
  const expected = [
    [0, 1],
    [1, 0],
  ];
  const positions = () => tensor(expected, { dtype: 'int64' });

  it('is not shared with the tensors a sparse tensor is made of', () => {
    const indices = positions();
    const sparse = coo(indices);
    indices.fill_(2 ** 40);
    assert.deepEqual(sparse.toDense().toArray(), expected);
  });

  it('is not reached through the parts of a sparse tensor', () => {
    const sparse = coo(positions()).coalesce();
    assert.deepEqual(sparse._indices().toArray(), expected);
    sparse._indices().fill_(2 ** 40);
    sparse.indices().fill_(2 ** 40);
    sparse._values().resize_([1]);
    assert.deepEqual(sparse.toDense().toArray(), expected);
    const rows = full([2, 2], 1).toSparseCsr();
    rows.colIndices().fill_(2 ** 40);
    rows.crowIndices().fill_(2 ** 40);
    assert.deepEqual(rows.toDense().toArray(), [
      [1, 1],
      [1, 1],
    ]);
    // Values may be written to, as in PyTorch.
    sparse._values().fill_(5);
    assert.deepEqual(sparse.toDense().toArray(), [
      [0, 5],
      [5, 0],
    ]);
  });

  it('does not move away from under an array that shares it', () => {
    const t = zeros([4]);
    const array = t.asTypedArray();
    assert.throws(() => t.resize_([1_000_000]), /not resizable/);
    array[0] = 7;
    assert.equal(t.select(0, 0).item(), 7);
  });
});
