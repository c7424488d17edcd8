import { setImmediate } from 'node:timers/promises';
import { arange, linspace, ones, ops, scope, type Tensor, zeros } from '../../lib/torch/index.js';
import type { Bench, BenchCase } from './harness/types.js';

// Small, so that the calls and not the products are timed.
const batch = 4;
const sizes = [16, 32, 32, 10];

/** Operations between two turns of the event loop in the garbage-collected cases. */
const turn = 1000;

/** The fast path: native scopes free what each group of operations made. */
async function inScopes(iterations: number, group: number, step: () => unknown): Promise<void> {
  for (let done = 0; done < iterations; done += group) {
    const count = Math.min(group, iterations - done);
    scope(() => {
      for (let i = 0; i < count; i++) step();
    });
  }
}

/** Without scopes: the collector frees tensors, and a turn of the event loop now and then lets it. */
async function bare(iterations: number, step: () => unknown): Promise<void> {
  for (let done = 0; done < iterations; done += turn) {
    const count = Math.min(turn, iterations - done);
    for (let i = 0; i < count; i++) step();
    await setImmediate();
  }
}

function mlpStep(): () => void {
  const weights: Tensor[] = [];
  const biases: Tensor[] = [];
  for (let i = 0; i + 1 < sizes.length; i++) {
    const [fanIn, fanOut] = [sizes[i], sizes[i + 1]];
    const values = linspace(-1, 1, fanIn * fanOut).div(Math.sqrt(fanIn));
    weights.push(values.view([fanOut, fanIn]).requiresGrad_());
    biases.push(zeros([fanOut]).requiresGrad_());
  }
  const parameters = [...weights, ...biases];
  const inputs = linspace(-1, 1, batch * sizes[0]).view([batch, sizes[0]]);
  const labels = arange(0, batch, 1, { dtype: 'int64' }).remainder(sizes[sizes.length - 1]);
  return () => {
    let h = ops.relu(ops.linear(inputs, weights[0], biases[0]));
    h = ops.relu(ops.linear(h, weights[1], biases[1]));
    const loss = ops.crossEntropyLoss(ops.linear(h, weights[2], biases[2]), labels);
    loss.backward();
    for (const p of parameters) p.grad = null;
  };
}

/** The two ways users run, for one piece of work; `group` operations share a scope. */
function pair(name: string, iterations: number, group: number, step: () => unknown): BenchCase[] {
  return [
    { name: `${name}, scope`, peer: name, iterations, run: (n) => inScopes(n, group, step) },
    { name: `${name}, garbage collected`, peer: name, iterations, run: (n) => bare(n, step) },
  ];
}

export const bench: Bench = {
  about: 'cost of a call from JavaScript into LibTorch, per operation, against Python torch',
  unit: 'ns',
  threads: 1,
  leftOut: [
    'CUDA: kernel launches hide the call there',
    "large tensors: their time is LibTorch's own",
  ],
  cases() {
    const a = ones([2, 2]);
    const b = ones([2, 2]);
    const x = arange(0, 64 * 384, 1, { dtype: 'float32' }).view([64, 384]);
    const chain = () =>
      x.view([64, 12, 32]).transpose(0, 1).unsqueeze(0).select(1, 3).narrow(1, 8, 16);
    return [
      ...pair('add_2x2', 50_000, 100, () => a.add(b)),
      ...pair('mlp_forward_backward', 500, 1, mlpStep()),
      ...pair('view_chain', 10_000, 20, chain),
    ];
  },
};
