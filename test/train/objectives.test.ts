import assert from 'node:assert/strict';
import { Generator, randn, type Tensor, tensor } from '../../lib/torch/index.js';
import { crossEntropyLoss, flowLoss, tokenWeights } from '../../lib/train/objectives.js';
import { ConfigError, DataError } from '../../lib/util/errors.js';

const rows = 6;
const width = 4;
const generator = new Generator(7);
const draw = () => randn([rows, width], { generator });

function terms() {
  return { velocity: draw(), noise: draw(), bad: draw(), good: draw() };
}

/** Mean over tokens and channels of weight times squared error, in double precision. */
function weighted(
  t: { velocity: Tensor; noise: Tensor },
  x: Tensor,
  weight: (row: number) => number,
): number {
  const [v, e, z] = [t.velocity, t.noise, x].map((a) => a.toFloat32Array());
  let sum = 0;
  for (let i = 0; i < v.length; i++)
    sum += weight(Math.floor(i / width)) * (v[i] - (e[i] - z[i])) ** 2;
  return sum / v.length;
}

function close(got: number, want: number): void {
  assert.ok(Math.abs(got - want) <= 1e-5 * Math.max(1, Math.abs(want)), `${got} versus ${want}`);
}

describe('flow objectives', () => {
  const R = [0.25, 0.5, 0.75, 1, 0, 0.125];
  const reward = tensor(R);

  it('code: R times the error to the bad image plus lambda times that to the good one', () => {
    const t = terms();
    const out = flowLoss('code', { ...t, reward }, { lambdaConstraint: 0.5 });
    const first = weighted(t, t.bad, (i) => R[i]);
    const second = weighted(t, t.good, () => 1);
    close(out.reward?.item() ?? Number.NaN, first);
    close(out.constraint.item(), second);
    close(out.loss.item(), first + 0.5 * second);
  });

  it('with one image as both it is mean((R + lambda) e^2), absent or given twice', () => {
    const t = terms();
    const want = weighted(t, t.bad, (i) => R[i] + 0.3);
    for (const good of [null, undefined, t.bad]) {
      const out = flowLoss('code', { ...t, good, reward }, { lambdaConstraint: 0.3 });
      close(out.loss.item(), want);
    }
  });

  it('nft: draws to good images and pushes as far beyond the base model from bad ones', () => {
    const t = { ...terms(), good: null };
    const reference = draw();
    const rewards = [1, -1, 0, 0.5, -0.25, 2];
    const out = flowLoss(
      'nft',
      { ...t, reward: tensor(rewards), reference },
      { lambdaConstraint: 0.5, nftBeta: 0.5, nftGain: 1.5 },
    );
    const [v, e, x, base] = [t.velocity, t.noise, t.bad, reference].map((a) => a.toFloat32Array());
    let want = 0;
    for (let i = 0; i < v.length; i++) {
      const pull = Math.max(-1, Math.min(1, 1.5 * rewards[Math.floor(i / width)]));
      const r = (pull + 1) / 2;
      const u = e[i] - x[i];
      want += r * (0.5 * base[i] + 0.5 * v[i] - u) ** 2;
      want += (1 - r) * (1.5 * base[i] - 0.5 * v[i] - u) ** 2;
    }
    close(out.loss.item(), want / v.length);
  });

  it('nft: has its minimum where the reward moves the base velocity, even for a reward of -1', () => {
    const rewards = [1, -1, 0, 0.5, -0.25, 0.75];
    const reference = draw();
    const t = { ...terms(), good: null };
    const u = t.noise.sub(t.bad);
    // v = v_base + (2 r - 1) (u - v_base) / beta with beta 1: R (u - v_base) beyond the base.
    const best = reference.add(u.sub(reference).mul(tensor(rewards).unsqueeze(-1)));
    const velocity = best.detach().clone().requiresGrad_(true);
    const out = flowLoss(
      'nft',
      { ...t, velocity, reward: tensor(rewards), reference },
      { lambdaConstraint: 0 },
    );
    out.loss.backward();
    assert.ok((velocity.grad as Tensor).abs().max().item() < 1e-6);
  });

  it('nft: the weight of a token is its pull, cut to [-1, 1]', () => {
    const rewards = tensor([1, -0.5, 0, 0.25, -0.25, 0.5]);
    const weights = tokenWeights('nft', rewards, rows, { lambdaConstraint: 0.5, nftGain: 2 });
    assert.deepEqual([...weights.toFloat32Array()], [1, -1, 0, 0.5, -0.5, 1]);
  });

  it('nft: asks for the base model', () => {
    assert.throws(
      () => flowLoss('nft', { ...terms(), reward }, { lambdaConstraint: 0 }),
      (error: unknown) => error instanceof ConfigError && error.code === 'ERR_NO_REFERENCE',
    );
  });

  it('paper: a signed map can make weights negative, and then the gradient pushes away', () => {
    const t = { ...terms(), good: null };
    const velocity = t.velocity.requiresGrad_(true);
    const signed = tensor([-0.9, 0.4, -0.9, 0, 1, -0.2]);
    const out = flowLoss('paper', { ...t, reward: signed }, { lambdaConstraint: 0.5 });
    out.loss.backward();
    const grad = (velocity.grad as Tensor).toFloat32Array();
    const error = velocity.detach().sub(t.noise.sub(t.bad)).toFloat32Array();
    const weights = tokenWeights('paper', signed, rows, { lambdaConstraint: 0.5 }).toFloat32Array();
    assert.deepEqual(
      [...weights].map((w) => w < 0),
      [true, false, true, false, false, false],
    );
    for (let i = 0; i < grad.length; i++) {
      const want = (2 * weights[Math.floor(i / width)] * error[i]) / grad.length;
      assert.ok(Math.abs(grad[i] - want) < 1e-6, `element ${i}`);
    }
  });

  it('sft looks at the good image only and at no reward', () => {
    const t = terms();
    const out = flowLoss('sft', { ...t, reward }, { lambdaConstraint: 0.5 });
    close(
      out.loss.item(),
      weighted(t, t.good, () => 1),
    );
    assert.equal(out.reward, null);
    assert.deepEqual(
      [...tokenWeights('sft', reward, rows, { lambdaConstraint: 0.5 }).toFloat32Array()],
      Array(rows).fill(1),
    );
  });

  it('parts of a batch add up to the whole when divided by the common token count', () => {
    const t = terms();
    const whole = flowLoss('code', { ...t, reward }, { lambdaConstraint: 0.5 }).loss.item();
    const part = (start: number, n: number) => {
      const cut = (x: Tensor) => x.narrow(0, start, n);
      return flowLoss(
        'code',
        {
          velocity: cut(t.velocity),
          noise: cut(t.noise),
          bad: cut(t.bad),
          good: cut(t.good),
          reward: cut(reward),
        },
        { lambdaConstraint: 0.5, tokens: rows },
      ).loss.item();
    };
    close(part(0, 2) + part(2, 4), whole);
  });

  it('refuses tensors that do not fit and unknown names', () => {
    const t = terms();
    const options = { lambdaConstraint: 0.5 };
    assert.throws(() => flowLoss('code', { ...t, reward: tensor([1]) }, options), DataError);
    assert.throws(() => flowLoss('code', { ...t, noise: tensor([[1]]) }, options), /noise/);
    assert.throws(() => flowLoss('dpo' as 'code', t, options), ConfigError);
  });
});

describe('cross entropy of labelled tokens', () => {
  const ce = tensor([1, 2, 6]);

  it('is the token mean, or the weighted mean', () => {
    assert.equal(crossEntropyLoss(ce).item(), 3);
    assert.equal(crossEntropyLoss(ce, tensor([1, 1, 0.5])).item(), Math.fround(6 / 2.5));
  });

  it('takes a divisor from outside', () => {
    assert.equal(crossEntropyLoss(ce, null, 9).item(), 1);
    assert.equal(crossEntropyLoss(ce, tensor([1, 1, 0.5]), 12).item(), 0.5);
  });
});
