import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { liveTensors, openSafetensors } from '../../lib/torch/index.js';
import { readMetrics, type StepMetrics } from '../../lib/train/metrics.js';
import { recipeFrom } from '../../lib/train/recipe.js';
import { runRecipe } from '../../lib/train/run.js';
import type { TrainerHooks, TrainSummary } from '../../lib/train/trainer.js';
import {
  CheckpointError,
  ConfigError,
  DataError,
  NumericError,
  SrumError,
} from '../../lib/util/errors.js';
import { writeJsonl } from '../../lib/util/jsonl.js';
import { buildWorkshop, hashesOf, onOneThread, type Workshop } from '../support/workshop.js';

describe('trainer', function () {
  this.timeout(120_000);
  onOneThread();
  let shop: Workshop;
  let runs = 0;
  before(async () => {
    shop = await buildWorkshop();
  });
  after(() => fs.rmSync(shop.dir, { recursive: true, force: true }));

  /** Runs the tiny recipe with changes in a results folder of its own unless one is given. */
  function train(
    changes: Record<string, unknown> = {},
    hooks: TrainerHooks = {},
  ): Promise<TrainSummary> {
    const results_dir = path.join(shop.dir, `results-${++runs}`);
    return runRecipe(recipeFrom(shop.options({ results_dir, ...changes })), hooks);
  }

  const weights = (summary: TrainSummary) => hashesOf(summary.checkpoint as string);

  it('trains, logs every step and saves at the end', async () => {
    const seen: number[] = [];
    const summary = await train({ total_steps: 5 }, { onStep: (m) => seen.push(m.step) });
    assert.equal(summary.step, 5);
    assert.equal(summary.aborted, false);
    assert.equal(path.basename(summary.checkpoint as string), '0000005');
    assert.deepEqual(seen, [0, 1, 2, 3, 4]);
    const metrics = readMetrics(summary.metrics);
    assert.deepEqual(
      metrics.map((m) => m.step),
      [0, 1, 2, 3, 4],
    );
    assert.equal(metrics[0].lr, 0);
    assert.equal(metrics[1].lr, 1e-3);
    for (const m of metrics) {
      assert.ok(Number.isFinite(m.loss) && m.loss > 0 && m.grad_norm > 0 && m.tokens > 0);
      assert.ok(
        Math.abs(
          (m.mse as number) - ((m.mse_reward as number) + 0.5 * (m.mse_constraint as number)),
        ) < 1e-5,
      );
      assert.equal(m.negative_token_fraction, 0);
    }
    const file = (name: string) => openSafetensors(path.join(summary.checkpoint as string, name));
    assert.deepEqual(file('ema.safetensors').keys(), file('model.safetensors').keys());
  });

  it('lowers the loss on a handful of pictures', async () => {
    const summary = await train({
      total_steps: 30,
      save_every: 1000,
      lr: 3e-3,
      text_cond_dropout_prob: 0,
    });
    const loss = readMetrics(summary.metrics).map((m) => m.loss);
    const mean = (xs: number[]) => xs.reduce((a, b) => a + b, 0) / xs.length;
    assert.ok(mean(loss.slice(-8)) < 0.9 * mean(loss.slice(0, 8)), loss.join(' '));
  });

  it('holds no more tensors after many steps than after a few', async () => {
    const live: number[] = [];
    await train({ total_steps: 24, save_every: 1000 }, { onStep: () => live.push(liveTensors()) });
    // By step 11 every picture has been seen and every moment exists.
    assert.ok(Math.max(...live.slice(12)) <= live[11] + 2, live.join(' '));
  });

  it('gives the same weights again, and others for another seed', async () => {
    const first = weights(await train({ total_steps: 3 }));
    assert.deepEqual(weights(await train({ total_steps: 3 })), first);
    const other = weights(await train({ total_steps: 3, global_seed: 5 }));
    assert.notEqual(other['model.safetensors'], first['model.safetensors']);
  });

  it('ends with the same bits when interrupted and resumed', async () => {
    const whole = weights(await train({ total_steps: 7, save_every: 3 }));
    const results_dir = path.join(shop.dir, 'interrupted');
    const controller = new AbortController();
    const options = { results_dir, total_steps: 7, save_every: 3 };
    const first = await train(options, {
      signal: controller.signal,
      onStep: ({ step }) => {
        if (step === 4) controller.abort();
      },
    });
    assert.equal(first.aborted, true);
    assert.equal(first.step, 5);
    const second = await train(options);
    assert.equal(second.resumedFrom, 5);
    assert.deepEqual(weights(second), whole);
    assert.deepEqual(
      readMetrics(second.metrics).map((m) => m.step),
      [0, 1, 2, 3, 4, 5, 6],
    );
    const third = await train(options);
    assert.equal(third.step, 7);
    assert.equal(third.resumedFrom, 7);
  });

  it('falls back to an older checkpoint when the newest is damaged, with the same end', async () => {
    const results_dir = path.join(shop.dir, 'damaged');
    const options = { results_dir, total_steps: 6, save_every: 2, keep_last: 0 };
    const whole = await train(options);
    const wanted = weights(whole);
    fs.truncateSync(path.join(whole.checkpoint as string, 'model.safetensors'), 100);
    const notes: string[] = [];
    const again = await train(options, { onNote: (n) => notes.push(n) });
    assert.equal(again.resumedFrom, 4);
    assert.match(notes.join('\n'), /passed over the damaged checkpoint/);
    assert.deepEqual(weights(again), wanted);
  });

  it('refuses to resume under another recipe or on other data', async () => {
    const results_dir = path.join(shop.dir, 'other');
    await train({ results_dir, total_steps: 2 });
    await assert.rejects(train({ results_dir, total_steps: 4, lr: 5e-4 }), (error: unknown) => {
      assert.ok(error instanceof CheckpointError);
      assert.equal(error.details.key, 'lr');
      return true;
    });
    const text = fs.readFileSync(shop.rewards, 'utf8');
    try {
      fs.writeFileSync(shop.rewards, text.replace('picture 0', 'picture zero'));
      await assert.rejects(train({ results_dir, total_steps: 4 }), /other records/);
    } finally {
      fs.writeFileSync(shop.rewards, text);
    }
    await assert.rejects(train({ results_dir, auto_resume: false }), ConfigError);
    await assert.rejects(
      train({ resume_from: path.join(shop.dir, 'nowhere') }),
      /no such checkpoint/,
    );
  });

  it('starts a new run from the weights of another one', async () => {
    const first = await train({ total_steps: 2 });
    const resume = { resume_from: first.checkpoint, resume_model_only: true };
    const second = await train({ ...resume, total_steps: 1, lr: 1e-3, finetune_from_ema: false });
    // The first step of a warm-up has rate 0, so the weights are exactly those taken over.
    assert.equal(second.resumedFrom, 0);
    assert.equal(weights(second)['model.safetensors'], weights(first)['model.safetensors']);
  });

  it('accumulates packs into one step', async () => {
    const summary = await train({ total_steps: 1, gradient_accumulation_steps: 3 });
    const single = await train({ total_steps: 1 });
    assert.ok((summary.last?.samples ?? 0) > (single.last?.samples ?? 0));
    assert.ok((summary.last?.loss_tokens ?? 0) >= 3 * 4);
  });

  it('reports negative weights of the signed objective', async () => {
    const summary = await train({
      objective: 'paper',
      lambda_constraint: 0.05,
      total_steps: 6,
    });
    const share = readMetrics(summary.metrics).map((m) => m.negative_token_fraction);
    assert.ok(share.some((s) => s > 0) && share.every((s) => s < 1), share.join(' '));
  });

  it('compares with the base model it started from, also after it was resumed', async () => {
    const options = { objective: 'nft', total_steps: 4, save_every: 2 };
    const whole = await train(options);
    assert.ok((whole.last?.negative_token_fraction ?? 0) > 0);
    const results_dir = path.join(shop.dir, 'nft-cut');
    const stop = new AbortController();
    const hooks = { signal: stop.signal, onStep: () => stop.abort() };
    assert.equal((await train({ ...options, results_dir }, hooks)).step, 1);
    const resumed = await train({ ...options, results_dir });
    assert.equal(resumed.resumedFrom, 1);
    assert.deepEqual(weights(resumed), weights(whole));
  });

  it('compares with the weights it took from another run, not with those before that', async () => {
    const first = await train({ objective: 'sft', total_steps: 6 });
    const seen: StepMetrics[] = [];
    await train(
      {
        objective: 'nft',
        total_steps: 1,
        auto_resume: false,
        resume_from: first.checkpoint,
        resume_model_only: true,
      },
      { onStep: (m) => seen.push(m) },
    );
    // Before its first step the model is the base: pulling and pushing then cost the same.
    const [{ mse, mse_constraint }] = seen;
    const apart = Math.abs((mse as number) - (mse_constraint as number));
    assert.ok(apart < 1e-6 * (mse as number), `${mse} and ${mse_constraint}`);
  });

  it('freezes what it is told to freeze', async () => {
    const base = openSafetensors(path.join(shop.model, 'ema.safetensors'));
    const changed = async (freeze: Record<string, boolean>) => {
      const summary = await train({ total_steps: 3, ...freeze });
      const after = openSafetensors(path.join(summary.checkpoint as string, 'model.safetensors'));
      return after.keys().filter((key) => !after.get(key).equal(base.get(key)));
    };
    const all = await changed({});
    assert.ok(all.some((k) => /layers\.0\.self_attn\.k_proj\.weight/.test(k)));
    assert.ok(all.every((k) => !k.endsWith('pos_embed') && !k.startsWith('vit_model')));
    const und = await changed({ freeze_und: true });
    assert.ok(
      und.length > 0 && und.every((k) => !k.startsWith('language_model') || /_moe_gen/.test(k)),
    );
    const llm = await changed({ freeze_llm: true });
    assert.ok(llm.length > 0 && llm.every((k) => !k.startsWith('language_model')));
  });

  it('stops at a loss that is not finite, names step and records, and saves nothing', async () => {
    const poisoned = path.join(shop.dir, 'poisoned.jsonl');
    const text = fs
      .readFileSync(shop.rewards, 'utf8')
      .trim()
      .split('\n')
      .map((l) => JSON.parse(l));
    // JSON has no infinity, but a number may be too large for float32.
    for (const record of text) record.vlm_rewards[1].score = 1e300;
    writeJsonl(poisoned, text);
    const results_dir = path.join(shop.dir, 'nan');
    const dataset_info = {
      regional_reward: {
        tiny: { jsonl_path: poisoned, image_dirs: { good: shop.images, bad: shop.images } },
      },
    };
    await assert.rejects(train({ results_dir, dataset_info }), (error: unknown) => {
      assert.ok(error instanceof NumericError, String(error));
      assert.match(error.message, /step 0/);
      assert.match(error.details.key ?? '', /tiny:\d/);
      assert.match(error.message, /lower lr/);
      return true;
    });
    assert.deepEqual(fs.readdirSync(path.join(results_dir, 'checkpoints')), []);
  });

  it('stops when the weights run away, with the last good checkpoint kept', async () => {
    const results_dir = path.join(shop.dir, 'runaway');
    const changes = { results_dir, total_steps: 40, save_every: 1, lr: 1e30, keep_last: 2 };
    await assert.rejects(train(changes), NumericError);
    const kept = fs.readdirSync(path.join(results_dir, 'checkpoints'));
    for (const name of kept) {
      const file = openSafetensors(
        path.join(results_dir, 'checkpoints', name, 'model.safetensors'),
      );
      for (const key of file.keys()) assert.equal(file.get(key).isfinite().all().item(), 1, key);
    }
  });

  it('counts records that cannot be used and goes on with the others', async () => {
    const mixed = path.join(shop.dir, 'mixed.jsonl');
    const lines = fs.readFileSync(shop.rewards, 'utf8').trim().split('\n');
    lines[1] = lines[1].replaceAll('1.png', 'missing.png');
    lines[2] = '{"broken';
    fs.writeFileSync(mixed, `${lines.join('\n')}\n`);
    const info = (jsonl_path: string, folder: string) => ({
      regional_reward: { tiny: { jsonl_path, image_dirs: { good: folder, bad: folder } } },
    });
    const summary = await train({ dataset_info: info(mixed, shop.images), total_steps: 5 });
    assert.equal(summary.data.usable, 4);
    assert.deepEqual(summary.data.problems.map((p) => p.id).sort(), ['tiny:2', 'tiny:3']);
    await assert.rejects(
      train({ dataset_info: info(mixed, path.join(shop.dir, 'nothing-here')) }),
      (error: unknown) => error instanceof DataError && error.code === 'ERR_NO_DATA',
    );
    fs.writeFileSync(mixed, '');
    await assert.rejects(train({ dataset_info: info(mixed, shop.images) }), DataError);
    await assert.rejects(train({ max_num_tokens_per_sample: 5 }), /no record|more than/);
  });

  it('refuses a folder it cannot write to', async () => {
    const file = path.join(shop.dir, 'a-file');
    fs.writeFileSync(file, '');
    await assert.rejects(train({ results_dir: path.join(file, 'results') }), SrumError);
  });
});
