import assert from 'node:assert/strict';
import { learningRate, schedule } from '../../lib/optim/schedules.js';
import { ConfigError } from '../../lib/util/errors.js';

describe('learning-rate schedules', () => {
  it('ramps from 0 to the peak, then stays there (constant)', () => {
    const rate = schedule({ kind: 'constant', lr: 1e-4, warmupSteps: 4, totalSteps: 9 });
    const rates = Array.from({ length: 9 }, (_, step) => rate(step));
    const wanted = [0, 2.5e-5, 5e-5, 7.5e-5, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4];
    for (const [i, r] of rates.entries()) assert.ok(Math.abs(r - wanted[i]) < 1e-18, `step ${i}`);
  });

  it('falls along half a cosine to the floor and stays there', () => {
    const options = { kind: 'cosine', lr: 1e-3, minLr: 1e-5, totalSteps: 8 } as const;
    assert.equal(learningRate(0, options), 1e-3);
    assert.ok(Math.abs(learningRate(4, options) - (1e-3 + 1e-5) / 2) < 1e-15);
    assert.ok(Math.abs(learningRate(8, options) - 1e-5) < 1e-18);
    assert.ok(Math.abs(learningRate(100, options) - 1e-5) < 1e-18);
    for (let s = 1; s <= 8; s++) {
      assert.ok(learningRate(s, options) < learningRate(s - 1, options), `step ${s}`);
    }
  });

  it('without warm-up starts at the peak', () => {
    assert.equal(learningRate(0, { kind: 'constant', lr: 2e-5, totalSteps: 1 }), 2e-5);
  });

  it('refuses numbers that make no sense', () => {
    const good = { kind: 'cosine', lr: 1e-4, minLr: 0, warmupSteps: 1, totalSteps: 5 } as const;
    for (const bad of [
      { lr: 0 },
      { lr: Number.NaN },
      { minLr: -1 },
      { minLr: 1 },
      { warmupSteps: 1.5 },
      { totalSteps: 0 },
    ]) {
      assert.throws(() => schedule({ ...good, ...bad }), ConfigError, JSON.stringify(bad));
    }
  });
});
