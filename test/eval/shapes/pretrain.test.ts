import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, it } from 'mocha';
import { loadTokenizer } from '../../../lib/data/tokenizer.js';
import { type ChwImage, denormalise } from '../../../lib/data/transforms.js';
import { isExact, Oracle } from '../../../lib/eval/shapes/oracle.js';
import { pretrainShapes, SHAPES_PLAN, shapesCode } from '../../../lib/eval/shapes/pretrain.js';
import { ShapesPretrainSet } from '../../../lib/eval/shapes/pretrain-set.js';
import { namesHeldOut, parsePrompt } from '../../../lib/eval/shapes/prompts.js';
import { packageRoot } from '../../../lib/native/paths.js';
import { tensor } from '../../../lib/torch/index.js';
import { trainerOptionsFrom } from '../../../lib/train/recipe.js';
import { temporaryFolder } from '../../support/temp.js';

const tokenizerDir = path.join(packageRoot(), 'assets', 'shapes');

describe('shapes pretraining', function () {
  this.timeout(120_000);
  const folder = temporaryFolder();
  const tokenizer = loadTokenizer(tokenizerDir);

  it('codes pictures of the world almost without loss', async () => {
    const [image] = (await recordsOf({ generationShare: 1 }).load(0)).images;
    const pixels = tensorOf(image);
    const back = code.decode(code.encode(pixels, { deterministic: true }));
    const error = back.sub(pixels).square().mean().item();
    assert.ok(error < 0.01, `mean squared error ${error}`);
  });

  it('makes the same record from the same number, and no held-out pair', async () => {
    const set = recordsOf({ generationShare: 0.5 });
    const again = recordsOf({ generationShare: 0.5 });
    const other = recordsOf({ generationShare: 0.5, seed: 1 });
    let drawings = 0;
    let different = 0;
    for (let i = 0; i < 60; i++) {
      const sample = await set.load(i);
      assert.deepEqual(sample, await again.load(i));
      if (JSON.stringify((await other.load(i)).textIdsList) !== JSON.stringify(sample.textIdsList))
        different += 1;
      const texts = sample.textIdsList.map((ids) => tokenizer.decode(ids));
      if (sample.sequencePlan[1].type === 'vae_image') {
        drawings += 1;
        const prompt = parsePrompt(texts[0]);
        assert.ok(prompt !== null, texts[0]);
        assert.equal(namesHeldOut(prompt), false);
      } else {
        const request = /^request: (.*)\n/.exec(texts[0])?.[1];
        if (request !== undefined) assert.equal(namesHeldOut(parsePrompt(request) as never), false);
        assert.equal(sample.sequencePlan[2].loss, 1);
      }
    }
    assert.ok(drawings > 15 && drawings < 45, `${drawings} drawings of 60`);
    assert.ok(different > 50, `${different} of 60 differ for another seed`);
  });

  it('misreads the wanted share of the captions and no other', async () => {
    const set = recordsOf({ generationShare: 1, misreadShare: 0.5 });
    const honest = recordsOf({ generationShare: 1, misreadShare: 0 });
    const oracle = new Oracle();
    let wrong = 0;
    for (let i = 0; i < 200; i++) {
      const shown = async (from: ShapesPretrainSet) => {
        const { textIdsList, images } = await from.load(i);
        const [objects] = oracle.recognise([denormalise(images[0])]);
        return isExact(parsePrompt(tokenizer.decode(textIdsList[0])) as never, objects);
      };
      assert.equal(await shown(honest), true);
      if (!(await shown(set))) wrong += 1;
    }
    oracle.dispose();
    // A sixth of the prompts (family shape) cannot be misread.
    assert.ok(wrong > 55 && wrong < 110, `${wrong} of 200`);
  });

  it('ends with the same weights when it is interrupted and resumed', async () => {
    const run = async (name: string, stopAfter: number | null) => {
      const options = trainerOptionsFrom({
        results_dir: path.join(folder(), name),
        visual_und: true,
        freeze_vit: false,
        objective: 'sft',
        expected_num_tokens: 300,
        max_num_tokens: 500,
        max_num_tokens_per_sample: 256,
        total_steps: 4,
        warmup_steps: 0,
        lr: 1e-3,
        save_every: 2,
      });
      const stop = new AbortController();
      const { bagel, vae, summary } = await pretrainShapes(
        options,
        { ...SHAPES_PLAN, tokenizerDir },
        {
          signal: stop.signal,
          onStep: ({ step, ce, mse }) => {
            assert.ok(mse !== null && Number.isFinite(mse));
            assert.ok(ce !== null && Number.isFinite(ce));
            if (step + 1 === stopAfter) stop.abort();
          },
        },
      );
      const weights = [...bagel.stateDict()].map(([key, t]) => [key, t.to('float64').sum().item()]);
      bagel.dispose();
      vae.dispose();
      return { weights, summary };
    };
    const whole = await run('whole', null);
    const cut = await run('cut', 3);
    assert.equal(cut.summary.aborted, true);
    const resumed = await run('cut', null);
    assert.equal(resumed.summary.resumedFrom, 3);
    assert.deepEqual(resumed.weights, whole.weights);
    assert.notDeepEqual(cut.weights, whole.weights);
  });

  const tensorOf = ({ data, width, height }: ChwImage) =>
    tensor(data, { shape: [1, 3, height, width] });

  const code = shapesCode(0);

  function recordsOf(options: Partial<ConstructorParameters<typeof ShapesPretrainSet>[0]>) {
    return new ShapesPretrainSet({
      tokenizer,
      size: 1000,
      seed: 0,
      generationShare: 0.7,
      misreadShare: 0,
      misreadFrom: 0,
      judgeFrom: 0,
      code,
      ...options,
    });
  }
});
