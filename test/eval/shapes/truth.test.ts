import assert from 'node:assert/strict';
import {
  CAPTION_QUESTION,
  captionAnswer,
  layoutAnswer,
  layoutQuestion,
  layoutsGrammar,
  layoutTruth,
  objectBox,
  type PixelBox,
  regionsAnswer,
  regionsGrammar,
  regionsQuestion,
  regionTruth,
  type ShapeObject,
} from '../../../lib/eval/shapes/index.js';
import { parseLayoutAnswer, parseRegionAnswer } from '../../../lib/reward/score-grammar.js';
import { at, promptOf } from '../../support/shapes.js';

/** Objects in cells 0, 1, 2 and so on. */
function row(...names: string[]): ShapeObject[] {
  return names.map((name, cell) => at(cell, name));
}

/** The score of the object in cell 0. */
function firstScore(text: string, objects: ShapeObject[]): number {
  return regionTruth(promptOf(text), objects, objectBox(objects[0])).score;
}

describe("judge's truth about regions", () => {
  const pair = 'a red circle and a blue square';

  it('scores agreement, partial agreement and none', () => {
    const square = 'solid blue square';
    const cases: Array<[string, string, number]> = [
      [pair, 'solid red circle', 1],
      [pair, 'striped red circle', 1], // the texture is not named
      [pair, 'solid blue circle', -0.5],
      [pair, 'solid red triangle', -0.5],
      [pair, 'solid green square', -0.5],
      [pair, 'solid green cross', -1],
      ['a striped circle and a solid square', 'striped green circle', 1],
      ['a striped circle and a solid square', 'solid green circle', -0.5],
      // A colour that is not named cannot be shared, and a texture does not count.
      ['a striped circle and a solid square', 'striped blue cross', -1],
      ['a circle and a square', 'striped red circle', 1],
      ['a circle and a square', 'solid red triangle', -1],
    ];
    for (const [text, name, score] of cases) {
      assert.equal(firstScore(text, row(name, square)), score, `${text}: ${name}`);
    }
  });

  it('leaves the number to the layout', () => {
    const circles = row(...Array<string>(4).fill('solid red circle'));
    for (const text of [pair, 'two red circles', 'four red circles', 'a circle and a square']) {
      assert.equal(firstScore(text, circles), 1, text);
    }
  });

  it('takes the best of several requested kinds', () => {
    // Nothing in common with the first kind, all with the second, and the other way round.
    assert.equal(firstScore(pair, row('solid blue square')), 1);
    assert.equal(firstScore('a blue square and a red circle', row('solid blue square')), 1);
    // Shares a colour with the first kind and nothing with the second.
    assert.equal(firstScore(pair, row('solid red cross')), -0.5);
  });

  it('says what of the request a region stands for', () => {
    const of = (text: string, name: string) => {
      const objects = row(name);
      return regionTruth(promptOf(text), objects, objectBox(objects[0])).counterpart;
    };
    assert.equal(of(pair, 'striped red circle'), 'red circle');
    assert.equal(of(pair, 'solid blue circle'), 'red circle', 'the shape comes before the colour');
    assert.equal(of(pair, 'solid blue cross'), 'blue square');
    assert.equal(of(pair, 'solid green cross'), 'nothing');
    assert.equal(of('three green crosses', 'solid red cross'), 'green cross');
    assert.equal(of('a striped circle and a solid square', 'solid red circle'), 'striped circle');
    assert.equal(of('a circle and a square', 'solid red circle'), 'circle');
  });

  it('names the object of the box, or nothing', () => {
    const objects = [at(0, 'striped red circle'), at(1, 'solid blue square')];
    const of = (...box: [number, number, number, number]) =>
      regionTruth(promptOf(pair), objects, box);
    assert.deepEqual(of(2, 2, 14, 14), {
      object: 'striped red circle',
      counterpart: 'red circle',
      score: 1,
    });
    assert.deepEqual(of(18, 2, 30, 14), {
      object: 'solid blue square',
      counterpart: 'blue square',
      score: 1,
    });
    assert.deepEqual(of(0, 16, 32, 32), { object: 'nothing', counterpart: 'nothing', score: 0 });
    assert.deepEqual(of(14, 2, 18, 14), { object: 'nothing', counterpart: 'nothing', score: 0 });
    // Of the object's 144 pixels 30 % are 43.2: 4 columns of 12 are enough in a larger box, 3 are not.
    assert.equal(of(0, 0, 6, 32).object, 'striped red circle');
    assert.equal(of(0, 0, 5, 32).object, 'nothing');
    // A small box is measured by its own area.
    assert.equal(of(12, 6, 16, 8).object, 'striped red circle');
    assert.equal(of(13, 6, 17, 8).object, 'nothing');
    // Most in common wins; of equals the first in reading order.
    assert.equal(of(10, 0, 32, 16).object, 'solid blue square');
    assert.equal(of(0, 0, 32, 32).object, 'striped red circle');
    // An empty box is about nothing.
    assert.equal(of(5, 5, 5, 9).object, 'nothing');
    assert.deepEqual(regionTruth(promptOf(pair), [], [0, 0, 9, 9]), {
      object: 'nothing',
      counterpart: 'nothing',
      score: 0,
    });
  });
});

