import assert from 'node:assert/strict';
import {
  answerConstrained,
  type ConstrainedQuestion,
  type ImagePrefixes,
  readImages,
} from '../../lib/generate/judge-model.js';
import type { DecodingConstraint } from '../../lib/generate/text.js';
import { liveTensors } from '../../lib/torch/index.js';
import { tinyImage, tinyParts } from '../support/tiny-parts.js';

describe('questions about images', () => {
  const parts = tinyParts();
  const images = [tinyImage(50, 40), tinyImage(32, 64), tinyImage(20, 20)];
  const questions: ConstrainedQuestion[] = [
    { image: 0, question: 'how many?', maxTokens: 9, seed: 5 },
    { image: 1, question: 'which colour has the small one behind the other?', maxTokens: 3 },
    { image: 2, question: '?', maxTokens: 12, seed: 7 },
  ];
  const sampling = { do_sample: true, temperature: 0.3 };

  /** Spells one text, token by token. */
  const spelling = (text: string): DecodingConstraint => {
    const left = [...parts.tokenizer.encode(text)];
    return {
      allowedTokens: () => {
        const mask = new Uint8Array(272);
        mask[left[0]] = 1;
        return mask;
      },
      advance: () => void left.shift(),
      get isComplete() {
        return left.length === 0;
      },
    };
  };

  /** Ids of the answer to one question about one image that is read for it. */
  const alone = async (q: ConstrainedQuestion, options = {}, system?: string) => {
    const prefix = readImages(parts, [images[q.image]], system);
    const [answer] = await answerConstrained(parts, prefix, [{ ...q, image: 0 }], options);
    prefix.dispose();
    return answer.ids;
  };

  it('answers each question as if the image had been read for it', async () => {
    const ask = (prefix: ImagePrefixes, question: string) =>
      answerConstrained(parts, prefix, [{ image: 0, question, maxTokens: 6 }]);
    const shared = readImages(parts, images.slice(0, 1));
    const first = await ask(shared, 'how many?');
    const second = await ask(shared, 'which colour?');
    const fresh = readImages(parts, images.slice(0, 1));
    assert.deepEqual(await ask(fresh, 'which colour?'), second);
    assert.deepEqual(await ask(shared, 'how many?'), first);
    shared.dispose();
    fresh.dispose();
  });

  for (const [name, options] of [
    ['greedy', {}],
    ['drawn', { sampling }],
  ] as const) {
    it(`answers about several images as about each alone (${name})`, async () => {
      for (const system of ['', 'Look closely.']) {
        const together = readImages(parts, images, system);
        const answers = await answerConstrained(parts, together, questions, options);
        // Any questions in any order, two about one image.
        const order = [2, 0, 2, 1];
        const mixed = order.map((i) => questions[i]);
        const again = await answerConstrained(parts, together, mixed, options);
        together.dispose();
        for (const [i, q] of questions.entries()) {
          assert.deepEqual(answers[i].ids, await alone(q, options, system));
          assert.ok(answers[i].ids.length > 0);
        }
        assert.deepEqual(
          again.map(({ ids }) => ids),
          order.map((i) => answers[i].ids),
        );
      }
    });
  }

  it('gives different answers to different images and seeds', async () => {
    const one = { image: 0, question: 'what?', maxTokens: 12 };
    assert.notDeepEqual(await alone(one, {}, ''), await alone({ ...one, image: 2 }, {}, ''));
    assert.notDeepEqual(
      await alone({ ...one, seed: 1 }, { sampling }),
      await alone({ ...one, seed: 2 }, { sampling }),
    );
  });

  it('keeps each answer inside its constraint and lets it end by itself', async () => {
    const prefix = readImages(parts, images.slice(0, 2), '');
    const free = { image: 1, question: 'and you?', maxTokens: 15 };
    const seen: number[] = [];
    const answers = await answerConstrained(
      parts,
      prefix,
      [{ image: 0, question: 'score?', constraint: spelling('-0.5'), maxTokens: 4 }, free],
      { onToken: (_, question) => void seen.push(question) },
    );
    prefix.dispose();
    assert.deepEqual([answers[0].text, answers[0].finish], ['-0.5', 'constraint']);
    assert.deepEqual(answers[1].ids, await alone(free, {}, ''));
    assert.equal(seen.filter((q) => q === 0).length, 4);
    assert.equal(seen.at(-1), 1);
  });

  it('ends when asked to, and frees what it makes', async () => {
    const ask = async (signal?: AbortSignal, onToken?: () => void) => {
      const prefix = readImages(parts, images, 'Look.');
      const long = questions.map((q) => ({ ...q, maxTokens: 80 }));
      try {
        await answerConstrained(parts, prefix, long, { signal, onToken });
      } finally {
        prefix.dispose();
      }
    };
    await ask();
    const before = liveTensors();
    await ask();
    assert.ok(liveTensors() <= before);
    const control = new AbortController();
    let tokens = 0;
    const onToken = () => {
      tokens += 1;
      if (tokens === 7) control.abort();
    };
    await assert.rejects(ask(control.signal, onToken), { name: 'AbortError' });
    assert.equal(tokens, 9, 'no step after that of the signal');
    assert.ok(liveTensors() <= before);
  });
});
