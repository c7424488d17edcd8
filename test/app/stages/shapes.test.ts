import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { exportStage } from '../../../lib/app/stages/export-stage.js';
import { generateStage, OUTPUT_FILE } from '../../../lib/app/stages/generate-stage.js';
import { askImage, editImage } from '../../../lib/app/stages/image-request.js';
import { inspectModel } from '../../../lib/app/stages/inspect-stage.js';
import { openModel } from '../../../lib/app/stages/model-session.js';
import { RAW_REWARDS_FILE, REWARDS_FILE, scoreStage } from '../../../lib/app/stages/score-stage.js';
import { trainStage } from '../../../lib/app/stages/train-stage.js';
import { decodeImage } from '../../../lib/data/images.js';
import { checkRewardRecord, parseRewardRecord } from '../../../lib/data/rewards.js';
import { readModelConfig } from '../../../lib/models/bagel/load.js';
import { saveBagel } from '../../../lib/models/bagel/save.js';
import { SHAPES_CONFIG } from '../../../lib/models/shapes/config.js';
import { shapesModel } from '../../../lib/models/shapes/model.js';
import { packageRoot } from '../../../lib/native/paths.js';
import { setNumThreads } from '../../../lib/torch/index.js';
import { records, tempDir } from '../../support/srum.js';

const RECIPE = `
model_path: set by the stage
visual_und: false
objective: paper
dataset:
  regional_reward:
    dataset_names: [rewards]
    weight: 1
    image_transform_args: { image_stride: 8, max_image_size: 32, min_image_size: 16 }
expected_num_tokens: 64
max_num_tokens: 128
max_num_tokens_per_sample: 64
prefer_buffer_before: 64
total_steps: 3
warmup_steps: 1
lr: 1.0e-3
ema: 0
results_dir: set by the stage
`;

const PROMPTS = ['a red circle and a blue square', 'two green triangles'].map((Question, i) => ({
  Question,
  Category: 'colour',
  Question_id: i + 1,
  original_index: i,
}));

describe('a shapes model directory', function () {
  this.timeout(120_000);
  let dir = '';
  const at = (...parts: string[]): string => path.join(dir, ...parts);
  const common = { device: 'cpu', seed: 1 };

  before(() => {
    setNumThreads(1);
    dir = tempDir();
    const tokenizerDir = path.join(packageRoot(), 'assets', 'shapes');
    const { bagel, vae } = shapesModel(5);
    saveBagel(at('model'), { bagel, vae, tokenizerDir });
    bagel.dispose();
    vae.dispose();
    fs.writeFileSync(at('recipe.yaml'), RECIPE);
  });
  after(() => fs.rmSync(dir, { recursive: true, force: true }));

  it('says what it is', () => {
    const { images, loadable, autoencoder_keys, missing_files } = inspectModel(at('model'));
    assert.deepEqual(images, { draws_up_to: 32, looks_up_to: 32, latent_token: 8, patch: 8 });
    assert.deepEqual([loadable, missing_files], [true, []]);
    assert.deepEqual(autoencoder_keys?.missing, []);
  });

  it('draws pictures of its own size', async () => {
    const report = await generateStage({
      ...common,
      model: at('model'),
      prompts: PROMPTS,
      out: at('pictures'),
      numImages: 1,
      inference: { num_timesteps: 4 },
    });
    assert.deepEqual([report.done, report.failed], [2, 0]);
    for (const record of records(at('pictures', OUTPUT_FILE))) {
      assert.deepEqual([record.width, record.height], [32, 32]);
      const picture = await decodeImage(fs.readFileSync(at('pictures', record.image_file)));
      assert.deepEqual([picture.width, picture.height], [32, 32]);
    }
  });

  it('is asked as a judge in its own words, in few tokens', async () => {
    const report = await scoreStage({
      ...common,
      model: at('model'),
      input: at('pictures', OUTPUT_FILE),
      out: at('scores'),
      settings: { maxRegions: 4, maxObjectBytes: 24, maxReasonBytes: 24 },
    });
    assert.deepEqual([report.done, report.rewards, report.failures], [2, 2, []]);
    for (const raw of records(at('scores', RAW_REWARDS_FILE))) {
      assert.deepEqual([raw.status, raw.prompt_version], ['ok', SHAPES_CONFIG.judge?.version]);
      assert.match(raw.vlm_raw_output, /^\{"regions":\[/, 'no thoughts');
    }
    for (const record of records(at('scores', REWARDS_FILE))) {
      const size = { width: 32, height: 32 };
      assert.deepEqual(checkRewardRecord(parseRewardRecord(record), size), []);
    }
    const settings = JSON.parse(fs.readFileSync(at('scores', 'run.json'), 'utf8')).settings;
    assert.deepEqual(
      [settings.think, settings.prompt_version],
      [false, SHAPES_CONFIG.judge?.version],
    );
    assert.equal(settings.proposer, 'blobs');
  });

  it('is trained on its verdicts and exported with its code and its words', async () => {
    const trained = await trainStage({
      recipe: at('recipe.yaml'),
      overrides: { device: 'cpu', results_dir: at('train') },
      model: at('model'),
      rewards: at('scores', REWARDS_FILE),
      images: at('pictures'),
    });
    assert.equal(trained.step, 3);
    assert.ok(Number.isFinite(trained.last?.loss));
    await exportStage({
      checkpoint: at('train'),
      model: at('model'),
      out: at('exported'),
      weights: 'raw',
      dtype: 'float32',
    });
    const before = readModelConfig(at('model'));
    assert.deepEqual(readModelConfig(at('exported')), before);
    assert.equal(before.judge?.version, SHAPES_CONFIG.judge?.version);
    for (const file of ['ae.safetensors', 'tokenizer.json', 'srum.json']) {
      assert.deepEqual(fs.readFileSync(at('exported', file)), fs.readFileSync(at('model', file)));
    }
    const session = openModel({ model: at('exported'), device: 'cpu' });
    assert.equal(session.parts.vae?.downsample, 8);
    session.dispose();
  });

  it('answers questions about pictures and changes them', async () => {
    const image = at('pictures', '1.png');
    const answer = await askImage({
      ...common,
      model: at('model'),
      image,
      text: 'what is in the picture?',
      inference: { max_think_token_n: 8 },
    });
    assert.equal(typeof answer.answer, 'string');
    const edit = await editImage({
      ...common,
      model: at('model'),
      image,
      text: 'a green cross',
      out: at('edited.png'),
      inference: { num_timesteps: 3 },
    });
    assert.deepEqual([edit.width, edit.height], [32, 32]);
  });
});
