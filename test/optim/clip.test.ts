import assert from 'node:assert/strict';
import { clipGradNorm, globalNorm } from '../../lib/optim/clip.js';
import { liveTensors, tensor } from '../../lib/torch/index.js';

describe('gradient clipping', () => {
  it('measures the norm over all tensors', () => {
    assert.equal(globalNorm([tensor([3, 0]), tensor([[4]])]).item(), 5);
    assert.equal(globalNorm([]).item(), 0);
  });

  it('scales to the limit by limit / (norm + 1e-6)', () => {
    const grads = [tensor([3, 0]), tensor([[4]])];
    assert.equal(clipGradNorm(grads, 1), 5);
    const factor = Math.fround(1 / (5 + 1e-6));
    assert.ok(Math.abs(grads[0].toFloat32Array()[0] - 3 * factor) < 1e-7);
    assert.ok(Math.abs(grads[1].toFloat32Array()[0] - 4 * factor) < 1e-7);
  });

  it('leaves smaller gradients exactly as they are', () => {
    const grads = [tensor([0.3, -0.1])];
    const before = grads[0].toFloat32Array();
    clipGradNorm(grads, 1);
    assert.deepEqual(grads[0].toFloat32Array(), before);
  });

  it('only measures with a limit of 0', () => {
    const grads = [tensor([30, 40])];
    assert.equal(clipGradNorm(grads, 0), 50);
    assert.deepEqual([...grads[0].toFloat32Array()], [30, 40]);
  });

  it('reports a norm that is not finite and touches nothing', () => {
    const grads = [tensor([1, Number.POSITIVE_INFINITY]), tensor([2])];
    assert.equal(clipGradNorm(grads, 1), Number.POSITIVE_INFINITY);
    assert.equal(grads[1].item(), 2);
    assert.ok(Number.isNaN(clipGradNorm([tensor([Number.NaN])], 1)));
  });

  it('frees what it makes', () => {
    const grads = [tensor([3, 4])];
    const before = liveTensors();
    clipGradNorm(grads, 1);
    assert.equal(liveTensors(), before);
  });
});
