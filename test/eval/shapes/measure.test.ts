import assert from 'node:assert/strict';
import path from 'node:path';
import { imageTransforms } from '../../../lib/app/stages/model-session.js';
import { loadTokenizer } from '../../../lib/data/tokenizer.js';
import { measureUnderstanding } from '../../../lib/eval/shapes/measure.js';
import { renderScene } from '../../../lib/eval/shapes/render.js';
import { randomScene } from '../../../lib/eval/shapes/world.js';
import { shapesModel } from '../../../lib/models/shapes/index.js';
import { packageRoot } from '../../../lib/native/paths.js';
import { BagelJudgeModel } from '../../../lib/reward/bagel-judge-model.js';
import type { JudgeModel } from '../../../lib/reward/judge.js';
import { TokenVocabulary } from '../../../lib/reward/token-vocabulary.js';
import { seededRandom } from '../../../lib/util/seeded-random.js';

describe('measuring what a model sees in pictures', function () {
  this.timeout(120_000);

  it('asks in batches what it asks one by one, and counts the same', async () => {
    const tokenizer = loadTokenizer(path.join(packageRoot(), 'assets', 'shapes'));
    const { bagel: model, vae } = shapesModel(2);
    const { special } = tokenizer;
    const parts = { model, vae, tokenizer, special, ...imageTransforms(model.config) };
    const together = new BagelJudgeModel(parts, new TokenVocabulary(tokenizer.tokenBytes()));
    const single: JudgeModel = { read: (image, system) => together.read(image, system) };
    const pictures = [1, 2].map((count) => {
      const scene = randomScene(seededRandom(9, count), { count });
      return { image: renderScene(scene), objects: scene.objects };
    });
    const progress: number[] = [];
    const measure = (judge: JudgeModel) =>
      measureUnderstanding(judge, pictures, seededRandom(4), {
        onProgress: (done) => progress.push(done),
      });
    const found = await measure(together);
    assert.deepEqual(found, await measure(single));
    assert.deepEqual(progress, [1, 2, 1, 2]);
    assert.equal(found.layouts.total, 2);
    assert.ok(found.regions.total >= 3 && found.objects.total === found.regions.total);
    // Fresh weights know nothing, so the names they were to give are all among the mistakes.
    assert.equal(found.objects.right, 0);
    assert.ok(found.mistakes.length > found.objects.total);
    for (const part of [model, vae]) part.dispose();
  });
});
