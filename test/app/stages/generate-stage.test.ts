import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { defaultDrawBatch } from '../../../lib/app/stages/draw-batch.js';
import {
  type GenerateOptions,
  generateStage,
  OUTPUT_FILE,
} from '../../../lib/app/stages/generate-stage.js';
import { makeTogether } from '../../../lib/app/stages/group-work.js';
import { readImage } from '../../../lib/data/images.js';
import { checkPrompts } from '../../../lib/data/prompts.js';
import { loadTokenizer, type Tokenizer } from '../../../lib/data/tokenizer.js';
import { resolveOptions } from '../../../lib/generate/options.js';
import { saveBagel } from '../../../lib/models/bagel/save.js';
import { SHAPES_CONFIG, shapesModel } from '../../../lib/models/shapes/index.js';
import { packageRoot } from '../../../lib/native/paths.js';
import { setParameter } from '../../../lib/nn/index.js';
import { normalInit } from '../../../lib/nn/init.js';
import { Generator, noGrad, setNumThreads, type Tensor } from '../../../lib/torch/index.js';
import type { ConfigError } from '../../../lib/util/errors.js';
import { contents, records, tempDir } from '../../support/srum.js';

const TEXTS = [
  'a red circle',
  'a blue square above a cross',
  'something missing',
  'two green triangles and a yellow circle',
  'a cross',
];

