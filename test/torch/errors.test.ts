import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import {
  Generator,
  ops,
  Tensor,
  TorchError,
  type TorchErrorCode,
  tensor,
  zeros,
} from '../../lib/torch/index.js';

// biome-ignore lint/suspicious/noExplicitAny: wrong types on purpose
const any = (value: unknown): any => value;

describe('wrong calls', () => {
  const x = zeros([2, 3]);
  const stale = () => {
    const t = zeros([2]);
    t.dispose();
    return t;
  };
  const cases: [string, TorchErrorCode, () => unknown][] = [
    ['shapes that do not broadcast', 'ERR_SHAPE', () => x.add(zeros([4]))],
    ['matrix shapes', 'ERR_SHAPE', () => x.matmul(zeros([2, 3]))],
    ['view of another size', 'ERR_SHAPE', () => x.view([7])],
    ['negative extent', 'ERR_SHAPE', () => zeros([-1])],
    ['ragged array', 'ERR_SHAPE', () => tensor([[1], [2, 3]])],
    [
      'typed array of another size',
      'ERR_SHAPE',
      () => tensor(new Float32Array(3), { shape: [2, 2] }),
    ],
    ['dtypes', 'ERR_DTYPE', () => x.matmul(zeros([3, 2], { dtype: 'float64' }))],
    ['value outside the dtype', 'ERR_DTYPE', () => tensor([300], { dtype: 'uint8' })],
    ['fraction in an integer tensor', 'ERR_DTYPE', () => tensor([1.5], { dtype: 'int64' })],
    [
      'operator not made for the dtype',
      'ERR_DTYPE',
      () => ops.cholesky(zeros([2, 2], { dtype: 'float16' })),
    ],
    ['device that is not there', 'ERR_DEVICE', () => x.to('cuda:7')],
    ['reading a meta tensor', 'ERR_DEVICE', () => zeros([2], { device: 'meta' }).toArray()],
    ['disposed tensor', 'ERR_DISPOSED', () => stale().add(1)],
    ['disposed argument', 'ERR_DISPOSED', () => x.add(stale())],
    ['disposed tensor in a list', 'ERR_DISPOSED', () => ops.cat([x, stale()])],
    ['handle that never was', 'ERR_DISPOSED', () => new Tensor(12345678).add(1)],
    ['handle that is no number', 'ERR_ARGUMENT', () => new Tensor(any('x')).add(1)],
    ['NaN handle', 'ERR_ARGUMENT', () => new Tensor(Number.NaN).add(1)],
    ['string for a tensor', 'ERR_ARGUMENT', () => x.add(any('x'))],
    ['null for a tensor', 'ERR_ARGUMENT', () => x.matmul(any(null))],
    ['fraction for an integer', 'ERR_ARGUMENT', () => x.select(0, 0.5)],
    ['Infinity for an integer', 'ERR_ARGUMENT', () => x.select(0, Number.POSITIVE_INFINITY)],
    ['too many arguments', 'ERR_ARGUMENT', () => any(x).relu(1, 2, 3)],
    ['missing argument', 'ERR_ARGUMENT', () => any(ops).softmax(x)],
    ['unknown option', 'ERR_ARGUMENT', () => any(x).softmax(0, { temperature: 1 })],
    ['unknown dtype', 'ERR_ARGUMENT', () => zeros([1], { dtype: any('float7') })],
    ['unknown device', 'ERR_ARGUMENT', () => x.to(any('gpu'))],
    ['numbers where tensors belong', 'ERR_ARGUMENT', () => any(ops).cat([1, 2])],
    ['null as a value', 'ERR_ARGUMENT', () => tensor(any([null]))],
    ['negative seed', 'ERR_ARGUMENT', () => new Generator(-1)],
    ['seed with a fraction', 'ERR_ARGUMENT', () => new Generator(0.5)],
    ['index out of range', 'ERR_INDEX', () => x.select(0, 9)],
    ['too many indices', 'ERR_INDEX', () => x.index(0, 0, 0)],
    [
      'embedding row that is not there',
      'ERR_INDEX',
      () => ops.embedding(x, tensor([5], { dtype: 'int64' })),
    ],
    ['more memory than there is', 'ERR_OUT_OF_MEMORY', () => ops.empty([2 ** 50])],
    ['backward without a graph', 'ERR_AUTOGRAD', () => x.sum().backward()],
    ['item of many elements', 'ERR_TORCH', () => x.item()],
  ];
  for (const [name, code, call] of cases) {
    it(`${name}: ${code}`, () => {
      assert.throws(call, (error: unknown) => {
        assert.ok(error instanceof TorchError, `${error}`);
        assert.equal(error.code, code, error.message);
        assert.doesNotMatch(error.message, /\.cpp:\d+ .*frame #/s);
        return true;
      });
    });
  }

  it('names operator, shapes and dtypes', () => {
    assert.throws(
      () => x.add(zeros([4], { dtype: 'float64' })),
      /add\.Tensor\(self float32\[2,3\] cpu, other float64\[4\] cpu, alpha 1\)/,
    );
  });

  it('rejects a promise the same way', async () => {
    const { asyncOps } = await import('../../lib/torch/index.js');
    await assert.rejects(
      asyncOps.matmul(x, x),
      (error: unknown) => error instanceof TorchError && error.code === 'ERR_SHAPE',
    );
  });
});
