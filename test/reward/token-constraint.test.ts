import assert from 'node:assert/strict';
import { ByteGrammar } from '../../lib/reward/byte-grammar.js';
import {
  layoutGrammar,
  parseLayoutAnswer,
  parseRegionAnswer,
  regionGrammar,
} from '../../lib/reward/score-grammar.js';
import { type AnswerState, TokenConstraint } from '../../lib/reward/token-constraint.js';
import { TokenVocabulary } from '../../lib/reward/token-vocabulary.js';

/** Small deterministic generator (mulberry32). */
function random(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const SNIPPETS = [
  '{"regions":[{"id":1,"object":"',
  '"}]}',
  '","score":',
  '","score":-0.',
  '0.5},{"id":',
  '-1',
  '.25',
  '}]}',
  'a red cat',
  ' house',
  'é',
  '日本',
  '🙂',
  '</think>',
  'k>{"regions',
  '</think>\n{"',
  '"reason":"',
  '"}',
  '\n\n',
  '<think>',
];

/** All 256 bytes, every snippet, and pieces of both cut and joined at random, in random order. */
function randomVocabulary(seed: number, size = 900): TokenVocabulary {
  const next = random(seed);
  const tokens: Array<Uint8Array | null> = [null, new Uint8Array(0)];
  for (let byte = 0; byte < 256; byte += 1) tokens.push(Uint8Array.of(byte));
  for (const text of SNIPPETS) tokens.push(Buffer.from(text));
  while (tokens.length < size) {
    const text = Buffer.from(
      SNIPPETS[Math.floor(next() * SNIPPETS.length)] +
        SNIPPETS[Math.floor(next() * SNIPPETS.length)],
    );
    const from = Math.floor(next() * text.length);
    tokens.push(text.subarray(from, from + 1 + Math.floor(next() * 8)));
  }
  for (let i = tokens.length - 1; i > 0; i -= 1) {
    const j = Math.floor(next() * (i + 1));
    [tokens[i], tokens[j]] = [tokens[j], tokens[i]];
  }
  return new TokenVocabulary(tokens);
}

/** Writes an answer of random allowed tokens; `greed` prefers long tokens. */
function writeRandomly(
  constraint: TokenConstraint,
  start: AnswerState,
  next: () => number,
): { text: string; tokens: number } {
  const ids: number[] = [];
  let state = start;
  while (!constraint.isComplete(state)) {
    const mask = constraint.allowedTokens(state);
    const allowed: number[] = [];
    for (let id = 0; id < mask.length; id += 1) if (mask[id] === 1) allowed.push(id);
    assert.ok(allowed.length > 0, `stuck after ${constraint.vocabulary.join(ids)}`);
    const token = allowed[Math.floor(next() * allowed.length)];
    ids.push(token);
    state = constraint.advance(state, token);
  }
  assert.equal(constraint.allowedTokens(state).indexOf(1), -1, 'nothing may follow the end');
  const bytes = constraint.vocabulary.join(ids);
  return { text: new TextDecoder('utf-8', { fatal: false }).decode(bytes), tokens: ids.length };
}

/** The mask by definition: token by token, byte by byte. */
function slowMask(grammar: ByteGrammar, vocabulary: TokenVocabulary, node: number): Uint8Array {
  return Uint8Array.from({ length: vocabulary.size }, (_, id) => {
    const bytes = vocabulary.bytes(id);
    return bytes !== null && grammar.run(node, bytes) >= 0 ? 1 : 0;
  });
}

describe('score grammar under random tokens', () => {
  const ids = [1, 2, 7];

  it('always gives a complete, parsable answer about regions within the budget', () => {
    for (let seed = 1; seed <= 12; seed += 1) {
      const vocabulary = randomVocabulary(seed);
      const constraint = new TokenConstraint(
        regionGrammar(ids, { maxObjectBytes: 12 }),
        vocabulary,
      );
      const next = random(seed * 77);
      for (const spare of [0, 1, 2, 3, 5, 9, 40, 400]) {
        const maxTokens = constraint.minTokens + spare;
        const { text, tokens } = writeRandomly(constraint, constraint.start({ maxTokens }), next);
        assert.ok(tokens <= maxTokens);
        assert.equal(text.includes('�'), false, 'objects are valid UTF-8');
        const verdicts = parseRegionAnswer(text, ids);
        assert.deepEqual(
          verdicts.map((v) => v.id),
          ids,
        );
        for (const { object, score, problem } of verdicts) {
          assert.equal(problem, undefined);
          assert.ok(score !== null && Math.abs(score) <= 1);
          assert.ok(object !== null && Buffer.byteLength(object) <= 12);
        }
      }
    }
  });

  it('always gives a parsable layout answer, thoughts before it, within both budgets', () => {
    for (let seed = 1; seed <= 12; seed += 1) {
      const vocabulary = randomVocabulary(seed + 100);
      const grammar = layoutGrammar({ think: true, maxReasonBytes: 20 });
      const constraint = new TokenConstraint(grammar, vocabulary);
      const next = random(seed * 13);
      for (const [spare, maxThinkTokens] of [
        [0, 8],
        [3, 9],
        [60, 10],
        [60, undefined],
        [2, 500],
      ] as const) {
        const maxTokens = constraint.minTokens + spare;
        const start = constraint.start({ maxTokens, maxThinkTokens });
        const { text, tokens } = writeRandomly(constraint, start, next);
        assert.ok(tokens <= maxTokens);
        assert.ok(text.includes('</think>'));
        const { score, reason } = parseLayoutAnswer(text);
        assert.ok(Math.abs(score) <= 1 && reason.length > 0);
      }
    }
  });

  it('reaches scores of every form', () => {
    const vocabulary = randomVocabulary(5);
    const constraint = new TokenConstraint(layoutGrammar(), vocabulary);
    const next = random(3);
    const forms = new Set<string>();
    for (let i = 0; i < 400; i += 1) {
      const { text } = writeRandomly(constraint, constraint.start({ maxTokens: 60 }), next);
      const written = /score":([^,]+),/.exec(text)?.[1] ?? '';
      forms.add(written.replace(/\d/g, (d) => (d === '1' ? '1' : '0')));
    }
    for (const form of ['0', '1', '-0', '-1', '0.0', '-0.00', '1.0', '-1.00']) {
      assert.ok(forms.has(form), `${form} among ${[...forms].join(' ')}`);
    }
  });
});

describe('TokenConstraint', () => {
  it('allows exactly the tokens whose bytes the grammar allows, at every state of an answer', () => {
    for (const seed of [1, 2, 3]) {
      const vocabulary = randomVocabulary(seed);
      // Two questions share the vocabulary's kept masks; they must not mix them up.
      for (const grammar of [
        regionGrammar([1, 2], { maxObjectBytes: 9, think: true }),
        regionGrammar([1, 3], { maxObjectBytes: 14, think: true }),
        layoutGrammar({ maxReasonBytes: 9 }),
      ]) {
        const constraint = new TokenConstraint(grammar, vocabulary);
        const next = random(seed);
        let state = constraint.start({ maxTokens: 100_000, maxThinkTokens: 50_000 });
        for (let step = 0; step < 300 && !constraint.isComplete(state); step += 1) {
          const mask = constraint.allowedTokens(state);
          assert.deepEqual(mask, slowMask(grammar, vocabulary, state.node));
          const allowed = [...mask.keys()].filter((id) => mask[id] === 1);
          const close = allowed.find((id) => vocabulary.bytes(id)?.toString().includes('</think>'));
          const token =
            step === 20 && close !== undefined
              ? close
              : allowed[Math.floor(next() * allowed.length)];
          state = constraint.advance(state, token);
        }
      }
    }
  });

  it('tells apart places with and without room for the rest of a character', () => {
    // Tokens that end with the first byte of a character of two, three and four bytes.
    const leads = [0xc3, 0xe2, 0xf0].map((lead) => Uint8Array.of(0x61, 0x62, lead));
    const bytes = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
    const vocabulary = new TokenVocabulary([...bytes, ...leads]);
    const constraint = new TokenConstraint(regionGrammar([1], { maxObjectBytes: 12 }), vocabulary);
    let state = constraint.start({ maxTokens: 1000 });
    for (const byte of Buffer.from('{"regions":[{"id":1,"object":"'))
      state = constraint.advance(state, byte);
    const most: number[] = [];
    for (let used = 0; used <= 12; used += 1) {
      const mask = constraint.allowedTokens(state);
      assert.deepEqual(mask, slowMask(constraint.grammar, vocabulary, state.node), `${used} used`);
      most.push(mask[256] + mask[257] + mask[258]);
      if (used < 12) state = constraint.advance(state, 0x78);
    }
    // Three bytes of the token itself and one, two or three more of the character.
    assert.deepEqual(most, [3, 3, 3, 3, 3, 3, 3, 2, 1, 0, 0, 0, 0]);
  });

  it('does not share masks between answers that differ just beyond what masks are named by', () => {
    const bytes = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
    const vocabulary = new TokenVocabulary([...bytes, Buffer.from('x"0a')]);
    for (const after of ['b', 'a', 'b']) {
      const grammar = new ByteGrammar([
        { kind: 'text', maxBytes: 20 },
        { kind: 'literal', text: '"' },
        { kind: 'score' },
        { kind: 'literal', text: after },
      ]);
      const constraint = new TokenConstraint(grammar, vocabulary);
      const mask = constraint.allowedTokens(constraint.start({ maxTokens: 100 }));
      assert.equal(mask[256], after === 'a' ? 1 : 0, after);
    }
  });

  it('takes the shortest way when nothing is left to spend', () => {
    const vocabulary = randomVocabulary(9);
    const constraint = new TokenConstraint(regionGrammar([1]), vocabulary);
    const { text, tokens } = writeRandomly(
      constraint,
      constraint.start({ maxTokens: constraint.minTokens }),
      random(1),
    );
    assert.equal(tokens, constraint.minTokens);
    assert.ok(tokens < Buffer.byteLength(text), 'tokens of several bytes are used');
  });

  it('refuses budgets that cannot hold an answer', () => {
    const constraint = new TokenConstraint(regionGrammar([1]), randomVocabulary(1));
    assert.throws(() => constraint.start({ maxTokens: constraint.minTokens - 1 }), {
      name: 'ConfigError',
      code: 'ERR_BUDGET',
    });
  });

  it('refuses a token that is not allowed, and special tokens', () => {
    const vocabulary = new TokenVocabulary([
      null,
      ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
    ]);
    const constraint = new TokenConstraint(regionGrammar([1]), vocabulary);
    const start = constraint.start({ maxTokens: 200 });
    assert.throws(() => constraint.advance(start, 0), { code: 'ERR_TOKEN' });
    assert.throws(() => constraint.advance(start, 1 + 0x5b), { code: 'ERR_TOKEN' });
    assert.throws(() => constraint.advance(start, 99_999), { code: 'ERR_TOKEN' });
    assert.equal(constraint.forcedToken(start), 1 + 0x7b);
  });

  it('refuses a vocabulary that cannot spell the answer', () => {
    const vocabulary = new TokenVocabulary([Buffer.from('cat'), Buffer.from('{')]);
    assert.throws(() => new TokenConstraint(layoutGrammar(), vocabulary), {
      code: 'ERR_VOCABULARY',
    });
    assert.throws(() => new TokenVocabulary([null, new Uint8Array(0)]), { code: 'ERR_VOCABULARY' });
  });

  it('is not made for regions without a place where others have one', () => {
    assert.throws(() => regionGrammar([1, 2], { places: ['a1'] }), { code: 'ERR_PLACES' });
  });

  it('works with a vocabulary of 150 000 tokens', () => {
    const next = random(4);
    const tokens: Uint8Array[] = Array.from({ length: 256 }, (_, b) => Uint8Array.of(b));
    while (tokens.length < 150_000) {
      const length = 2 + Math.floor(next() * 9);
      tokens.push(Uint8Array.from({ length }, () => 97 + Math.floor(next() * 26)));
    }
    const constraint = new TokenConstraint(
      regionGrammar(Array.from({ length: 10 }, (_, i) => i + 1)),
      new TokenVocabulary(tokens),
    );
    const { text } = writeRandomly(constraint, constraint.start({ maxTokens: 600 }), next);
    assert.equal(parseRegionAnswer(text, [10])[0].problem, undefined);
  });
});

describe('TokenVocabulary', () => {
  it('finds all tokens at a place and single bytes', () => {
    const texts = ['a', 'ab', 'abcd', 'b', 'bc', 'x', 'ab'];
    const vocabulary = new TokenVocabulary(texts.map((t) => Buffer.from(t)));
    assert.deepEqual(vocabulary.lengthsAt(Buffer.from('zabcd'), 1), [1, 2, 4]);
    assert.deepEqual(vocabulary.lengthsAt(Buffer.from('abc'), 1), [1, 2]);
    assert.deepEqual(vocabulary.lengthsAt(Buffer.from('c'), 0), []);
    assert.equal(vocabulary.singleByte(0x62), 3);
    assert.equal(vocabulary.singleByte(0x63), null);
  });
});

describe('reading answers', () => {
  it('keeps missing and out-of-range scores apart from neutral ones', () => {
    const text = '{"regions":[{"id":2,"object":"cat","score":95},{"id":1,"object":"","score":-0}]}';
    const [one, two, three] = parseRegionAnswer(text, [1, 2, 3]);
    assert.deepEqual(one, { id: 1, object: null, score: 0 });
    assert.equal(two.score, null);
    assert.match(two.problem ?? '', /95 is outside/);
    assert.match(three.problem ?? '', /leaves the region out/);
  });

  it('reports unreadable answers', () => {
    for (const text of ['', 'Score: 0.8', '[]', '{"regions":3}', '{"regions":[1]}']) {
      assert.throws(() => parseRegionAnswer(text, [1]), { name: 'DataError', code: 'ERR_ANSWER' });
    }
    for (const text of ['{}', '{"global_layout_score":"0.5"}', '{"global_layout_score":1.5}']) {
      assert.throws(() => parseLayoutAnswer(text), { name: 'DataError', code: 'ERR_ANSWER' });
    }
  });
});
