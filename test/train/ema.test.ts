import assert from 'node:assert/strict';
import { noGrad, tensor } from '../../lib/torch/index.js';
import { Ema } from '../../lib/train/ema.js';
import { CheckpointError, ConfigError } from '../../lib/util/errors.js';

describe('moving average of weights', () => {
  it('starts at the weights and follows them by 1 - decay', () => {
    const p = tensor([1, -1]).requiresGrad_(true);
    const ema = new Ema([['p', p]], 0.75);
    noGrad(() => p.copy_(tensor([3, 0])));
    assert.deepEqual([...(ema.stateDict().get('p')?.toFloat32Array() ?? [])], [1, -1]);
    ema.update();
    assert.deepEqual([...(ema.stateDict().get('p')?.toFloat32Array() ?? [])], [1.5, -0.75]);
    ema.restart();
    assert.deepEqual([...(ema.stateDict().get('p')?.toFloat32Array() ?? [])], [3, 0]);
  });

  it('takes over saved averages and refuses others', () => {
    const ema = new Ema([['p', tensor([1, 2])]], 0.5);
    ema.loadStateDict(new Map([['p', tensor([5, 6])]]));
    assert.deepEqual([...(ema.stateDict().get('p')?.toFloat32Array() ?? [])], [5, 6]);
    assert.throws(() => ema.loadStateDict(new Map()), CheckpointError);
    assert.throws(() => ema.loadStateDict(new Map([['p', tensor([1])]])), /p: misshapen/);
  });

  it('refuses a decay outside of (0, 1)', () => {
    for (const decay of [0, 1, -0.5, Number.NaN])
      assert.throws(() => new Ema([], decay), ConfigError);
  });
});
