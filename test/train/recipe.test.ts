import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { readDatasetConfig, rewardSources } from '../../lib/train/dataset-config.js';
import { computationOf, loadRecipe, recipeFrom, recipeHash } from '../../lib/train/recipe.js';
import { nearest } from '../../lib/train/yaml-config.js';
import { ConfigError } from '../../lib/util/errors.js';
import { FileError } from '../../lib/util/files.js';

const good = `model_path: models/tiny
dataset:
  regional_reward:
    dataset_names: [comp_data]
    image_transform_args:
      image_stride: 16
      max_image_size: 64
      min_image_size: 32
    weight: 1
dataset_info:
  regional_reward:
    comp_data:
      jsonl_path: rewards.jsonl
      image_dirs: {good: images, bad: images}
lr: 2e-5
eps: 1.0e-15
total_steps: 309
`;

describe('recipes', () => {
  let dir: string;
  before(() => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'srum-recipe-'));
  });
  after(() => fs.rmSync(dir, { recursive: true, force: true }));

  function write(text: string, name = 'recipe.yaml'): string {
    const file = path.join(dir, name);
    fs.writeFileSync(file, text);
    return file;
  }

  /** The ConfigError that reading a text gives. */
  function fault(text: string, overrides = {}): ConfigError {
    const file = write(text);
    try {
      loadRecipe(file, overrides);
    } catch (error) {
      assert.ok(error instanceof ConfigError, String(error));
      assert.equal(error.details.file, file);
      return error;
    }
    assert.fail('was accepted');
  }

  it('fills in the defaults of the released scripts', () => {
    const recipe = loadRecipe(write(good));
    assert.equal(recipe.objective, 'code');
    assert.equal(recipe.lambda_constraint, 0.5);
    assert.equal(recipe.beta2, 0.95);
    assert.equal(recipe.lr, 2e-5);
    assert.equal(recipe.eps, 1e-15);
    assert.equal(recipe.checkpoint_dir, path.join('results', 'checkpoints'));
    assert.deepEqual(recipe.notes, []);
  });

  it('names file, line and the nearest known key for an unknown one', () => {
    const error = fault(good.replace('total_steps: 309', 'warmup_step: 5\ntotal_steps: 309'));
    assert.equal(error.code, 'ERR_UNKNOWN_KEY');
    assert.equal(error.details.line, 17);
    assert.equal(error.details.key, 'warmup_step');
    assert.match(error.message, /Did you mean "warmup_steps"\?/);
  });

  it('does so inside nested mappings too', () => {
    const error = fault(good.replace('image_stride', 'image-strides'));
    assert.equal(error.details.line, 6);
    assert.match(error.message, /Did you mean "image_stride"\?/);
    assert.equal(error.details.key, 'dataset.regional_reward.image_transform_args.image-strides');
  });

  it('does so where a mapping may also be a path', () => {
    const error = fault(good.replace('jsonl_path', 'json_path'));
    assert.equal(error.code, 'ERR_UNKNOWN_KEY');
    assert.equal(error.details.line, 13);
    assert.match(error.message, /Did you mean "jsonl_path"\?/);
  });

  it('says what was expected and found where a type is wrong', () => {
    const error = fault(good.replace('lr: 2e-5', 'lr: fast'));
    assert.equal(error.details.line, 15);
    assert.equal(error.details.key, 'lr');
    assert.equal(error.details.expected, 'a number');
    assert.match(error.details.found ?? '', /"fast"/);
    assert.equal(fault(good.replace('309', '30.5')).details.key, 'total_steps');
    assert.equal(fault(good.replace('lr: 2e-5', 'lr: -1')).details.key, 'lr');
    assert.equal(fault(good.replace('lr: 2e-5', 'objective: dpo')).details.key, 'objective');
  });

  it('names a missing key', () => {
    const error = fault(good.replace('model_path: models/tiny\n', ''));
    assert.equal(error.code, 'ERR_MISSING_KEY');
    assert.equal(error.details.key, 'model_path');
    assert.equal(
      fault(good.replace(/dataset_info[\s\S]*?images}\n/, '')).details.key,
      'dataset_info',
    );
  });

  it('reports syntax errors and repeated keys with their line', () => {
    assert.equal(fault('model_path: [a\nlr: 1\n').code, 'ERR_YAML');
    assert.equal(fault(`${good}lr: 1\n`).details.line, 18);
    assert.equal(fault('- a\n').code, 'ERR_YAML');
    assert.throws(() => loadRecipe(path.join(dir, 'none.yaml')), FileError);
  });

  it('says bounds and choices in words', () => {
    const told = (line: string) => {
      const { key, expected, found } = fault(good.replace('lr: 2e-5', line)).details;
      return [key, expected, found];
    };
    assert.deepEqual(told('lr: -1'), ['lr', 'a number above 0', '-1']);
    assert.deepEqual(told('beta1: 1'), ['beta1', 'a number below 1', '1']);
    assert.deepEqual(told('keep_last: 0.5'), ['keep_last', 'a whole number', '0.5']);
    assert.deepEqual(told('lr: .inf'), ['lr', 'a finite number', 'Infinity']);
    const [, choices] = told('lr_scheduler: x');
    assert.equal(choices, 'one of "constant", "cosine"');
  });

  it('refuses aliases that contain themselves, stand for nothing or multiply', () => {
    const circular = fault(good.replace('lr: 2e-5', 'lr: &a [*a]'));
    assert.equal(circular.code, 'ERR_YAML');
    assert.deepEqual([circular.details.key, circular.details.line], ['lr[0]', 15]);
    const around = fault(good.replace('lr: 2e-5', 'wandb_name: &a {x: {y: *a}}'));
    assert.equal(around.details.key, 'wandb_name.x.y');
    assert.equal(fault(good.replace('lr: 2e-5', 'lr: *b')).details.key, 'lr');
    const lists = [...'bcdefgh'].map((c, i) => {
      const alias = `*${String.fromCharCode(97 + i)}`;
      return `  - &${c} [${Array(9).fill(alias).join(', ')}]`;
    });
    const bomb = `${good}wandb_name:\n  - &a [1]\n${lists.join('\n')}\n`;
    assert.equal(fault(bomb).code, 'ERR_YAML');
    assert.equal(
      loadRecipe(write(good.replace('lr: 2e-5', 'lr: &a 1\neps: *a').replace('eps: 1.0e-15\n', '')))
        .eps,
      1,
    );
  });

  it('refuses options given as objects that contain themselves', () => {
    const lr: unknown[] = [];
    lr.push(lr);
    assert.throws(
      () => recipeFrom({ model_path: 'm', lr }),
      /key lr; expected a number; found a list/,
    );
  });

  it('refuses combinations that cannot work', () => {
    const with_ = (line: string) => fault(`${good}${line}\n`).details.key;
    assert.equal(with_('freeze_vae: false'), 'freeze_vae');
    assert.equal(with_('visual_gen: false'), 'visual_gen');
    assert.equal(with_('expected_num_tokens: 10000'), 'expected_num_tokens');
    assert.equal(with_('lr_scheduler: cosine\nmin_lr: 1.0'), 'min_lr');
    assert.equal(with_('dataset_config_file: x.yaml'), 'dataset_config_file');
  });

  it('checks overrides like the file and lets them win', () => {
    const recipe = loadRecipe(write(good), { lr: 1e-3, total_steps: undefined });
    assert.equal(recipe.lr, 1e-3);
    assert.equal(recipe.total_steps, 309);
    assert.equal(fault(good, { lr: 'x' }).details.line, undefined);
    assert.equal(fault(good, { learning_rate: 1 }).code, 'ERR_UNKNOWN_KEY');
  });

  it('notes options without effect instead of ignoring them silently', () => {
    const recipe = loadRecipe(write(`${good}num_workers: 4\nwarmup_steps: 400\n`));
    assert.equal(recipe.notes.length, 2);
    assert.match(recipe.notes[0], /num_workers has no effect/);
    assert.match(recipe.notes[1], /never reaches/);
  });

  it('hashes what determines the weights and nothing else', () => {
    const hash = (line: string) => recipeHash(loadRecipe(write(`${good}${line}\n`)));
    const base = hash('');
    for (const same of ['save_every: 7', 'results_dir: x', 'keep_last: 1', 'num_workers: 2']) {
      assert.equal(hash(same), base, same);
    }
    for (const other of ['lambda_constraint: 0.1', 'global_seed: 1', 'ema: 0.5', 'beta1: 0.8']) {
      assert.notEqual(hash(other), base, other);
    }
    // A constant-rate run may be prolonged, a cosine one may not.
    assert.equal(recipeHash(loadRecipe(write(good), { total_steps: 400 })), base);
    const cosine = { lr_scheduler: 'cosine' };
    assert.notEqual(
      recipeHash(loadRecipe(write(good), { ...cosine, total_steps: 400 })),
      recipeHash(loadRecipe(write(good), cosine)),
    );
    assert.ok(Object.keys(computationOf(loadRecipe(write(good)))).includes('image_transform_args'));
  });

  it('reads the dataset YAML and the registry from files of their own', () => {
    const dataset = write(
      'regional_reward:\n  dataset_names: [a, b]\n  num_used_data: [8]\n  image_transform_args: {image_stride: 256, max_image_size: 1024, min_image_size: 512}\n',
      'rft.yaml',
    );
    const info = write(
      'regional_reward:\n  a: {jsonl_path: a.jsonl, image_dirs: {good: g, bad: b}, num_total_samples: 5}\n  b: {jsonl_path: b.jsonl, image_dirs: {good: g, bad: b}}\n',
      'info.yaml',
    );
    const recipe = recipeFrom({
      model_path: 'm',
      dataset_config_file: dataset,
      dataset_info: info,
    });
    const { sources, group } = rewardSources(recipe.dataset, recipe.dataset_info, recipe);
    assert.deepEqual(
      sources.map((s) => s.name),
      ['a', 'b'],
    );
    assert.equal(sources[0].badDir, 'b');
    assert.equal(group.image_transform_args.image_stride, 256);
  });

  it('refuses groups it cannot feed from and names that the registry lacks', () => {
    const info = { regional_reward: {} };
    const group =
      '  dataset_names: [x]\n  image_transform_args: {image_stride: 16, max_image_size: 64, min_image_size: 32}\n';
    const t2i = readDatasetConfig(write(`t2i_pretrain:\n${group}`, 'd.yaml'));
    assert.throws(() => rewardSources(t2i, info, { file: 'd.yaml' }), /t2i_pretrain/);
    const reward = readDatasetConfig(write(`regional_reward:\n${group}`, 'd.yaml'));
    assert.throws(() => rewardSources(reward, info, { file: 'd.yaml' }), /no data set named "x"/);
    assert.throws(
      () => readDatasetConfig(write(`regional_rewards:\n${group}`, 'd.yaml')),
      /Did you mean "regional_reward"/,
    );
  });

  it('finds the nearest word only where one is near', () => {
    assert.equal(nearest('warm_up_steps', ['warmup_steps', 'lr']), 'warmup_steps');
    assert.equal(nearest('learning-rate', ['lr', 'eps']), undefined);
  });
});
