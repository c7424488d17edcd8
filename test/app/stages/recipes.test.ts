import assert from 'node:assert/strict';
import path from 'node:path';
import { recipeOf } from '../../../lib/app/stages/train-stage.js';
import { packageRoot } from '../../../lib/native/paths.js';

describe('recipes that come with the package', () => {
  const recipe = (name: string, overrides: Record<string, unknown> = {}) =>
    recipeOf({
      recipe: path.join(packageRoot(), 'assets', 'recipes', name),
      overrides: { ...overrides, model_path: '/models/some' },
      rewards: '/data/rewards.jsonl',
      images: '/data/pictures',
    });

  it('srum-comp has the values of the released script', () => {
    const found = recipe('srum-comp.yaml');
    assert.deepEqual(found.notes, []);
    const { lr, total_steps, warmup_steps, lambda_constraint, objective } = found;
    assert.deepEqual(
      [lr, total_steps, warmup_steps, lambda_constraint, objective],
      [2e-5, 309, 100, 0.5, 'code'],
    );
    assert.deepEqual([found.expected_num_tokens, found.max_num_tokens], [8192, 9216]);
    assert.deepEqual([found.visual_und, found.freeze_vit, found.ema], [false, true, 0]);
    const transform = found.dataset.regional_reward?.image_transform_args;
    assert.deepEqual(
      [transform?.image_stride, transform?.max_image_size, transform?.min_image_size],
      [256, 1024, 512],
    );
    assert.deepEqual(found.dataset_info.regional_reward?.rewards, {
      jsonl_path: '/data/rewards.jsonl',
      image_dirs: { good: '/data/pictures', bad: '/data/pictures' },
    });
  });

  it('shapes-demo is whole, and options given by the caller win', () => {
    const found = recipe('shapes-demo.yaml', { total_steps: 5, device: 'cpu' });
    assert.deepEqual([found.objective, found.total_steps, found.device], ['nft', 5, 'cpu']);
  });
});
