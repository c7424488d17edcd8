import assert from 'node:assert/strict';
import path from 'node:path';
import { loadTokenizer } from '../../../lib/data/tokenizer.js';
import { packageRoot } from '../../../lib/native/paths.js';
import {
  layoutGrammar,
  parseLayoutAnswer,
  parseRegionAnswer,
  regionGrammar,
} from '../../../lib/reward/score-grammar.js';
import { TokenConstraint } from '../../../lib/reward/token-constraint.js';
import { TokenVocabulary } from '../../../lib/reward/token-vocabulary.js';
import { readJsonFile } from '../../../lib/util/jsonl.js';
import { SHAPES_WORDS, shapesTokenizerFiles } from '../../../scripts/shapes/tokenizer.js';

const folder = path.join(packageRoot(), 'assets', 'shapes');

const OBJECTS = [
  { object: 'solid red circle', for: 'red circle', score: 1 },
  { object: 'striped yellow triangle', for: 'solid triangle', score: -0.5 },
  { object: 'nothing', for: 'nothing', score: 0 },
  { object: 'striped blue cross', for: 'nothing', score: -1 },
  { object: 'solid green square', for: 'square', score: 0.3 },
  { object: 'solid green square', for: 'solid purple square', score: -0.3 },
];
const PLACES = ['a1', 'c2', 'g7', 'h8', 'b6', 'b6'];
const regionAnswer = (count: number) =>
  JSON.stringify({
    regions: OBJECTS.slice(0, count).map((o, i) => ({ id: i + 1, at: PLACES[i], ...o })),
  });
const layoutAnswer = JSON.stringify({
  seen: 'c2 solid red circle, f6 striped blue square',
  global_layout_score: -0.5,
  reason: 'something is missing',
});

describe('shapes tokenizer', () => {
  const tokenizer = loadTokenizer(folder);

  it('is what its script makes', () => {
    const { tokenizer: json, config } = shapesTokenizerFiles();
    assert.deepEqual(readJsonFile(path.join(folder, 'tokenizer.json')), json);
    assert.deepEqual(readJsonFile(path.join(folder, 'tokenizer_config.json')), config);
  });

  it('has one token for every word, alone and after a blank', () => {
    for (const word of SHAPES_WORDS) {
      assert.equal(tokenizer.encode(word).length, 1, word);
      assert.equal(tokenizer.encode(` ${word}`).length, 1, ` ${word}`);
    }
    const prompt = 'a striped red circle to the left of a solid blue square';
    assert.equal(tokenizer.encode(prompt).length, prompt.split(' ').length);
    assert.equal(tokenizer.encode('\n2:c3').length, 4);
  });

  it('gives back any text', () => {
    const texts = [
      'request: a red circle and a blue square\n1:c3\n2:g2\nregions?',
      'c2 solid red circle, f6 striped blue square',
      'Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. 漢字 🙂\t"x\\y"\r\n  ',
      ' 1 22 333 4444 -1 -0.5 10.5 0.30 {"a":"b"}]}"}},{"id": <|im_end|> <|vision_start|>',
      '  leading,  double   and trailing blanks  ',
      ...OBJECTS.map((_, i) => regionAnswer(i + 1)),
      layoutAnswer,
    ];
    for (const text of texts) assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
  });

  it('writes answers in few tokens', () => {
    assert.ok(tokenizer.encode(regionAnswer(4)).length < 52);
    assert.ok(tokenizer.encode(layoutAnswer).length <= 18);
  });

  it('spells answers in tokens that constrained decoding accepts', () => {
    const vocabulary = new TokenVocabulary(tokenizer.tokenBytes());
    const accept = (constraint: TokenConstraint, text: string) => {
      const ids = tokenizer.encode(text);
      let state = constraint.start({ maxTokens: ids.length + 40 });
      for (const id of ids) {
        assert.equal(constraint.allowedTokens(state)[id], 1, tokenizer.decode([id]));
        state = constraint.advance(state, id);
      }
      assert.ok(constraint.isComplete(state));
    };
    for (let count = 1; count <= OBJECTS.length; count += 1) {
      const ids = Array.from({ length: count }, (_, i) => i + 1);
      const places = PLACES.slice(0, count);
      const grammar = regionGrammar(ids, { places, counterpart: true });
      accept(new TokenConstraint(grammar, vocabulary), regionAnswer(count));
      assert.equal(parseRegionAnswer(regionAnswer(count), ids)[0].object, 'solid red circle');
    }
    accept(new TokenConstraint(layoutGrammar({ describe: true }), vocabulary), layoutAnswer);
    assert.deepEqual(parseLayoutAnswer(layoutAnswer), {
      score: -0.5,
      reason: 'something is missing',
    });
  });
});
