import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { loadBagel } from '../../lib/models/bagel/load.js';
import { openSafetensors, writeSafetensors } from '../../lib/torch/index.js';
import { exportModel } from '../../lib/train/export.js';
import { recipeFrom } from '../../lib/train/recipe.js';
import { runRecipe } from '../../lib/train/run.js';
import { CheckpointError, ConfigError } from '../../lib/util/errors.js';
import { peakWhileWriting } from '../support/live-tensors.js';
import { buildWorkshop, onOneThread, type Workshop } from '../support/workshop.js';

describe('export to a model directory', function () {
  this.timeout(120_000);
  onOneThread();
  let shop: Workshop;
  let checkpoint: string;
  before(async () => {
    shop = await buildWorkshop(3);
    const summary = await runRecipe(recipeFrom(shop.options({ total_steps: 3 })));
    checkpoint = summary.checkpoint as string;
  });
  after(() => fs.rmSync(shop.dir, { recursive: true, force: true }));

  const options = (output: string, changes = {}) => ({
    checkpoint,
    base: shop.model,
    output: path.join(shop.dir, output),
    weights: 'raw' as const,
    dtype: 'float32' as const,
    ...changes,
  });

  it('holds the trained weights, the untrained parts of the base and all its files', async () => {
    const report = await exportModel(options('raw'));
    const written = openSafetensors(path.join(report.output, 'model.safetensors'));
    const base = openSafetensors(path.join(shop.model, 'ema.safetensors'));
    const trained = openSafetensors(path.join(checkpoint, 'model.safetensors'));
    assert.deepEqual([...written.keys()].sort(), [...base.keys()].sort());
    assert.ok(report.from_base.length > 0);
    assert.ok(report.from_base.every((key) => /^(vit_model|connector|vit_pos_embed)\./.test(key)));
    for (const key of base.keys()) {
      const source = trained.has(key) ? trained : base;
      assert.ok(written.get(key).equal(source.get(key)), key);
    }
    for (const name of ['llm_config.json', 'ae.safetensors', 'tokenizer.json']) {
      assert.deepEqual(
        fs.readFileSync(path.join(report.output, name)),
        fs.readFileSync(path.join(shop.model, name)),
      );
    }
    const { ino } = fs.statSync(path.join(report.output, 'ema.safetensors'));
    assert.equal(ino, fs.statSync(path.join(report.output, 'model.safetensors')).ino);
    assert.equal(report.step, 3);
    loadBagel(report.output).bagel.dispose();
  });

  it('can hold the average instead, in bfloat16', async () => {
    const report = await exportModel(options('ema', { weights: 'ema', dtype: 'bfloat16' }));
    const written = openSafetensors(path.join(report.output, 'model.safetensors'));
    const average = openSafetensors(path.join(checkpoint, 'ema.safetensors'));
    const key = 'llm2vae.weight';
    assert.ok(written.keys().every((k) => written.info(k).dtype === 'bfloat16'));
    assert.ok(written.get(key).equal(average.get(key).to('bfloat16')));
    const raw = openSafetensors(path.join(checkpoint, 'model.safetensors'));
    assert.ok(!average.get(key).equal(raw.get(key)));
  });

  it('holds one converted tensor at a time', async () => {
    const peak = await peakWhileWriting(() =>
      exportModel(options('slim', { weights: 'raw', dtype: 'bfloat16' })),
    );
    // Beside it the mapped files and the steps of its conversion.
    assert.ok(peak >= 1 && peak <= 8, `${peak}`);
    assert.ok(openSafetensors(path.join(shop.dir, 'slim', 'model.safetensors')).keys().length > 20);
  });

  it('does not touch a directory that is there unless told to', async () => {
    const target = options('taken');
    fs.mkdirSync(target.output);
    fs.writeFileSync(path.join(target.output, 'precious'), 'x');
    await assert.rejects(exportModel(target), ConfigError);
    assert.deepEqual(fs.readdirSync(target.output), ['precious']);
    await exportModel({ ...target, overwrite: true });
    assert.ok(!fs.existsSync(path.join(target.output, 'precious')));
    await assert.rejects(exportModel({ ...target, output: shop.model }), ConfigError);
  });

  it('clears away what a killed export left', async () => {
    const dead = spawnSync(process.execPath, ['-e', '']).pid;
    const stale = path.join(shop.dir, `.again.partial-${dead}-1`);
    fs.mkdirSync(stale);
    // Killed between taking the old directory away and putting the new one in its place.
    fs.mkdirSync(`${stale}-old`);
    await assert.rejects(exportModel(options('again')), { code: 'ERR_OUTPUT_EXISTS' });
    assert.ok(!fs.existsSync(stale) && !fs.existsSync(`${stale}-old`));
    await exportModel(options('again', { overwrite: true }));
  });

  it('refuses a base of another shape and leaves nothing behind', async () => {
    const base = path.join(shop.dir, 'other-base');
    fs.cpSync(shop.model, base, { recursive: true });
    const file = path.join(base, 'ema.safetensors');
    const entries = [...openSafetensors(file).tensors()];
    const without = entries.filter(([key]) => key !== 'llm2vae.bias');
    writeSafetensors(
      file,
      without.map(([key, t]) => [key, (key === 'vae2llm.bias' ? t.narrow(0, 0, 4) : t).clone()]),
    );
    const names = fs.readdirSync(shop.dir).sort();
    await assert.rejects(exportModel(options('bad', { base })), (error: unknown) => {
      assert.ok(error instanceof CheckpointError);
      assert.match(error.message, /llm2vae\.bias: not in the base/);
      assert.match(error.message, /vae2llm\.bias: \[32\] instead of \[4\]/);
      return true;
    });
    assert.deepEqual(fs.readdirSync(shop.dir).sort(), names);
  });

  it('refuses a damaged checkpoint and one without an average', async () => {
    const copy = path.join(shop.dir, 'checkpoint-copy');
    fs.cpSync(checkpoint, copy, { recursive: true });
    fs.truncateSync(path.join(copy, 'model.safetensors'), 200);
    await assert.rejects(exportModel(options('x', { checkpoint: copy })), CheckpointError);
    const plain = await runRecipe(
      recipeFrom(shop.options({ total_steps: 1, ema: 0, results_dir: path.join(shop.dir, 'r2') })),
    );
    await assert.rejects(
      exportModel(options('y', { checkpoint: plain.checkpoint, weights: 'ema' })),
      /no moving average/,
    );
  });
});
