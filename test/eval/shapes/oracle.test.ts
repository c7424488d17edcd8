import assert from 'node:assert/strict';
import type { RgbImage } from '../../../lib/data/images.js';
import {
  drawPrompt,
  exactness,
  isExact,
  Oracle,
  randomScene,
  renderScene,
  type Scene,
  type ShapeObject,
  sceneFor,
  swapped,
} from '../../../lib/eval/shapes/index.js';
import { DataError, ImageError } from '../../../lib/util/errors.js';
import { type Random, seededRandom } from '../../../lib/util/seeded-random.js';
import { at, promptOf } from '../../support/shapes.js';

/** The picture with Gaussian noise on every value, in units of 0..1. */
function noisy(image: RgbImage, sigma: number, random: Random): RgbImage {
  const data = new Uint8ClampedArray(image.data.length);
  for (let i = 0; i < data.length; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - random.uniform()));
    const normal = radius * Math.cos(2 * Math.PI * random.uniform());
    data[i] = image.data[i] + 255 * sigma * normal;
  }
  return { ...image, data: new Uint8Array(data.buffer) };
}

/** What of a scene must be recognised. */
function kinds(objects: readonly ShapeObject[]): string[] {
  return objects.map((o) => `${o.cell} ${o.texture} ${o.colour} ${o.shape}`);
}

describe('oracle of the shapes world', () => {
  let oracle: Oracle;
  before(() => {
    oracle = new Oracle();
  });
  after(() => oracle.dispose());

  function checkAll(scenes: Scene[], images: RgbImage[], jitter: number): void {
    oracle.recognise(images).forEach((found, i) => {
      const { objects } = scenes[i];
      assert.deepEqual(kinds(found), kinds(objects));
      found.forEach((o, j) => {
        assert.ok(o.margin > 0);
        assert.ok(Math.abs(o.dx - objects[j].dx) <= jitter, `${o.dx} for ${objects[j].dx}`);
        assert.ok(Math.abs(o.dy - objects[j].dy) <= jitter, `${o.dy} for ${objects[j].dy}`);
      });
    });
  }

  it('recognises every clean picture', () => {
    const random = seededRandom(1, 'oracle');
    const scenes = Array.from({ length: 1200 }, (_, i) =>
      randomScene(random, { heldOut: i % 2 === 0 }),
    );
    checkAll(scenes, scenes.map(renderScene), 0.5);
  });

  it('recognises every picture under noise of sigma 0.2', () => {
    const random = seededRandom(2, 'oracle');
    const scenes = Array.from({ length: 1200 }, (_, i) =>
      randomScene(random, { heldOut: i % 2 === 0 }),
    );
    checkAll(
      scenes,
      scenes.map((scene) => noisy(renderScene(scene), 0.2, random)),
      1.5,
    );
  });

  it('finds scenes of prompts exact, and those of swapped prompts not', () => {
    const random = seededRandom(3, 'oracle');
    const prompts = Array.from({ length: 1000 }, (_, i) =>
      drawPrompt(random, { heldOut: i % 2 === 0 }),
    );
    const images = prompts.map((prompt) => renderScene(sceneFor(prompt, random)));
    const right = exactness(oracle, prompts, images);
    assert.equal(right.total, 1000);
    assert.equal(right.exact, 1000);
    assert.equal(right.byFamily.shape.total, prompts.filter((p) => p.family === 'shape').length);
    const pairs = prompts.flatMap((prompt, i) => {
      const other = swapped(prompt);
      return other === null ? [] : [{ other, image: images[i] }];
    });
    const wrong = exactness(
      oracle,
      pairs.map((p) => p.other),
      pairs.map((p) => p.image),
    );
    assert.equal(wrong.total, pairs.length);
    assert.equal(wrong.exact, 0);
  });

  it('counts by family', () => {
    const prompts = ['two red crosses', 'two red crosses', 'a circle and a cross'].map(promptOf);
    const two = { objects: [at(0, 'solid red cross'), at(3, 'solid red cross')] };
    const images = [two, { objects: [] }, two].map(renderScene);
    const { byFamily, ...sum } = exactness(oracle, prompts, images);
    assert.deepEqual(sum, { total: 3, exact: 1 });
    assert.deepEqual(byFamily.numeracy, { total: 2, exact: 1 });
    assert.deepEqual(byFamily.shape, { total: 1, exact: 0 });
    assert.deepEqual(byFamily.complex, { total: 0, exact: 0 });
  });

  it('sees nothing in an empty picture and takes no pictures at all', () => {
    assert.deepEqual(oracle.recognise([renderScene({ objects: [] })]), [[]]);
    assert.deepEqual(oracle.recognise([]), []);
  });

  it('refuses what are no pictures of the world', () => {
    const wrong = { width: 64, height: 32, data: new Uint8Array(64 * 32 * 3) };
    const empty = renderScene({ objects: [] });
    assert.throws(
      () => oracle.recognise([empty, wrong]),
      (e) => e instanceof ImageError && /picture 2.*expected 32x32.*found 64x32/.test(e.message),
    );
    assert.throws(
      () => oracle.recognise([{ ...empty, data: new Uint8Array(5) }]),
      (e) => e instanceof ImageError && /expected 3072 bytes; found 5 bytes/.test(e.message),
    );
    assert.throws(
      () => exactness(oracle, [promptOf('a circle and a cross')], []),
      (e) => e instanceof DataError && /expected 1 pictures; found 0 pictures/.test(e.message),
    );
  });
});

