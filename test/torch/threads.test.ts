import assert from 'node:assert/strict';
import { Worker } from 'node:worker_threads';
import { describe, it } from 'mocha';
import {
  asyncOps,
  Generator,
  getNumThreads,
  liveTensors,
  randn,
  setNumThreads,
  Tensor,
  tensor,
} from '../../lib/torch/index.js';

const torchModule = new URL('../../lib/torch/index.js', import.meta.url).href;

describe('threads', () => {
  it('runs an operator off the main thread', async () => {
    const x = randn([64, 64], { generator: new Generator(1) });
    const product = (await asyncOps.matmul(x, x)) as Tensor;
    assert.deepEqual(product.toArray(), x.matmul(x).toArray());
    const many = (await Promise.all(
      Array.from({ length: 8 }, (_, i) => asyncOps.mul(x, i)),
    )) as Tensor[];
    assert.ok(many.every((t, i) => t.sub(x.mul(i)).abs().max().item() === 0));
  });

  it('shares tensors with a worker by number, without a copy', async () => {
    const x = tensor([1, 2, 3]);
    const program = `
      const { parentPort, workerData } = require('node:worker_threads');
      import(${JSON.stringify(torchModule)}).then(({ Tensor, scope }) => {
        const x = Tensor.adopt(workerData);
        scope(() => x.add_(x));
        parentPort.postMessage(x.mul(10).share());
      });`;
    const before = liveTensors();
    const worker = new Worker(program, { eval: true, workerData: x.share() });
    const shared: number = await new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    const result = Tensor.adopt(shared);
    await worker.terminate();
    assert.deepEqual(x.toArray(), [2, 4, 6]);
    assert.deepEqual(result.toArray(), [20, 40, 60]);
    assert.ok(liveTensors() <= before + 3, 'the worker took its tensors with it');
    assert.throws(() => Tensor.adopt(shared + 2 ** 30), { code: 'ERR_DISPOSED' });
  });

  it('sets the number of threads', () => {
    const count = getNumThreads();
    setNumThreads(1);
    assert.equal(getNumThreads(), 1);
    setNumThreads(count);
    assert.throws(() => setNumThreads(0), { code: 'ERR_ARGUMENT' });
    assert.throws(() => setNumThreads(1.5), { code: 'ERR_ARGUMENT' });
  });
});
