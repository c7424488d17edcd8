import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { GroupWork } from '../../../lib/app/stages/group-work.js';
import { defaultJudgeBatch } from '../../../lib/app/stages/judge-batch.js';
import {
  RAW_REWARDS_FILE,
  type ScoreOptions,
  scoreStage,
} from '../../../lib/app/stages/score-stage.js';
import { writePng } from '../../../lib/data/images.js';
import { renderScene } from '../../../lib/eval/shapes/render.js';
import { randomScene } from '../../../lib/eval/shapes/world.js';
import { saveBagel } from '../../../lib/models/bagel/save.js';
import { SHAPES_CONFIG, shapesModel } from '../../../lib/models/shapes/index.js';
import { packageRoot } from '../../../lib/native/paths.js';
import { setNumThreads } from '../../../lib/torch/index.js';
import { seededRandom } from '../../../lib/util/seeded-random.js';
import { contents, records, tempDir } from '../../support/srum.js';

describe('scoring in batches', function () {
  this.timeout(120_000);
  let dir = '';
  const at = (...parts: string[]): string => path.join(dir, ...parts);
  const settings = { maxRegions: 3, maxObjectBytes: 5, maxReasonBytes: 5, maxRegionTokens: 200 };
  const score = (out: string, batch?: number, more: Partial<ScoreOptions> = {}) =>
    scoreStage({
      model: at('model'),
      device: 'cpu',
      seed: 3,
      input: at('output.jsonl'),
      out: at(out),
      settings,
      batch,
      ...more,
    });

  before(async () => {
    setNumThreads(1);
    dir = tempDir();
    const { bagel, vae } = shapesModel(6);
    const tokenizerDir = path.join(packageRoot(), 'assets', 'shapes');
    saveBagel(at('model'), { bagel, vae, tokenizerDir });
    bagel.dispose();
    vae.dispose();
    const lines: string[] = [];
    for (let i = 0; i < 5; i++) {
      await writePng(at(`${i}.png`), renderScene(randomScene(seededRandom(1, 'scene', i))));
      const original_prompt = `a red circle and ${'a blue square and '.repeat(i)}a cross`;
      lines.push(JSON.stringify({ prompt_id: i, image_file: `${i}.png`, original_prompt }));
    }
    fs.writeFileSync(at('output.jsonl'), `${lines.join('\n')}\n`);
  });

  after(() => fs.rmSync(dir, { recursive: true, force: true }));

  it('gives the same files whatever the batch is, drawn answers too', async () => {
    for (const doSample of [false, true]) {
      const given = { settings: { ...settings, doSample, textTemperature: 1 } };
      const one = await score(`one-${doSample}`, 1, given);
      assert.deepEqual([one.done, one.failed], [5, 0]);
      for (const batch of [2, undefined]) {
        await score(`batch-${doSample}-${batch}`, batch, given);
        const found = contents(at(`batch-${doSample}-${batch}`));
        assert.deepEqual(found, contents(at(`one-${doSample}`)));
      }
    }
  });

  it('settles items one by one: a run that was stopped goes on with the same files', async () => {
    const control = new AbortController();
    const settled: string[] = [];
    const onItem = ({ key }: { key: string }) => {
      settled.push(key);
      if (settled.length === 3) control.abort();
    };
    const first = await score('stopped', 2, { signal: control.signal, onItem });
    assert.deepEqual([first.done, first.remaining, first.interrupted], [3, 2, true]);
    assert.equal(records(at('stopped', RAW_REWARDS_FILE)).length, 3);
    const second = await score('stopped', 2);
    assert.deepEqual([second.done, second.skipped], [2, 3]);
    assert.deepEqual(contents(at('stopped')), contents(at('one-false')));
  });

  it('gives up a batch at hand when it is stopped', async () => {
    const control = new AbortController();
    const onLoad = () => void setTimeout(() => control.abort(), 1);
    const report = await score('given-up', 5, { signal: control.signal, onLoad });
    assert.deepEqual([report.done, report.failed, report.remaining], [0, 0, 5]);
    assert.equal(fs.existsSync(at('given-up', 'failures.jsonl')), false);
  });

  it('fails only the picture that fails', async () => {
    // Enough for two regions but not for three.
    const few = { settings: { ...settings, maxRegionTokens: 25 } };
    const alone = await score('few-alone', 1, few);
    assert.ok(alone.done > 0 && alone.failed > 0, JSON.stringify(alone));
    const together = await score('few-together', 5, few);
    assert.deepEqual(together.failures, alone.failures);
    assert.deepEqual(contents(at('few-together')), contents(at('few-alone')));
  });

  it('takes as many pictures as memory allows', () => {
    assert.equal(defaultJudgeBatch(SHAPES_CONFIG, 'float32', {}), 32);
    const { llm, bagel } = SHAPES_CONFIG;
    const sized = (num_hidden_layers: number) => ({
      ...SHAPES_CONFIG,
      llm: {
        ...llm,
        num_hidden_layers,
        hidden_size: 3584,
        num_attention_heads: 28,
        num_key_value_heads: 4,
      },
      bagel: { ...bagel, vit_max_num_patch_per_side: 70 },
    });
    const large = sized(28);
    assert.equal(defaultJudgeBatch(large, 'bfloat16', {}), 1);
    assert.equal(defaultJudgeBatch(large, 'float32', {}), 1);
    const small = sized(4);
    const batch = defaultJudgeBatch(small, 'bfloat16', {});
    assert.ok(batch > 1 && batch < 32);
    assert.ok(defaultJudgeBatch(small, 'bfloat16', { maxRegionTokens: 100_000 }) < batch);
  });

  it('makes fixed groups, each once for those who ask in turn', async () => {
    const made: string[] = [];
    const work = new GroupWork(['a', 'b', 'c', 'd', 'e'], 2, async (group) => {
      made.push(group.join(''));
      return group.map((item) =>
        item === 'b' ? { error: new Error('b is bad') } : { value: item.toUpperCase() },
      );
    });
    await assert.rejects(work.result('b'), /b is bad/);
    assert.equal(await work.result('d'), 'D');
    assert.equal(await work.result('c'), 'C');
    assert.equal(await work.result('e'), 'E');
    assert.deepEqual(made, ['ab', 'cd', 'e']);
  });
});
