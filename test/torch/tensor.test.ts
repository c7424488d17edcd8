import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import { type DType, ops, slice, type Tensor, tensor, zeros } from '../../lib/torch/index.js';

describe('Tensor', () => {
  it('round-trips every dtype through typed arrays', () => {
    const cases: [DType, number[]][] = [
      ['float32', [1.5, -2, 0]],
      ['float64', [1.1, -2, 1e300]],
      ['bfloat16', [1.5, -2, 0]],
      ['float16', [1.5, -2, 0]],
      ['int8', [-128, 0, 127]],
      ['int16', [-32768, 0, 32767]],
      ['int32', [-(2 ** 31), 0, 2 ** 31 - 1]],
      ['int64', [-(2 ** 53) + 1, 0, 2 ** 53 - 1]],
      ['uint8', [0, 1, 255]],
    ];
    for (const [dtype, values] of cases) {
      const t = tensor(values, { dtype });
      assert.equal(t.dtype, dtype);
      assert.deepEqual(t.toArray(), values, dtype);
      const back = tensor(t.toTypedArray(), { dtype });
      assert.deepEqual(back.toArray(), values, `${dtype} from its own array`);
    }
    assert.deepEqual(tensor([true, false]).toArray(), [true, false]);
    assert.equal(tensor([2n ** 62n]).itemBigInt(), 2n ** 62n);
  });

  it('copies in, and shares out only when asked', () => {
    const source = Float32Array.of(1, 2, 3);
    const t = tensor(source);
    source[0] = 9;
    assert.deepEqual(t.toArray(), [1, 2, 3]);
    const copy = t.toTypedArray();
    copy[1] = 9;
    assert.deepEqual(t.toArray(), [1, 2, 3]);
    const shared = t.asTypedArray();
    shared[2] = 9;
    assert.deepEqual(t.toArray(), [1, 2, 9]);
    assert.throws(() => t.reshape([3, 1]).mul(1).expand([3, 2]).asTypedArray(), {
      code: 'ERR_DEVICE',
    });
  });

  it('calls operators by position, by name, and in place', () => {
    const x = tensor([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    assert.deepEqual(x.sum([0], { keepdim: true }).toArray(), [[5, 7, 9]]);
    assert.deepEqual(ops.sum(x, [1]).toArray(), [6, 15]);
    assert.deepEqual(ops.cat([x, x], 1).shape, [2, 6]);
    assert.deepEqual(x.add(x, { alpha: 2 }).toArray(), [
      [3, 6, 9],
      [12, 15, 18],
    ]);
    assert.deepEqual(ops.maxPool1d(x, 3).toArray(), [[3], [6]]);
    const [values, indices] = x.max(1) as unknown as [Tensor, Tensor];
    assert.deepEqual(
      [values.toArray(), indices.toArray()],
      [
        [3, 6],
        [2, 2],
      ],
    );
    const y = x.clone();
    assert.equal(y.addcmul_(x, x, { value: 0 }), y);
    assert.equal(y.resize_([3, 2]), y);
    assert.deepEqual(y.shape, [3, 2]);
    assert.equal(tensor([1, 2], { dtype: 'int64' }).mul(2).dtype, 'int64');
    assert.equal(x.div(2, { roundingMode: 'floor' }).toArray()?.toString(), '0,1,1,2,2,3');
  });

  it('knows every operator of the library', () => {
    const names = Object.keys(ops);
    assert.ok(names.length > 1400, `${names.length}`);
    for (const name of [
      'matmul',
      '_foreachAdd_',
      'scaledDotProductAttention',
      '_fusedAdamw_',
      'logSoftmax',
    ])
      assert.ok(names.includes(name), name);
  });

  describe('index', () => {
    const x = tensor([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9, 10, 11],
    ]);

    it('selects, slices and adds dimensions as views', () => {
      assert.deepEqual(x.index(1).toArray(), [4, 5, 6, 7]);
      assert.deepEqual(x.index('...', -1).toArray(), [3, 7, 11]);
      assert.deepEqual(x.index(slice(1), slice(null, null, 2)).toArray(), [
        [4, 6],
        [8, 10],
      ]);
      assert.deepEqual(x.index(null, '...', null).shape, [1, 3, 4, 1]);
      const copy = x.clone();
      copy.index(0).mul_(0);
      assert.deepEqual(copy.index(0).toArray(), [0, 0, 0, 0]);
    });

    it('takes masks and index tensors, in any dimension', () => {
      assert.deepEqual(x.index(x.gt(8)).toArray(), [9, 10, 11]);
      assert.deepEqual(x.index(slice(), tensor([3, 0], { dtype: 'int64' })).toArray(), [
        [3, 0],
        [7, 4],
        [11, 8],
      ]);
      assert.deepEqual(x.index(tensor([true, false, true]), 1).toArray(), [1, 9]);
      const cube = x.reshape([3, 2, 2]);
      assert.deepEqual(cube.index(0, cube.index(0).gt(1)).toArray(), [2, 3]);
    });

    it('writes where it reads', () => {
      const y = zeros([2, 3]);
      y.indexPut_([0, slice(1)], tensor([5, 6]));
      y.indexPut_([y.eq(0)], 1);
      assert.deepEqual(y.toArray(), [
        [1, 5, 6],
        [1, 1, 1],
      ]);
      y.indexPut_(
        [tensor([0, 0], { dtype: 'int64' }), tensor([0, 0], { dtype: 'int64' })],
        tensor([1, 1]),
        { accumulate: true },
      );
      assert.equal(y.index(0, 0).item(), 3);
    });
  });

  it('prints itself', async () => {
    const { inspect } = await import('node:util');
    assert.equal(inspect(tensor([[1, 2]])), 'Tensor(float32[1, 2] cpu [[1,2]])');
  });
});
