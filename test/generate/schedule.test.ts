import assert from 'node:assert/strict';
import { guidanceActive, samplerSchedule, scheduleCost } from '../../lib/generate/schedule.js';
import { ConfigError } from '../../lib/util/errors.js';

describe('sampler schedule', () => {
  it('runs the network one time less than it has points', () => {
    for (const n of [2, 3, 10, 50]) {
      const { timesteps, dts } = samplerSchedule(n, 3);
      assert.equal(timesteps.length, n - 1);
      assert.equal(dts.length, n - 1);
    }
  });

  it('begins at exactly 1, falls strictly, and its steps reach exactly 0', () => {
    for (const shift of [0.5, 1, 2.3, 3, 5]) {
      const { timesteps, dts } = samplerSchedule(50, shift);
      assert.equal(timesteps[0], 1);
      for (let i = 1; i < timesteps.length; i++) assert.ok(timesteps[i] < timesteps[i - 1]);
      assert.equal(dts.at(-1), timesteps.at(-1));
      const sum = dts.reduce((a, b) => a + b, 0);
      assert.ok(Math.abs(sum - 1) < 1e-6, String(sum));
    }
  });

  it('counts the work of the usual settings', () => {
    const shifted = samplerSchedule(50, 3);
    assert.ok(Math.abs((shifted.timesteps.at(-1) as number) - 0.05882) < 1e-5);
    assert.deepEqual(scheduleCost(shifted, [0.4, 1]), { evaluations: 49, guided: 41, passes: 90 });
    assert.deepEqual(scheduleCost(shifted, [0.4, 1], 2).passes, 131);
    assert.equal(scheduleCost(samplerSchedule(50, 1), [0.4, 1]).guided, 30);
    assert.equal(scheduleCost(shifted, [0, 1]).guided, 49);
  });

  it('is open at the low end of the guidance interval and closed at the high end', () => {
    assert.equal(guidanceActive(0.4, [0.4, 1]), false);
    assert.equal(guidanceActive(1, [0.4, 1]), true);
    assert.equal(guidanceActive(0.9, [0, 0.9]), true);
    assert.equal(guidanceActive(0.91, [0, 0.9]), false);
  });

  it('refuses counts and shifts that make no schedule', () => {
    for (const n of [1, 0, -3, 2.5, Number.NaN]) {
      assert.throws(() => samplerSchedule(n, 3), ConfigError);
    }
    for (const shift of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      assert.throws(() => samplerSchedule(10, shift), ConfigError);
    }
  });
});
