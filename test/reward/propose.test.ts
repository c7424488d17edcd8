import assert from 'node:assert/strict';
import type { RgbImage } from '../../lib/data/images.js';
import { BoxesProposer, boxOverlap } from '../../lib/reward/propose.js';

type Rgb = readonly [number, number, number];
type Box = [number, number, number, number];

function canvas(width: number, height: number, colour: (x: number, y: number) => Rgb): RgbImage {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) data.set(colour(x, y), (y * width + x) * 3);
  }
  return { width, height, data };
}

function paint(image: RgbImage, inside: (x: number, y: number) => boolean, colour: Rgb): Box {
  const box: Box = [image.width, image.height, 0, 0];
  for (let y = 0; y < image.height; y += 1) {
    for (let x = 0; x < image.width; x += 1) {
      if (!inside(x + 0.5, y + 0.5)) continue;
      image.data.set(colour, (y * image.width + x) * 3);
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x + 1);
      box[3] = Math.max(box[3], y + 1);
    }
  }
  return box;
}

const disc = (cx: number, cy: number, r: number) => (x: number, y: number) =>
  (x - cx) ** 2 + (y - cy) ** 2 <= r * r;
const rectangle = (x0: number, y0: number, x1: number, y1: number) => (x: number, y: number) =>
  x >= x0 && x < x1 && y >= y0 && y < y1;
const triangle = (x0: number, y0: number, w: number, h: number) => (x: number, y: number) => {
  const down = (y - y0) / h;
  return down >= 0 && down <= 1 && Math.abs(x - x0 - w / 2) <= (down * w) / 2;
};
const ring = (cx: number, cy: number, r: number) => (x: number, y: number) =>
  disc(cx, cy, r)(x, y) && !disc(cx, cy, r * 0.6)(x, y);

/** Repeatable noise in [-1, 1]. */
function noise(x: number, y: number): number {
  const v = Math.sin(x * 12.9898 + y * 78.233) * 43758.5453;
  return (v - Math.floor(v)) * 2 - 1;
}

function assertFound(image: RgbImage, shapes: Record<string, Box>): void {
  const regions = new BoxesProposer().propose(image);
  for (const [name, box] of Object.entries(shapes)) {
    const best = Math.max(...regions.map((region) => boxOverlap(region.box, box)));
    assert.ok(best > 0.7, `${name}: best overlap ${best.toFixed(2)} of ${JSON.stringify(regions)}`);
  }
}

describe('BoxesProposer', () => {
  it('finds each of several shapes, small ones too', () => {
    const image = canvas(128, 96, () => [230, 230, 225]);
    assertFound(image, {
      disc: paint(image, disc(30, 28, 16), [200, 30, 30]),
      rectangle: paint(image, rectangle(70, 12, 110, 34), [30, 60, 200]),
      triangle: paint(image, triangle(20, 55, 36, 30), [30, 150, 60]),
      ring: paint(image, ring(95, 68, 18), [120, 40, 150]),
      dot: paint(image, disc(62, 48, 5), [20, 20, 20]),
    });
  });

  it('finds them at 1024 pixels, on a noisy gradient', () => {
    const image = canvas(1024, 768, (x, y) => {
      const v = 140 + (60 * y) / 768 + 6 * noise(x, y);
      return [v, v - 10, v - 30 + (30 * x) / 1024];
    });
    assertFound(image, {
      disc: paint(image, disc(240, 260, 120), [190, 40, 30]),
      rectangle: paint(image, rectangle(560, 120, 900, 300), [20, 70, 160]),
      triangle: paint(image, triangle(420, 420, 260, 260), [20, 110, 50]),
    });
  });

  it('finds shapes on a tiny picture', () => {
    const image = canvas(32, 32, () => [255, 255, 255]);
    assertFound(image, {
      disc: paint(image, disc(9, 10, 6), [220, 20, 20]),
      square: paint(image, rectangle(18, 16, 29, 28), [20, 20, 220]),
    });
  });

  it('finds a thing of several colours as a whole, besides its parts', () => {
    const image = canvas(160, 120, () => [240, 240, 240]);
    const body = paint(image, rectangle(40, 40, 120, 70), [180, 40, 40]);
    paint(image, rectangle(50, 8, 110, 40), [40, 80, 170]);
    const thing: Box = [body[0], 8, body[2], body[3]];
    assertFound(image, { thing, body });
  });

  it('gives no near-duplicates and keeps to the number asked for', () => {
    const image = canvas(200, 200, (x, y) => [
      128 + 80 * noise(x >> 4, y >> 4),
      128 + 80 * noise((x >> 4) + 50, y >> 4),
      128 + 80 * noise(x >> 4, (y >> 4) + 50),
    ]);
    for (const maxRegions of [1, 4, 10]) {
      const regions = new BoxesProposer({ maxRegions }).propose(image);
      assert.equal(regions.length, maxRegions);
      regions.forEach((a, i) => {
        for (const b of regions.slice(i + 1)) {
          assert.ok(boxOverlap(a.box, b.box) <= 0.6);
          assert.ok(a.score >= b.score);
        }
        const [x0, y0, x1, y1] = a.box;
        assert.ok(x0 >= 0 && y0 >= 0 && x0 < x1 && y0 < y1 && x1 <= 200 && y1 <= 200);
        assert.ok(a.area > 0 && a.area <= (x1 - x0) * (y1 - y0) + 1);
      });
    }
  });

  it('does not rank by size alone', () => {
    const image = canvas(200, 150, (x) => (x < 90 ? [200, 205, 210] : [196, 201, 206]));
    const box = paint(image, disc(140, 70, 18), [220, 30, 30]);
    const [first] = new BoxesProposer().propose(image);
    assert.ok(boxOverlap(first.box, box) > 0.8);
  });

  it('gives the same answer every time', () => {
    const image = canvas(90, 70, (x, y) => [x * 2, 255 * Math.abs(noise(x >> 3, y >> 3)), y * 3]);
    const proposer = new BoxesProposer();
    assert.deepEqual(proposer.propose(image), proposer.propose(image));
  });

  it('falls back to a grid that tiles an image without structure', () => {
    for (const [width, height] of [
      [64, 48],
      [1, 1],
      [2, 300],
    ]) {
      const regions = new BoxesProposer().propose(canvas(width, height, () => [90, 90, 90]));
      const covered = regions.reduce((sum, region) => sum + region.area, 0);
      assert.equal(covered, width * height);
      assert.ok(regions.every((region) => region.score === 0));
    }
  });

  it('refuses wrong options and pixels', () => {
    assert.throws(() => new BoxesProposer({ maxRegions: 0 }), { name: 'ConfigError' });
    assert.throws(() => new BoxesProposer({ maxOverlap: Number.NaN }), { name: 'ConfigError' });
    const image = { width: 4, height: 4, data: new Uint8Array(16) };
    assert.throws(() => new BoxesProposer().propose(image), { name: 'ImageError' });
  });
});
