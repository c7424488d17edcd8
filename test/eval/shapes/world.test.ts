import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  BACKGROUND,
  COLOURS,
  IMAGE_SIDE,
  isHeldOut,
  objectBox,
  randomScene,
  renderScene,
  type Scene,
  SHAPES,
  type ShapeObject,
  TEXTURES,
} from '../../../lib/eval/shapes/index.js';
import { DataError } from '../../../lib/util/errors.js';
import { seededRandom } from '../../../lib/util/seeded-random.js';

const object: ShapeObject = {
  shape: 'circle',
  colour: 'blue',
  texture: 'solid',
  cell: 0,
  dx: 0,
  dy: 0,
};

/** Pixels that an object changes visibly: by `least` of 255 in some channel. */
function changed(scene: Scene, least: number): Array<[x: number, y: number]> {
  const { data } = renderScene(scene);
  const found: Array<[number, number]> = [];
  for (let p = 0; p < IMAGE_SIDE * IMAGE_SIDE; p++) {
    const differs = BACKGROUND.some((value, c) => Math.abs(data[p * 3 + c] - value) >= least);
    if (differs) found.push([p % IMAGE_SIDE, Math.floor(p / IMAGE_SIDE)]);
  }
  return found;
}

describe('shapes world', () => {
  it('holds out one colour of each shape', () => {
    const held = SHAPES.flatMap((s) => COLOURS.filter((c) => isHeldOut(s, c)).map((c) => [s, c]));
    assert.deepEqual(held, [
      ['circle', 'red'],
      ['square', 'green'],
      ['triangle', 'blue'],
      ['cross', 'yellow'],
    ]);
  });

  it('makes random scenes with held-out pairs only where they are asked for', () => {
    const random = seededRandom(1, 'scenes');
    const kinds = new Set<string>();
    const counts = new Set<number>();
    for (let i = 0; i < 2000; i++) {
      const { objects } = randomScene(random);
      counts.add(objects.length);
      assert.equal(new Set(objects.map((o) => o.cell)).size, objects.length);
      for (const o of objects) {
        assert.ok(!isHeldOut(o.shape, o.colour));
        assert.ok(Math.abs(o.dx) <= 1.5 && Math.abs(o.dy) <= 1.5);
        kinds.add(`${o.shape} ${o.colour} ${o.texture}`);
      }
      const held = randomScene(random, { heldOut: true, count: 1 + (i % 4) });
      assert.equal(held.objects.length, 1 + (i % 4));
      assert.ok(held.objects.some((o) => isHeldOut(o.shape, o.colour)));
    }
    assert.equal(kinds.size, (4 * 7 - 4) * 2);
    assert.deepEqual([...counts].sort(), [1, 2, 3, 4]);
    for (const count of [0, 5, 1.5, Number.NaN]) {
      assert.throws(() => randomScene(random, { count }), /ERR_SCENE|whole number from 1 to 4/);
    }
  });

  it('gives tight boxes', () => {
    assert.deepEqual(objectBox(object), [2, 2, 14, 14]);
    assert.deepEqual(objectBox({ ...object, cell: 3, dx: 1.4, dy: -1.4 }), [19, 17, 31, 29]);
    const random = seededRandom(2, 'boxes');
    for (let i = 0; i < 500; i++) {
      const scene = randomScene(random, { count: 1 });
      const box = objectBox(scene.objects[0]);
      const [x0, y0, x1, y1] = box;
      const any = changed(scene, 1);
      const xs = any.map(([x]) => x);
      const ys = any.map(([, y]) => y);
      // Less than half a pixel of the outline may lie outside, and nothing beyond that.
      assert.ok(Math.min(...xs) >= x0 - 1 && Math.max(...xs) <= x1, JSON.stringify(scene));
      assert.ok(Math.min(...ys) >= y0 - 1 && Math.max(...ys) <= y1, JSON.stringify(scene));
      // No wider than needed: each side is reached up to one pixel.
      assert.ok(Math.min(...xs) <= x0 + 1 && Math.max(...xs) >= x1 - 2, JSON.stringify(scene));
      assert.ok(Math.min(...ys) <= y0 + 1 && Math.max(...ys) >= y1 - 2, JSON.stringify(scene));
    }
  });
});

