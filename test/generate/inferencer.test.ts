import assert from 'node:assert/strict';
import { InterleaveInferencer, replyIds } from '../../lib/generate/inferencer.js';
import { editDefaults, resolveOptions, textToImageDefaults } from '../../lib/generate/options.js';
import { splitThought } from '../../lib/generate/prompts.js';
import { liveTensors } from '../../lib/torch/index.js';
import { ConfigError, DataError } from '../../lib/util/errors.js';
import { tinyImage, tinyParts } from '../support/tiny-parts.js';

const quick = {
  num_timesteps: 4,
  image_shapes: [32, 48] as [number, number],
  max_think_token_n: 6,
};

describe('interleaved inference', () => {
  const parts = tinyParts();
  const inferencer = new InterleaveInferencer(parts);

  it('draws a picture of the wanted size from a prompt', async () => {
    const { image, text, settings } = await inferencer.interleaveInference(['a kite'], quick);
    assert.ok(image);
    assert.deepEqual([image.height, image.width], [32, 48]);
    assert.equal(image.data.length, 32 * 48 * 3);
    assert.equal(text, undefined);
    assert.equal(settings.cfg_img_scale, 1);
    assert.equal(settings.seed, '0');
  });

  it('is reproducible, and differs with seed, prompt and thought', async () => {
    const draw = async (prompt: string, seed: number, think = false) => {
      const call = { seeds: [seed] };
      const result = await inferencer.interleaveInference([prompt], { ...quick, think }, call);
      return Buffer.from(result.image?.data as Uint8Array).toString('hex');
    };
    const first = await draw('a kite', 1);
    assert.equal(await draw('a kite', 1), first);
    assert.notEqual(await draw('a kite', 2), first);
    assert.notEqual(await draw('a bridge', 1), first);
    assert.notEqual(await draw('a kite', 1, true), first);
  });

  it('thinks first when asked to, and says when the thought was cut', async () => {
    const result = await inferencer.interleaveInference(['a kite'], { ...quick, think: true });
    assert.equal(typeof result.text, 'string');
    assert.equal(typeof result.thought, 'string');
    assert.equal(typeof result.truncated, 'boolean');
    assert.ok(result.image);
  });

  it('edits at the size of the resized input, with the editing defaults', async () => {
    const { image, settings } = await inferencer.interleaveInference(
      [tinyImage(90, 60), 'make it red'],
      quick,
    );
    assert.deepEqual(settings.image_shapes, [48, 64]);
    assert.deepEqual([image?.height, image?.width], [48, 64]);
    assert.equal(settings.cfg_img_scale, editDefaults.cfg_img_scale);
    assert.equal(settings.cfg_renorm_type, 'text_channel');
  });

  it('answers questions about an image without the autoencoder', async () => {
    const blind = new InterleaveInferencer({ ...parts, vae: undefined });
    const question = [tinyImage(60, 90), 'what is it?'];
    const options = { ...quick, understanding_output: true };
    const result = await blind.interleaveInference(question, options);
    assert.equal(typeof result.answer, 'string');
    assert.equal(result.image, undefined);
    await assert.rejects(blind.interleaveInference(['a kite'], quick), ConfigError);
  });

  it('gives a request of a batch what it gives it alone', async () => {
    const requests = [['a kite'], ['two red bridges']];
    const seeds = [11, 12];
    const both = await inferencer.interleaveInferenceBatch(requests, quick, { seeds });
    for (const [i, request] of requests.entries()) {
      const call = { seeds: [seeds[i]] };
      const one = await inferencer.interleaveInference(request, quick, call);
      const a = both[i].image?.data as Uint8Array;
      const b = one.image?.data as Uint8Array;
      assert.ok(a.every((value, j) => Math.abs(value - b[j]) <= 1));
      assert.equal(both[i].settings.seed, String(seeds[i]));
    }
  });

  it('keeps nothing after a request', async () => {
    const run = () => inferencer.interleaveInference([tinyImage(64, 64), 'blue'], quick);
    await run();
    const before = liveTensors();
    await run();
    // The collector may free older tensors meanwhile, so there can be fewer.
    assert.ok(liveTensors() <= before);
  });

  it('ends when asked to', async () => {
    const control = new AbortController();
    const call = { onStep: () => control.abort(), signal: control.signal };
    const run = inferencer.interleaveInference(['a kite'], quick, call);
    await assert.rejects(run, { name: 'AbortError' });
  });

  it('refuses empty requests, mixed batches and unknown options', async () => {
    await assert.rejects(inferencer.interleaveInference([], quick), DataError);
    const mixed = [['a'], [tinyImage(32, 32)]];
    await assert.rejects(inferencer.interleaveInferenceBatch(mixed, quick), DataError);
    await assert.rejects(inferencer.interleaveInference(['a'], { ...quick, cfg_txt: 1 } as never), {
      code: 'ERR_UNKNOWN_OPTION',
    });
    const call = { seeds: [1, 2] };
    await assert.rejects(inferencer.interleaveInference(['a'], quick, call), DataError);
  });
});

describe('generation options', () => {
  it('takes the defaults of editing only for a picture from an image', () => {
    assert.deepEqual(resolveOptions({}, false), { ...textToImageDefaults });
    assert.deepEqual(resolveOptions({}, true), { ...editDefaults });
    const answer = resolveOptions({ understanding_output: true }, true);
    assert.equal(answer.cfg_renorm_type, 'global');
    assert.equal(resolveOptions({ cfg_image_scale: 2.5 }, false).cfg_img_scale, 2.5);
  });

  it('refuses picture sizes that are none', () => {
    for (const shapes of [[32], [0, 32], [32, 1.5]]) {
      const input = { image_shapes: shapes as [number, number] };
      assert.throws(() => resolveOptions(input, false), { code: 'ERR_IMAGE_SHAPES' });
    }
  });

  it('takes replies apart at their tags', () => {
    assert.deepEqual(splitThought('<think> a b </think> c'), { thought: 'a b', answer: 'c' });
    assert.deepEqual(splitThought('no tags '), { answer: 'no tags' });
    assert.deepEqual(splitThought('<think>x</think>y</think> z').answer, 'z');
  });

  it('cuts replies at a second start token', () => {
    assert.deepEqual(replyIds([1, 5, 6], 1), [5, 6]);
    assert.deepEqual(replyIds([1, 5, 1, 6], 1), [5]);
  });
});
