import assert from 'node:assert/strict';
import type { RgbImage } from '../../lib/data/images.js';
import { objectBox, objectInBox, randomScene, renderScene } from '../../lib/eval/shapes/index.js';
import { BlobsProposer } from '../../lib/reward/blobs.js';
import { boxOverlap } from '../../lib/reward/propose.js';
import { seededRandom } from '../../lib/util/seeded-random.js';

type Rgb = readonly [number, number, number];

/** A picture of rectangles `[x0, y0, x1, y1, colour]` on one colour. */
function picture(
  width: number,
  height: number,
  background: Rgb,
  things: ReadonlyArray<readonly [number, number, number, number, Rgb]> = [],
): RgbImage {
  const data = new Uint8Array(width * height * 3);
  for (let p = 0; p < width * height; p += 1) data.set(background, p * 3);
  for (const [x0, y0, x1, y1, colour] of things) {
    for (let y = y0; y < y1; y += 1) {
      for (let x = x0; x < x1; x += 1) data.set(colour, (y * width + x) * 3);
    }
  }
  return { width, height, data };
}

const GREY: Rgb = [240, 240, 240];
const RED: Rgb = [220, 30, 30];
const BLUE: Rgb = [30, 30, 220];

describe('BlobsProposer', () => {
  it('finds every object of scenes of shapes, and nothing else', () => {
    const random = seededRandom(5, 'blobs');
    const proposer = new BlobsProposer();
    const count = 300;
    let right = 0;
    for (let i = 0; i < count; i += 1) {
      const scene = randomScene(random, { heldOut: i % 3 === 0 });
      const regions = proposer.propose(renderScene(scene));
      const all = scene.objects.every((object) =>
        regions.some(({ box }) => boxOverlap(box, objectBox(object)) >= 0.5),
      );
      const only = regions.every(({ box }) => objectInBox(scene.objects, box) !== null);
      if (all && only && regions.length === scene.objects.length) right += 1;
    }
    assert.ok(right >= 0.97 * count, `${right} of ${count} scenes`);
  });

  it('gives tight boxes with their areas, best first', () => {
    const image = picture(40, 32, GREY, [
      [2, 3, 8, 9, [190, 190, 190]],
      [12, 4, 20, 12, RED],
      [12, 12, 16, 20, BLUE],
      [25, 20, 31, 26, RED],
    ]);
    const regions = new BlobsProposer().propose(image);
    assert.deepEqual(
      regions.map(({ box, area }) => [box, area]),
      [
        // Of two colours and no rectangle: one thing.
        [[12, 4, 20, 20], 96],
        [[25, 20, 31, 26], 36],
        [[2, 3, 8, 9], 36],
      ],
    );
    const scores = regions.map(({ score }) => score);
    assert.ok(scores[0] > scores[1] && scores[1] > scores[2] && scores[2] > 0 && scores[0] < 1);
    assert.deepEqual(new BlobsProposer({ maxRegions: 2 }).propose(image), regions.slice(0, 2));
  });

  it('keeps apart what touches at a corner only', () => {
    const image = picture(32, 32, GREY, [
      [4, 4, 10, 10, RED],
      [10, 10, 16, 16, RED],
    ]);
    assert.deepEqual(
      new BlobsProposer().propose(image).map(({ box }) => box),
      [
        [4, 4, 10, 10],
        [10, 10, 16, 16],
      ],
    );
  });

  it('sees a thing that reaches the border, on any background', () => {
    const image = picture(32, 32, [20, 20, 30], [[0, 10, 9, 32, [200, 200, 60]]]);
    const [only, ...others] = new BlobsProposer().propose(image);
    assert.deepEqual([only.box, others], [[0, 10, 9, 32], []]);
  });

  it('leaves out specks, by their share of the picture', () => {
    const boxes = (side: number, speck: number) =>
      new BlobsProposer()
        .propose(
          picture(side, side, GREY, [
            [2, 2, 2 + speck, 3, BLUE],
            [10, 10, side - 4, side - 4, RED],
          ]),
        )
        .map(({ box }) => box);
    assert.equal(boxes(32, 7).length, 1);
    assert.equal(boxes(32, 8).length, 2);
    assert.equal(boxes(64, 31).length, 1);
    assert.equal(boxes(64, 32).length, 2);
  });

  it('takes a colour for a thing from the threshold on', () => {
    const image = picture(32, 32, GREY, [[8, 8, 16, 16, [240, 240, 215]]]);
    const whole = [0, 0, 32, 32];
    assert.deepEqual(new BlobsProposer().propose(image)[0].box, whole);
    assert.deepEqual(new BlobsProposer({ threshold: 25 }).propose(image)[0].box, whole);
    assert.deepEqual(new BlobsProposer({ threshold: 24 }).propose(image)[0].box, [8, 8, 16, 16]);
  });

  it('gives an empty picture as one region without quality', () => {
    for (const [width, height] of [
      [32, 24],
      [1, 1],
      [1, 9],
      [2, 300],
    ]) {
      assert.deepEqual(new BlobsProposer().propose(picture(width, height, GREY)), [
        { box: [0, 0, width, height], area: width * height, score: 0 },
      ]);
    }
  });

  it('refuses wrong options and pixels', () => {
    const config = { name: 'ConfigError', code: 'ERR_OPTION' };
    for (const maxRegions of [0, 1.5, Number.NaN]) {
      assert.throws(() => new BlobsProposer({ maxRegions }), config);
    }
    for (const threshold of [0, -1, 441, Number.NaN]) {
      assert.throws(() => new BlobsProposer({ threshold }), config);
    }
    const image = { width: 4, height: 4, data: new Uint8Array(16) };
    assert.throws(() => new BlobsProposer().propose(image), { name: 'ImageError' });
  });
});
