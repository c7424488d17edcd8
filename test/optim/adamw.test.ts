import assert from 'node:assert/strict';
import { AdamW } from '../../lib/optim/adamw.js';
import { liveTensors, scope, type Tensor, tensor } from '../../lib/torch/index.js';
import { CheckpointError } from '../../lib/util/errors.js';

/** AdamW of one number in double precision, straight from the paper's algorithm 2. */
function reference(start: number, grads: number[], o: { lr: number; wd: number; eps: number }) {
  let [p, m, v] = [start, 0, 0];
  for (const [i, g] of grads.entries()) {
    p *= 1 - o.lr * o.wd;
    m = 0.9 * m + 0.1 * g;
    v = 0.95 * v + 0.05 * g * g;
    p -= (o.lr * (m / (1 - 0.9 ** (i + 1)))) / (Math.sqrt(v / (1 - 0.95 ** (i + 1))) + o.eps);
  }
  return p;
}

function parameter(values: number[]): Tensor {
  return tensor(values).requiresGrad_(true);
}

describe('AdamW', () => {
  it('follows the closed form, with and without weight decay', () => {
    for (const wd of [0, 0.1]) {
      const starts = [0.5, -2, 3];
      const p = parameter(starts);
      const options = { lr: 0.01, wd, eps: 1e-8 };
      const optimizer = new AdamW([['p', p]], { eps: options.eps, weightDecay: wd });
      const grads = [
        [0.1, -0.3, 2],
        [0.2, 0.5, -1],
        [-0.4, 0.25, 0.125],
      ];
      for (const g of grads) {
        p.grad = tensor(g);
        optimizer.step(options.lr);
      }
      for (const [i, got] of p.detach().toFloat32Array().entries()) {
        const want = reference(
          starts[i],
          grads.map((g) => g[i]),
          options,
        );
        assert.ok(Math.abs(got - want) < 2e-6, `${i}: ${got} instead of ${want}`);
      }
      optimizer.dispose();
    }
  });

  it('moves by the learning rate on the first step, whatever the size of the gradient', () => {
    const p = parameter([1, 1, 1]);
    const optimizer = new AdamW([['p', p]]);
    p.grad = tensor([1e-6, -4, 1e6]);
    optimizer.step(0.25);
    assert.deepEqual([...p.detach().toFloat32Array()], [0.75, 1.25, 0.75]);
  });

  it('leaves parameters without gradient alone, decay included, and counts per parameter', () => {
    const a = parameter([1]);
    const b = parameter([1]);
    const optimizer = new AdamW(
      [
        ['a', a],
        ['b', b],
      ],
      { weightDecay: 0.5 },
    );
    a.grad = tensor([1]);
    optimizer.step(0.1);
    assert.equal(b.item(), 1);
    assert.deepEqual([...optimizer.stateDict().keys()], ['a.exp_avg', 'a.exp_avg_sq', 'a.step']);
    b.grad = tensor([1]);
    optimizer.step(0.1);
    const state = optimizer.stateDict();
    assert.equal(state.get('a.step')?.item(), 2);
    assert.equal(state.get('b.step')?.item(), 1);
  });

  it('gives the same bits however the update is cut into chunks', () => {
    const run = (chunkElements: number) => {
      const params = [parameter([1, 2, 3]), parameter([4]), parameter([5, 6])];
      const optimizer = new AdamW(
        params.map((p, i) => [`p${i}`, p] as const),
        { chunkElements },
      );
      for (let step = 0; step < 3; step++) {
        for (const [i, p] of params.entries()) p.grad = p.detach().mul(0.1 * (i + 1) - 0.15);
        optimizer.step(0.01);
      }
      return params.flatMap((p) => [...p.detach().toFloat32Array()]);
    };
    assert.deepEqual(run(1), run(1 << 20));
  });

  it('continues from an exported state bit by bit', () => {
    const grads = [0.3, -0.7, 0.2, 0.9].map((g) => [g, g * g]);
    const straight = parameter([1, -1]);
    const first = new AdamW([['p', straight]]);
    const half = parameter([1, -1]);
    const second = new AdamW([['p', half]]);
    const resumed = new AdamW([['p', half]]);
    for (const [i, g] of grads.entries()) {
      straight.grad = tensor(g);
      first.step(0.01);
      half.grad = tensor(g);
      if (i === 2) resumed.loadStateDict(second.stateDict());
      (i < 2 ? second : resumed).step(0.01);
    }
    assert.deepEqual(half.detach().toFloat32Array(), straight.detach().toFloat32Array());
  });

  it('refuses a state that does not fit, naming the parameters', () => {
    const p = parameter([1, 2]);
    const optimizer = new AdamW([['p', p]]);
    const misshapen = new Map([
      ['p.exp_avg', tensor([1])],
      ['p.exp_avg_sq', tensor([1])],
      ['p.step', tensor(1)],
    ]);
    assert.throws(() => optimizer.loadStateDict(misshapen), /p: shape 1 instead of 2/);
    const partial = new Map([['p.exp_avg', tensor([1, 2])]]);
    assert.throws(() => optimizer.loadStateDict(partial), /p: incomplete/);
    const unknown = new Map([['q.step', tensor(1)]]);
    assert.throws(() => optimizer.loadStateDict(unknown), CheckpointError);
    assert.throws(() => optimizer.loadStateDict(unknown), /q\.step: unknown/);
  });

  it('keeps its moments through scopes and frees everything else', () => {
    const p = parameter([1, 2]);
    const optimizer = new AdamW([['p', p]]);
    const step = () =>
      scope(() => {
        p.grad = tensor([0.5, 0.5]);
        optimizer.step(0.1);
        optimizer.zeroGrad();
      });
    step();
    const before = liveTensors();
    for (let i = 0; i < 5; i++) step();
    assert.equal(liveTensors(), before);
    assert.equal(optimizer.stateDict().get('p.step')?.item(), 6);
  });
});