describe('drawing in batches', function () {
  this.timeout(120_000);
  let dir = '';
  const at = (...parts: string[]): string => path.join(dir, ...parts);
  const prompts = checkPrompts(
    TEXTS.map((Question, i) => ({ Question, Category: '', Question_id: i })),
    'prompts',
  );
  const inference = { num_timesteps: 5, cfg_text_scale: 3 };
  const draw = (out: string, batch?: number, more: Partial<GenerateOptions> = {}) =>
    generateStage({
      model: at('model'),
      device: 'cpu',
      seed: 3,
      prompts,
      numImages: 1,
      out: at(out),
      inference,
      batch,
      ...more,
    });
  const thinking = {
    inference: { ...inference, think: true, max_think_token_n: 12, do_sample: true, top_p: 0.9 },
  };

  /** A model that draws something: the velocity head of a fresh one is 0. */
  function save(folder: string, change?: (embedding: Tensor, tokenizer: Tokenizer) => void): void {
    const { bagel, vae } = shapesModel(6);
    const { weight } = bagel.llm2vae;
    setParameter(bagel.llm2vae, 'weight', normalInit([...weight.shape], 0.1, new Generator(5)));
    const tokenizerDir = path.join(packageRoot(), 'assets', 'shapes');
    change?.(bagel.languageModel.model.embedTokens.weight, loadTokenizer(tokenizerDir));
    saveBagel(at(folder), { bagel, vae, tokenizerDir });
    bagel.dispose();
    vae.dispose();
  }

  /** Pictures equal up to rounding, everything else alike. */
  async function assertSame(a: string, b: string): Promise<void> {
    assert.deepEqual(records(at(a, OUTPUT_FILE)), records(at(b, OUTPUT_FILE)));
    for (const { image_file } of records(at(a, OUTPUT_FILE))) {
      const [one, two] = await Promise.all([a, b].map((out) => readImage(at(out, image_file))));
      assert.deepEqual([one.width, one.height], [two.width, two.height]);
      const apart = one.data.map((value, i) => Math.abs(value - two.data[i]));
      assert.ok(Math.max(...apart) <= 1, `${image_file} differs by ${Math.max(...apart)}`);
    }
  }

  before(() => {
    setNumThreads(1);
    dir = tempDir();
    save('model');
  });

  after(() => fs.rmSync(dir, { recursive: true, force: true }));

  it('gives the same pictures whatever the batch is, up to rounding', async () => {
    const one = await draw('one', 1);
    assert.deepEqual([one.done, one.failed], [5, 0]);
    const pictures = [...contents(at('one'))].filter(([name]) => name.endsWith('.png'));
    assert.equal(new Set(pictures.map(([, data]) => data.toString('base64'))).size, 5);
    for (const batch of [2, undefined]) {
      await draw(`batch-${batch}`, batch);
      await assertSame(`batch-${batch}`, 'one');
    }
  });

  it('gives the same thoughts and several samples of a prompt', async () => {
    const given = { ...thinking, numImages: 2 };
    await draw('think-one', 1, given);
    await draw('think-batch', 4, given);
    await assertSame('think-batch', 'think-one');
    const texts = records(at('think-one', OUTPUT_FILE)).map((record) => record.think_output);
    assert.equal(texts.length, 10);
    assert.ok(new Set(texts).size > 1);
  });

  it('keeps to the batch a folder was begun with', async () => {
    await assert.rejects(draw('one', 2), (error: ConfigError) => {
      assert.deepEqual([error.code, error.details.key], ['ERR_OTHER_SETTINGS', 'batch']);
      return true;
    });
  });

  it('goes on after a stop in the middle of a batch with the same files', async () => {
    const control = new AbortController();
    const settled: string[] = [];
    const onItem = ({ key }: { key: string }) => {
      settled.push(key);
      if (settled.length === 3) control.abort();
    };
    const first = await draw('stopped', 2, { signal: control.signal, onItem });
    assert.deepEqual([first.done, first.remaining, first.interrupted], [3, 2, true]);
    assert.deepEqual(settled, ['0', '1', '2']);
    assert.equal(records(at('stopped', OUTPUT_FILE)).length, 3);
    const second = await draw('stopped', 2);
    assert.deepEqual([second.done, second.skipped], [2, 3]);
    assert.deepEqual(contents(at('stopped')), contents(at('batch-2')));
  });

  it('gives up a batch at hand when it is stopped, and finishes a single picture', async () => {
    const stopped = async (out: string, batch: number) => {
      const control = new AbortController();
      const onLoad = () => void setTimeout(() => control.abort(), 1);
      const report = await draw(out, batch, { signal: control.signal, onLoad });
      assert.equal(fs.existsSync(at(out, 'failures.jsonl')), false);
      return [report.done, report.failed, report.remaining];
    };
    assert.deepEqual(await stopped('given-up', 5), [0, 0, 5]);
    assert.deepEqual(await stopped('finished', 1), [1, 0, 4]);
  });

  it('fails only the picture that fails', async () => {
    save('poisoned', (embedding, tokenizer) => {
      const others = TEXTS.filter((_, i) => i !== 2).flatMap((text) => tokenizer.encode(text));
      const own = tokenizer.encode(TEXTS[2]).find((id) => !others.includes(id)) as number;
      noGrad(() => embedding.select(0, own).fill_(Number.NaN));
    });
    const model = at('poisoned');
    const alone = await draw('poisoned-alone', 1, { model });
    assert.deepEqual([alone.done, alone.failed], [4, 1]);
    const together = await draw('poisoned-together', 5, { model });
    assert.deepEqual(together.failures, alone.failures);
    assert.deepEqual(
      together.failures.map(({ item, code }) => [item, code]),
      [['2', 'ERR_NOT_FINITE']],
    );
    await assertSame('poisoned-together', 'poisoned-alone');
  });

  it('takes as many pictures as memory allows', () => {
    const asked = (side: number, more = {}) =>
      resolveOptions({ image_shapes: [side, side], ...more }, false);
    assert.equal(defaultDrawBatch(SHAPES_CONFIG, 'float32', asked(32)), 64);
    assert.equal(defaultDrawBatch(SHAPES_CONFIG, 'float32', asked(32, { think: true })), 64);
    const scope = { cfg_renorm_scope: 'batch' };
    assert.equal(defaultDrawBatch(SHAPES_CONFIG, 'float32', asked(32, scope)), 1);
    const sized = (hidden_size: number, num_hidden_layers: number) => ({
      ...SHAPES_CONFIG,
      llm: {
        ...SHAPES_CONFIG.llm,
        num_hidden_layers,
        hidden_size,
        intermediate_size: (hidden_size * 37) / 7,
        num_attention_heads: hidden_size / 128,
        num_key_value_heads: 4,
      },
      bagel: { ...SHAPES_CONFIG.bagel, max_latent_size: 64, latent_patch_size: 2 },
    });
    for (const dtype of ['float32', 'bfloat16'] as const) {
      assert.equal(defaultDrawBatch(sized(3584, 28), dtype, asked(1024)), 1);
    }
    const middle = sized(896, 12);
    const batch = defaultDrawBatch(middle, 'bfloat16', asked(256));
    assert.ok(batch > 1 && batch < 64, `${batch}`);
    assert.ok(defaultDrawBatch(middle, 'float32', asked(256)) < batch);
    assert.ok(defaultDrawBatch(middle, 'bfloat16', asked(512)) < batch);
    const thoughts = asked(256, { think: true });
    assert.ok(defaultDrawBatch(middle, 'bfloat16', thoughts) < batch);
    assert.ok(defaultDrawBatch(middle, 'bfloat16', asked(256, { cfg_text_scale: 1 })) > batch);
  });

  it('makes each by itself where all at once fail', async () => {
    const made: string[] = [];
    const upper = async (items: readonly string[]) => {
      made.push(items.join(''));
      if (items.includes('b')) throw new Error('b is bad');
      return items.map((item) => item.toUpperCase());
    };
    const outcomes = await makeTogether(['a', 'b', 'c'], upper);
    assert.deepEqual(made, ['abc', 'a', 'b', 'c']);
    assert.deepEqual(outcomes, [{ value: 'A' }, { error: new Error('b is bad') }, { value: 'C' }]);
    assert.deepEqual(await makeTogether([], upper), []);
    const stopped = AbortSignal.abort(new Error('stopped'));
    await assert.rejects(makeTogether(['a', 'b'], upper, stopped), /b is bad/);
  });
});
