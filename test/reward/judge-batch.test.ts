import assert from 'node:assert/strict';
import { BagelJudgeModel } from '../../lib/reward/bagel-judge-model.js';
import { Judge, type JudgeCase, type JudgeModel, readTogether } from '../../lib/reward/judge.js';
import { layoutGrammar, regionGrammar } from '../../lib/reward/score-grammar.js';
import { TokenVocabulary } from '../../lib/reward/token-vocabulary.js';
import { liveTensors } from '../../lib/torch/index.js';
import { tinyImage, tinyParts } from '../support/tiny-parts.js';

describe('judging several pictures at once', () => {
  const parts = tinyParts(4);
  // Single bytes, and a few longer tokens that leave a choice inside the fixed parts.
  const bytes = Array.from({ length: 272 }, (_, id) => (id < 16 ? null : Uint8Array.of(id - 16)));
  for (const [id, text] of [
    [140, '{"'],
    [141, '":'],
    [142, '"score'],
    [143, 'id'],
  ] as const) {
    bytes[id + 16] = new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;
  }
  const vocabulary = new TokenVocabulary(bytes);
  const decode = (ids: number[]): string => Buffer.from(vocabulary.join(ids)).toString();
  const all = { ...parts, tokenizer: { ...parts.tokenizer, decode } };
  const limits = { think: false, maxObjectBytes: 9, maxReasonBytes: 30 };
  const box = (n: number): [number, number, number, number] => [n, n, n + 9, n + 7];
  const region = (n: number) => ({ box: box(n), area: 63, score: 1 });
  const cases: JudgeCase[] = [
    [tinyImage(40, 40), 'a dog', 1],
    [tinyImage(64, 32), 'two cats, one behind the other, and a very long request besides', 4],
    [tinyImage(24, 48), 'nothing', 0],
  ].map(([image, prompt, regions], i) => ({
    image: image as JudgeCase['image'],
    item: {
      imageFile: `${i}.png`,
      prompt: prompt as string,
      regions: Array.from({ length: regions as number }, (_, n) => region(3 * n)),
      seed: 100 + i,
    },
  }));

  for (const [name, sampling] of [
    ['greedy', {}],
    ['drawn', { do_sample: true, temperature: 2 }],
  ] as const) {
    it(`gives each the record it gets alone (${name})`, async () => {
      const judge = new Judge(new BagelJudgeModel(all, vocabulary, sampling), limits);
      const together = await judge.scoreAll(cases);
      assert.deepEqual(
        together.map(({ status, vlm_rewards }) => [status, vlm_rewards.length]),
        [
          ['ok', 1],
          ['ok', 4],
          ['ok', 0],
        ],
      );
      for (const [i, { image, item }] of cases.entries()) {
        assert.deepEqual(together[i], await judge.score(image, item));
      }
      const backwards = await judge.scoreAll([...cases].reverse());
      assert.deepEqual(backwards.reverse(), together);
    });
  }

  it('answers as a model that takes one picture at a time', async () => {
    const model = new BagelJudgeModel(all, vocabulary);
    const single: JudgeModel = { read: (image, system) => model.read(image, system) };
    assert.deepEqual(
      await new Judge(single, limits).scoreAll(cases),
      await new Judge(model, limits).scoreAll(cases),
    );
  });

  it('finishes a short answer long before a long one', async () => {
    const model = new BagelJudgeModel(all, vocabulary);
    const short = { grammar: layoutGrammar({ maxReasonBytes: 1 }), maxTokens: 60, seed: 0 };
    const long = { grammar: regionGrammar([1, 2, 3, 4, 5]), maxTokens: 500, seed: 0 };
    const batch = await readTogether(model, [cases[0].image, cases[1].image], '');
    const asked = [
      { ...short, image: 0, question: 'layout?' },
      { ...long, image: 1, question: 'regions?' },
    ];
    const replies = await batch.answerAll(asked);
    batch.dispose();
    assert.ok(replies[1].tokens > 2 * replies[0].tokens);
    for (const [i, q] of asked.entries()) {
      const session = await model.read(cases[q.image].image, '');
      assert.deepEqual(await session.answer(q), replies[i]);
      session.dispose();
    }
  });

  it('ends when asked to and leaves nothing behind', async () => {
    const judge = new Judge(new BagelJudgeModel(all, vocabulary), limits);
    await judge.scoreAll(cases);
    const before = liveTensors();
    await judge.scoreAll(cases);
    assert.ok(liveTensors() <= before);
    const control = new AbortController();
    const scoring = judge.scoreAll(cases, { signal: control.signal });
    setImmediate(() => setImmediate(() => control.abort()));
    await assert.rejects(scoring, { name: 'AbortError' });
    assert.ok(liveTensors() <= before);
    await assert.rejects(judge.scoreAll(cases, { signal: AbortSignal.abort() }), {
      name: 'AbortError',
    });
  });

  it('opens pictures one after the other for models without batches', async () => {
    const events: string[] = [];
    const recorded: JudgeModel = {
      read: async (image) => {
        events.push(`open ${image.width}`);
        return {
          answer: async () => {
            events.push('answer');
            return { text: '?', tokens: 1 };
          },
          dispose: () => void events.push('close'),
        };
      },
    };
    const records = await new Judge(recorded).scoreAll(cases.slice(0, 2));
    assert.deepEqual(
      records.map(({ status }) => status),
      ['failed', 'failed'],
    );
    const turn = ['answer', 'answer', 'close'];
    assert.deepEqual(events, ['open 40', ...turn, 'open 64', ...turn]);
  });
});
