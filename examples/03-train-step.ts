// A training loop from its parts: a module, a loss, AdamW with warm-up, clipped gradients.
import { Linear, Module } from 'srum/nn';
import { AdamW, clipGradNorm, schedule } from 'srum/optim';
import { Generator, noGrad, ops, randn, scope, type Tensor } from 'srum/torch';

class Mlp extends Module {
  up = new Linear(2, 32);
  down = new Linear(32, 1);

  forward(x: Tensor): Tensor {
    return this.down.forward(ops.silu(this.up.forward(x)));
  }
}

const generator = new Generator(0);
const model = new Mlp().initWeights(generator).requiresGrad_();
const optimizer = new AdamW(model.namedParameters());
const rate = schedule({ kind: 'cosine', lr: 0.02, minLr: 0.001, warmupSteps: 10, totalSteps: 200 });

for (let step = 0; step < 200; step++) {
  // Everything a step makes is freed at its end; parameters and moments live outside.
  const loss = scope(() => {
    const x = randn([64, 2], { generator });
    const target = noGrad(() => x.select(1, 0).mul(x.select(1, 1)).unsqueeze(1));
    const error = ops.mseLoss(model.forward(x), target);
    optimizer.zeroGrad();
    error.backward();
    clipGradNorm([...optimizer.gradients().values()], 1);
    optimizer.step(rate(step));
    return error.item();
  });
  if (step % 50 === 0 || step === 199) console.log(`step ${step}: loss ${loss.toFixed(4)}`);
}
