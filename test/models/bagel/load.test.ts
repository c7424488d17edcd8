import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Autoencoder } from '../../../lib/models/bagel/autoencoder.js';
import { Bagel } from '../../../lib/models/bagel/bagel.js';
import { loadBagel, readModelConfig } from '../../../lib/models/bagel/load.js';
import { saveBagel } from '../../../lib/models/bagel/save.js';
import { StateDictError } from '../../../lib/nn/key-report.js';
import type { Tensor } from '../../../lib/torch/index.js';
import { Generator, ops, randn, writeSafetensors } from '../../../lib/torch/index.js';
import { CheckpointError, ConfigError } from '../../../lib/util/errors.js';
import { peakWhileWriting } from '../../support/live-tensors.js';
import { tinyConfig } from '../../support/tiny-model.js';

const PATCH = 'vit_model.vision_model.embeddings.patch_embedding.weight';

function same(a: Bagel, b: Bagel): void {
  const other = b.stateDict();
  const state = a.stateDict();
  assert.deepEqual([...state.keys()], [...other.keys()]);
  for (const [key, tensor] of state) assert.ok(ops.equal(tensor, other.get(key) as Tensor), key);
}

describe('loadBagel', () => {
  let dir: string;
  let bagel: Bagel;
  let vae: Autoencoder;

  before(() => {
    const config = tinyConfig({ llm: { qk_norm: false } });
    bagel = new Bagel(config).initWeights(new Generator(1));
    vae = new Autoencoder(config.vae).initWeights(new Generator(2));
  });

  beforeEach(() => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'srum-load-'));
    saveBagel(dir, { bagel, vae });
  });

  afterEach(() => fs.rmSync(dir, { recursive: true, force: true }));

  const file = (name: string) => path.join(dir, name);
  const edit = (name: string, change: (json: Record<string, unknown>) => unknown) =>
    fs.writeFileSync(
      file(name),
      JSON.stringify(change(JSON.parse(fs.readFileSync(file(name), 'utf8')))),
    );
  const rewrite = (change: (state: Map<string, Tensor>) => void, name = 'ema.safetensors') => {
    const state = bagel.stateDict();
    change(state);
    writeSafetensors(file(name), state);
  };

  it('reads back what was saved', () => {
    const loaded = loadBagel(dir);
    assert.deepEqual(loaded.config, bagel.config);
    assert.deepEqual(readModelConfig(dir), bagel.config);
    assert.equal(loaded.tokenizerDir, null);
    assert.deepEqual([loaded.computed, loaded.skipped], [[], []]);
    same(loaded.bagel, bagel);
    const state = loaded.vae?.stateDict();
    for (const [key, t] of vae.namedParameters())
      assert.ok(ops.equal(t, state?.get(key) as Tensor));
  });

  it('converts to the asked dtype, the autoencoder excepted', () => {
    const loaded = loadBagel(dir, { dtype: 'bfloat16' });
    assert.equal(loaded.bagel.dtype, 'bfloat16');
    assert.equal(loaded.bagel.latentPosEmbed.posEmbed.dtype, 'bfloat16');
    assert.equal(loaded.vae?.parameters()[0].dtype, 'float32');
  });

  it('holds one converted tensor at a time while it saves', async () => {
    const peak = await peakWhileWriting(() => saveBagel(dir, { bagel, dtype: 'bfloat16' }));
    assert.ok(bagel.stateDict().size > 20);
    // The tensor, its detached source and a copy on the host.
    assert.ok(peak >= 1 && peak <= 3, `${peak}`);
  });

  it('lists every key that does not fit', () => {
    rewrite((state) => {
      state.delete('llm2vae.bias');
      state.delete('language_model.model.norm.weight');
      state.set('llm2vae.scale', state.get('llm2vae.weight') as Tensor);
      state.set('vae2llm.bias', randn([3], { generator: new Generator(1) }));
    });
    assert.throws(
      () => loadBagel(dir),
      (error: unknown) => {
        assert.ok(error instanceof StateDictError);
        assert.deepEqual(error.report.missing.sort(), [
          'language_model.model.norm.weight',
          'llm2vae.bias',
        ]);
        assert.deepEqual(error.report.unexpected, ['llm2vae.scale']);
        assert.deepEqual(error.report.misshapen, [
          { key: 'vae2llm.bias', expected: [32], found: [3] },
        ]);
        return error.message.includes('ema.safetensors');
      },
    );
  });

  it('prefers what the manifest names, then ema, and takes an explicit choice', () => {
    rewrite((state) => state.set('llm2vae.bias', ops.full([16], 5)), 'model.safetensors');
    const bias = (loaded: { bagel: Bagel }) => loaded.bagel.llm2vae.bias?.toFloat32Array()[0];
    assert.equal(bias(loadBagel(dir)), 0);
    assert.equal(bias(loadBagel(dir, { weights: 'model.safetensors' })), 5);
    edit('srum.json', (json) => ({ ...json, weights: 'model.safetensors' }));
    assert.equal(bias(loadBagel(dir)), 5);
    edit('srum.json', ({ weights: _, ...json }) => json);
    assert.equal(bias(loadBagel(dir)), 0);
    assert.throws(() => loadBagel(dir, { weights: 'other.safetensors' }), CheckpointError);
  });

  it('finds weights under another name by what they hold', () => {
    edit('srum.json', ({ weights: _, ...json }) => json);
    fs.renameSync(file('ema.safetensors'), file('weights-v2.safetensors'));
    const loaded = loadBagel(dir);
    assert.equal(path.basename(loaded.weightsFile), 'weights-v2.safetensors');
    fs.rmSync(file('weights-v2.safetensors'));
    assert.throws(() => loadBagel(dir), CheckpointError);
  });

  it('reads sharded weights through their index and refuses a wrong index', () => {
    edit('srum.json', ({ weights: _, ...json }) => json);
    fs.rmSync(file('ema.safetensors'));
    const entries = [...bagel.stateDict()];
    const halves = [entries.slice(0, 30), entries.slice(30)];
    const map: Record<string, string> = {};
    for (const [i, half] of halves.entries()) {
      const name = `model-0000${i + 1}-of-00002.safetensors`;
      writeSafetensors(file(name), half);
      for (const [key] of half) map[key] = name;
    }
    const index = file('model.safetensors.index.json');
    fs.writeFileSync(index, JSON.stringify({ weight_map: map }));
    same(loadBagel(dir).bagel, bagel);
    for (const wrong of [
      '../ema.safetensors',
      halves[1][0][0],
      'model-00002-of-00002.safetensors',
    ]) {
      const bad = { ...map, [entries[0][0]]: wrong };
      fs.writeFileSync(index, JSON.stringify({ weight_map: bad }));
      assert.throws(() => loadBagel(dir), Error, wrong);
    }
    fs.writeFileSync(index, '{"weight_map": []}');
    assert.throws(() => loadBagel(dir), CheckpointError);
  });

  it('takes a convolution as patch embedding', () => {
    const conv = randn([16, 3, 14, 14], { generator: new Generator(4) });
    rewrite((state) => state.set(PATCH, conv));
    const weight = loadBagel(dir).bagel.stateDict().get(PATCH) as Tensor;
    assert.ok(ops.equal(weight, conv.permute([0, 2, 3, 1]).reshape([16, 588])));
  });

  it('computes missing position tables and says so', () => {
    rewrite((state) => {
      state.delete('latent_pos_embed.pos_embed');
      state.delete('vit_pos_embed.pos_embed');
    });
    const loaded = loadBagel(dir);
    assert.deepEqual(loaded.computed, ['latent_pos_embed.pos_embed', 'vit_pos_embed.pos_embed']);
    same(loaded.bagel, bagel);
  });

  it('loads weights without a vision tower, and leaves one out on request', () => {
    const without = loadBagel(dir, { vision: false });
    assert.equal(without.bagel.vitModel, undefined);
    assert.ok(without.skipped.includes('connector.fc1.bias'));
    rewrite((state) => {
      for (const key of [...state.keys()]) if (/^(vit_|connector)/.test(key)) state.delete(key);
    });
    assert.equal(loadBagel(dir).bagel.connector, undefined);
    assert.throws(() => loadBagel(dir, { vision: true }), StateDictError);
  });

  it('needs the autoencoder only when asked for it', () => {
    fs.rmSync(file('ae.safetensors'));
    assert.equal(loadBagel(dir).vae, null);
    assert.throws(() => loadBagel(dir, { vae: true }), CheckpointError);
  });

  it('reads a directory without manifest as the released model lays it out', () => {
    const config = tinyConfig();
    const plain = new Bagel(config).initWeights(new Generator(3));
    fs.rmSync(dir, { recursive: true });
    saveBagel(dir, { bagel: plain });
    fs.rmSync(file('srum.json'));
    edit('llm_config.json', (json) => ({ ...json, tie_word_embeddings: true, qk_norm: false }));
    edit('vit_config.json', (json) => ({ ...json, rope: true }));
    assert.throws(() => loadBagel(dir), StateDictError, 'the autoencoder width differs');
    const state = new Map(plain.namedParameters());
    const wide = new Bagel({ ...config, vae: { ...config.vae, z_channels: 16 } });
    wide.initWeights(new Generator(4));
    for (const key of ['vae2llm.weight', 'llm2vae.weight', 'llm2vae.bias']) {
      state.set(key, wide.stateDict().get(key) as Tensor);
    }
    writeSafetensors(file('ema.safetensors'), state);
    const loaded = loadBagel(dir);
    assert.equal(loaded.config.llm.tie_word_embeddings, false);
    assert.equal(loaded.config.bagel.max_latent_size, 8);
    assert.equal(loaded.config.vit.num_hidden_layers, 1);
  });

  it('applies the settings of a run over those of the directory', () => {
    const overrides = { llm: { freeze_und: true }, bagel: { timestep_shift: 3 } };
    const { config } = loadBagel(dir, { overrides });
    assert.deepEqual([config.llm.freeze_und, config.bagel.timestep_shift], [true, 3]);
  });

  it('names the file a wrong value stands in', () => {
    edit('llm_config.json', (json) => ({ ...json, rope_theta: -1 }));
    assert.throws(() => readModelConfig(dir), {
      message: `the model configuration is wrong; file ${file('llm_config.json')}; key rope_theta; expected a number above 0; found -1`,
    });
  });

  it('reads and checks which proposer its pictures want', () => {
    assert.equal(readModelConfig(dir).proposer, undefined);
    edit('srum.json', (json) => ({ ...json, proposer: 'blobs' }));
    assert.equal(readModelConfig(dir).proposer, 'blobs');
    edit('srum.json', (json) => ({ ...json, proposer: 'sam' }));
    assert.throws(() => readModelConfig(dir), {
      name: 'ConfigError',
      message: /srum\.json; key proposer; expected .*boxes.*blobs.*; found/,
    });
  });

  it('names broken and missing configuration files', () => {
    edit('srum.json', (json) => ({ ...json, latent_size: 3 }));
    assert.throws(() => loadBagel(dir), ConfigError);
    edit('srum.json', ({ latent_size: _, ...json }) => json);
    edit('llm_config.json', ({ hidden_size: _, ...json }) => json);
    assert.throws(() => loadBagel(dir), /hidden_size/);
    fs.rmSync(file('llm_config.json'));
    assert.throws(() => loadBagel(dir), CheckpointError);
    assert.throws(() => loadBagel(file('nothing')), CheckpointError);
  });
});
