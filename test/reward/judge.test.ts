import assert from 'node:assert/strict';
import type { RgbImage } from '../../lib/data/images.js';
import { Judge, type JudgeModel, type JudgeQuestion } from '../../lib/reward/judge.js';
import { layoutQuestion, regionQuestion } from '../../lib/reward/judge-prompts.js';
import { paperRewardMap } from '../../lib/reward/reward-map.js';
import { formatTrainingRecord } from '../../lib/reward/training-record.js';

const image: RgbImage = { width: 40, height: 20, data: new Uint8Array(2400) };
const regions = [
  { box: [0, 0, 20, 10] as [number, number, number, number], area: 150, score: 0.9 },
  { box: [20, 5, 40, 20] as [number, number, number, number], area: 280, score: 0.5 },
];
const item = { imageFile: '7.png', prompt: 'a kite above a bridge', regions, seed: 11 };

/** Gives recorded replies in order and remembers what it was asked. */
class Recorded implements JudgeModel {
  readonly asked: JudgeQuestion[] = [];
  systems: string[] = [];
  open = 0;
  #replies: string[];

  constructor(...replies: string[]) {
    this.#replies = replies;
  }

  async read(_image: RgbImage, system: string) {
    this.systems.push(system);
    this.open += 1;
    return {
      answer: async (q: JudgeQuestion) => {
        this.asked.push(q);
        const text = this.#replies.shift();
        if (text === undefined) throw new Error('the connection broke');
        return { text, tokens: 5 };
      },
      dispose: () => {
        this.open -= 1;
      },
    };
  }
}

const good =
  '<think>hm</think>{"regions":[{"id":1,"object":"kite","score":0.5},{"id":2,"object":"bridge","score":-0.25}]}';
const layout = '{"global_layout_score":0,"reason":"no places named"}';

describe('Judge', () => {
  it('asks once about all regions and once about the layout, and reads the image once', async () => {
    const model = new Recorded(good, layout);
    const raw = await new Judge(model).score(image, item);
    assert.equal(raw.status, 'ok');
    assert.deepEqual(
      raw.vlm_rewards.map((r) => [r.region_id, r.identified_object, r.score, r.bbox, r.area]),
      [
        [1, 'kite', 0.5, [0, 0, 20, 10], 150],
        [2, 'bridge', -0.25, [20, 5, 40, 20], 280],
      ],
    );
    assert.equal(raw.global_layout_reward?.global_layout_score, 0);
    assert.deepEqual([raw.width, raw.height, raw.tokens, raw.seed], [40, 20, 10, '11']);
    assert.equal(raw.vlm_raw_output, good);
    assert.equal(raw.global_raw_output, layout);
    assert.equal(model.systems.length, 1);
    assert.equal(model.open, 0);
    assert.deepEqual(
      model.asked.map((q) => [q.maxTokens, q.seed]),
      [
        [4096, 11n],
        [1024, 12n],
      ],
    );
    const answer = new TextEncoder().encode(good);
    const { grammar } = model.asked[0];
    assert.equal(grammar.run(grammar.start, answer), grammar.end, 'the grammar fits the question');
  });

  it('never turns a failure into a neutral score', async () => {
    const partial = await new Judge(new Recorded('no idea', layout)).score(image, item);
    assert.equal(partial.status, 'partial');
    assert.ok(partial.vlm_rewards.every((r) => r.score === null && r.status === 'failed'));
    assert.match(partial.vlm_rewards[0].problem ?? '', /cannot be read/);
    const failed = await new Judge(new Recorded('?', '?')).score(image, item);
    assert.equal(failed.status, 'failed');
    assert.equal(failed.global_layout_reward?.global_layout_score, null);
  });

  it('lets other errors through and still lets go of the image', async () => {
    const model = new Recorded(good);
    await assert.rejects(new Judge(model).score(image, item), /the connection broke/);
    assert.equal(model.open, 0);
  });

  it('asks only what is wanted', async () => {
    const onlyLayout = await new Judge(new Recorded(layout), { regions: false }).score(image, item);
    assert.deepEqual(onlyLayout.vlm_rewards, []);
    assert.equal(onlyLayout.status, 'ok');
    const onlyRegions = await new Judge(new Recorded(good), { layout: false }).score(image, item);
    assert.equal(onlyRegions.global_layout_reward, null);
    assert.equal(onlyRegions.status, 'ok');
  });

  it('tells the size of the image and scales boxes when asked to', () => {
    const normalized = regionQuestion('x', regions, image);
    assert.ok(
      normalized.includes('40 x 20 pixels') && normalized.includes('[500, 250, 1000, 1000]'),
    );
    const pixels = regionQuestion('x', regions, image, 'pixels');
    assert.ok(pixels.includes('40 wide and 20 high') && pixels.includes('[20, 5, 40, 20]'));
    assert.ok(layoutQuestion('say "1"\nnow').includes('"say \\"1\\"\\nnow"'));
  });
});

describe('formatTrainingRecord', () => {
  it('puts the layout first, keeps neutral scores and names the frame', async () => {
    const raw = await new Judge(new Recorded(good, layout)).score(image, item);
    const result = formatTrainingRecord(raw);
    assert.deepEqual(result, {
      record: {
        bad_image_file: '7.png',
        good_image_file: '7.png',
        prompt: 'a kite above a bridge',
        vlm_rewards: [
          {
            object: 'global_layout_reward',
            bbox: [0, 0, 40, 20],
            score: 0,
            reason: 'no places named',
          },
          { object: 'kite', bbox: [0, 0, 20, 10], score: 0.5 },
          { object: 'bridge', bbox: [20, 5, 40, 20], score: -0.25 },
        ],
        width: 40,
        height: 20,
      },
      omitted: [],
    });
    const map = paperRewardMap(result.record?.vlm_rewards, { width: 20, height: 10 }, 0, image);
    assert.equal(map.painted, 2);
    assert.deepEqual(formatTrainingRecord(raw, { drop_zero_global: true }), {
      record: null,
      reason: 'the layout score is 0 (drop_zero_global)',
    });
  });

  it('drops records whose layout failed, and says so', async () => {
    const raw = await new Judge(new Recorded(good, '?')).score(image, item);
    const result = formatTrainingRecord(raw);
    assert.equal(result.record, null);
    assert.match('reason' in result ? result.reason : '', /layout/);
  });

  it('counts regions without score and reads raw files of the reference', () => {
    const result = formatTrainingRecord(
      {
        image_file: '1.png',
        prompt: 'old',
        vlm_rewards: [
          { identified_object: 'a', bbox: [0, 0, 9, 9] },
          { bbox: [0, 0, 9, 9], score: 0.1 },
        ],
        global_layout_reward: { global_layout_score: 0.4, bbox: [0, 0, 64, 32] },
      },
      { prompt: 'the original' },
    );
    assert.ok(result.record !== null);
    assert.equal(result.record.prompt, 'the original');
    assert.deepEqual([result.record.width, result.record.height], [64, 32]);
    assert.deepEqual(
      result.record.vlm_rewards.map((r) => r.object),
      ['global_layout_reward', 'unnamed'],
    );
    assert.deepEqual(result.omitted, [{ region: 1, reason: 'no score' }]);
    assert.equal(formatTrainingRecord({ image_file: 'x', prompt: 'y' }).record, null);
    assert.throws(() => formatTrainingRecord({ image_file: '' }), { name: 'DataError' });
  });
});