describe("judge's truth about the layout", () => {
  it('tells the number, what is missing and the places', () => {
    const relation = 'a red circle to the left of a blue square';
    const pairOf = 'a circle and a square';
    const cases: Array<[string, ShapeObject[], number, string]> = [
      [relation, row('solid red circle', 'solid blue square'), 1, 'as requested'],
      // Colours and textures are left aside.
      [relation, row('striped green circle', 'solid red square'), 1, 'as requested'],
      [relation, row('solid blue square', 'solid red circle'), -1, 'wrong places'],
      [relation, [at(0, 'solid red circle'), at(3, 'solid blue square')], -1, 'wrong places'],
      [relation, row('solid red circle', 'solid blue cross'), -0.5, 'something is missing'],
      [relation, row('solid red circle', 'solid blue circle'), -0.5, 'something is missing'],
      [relation, row('solid red circle'), -0.5, 'wrong number'],
      [relation, [], -0.5, 'wrong number'],
      [
        relation,
        row('solid red circle', 'solid blue square', 'solid blue square'),
        -0.5,
        'wrong number',
      ],
      ['three red circles', row('solid red circle', 'solid red circle'), -0.5, 'wrong number'],
      ['two red circles', row('solid blue circle', 'solid red circle'), 1, 'as requested'],
      [
        'two red circles',
        row('solid red circle', 'solid red square'),
        -0.5,
        'something is missing',
      ],
      ['a circle and a square', row('solid blue square', 'solid red circle'), 1, 'as requested'],
      [pairOf, row('solid blue cross', 'solid red cross'), -0.5, 'something is missing'],
      [pairOf, row('solid blue square', 'solid red square'), -0.5, 'something is missing'],
    ];
    for (const [text, objects, score, reason] of cases) {
      assert.deepEqual(layoutTruth(promptOf(text), objects), { score, reason });
    }
  });
});

describe("judge's questions and answers", () => {
  it('have the agreed wording', () => {
    const request = 'a red circle and a blue square';
    const boxes: PixelBox[] = [
      [2, 3, 14, 15],
      [18, 2, 30, 12],
    ];
    assert.equal(
      regionsQuestion(request, boxes),
      'request: a red circle and a blue square\n1:c3\n2:g2\nregions?',
    );
    assert.equal(layoutQuestion(request), 'request: a red circle and a blue square\nlayout?');
    assert.equal(CAPTION_QUESTION, 'what is in the picture?');
    assert.equal(
      regionsAnswer(boxes, [
        { object: 'solid red circle', counterpart: 'red circle', score: 1 },
        { object: 'striped red square', counterpart: 'blue square', score: -0.5 },
      ]),
      '{"regions":[{"id":1,"at":"c3","object":"solid red circle","for":"red circle","score":1},' +
        '{"id":2,"at":"g2","object":"striped red square","for":"blue square","score":-0.5}]}',
    );
    assert.equal(
      layoutAnswer([at(3, 'solid blue square'), at(0, 'solid red circle')], {
        score: 1,
        reason: 'as requested',
      }),
      '{"seen":"c3 solid red circle, g7 solid blue square",' +
        '"global_layout_score":1,"reason":"as requested"}',
    );
  });

  it('fit the grammar of answers', () => {
    const truths = [1, 0, -0.5, -1].map((score) => ({
      object: 'solid red circle',
      counterpart: 'nothing',
      score,
    }));
    const ids = truths.map((_, i) => i + 1);
    const boxes = truths.map((_, i): PixelBox => [4 * i, 0, 4 * i + 4, 32]);
    const regions = regionsAnswer(boxes, truths);
    const grammar = regionsGrammar(boxes);
    assert.equal(grammar.run(grammar.start, Buffer.from(regions)), grammar.end);
    assert.deepEqual(
      parseRegionAnswer(regions, ids).map(({ object, score }) => [object, score]),
      truths.map(({ object, score }) => [object, score]),
    );
    const verdict = { score: -0.5, reason: 'something is missing' } as const;
    const layout = layoutsGrammar();
    const answer = layoutAnswer(row(...Array<string>(4).fill('striped yellow triangle')), verdict);
    assert.equal(layout.run(layout.start, Buffer.from(answer)), layout.end);
    assert.deepEqual(parseLayoutAnswer(answer), verdict);
  });

  it('describe pictures by places', () => {
    const objects = [at(2, 'striped blue square'), at(1, 'solid red circle')];
    assert.equal(captionAnswer(objects), 'c7 striped blue square, g3 solid red circle');
    assert.equal(captionAnswer([]), 'nothing');
  });
});