describe('exact match', () => {
  const cases: Array<[string, ShapeObject[], boolean]> = [
    [
      'a red circle and a blue square',
      [at(0, 'solid red circle'), at(3, 'striped blue square')],
      true,
    ],
    [
      'a red circle and a blue square',
      [at(3, 'solid red circle'), at(1, 'solid blue square')],
      true,
    ],
    [
      'a red circle and a blue square',
      [at(0, 'solid blue circle'), at(1, 'solid red square')],
      false,
    ],
    ['a red circle and a blue square', [at(0, 'solid red circle')], false],
    [
      'a red circle and a blue square',
      [at(0, 'solid red circle'), at(1, 'solid blue square'), at(2, 'solid blue square')],
      false,
    ],
    ['a circle and a square', [at(0, 'striped red circle'), at(2, 'solid red square')], true],
    ['a circle and a square', [at(0, 'solid red circle'), at(2, 'solid red circle')], false],
    [
      'a solid circle and a striped square',
      [at(0, 'solid red circle'), at(2, 'striped red square')],
      true,
    ],
    [
      'a solid circle and a striped square',
      [at(0, 'striped red circle'), at(2, 'solid red square')],
      false,
    ],
    ['two red circles', [at(0, 'solid red circle'), at(2, 'striped red circle')], true],
    ['two red circles', [at(0, 'solid red circle'), at(2, 'solid blue circle')], false],
  ];
  const circle = 'solid red circle';
  const square = 'solid blue square';
  const relations: Array<[string, number, number, boolean]> = [
    ['to the left of', 0, 1, true],
    ['to the left of', 2, 3, true],
    ['to the left of', 1, 0, false],
    ['to the left of', 0, 3, false],
    ['to the left of', 2, 1, false],
    ['to the left of', 0, 2, false],
    ['to the right of', 1, 0, true],
    ['to the right of', 3, 2, true],
    ['to the right of', 0, 1, false],
    ['above', 0, 2, true],
    ['above', 1, 3, true],
    ['above', 2, 0, false],
    ['above', 0, 3, false],
    ['below', 2, 0, true],
    ['below', 3, 1, true],
    ['below', 1, 3, false],
  ];
  for (const [words, a, b, exact] of relations) {
    cases.push([`a red circle ${words} a blue square`, [at(a, circle), at(b, square)], exact]);
  }

  it('needs the objects, their named attributes and the relation', () => {
    for (const [text, objects, exact] of cases) {
      assert.equal(isExact(promptOf(text), objects), exact, `${text} ${kinds(objects)}`);
      assert.equal(isExact(promptOf(text), [...objects].reverse()), exact, `${text}, reversed`);
    }
  });
});
