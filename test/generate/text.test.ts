import assert from 'node:assert/strict';
import { emptyContext, prefillText } from '../../lib/generate/context.js';
import { type DecodingConstraint, generateText, sampleToken } from '../../lib/generate/text.js';
import { Generator, liveTensors, noGrad, tensor } from '../../lib/torch/index.js';
import { ConfigError } from '../../lib/util/errors.js';
import { tinyParts } from '../support/tiny-parts.js';

const prompts = [
  [20, 30, 40, 50],
  [60, 70],
];

/** Allows exactly the given tokens, in order. */
class Spelled implements DecodingConstraint {
  readonly #tokens: number[];
  #at = 0;

  constructor(tokens: number[]) {
    this.#tokens = tokens;
  }

  allowedTokens(): Uint8Array {
    const mask = new Uint8Array(272);
    mask[this.#tokens[this.#at]] = 1;
    return mask;
  }

  advance(token: number): void {
    assert.equal(token, this.#tokens[this.#at]);
    this.#at++;
  }

  get isComplete(): boolean {
    return this.#at === this.#tokens.length;
  }
}

describe('text decoding', () => {
  const g = tinyParts();
  const context = (which: number[][]) => prefillText(g, emptyContext(g, which.length), which);

  it('begins with the start token and has max_length tokens', async () => {
    const { ids, finish } = await generateText(g, {
      context: context([prompts[0]]),
      options: { max_length: 6 },
    });
    assert.equal(ids[0].length, 6);
    assert.equal(ids[0][0], g.special.bos_token_id);
    assert.deepEqual(finish, ['length']);
  });

  it('gives each sequence of a batch what it gives it alone', async () => {
    const options = { max_length: 8 };
    const both = await generateText(g, { context: context(prompts), options });
    for (const [i, prompt] of prompts.entries()) {
      const one = await generateText(g, { context: context([prompt]), options });
      assert.deepEqual(both.ids[i], one.ids[0]);
    }
  });

  it('leaves the context usable and unchanged', async () => {
    const shared = context([prompts[0]]);
    const first = await generateText(g, { context: shared, options: { max_length: 5 } });
    const second = await generateText(g, { context: shared, options: { max_length: 5 } });
    assert.deepEqual(first.ids, second.ids);
    assert.deepEqual([...shared.cache.lens], [6]);
  });

  it('stops each sequence at its own end token, or all at the first one', async () => {
    const options = { max_length: 8 };
    const free = await generateText(g, { context: context(prompts), options });
    // A token that the second sequence writes and the first does not.
    const end = free.ids[1].find((token, i) => i > 0 && !free.ids[0].includes(token));
    assert.ok(end !== undefined, 'the two sequences write the same tokens');
    const at = free.ids[1].indexOf(end);
    const each = await generateText(g, { context: context(prompts), options, endTokenId: end });
    assert.deepEqual(each.ids, [free.ids[0], free.ids[1].slice(0, at)]);
    assert.deepEqual(each.finish, ['length', 'eos']);
    const first = await generateText(g, {
      context: context(prompts),
      options,
      endTokenId: end,
      stop: 'first',
    });
    assert.deepEqual(first.ids, free.ids);
    const swapped = await generateText(g, {
      context: context([...prompts].reverse()),
      options,
      endTokenId: end,
      stop: 'first',
    });
    assert.deepEqual(swapped.ids, [free.ids[1].slice(0, at), free.ids[0].slice(0, at)]);
  });

  it('draws the same tokens from the same seed, and greedy ones at temperature 0', async () => {
    const run = (seed: number, temperature: number, do_sample = true) =>
      generateText(g, {
        context: context([prompts[0]]),
        options: { max_length: 12, do_sample, temperature },
        generators: [new Generator(seed)],
      }).then(({ ids }) => ids[0]);
    assert.deepEqual(await run(3, 5), await run(3, 5));
    assert.notDeepEqual(await run(3, 5), await run(4, 5));
    assert.deepEqual(await run(3, 0), await run(3, 1, false));
  });

  it('never chooses a padding row of the vocabulary', async () => {
    const { ids } = await generateText(g, {
      context: context([prompts[0]]),
      options: { max_length: 40, do_sample: true, temperature: 100 },
      generators: [new Generator(0)],
      vocabSize: 7,
    });
    assert.ok(ids[0].every((token) => token < 7));
    assert.ok(new Set(ids[0]).size > 3);
  });

  it('writes what the constraint allows and stops when it is complete', async () => {
    const answer = [100, 101, 102];
    const { ids, finish } = await generateText(g, {
      context: context([prompts[0]]),
      options: { max_length: 20 },
      constraints: [new Spelled(answer)],
      endTokenId: 101,
    });
    assert.deepEqual(ids[0], [g.special.bos_token_id, ...answer]);
    assert.deepEqual(finish, ['constraint']);
  });

  it('takes tokens without alternative together, with the result of one by one', async () => {
    const fixed = [90, 91, 92];
    const twins = [269, 270, 271];
    const own = tinyParts();
    const head = own.model.languageModel.lmHead;
    assert.ok(head);
    // A twin has the same score, and of equal scores the first wins: a choice with a known outcome.
    noGrad(() => {
      fixed.forEach((token, i) => {
        head.weight.select(0, twins[i]).copy_(head.weight.select(0, token));
      });
    });
    /** A free token and three fixed ones, twice. */
    const run = async (withTwins: boolean) => {
      const seen: number[] = [];
      const constraint: DecodingConstraint = {
        allowedTokens() {
          const mask = new Uint8Array(272);
          const at = (seen.length % 4) - 1;
          for (const token of at < 0 ? [30, 40, 50, 60, 70] : [fixed[at]]) mask[token] = 1;
          if (withTwins && at >= 0) mask[twins[at]] = 1;
          return mask;
        },
        advance: (token) => void seen.push(token),
        get isComplete() {
          return seen.length === 8;
        },
      };
      let passes = 0;
      const { ids } = await generateText(own, {
        context: prefillText(own, emptyContext(own), [prompts[0]]),
        options: { max_length: 20 },
        constraints: [constraint],
        onLogits: () => void passes++,
      });
      return { ids: ids[0], passes };
    };
    const together = await run(false);
    const oneByOne = await run(true);
    assert.deepEqual(together.ids, oneByOne.ids);
    assert.deepEqual(together.ids.slice(2, 5), fixed);
    assert.equal(together.passes, 2);
    assert.equal(oneByOne.passes, 8);
  });

  it('refuses a constraint that leads nowhere', async () => {
    const stuck = { allowedTokens: () => new Uint8Array(300), advance() {}, isComplete: false };
    const request = { context: context([prompts[0]]), options: {}, constraints: [stuck] };
    await assert.rejects(generateText(g, request), ConfigError);
  });

  it('refuses an empty context and options out of range', async () => {
    const empty = { context: emptyContext(g), options: {} };
    await assert.rejects(generateText(g, empty), ConfigError);
    for (const options of [
      { max_length: 0 },
      { temperature: -1 },
      { top_k: -1 },
      { top_p: 0 },
      { do_sample: true },
    ]) {
      const request = { context: context([prompts[0]]), options };
      await assert.rejects(generateText(g, request), ConfigError);
    }
  });

  it('ends when asked to', async () => {
    const control = new AbortController();
    let tokens = 0;
    const run = generateText(g, {
      context: context([prompts[0]]),
      options: { max_length: 1000 },
      onToken: () => {
        if (++tokens === 3) control.abort();
      },
      signal: control.signal,
    });
    await assert.rejects(run, { name: 'AbortError' });
    assert.equal(tokens, 3);
  });

  it('frees what it makes', async () => {
    const shared = context([prompts[0]]);
    const run = () => generateText(g, { context: shared, options: { max_length: 20 } });
    await run();
    const before = liveTensors();
    await run();
    // The collector may free older tensors meanwhile, so there can be fewer.
    assert.ok(liveTensors() <= before);
  });
});

describe('token sampling', () => {
  const scores = tensor([0, 3, 1, 2]);
  const draws = (top_k: number, top_p: number): Set<number> => {
    const generator = new Generator(1);
    const seen = new Set<number>();
    for (let i = 0; i < 200; i++) {
      seen.add(sampleToken(scores, { temperature: 2, top_k, top_p }, generator));
    }
    return seen;
  };

  it('covers everything without limits', () => {
    assert.deepEqual([...draws(0, 1)].sort(), [0, 1, 2, 3]);
  });

  it('keeps to the k likeliest', () => {
    assert.deepEqual([...draws(2, 1)].sort(), [1, 3]);
    assert.deepEqual([...draws(1, 1)], [1]);
  });

  it('keeps to the likeliest that make up p, at least one', () => {
    assert.deepEqual([...draws(0, 1e-9)], [1]);
    assert.deepEqual([...draws(0, 0.6)].sort(), [1, 3]);
  });
});