describe('pictures of the shapes world', () => {
  it('are the same bytes everywhere', () => {
    const hash = createHash('sha256');
    const places = [
      { cell: 0, dx: 0, dy: 0 },
      { cell: 1, dx: 1.5, dy: -1.5 },
      { cell: 2, dx: -0.3125, dy: 0.71 },
      { cell: 3, dx: 0.1, dy: 1 / 3 },
    ];
    for (const texture of TEXTURES) {
      for (let turn = 0; turn < COLOURS.length; turn++) {
        const objects = places.map((place, i) => ({
          shape: SHAPES[i],
          colour: COLOURS[(i + turn) % COLOURS.length],
          texture,
          ...place,
        }));
        hash.update(renderScene({ objects }).data);
      }
    }
    assert.equal(
      hash.digest('hex'),
      '62602585a19e392c7321f229e9295924bff65ccbece0ac4bd8bb775ced68253c',
    );
  });

  it('show every object inside its own cell', () => {
    for (const shape of SHAPES) {
      for (const cell of [0, 1, 2, 3]) {
        for (const [dx, dy] of [
          [1.5, 1.5],
          [-1.5, -1.5],
        ]) {
          const pixels = changed({ objects: [{ ...object, shape, cell, dx, dy }] }, 1);
          assert.ok(pixels.length > 50);
          for (const [x, y] of pixels) {
            assert.equal(Math.floor(y / 16) * 2 + Math.floor(x / 16), cell);
          }
        }
      }
    }
  });

  it('cover the area of the shape', () => {
    const areas = { circle: 36 * Math.PI, square: 144, triangle: 72, cross: 80 } as const;
    const random = seededRandom(4, 'areas');
    for (const shape of SHAPES) {
      for (let i = 0; i < 50; i++) {
        const dx = 3 * random.uniform() - 1.5;
        const dy = 3 * random.uniform() - 1.5;
        const { data } = renderScene({ objects: [{ ...object, shape, dx, dy }] });
        // Blue's red channel goes from 240 (background) to 40.
        let covered = 0;
        for (let p = 0; p < data.length; p += 3) covered += (240 - data[p]) / 200;
        assert.ok(Math.abs(covered - areas[shape]) < 0.02 * areas[shape], `${shape} ${covered}`);
      }
    }
  });

  it('have stripes fixed to the picture', () => {
    for (const [dx, dy] of [
      [0, 0],
      [1, 1.25],
    ]) {
      const { data } = renderScene({
        objects: [{ ...object, shape: 'square', colour: 'blue', texture: 'striped', dx, dy }],
      });
      const column = [6, 7, 8, 9, 10, 11].map((y) => data[(y * IMAGE_SIDE + 8) * 3]);
      assert.deepEqual(column, [180, 180, 40, 40, 180, 180]);
    }
  });

  it('are refused for scenes that cannot be', () => {
    const wrong: Array<[Partial<ShapeObject>, RegExp]> = [
      [{ cell: 4 }, /cell.*0 to 3.*found 4/],
      [{ cell: 0.5 }, /cell.*found 0\.5/],
      [{ dx: 1.6 }, /from -1\.5 to 1\.5.*1\.6/],
      [{ dy: Number.NaN }, /NaN/],
      [{ shape: 'star' as 'circle' }, /circle, square, triangle, cross.*star/],
      [{ colour: 'pink' as 'red' }, /red, green, blue, yellow, purple, cyan, black.*pink/],
      [{ texture: 'dotted' as 'solid' }, /solid, striped.*dotted/],
    ];
    for (const [change, message] of wrong) {
      assert.throws(
        () => renderScene({ objects: [{ ...object, ...change }] }),
        (error) => error instanceof DataError && message.test(error.message),
      );
    }
    assert.throws(() => renderScene({ objects: [object, object] }), /two in cell 0/);
  });
});
