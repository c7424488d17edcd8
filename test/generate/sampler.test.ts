import assert from 'node:assert/strict';
import { emptyContext, prefillText } from '../../lib/generate/context.js';
import {
  type GenerateImageRequest,
  generateImage,
  type SamplerOptions,
  samplerDefaults,
} from '../../lib/generate/sampler.js';
import { streamGenerator, streamSeed } from '../../lib/generate/seeds.js';
import { setParameter } from '../../lib/nn/index.js';
import { Generator, liveTensors, randn, zeros } from '../../lib/torch/index.js';
import { ConfigError, DataError, NumericError } from '../../lib/util/errors.js';
import { maxDifference } from '../support/tensors.js';
import { tinyParts } from '../support/tiny-parts.js';

const prompts = [
  [20, 30, 40, 50],
  [60, 70],
];
const width = 16;

describe('flow sampler', () => {
  const g = tinyParts();
  const options = (over: Partial<SamplerOptions> = {}): SamplerOptions => ({
    ...samplerDefaults,
    num_timesteps: 6,
    ...over,
  });
  const request = (
    which: number[][],
    imageSizes: Array<[number, number]>,
    seeds: number[],
    over: Partial<SamplerOptions> = {},
  ): GenerateImageRequest => {
    const empty = emptyContext(g, which.length);
    const context = prefillText(g, empty, which);
    return {
      context,
      contextWithoutText: empty,
      contextWithoutImage: context,
      imageSizes,
      noise: seeds.map((seed) => new Generator(seed)),
      options: options(over),
    };
  };

  it('gives each image of a batch what it gives it alone, with every renormalisation', async () => {
    const sizes: Array<[number, number]> = [
      [32, 16],
      [16, 48],
    ];
    for (const cfg_renorm_type of ['global', 'channel', 'text_channel'] as const) {
      const over = { cfg_renorm_type, cfg_img_scale: 1.5 };
      const both = await generateImage(g, request(prompts, sizes, [7, 8], over));
      for (const i of [0, 1]) {
        const [one] = await generateImage(g, request([prompts[i]], [sizes[i]], [7 + i], over));
        assert.ok(maxDifference(both[i].toFloat32Array(), one.toFloat32Array()) < 1e-4);
      }
    }
  });

  it('evaluates once per interval and guides inside the interval only', async () => {
    const seen: Array<[number, boolean]> = [];
    await generateImage(g, {
      ...request([prompts[0]], [[16, 16]], [1], { num_timesteps: 50 }),
      onStep: ({ t, guided, steps }) => {
        assert.equal(steps, 49);
        seen.push([t, guided]);
      },
    });
    assert.equal(seen.length, 49);
    assert.equal(seen.filter(([, guided]) => guided).length, 41);
    for (const [t, guided] of seen) assert.equal(guided, t > 0.4);
  });

  it('leaves the noise as it is when the velocity is zero', async () => {
    const still = tinyParts();
    setParameter(still.model.llm2vae, 'weight', zeros([...still.model.llm2vae.weight.shape]));
    const bias = still.model.llm2vae.bias;
    assert.ok(bias);
    setParameter(still.model.llm2vae, 'bias', zeros([...bias.shape]));
    const noise = randn([4, width], { generator: new Generator(2) });
    const [image] = await generateImage(still, {
      ...request([prompts[0]], [[32, 32]], [0]),
      noise,
    });
    assert.equal(maxDifference(image.toFloat32Array(), noise.toFloat32Array()), 0);
  });

  it('depends on the seed, and starts from the numbers the seed gives', async () => {
    const run = (seed: number) =>
      generateImage(g, request([prompts[0]], [[16, 32]], [seed])).then(([x]) => x.toFloat32Array());
    assert.equal(maxDifference(await run(1), await run(1)), 0);
    assert.ok(maxDifference(await run(1), await run(2)) > 1e-2);
    const noise = randn([2, width], { generator: new Generator(1) });
    const given = await generateImage(g, { ...request([prompts[0]], [[16, 32]], [0]), noise });
    assert.equal(maxDifference(given[0].toFloat32Array(), await run(1)), 0);
  });

  it('skips the image branch when its context is the main one, with the same result', async () => {
    const over = { cfg_img_scale: 1.5 };
    const aliased = request([prompts[0]], [[16, 16]], [3], over);
    const separate = {
      ...aliased,
      contextWithoutImage: prefillText(g, emptyContext(g), [prompts[0]]),
    };
    const [a] = await generateImage(g, aliased);
    const [b] = await generateImage(g, { ...separate, noise: [new Generator(3)] });
    assert.ok(maxDifference(a.toFloat32Array(), b.toFloat32Array()) < 1e-5);
  });

  it('ends between two steps when asked to, and frees what it made', async () => {
    const wanted = request([prompts[0]], [[32, 32]], [1]);
    const run = async (stopAt: number): Promise<number> => {
      const control = new AbortController();
      let steps = 0;
      const running = generateImage(g, {
        ...wanted,
        noise: [new Generator(1)],
        onStep: () => {
          if (++steps === stopAt) control.abort();
        },
        signal: control.signal,
      });
      await assert.rejects(running, { name: 'AbortError' });
      return steps;
    };
    assert.equal(await run(2), 2);
    const before = liveTensors();
    assert.equal(await run(2), 2);
    // The collector may free older tensors meanwhile, so there can be fewer.
    assert.ok(liveTensors() <= before);
  });

  it('frees everything but the image', async () => {
    const wanted = request([prompts[0]], [[32, 32]], [1]);
    const run = () => generateImage(g, { ...wanted, noise: [new Generator(1)] });
    for (const image of await run()) image.dispose();
    const before = liveTensors();
    const images = await run();
    // The collector may free older tensors meanwhile, so there can be fewer.
    assert.ok(liveTensors() <= before + images.length);
  });

  it('refuses bad sizes, noise and missing contexts', async () => {
    const good = request([prompts[0]], [[16, 16]], [1]);
    const wrongNoise = { ...good, noise: zeros([2, width]) };
    await assert.rejects(generateImage(g, wrongNoise), DataError);
    await assert.rejects(generateImage(g, { ...good, noise: [] }), DataError);
    await assert.rejects(generateImage(g, { ...good, imageSizes: [[16, 1024]] }), DataError);
    await assert.rejects(generateImage(g, { ...good, imageSizes: [[20, 16]] }), DataError);
    const alone = { ...good, contextWithoutText: undefined };
    await assert.rejects(generateImage(g, alone), ConfigError);
    const unguided = { ...alone, options: options({ cfg_text_scale: 1 }) };
    assert.equal((await generateImage(g, unguided)).length, 1);
  });

  it('reports a result that is not finite', async () => {
    const noise = zeros([1, width]).fill_(Number.NaN);
    const wanted = { ...request([prompts[0]], [[16, 16]], [1]), noise };
    await assert.rejects(generateImage(g, wanted), NumericError);
  });
});

describe('random streams', () => {
  it('are independent of each other and reproducible', () => {
    assert.equal(streamSeed(42, 'noise'), 42n);
    assert.notEqual(streamSeed(42, 'tokens'), streamSeed(42, 'posterior'));
    assert.notEqual(streamSeed(42, 'tokens'), streamSeed(43, 'tokens'));
    const draw = () => randn([3], { generator: streamGenerator(42, 'posterior') }).toFloat32Array();
    assert.deepEqual(draw(), draw());
  });
});
