import assert from 'node:assert/strict';
import {
  denormalise,
  ImageTransform,
  normalise,
  roundHalfEven,
  TRANSFORM_PRESETS,
  targetSize,
} from '../../lib/data/transforms.js';
import { ConfigError, ImageError } from '../../lib/util/errors.js';

describe('roundHalfEven', () => {
  it('rounds halves to the even neighbour', () => {
    const values = [0.5, 1.5, 2.5, 2.4999, 2.5001, 3, -0.5, -1.5];
    assert.deepEqual(values.map(roundHalfEven), [0, 2, 2, 2, 3, 3, 0, -2]);
  });
});

describe('targetSize', () => {
  const { vae, vit, vlm, srum } = TRANSFORM_PRESETS;
  const table: Array<[[number, number], ...Array<[number, number]>]> = [
    [
      [1024, 576],
      [1024, 576],
      [980, 546],
      [980, 546],
      [1024, 512],
    ],
    [
      [1020, 1000],
      [1024, 992],
      [980, 966],
      [980, 966],
      [1024, 1024],
    ],
    [
      [4000, 1000],
      [1024, 256],
      [980, 252],
      [980, 252],
      [1024, 256],
    ],
    [
      [4000, 3000],
      [1024, 768],
      [980, 728],
      [980, 728],
      [1024, 768],
    ],
    [
      [300, 200],
      [768, 512],
      [336, 224],
      [560, 378],
      [768, 512],
    ],
  ];
  for (const [[width, height], ...expected] of table) {
    it(`gives the reference's sizes for ${width}x${height}`, () => {
      const sizes = [vae, vit, vlm, srum].map((preset) => targetSize(width, height, preset));
      assert.deepEqual(
        sizes.map((size) => [size.width, size.height]),
        expected,
      );
    });
  }

  it('shares the pixel budget between images', () => {
    const alone = targetSize(980, 980, vlm);
    const shared = targetSize(980, 980, vlm, 4);
    assert.deepEqual(alone, { width: 980, height: 980 });
    assert.ok(shared.width * shared.height < 980 * 980);
  });

  it('never goes below one stride', () => {
    assert.deepEqual(targetSize(10_000, 1, vit), { width: 980, height: 14 });
  });
});

describe('normalise', () => {
  it('maps bytes to [-1, 1] planes and back', () => {
    const data = Uint8Array.from({ length: 2 * 128 * 3 }, (_, i) => i % 256);
    const image = { width: 128, height: 2, data };
    const chw = normalise(image);
    assert.equal(chw.data[0], -1);
    assert.equal(chw.data[256], Math.fround(Math.fround(Math.fround(1 / 255) - 0.5) / 0.5));
    const back = denormalise(chw);
    // The way back truncates, so a level may be lost, never gained.
    assert.ok(back.data.every((value, i) => data[i] - value >= 0 && data[i] - value <= 1));
  });

  it('clamps on the way back, NaN to black', () => {
    const data = Float32Array.from([2, -2, Number.NaN]);
    assert.deepEqual([...denormalise({ width: 1, height: 1, data }).data], [255, 0, 0]);
  });
});

describe('ImageTransform', () => {
  it('resizes and normalises', () => {
    const transform = new ImageTransform({
      max_image_size: 64,
      min_image_size: 32,
      image_stride: 16,
    });
    const image = { width: 40, height: 30, data: new Uint8Array(40 * 30 * 3).fill(255) };
    const out = transform.apply(image);
    assert.deepEqual([out.width, out.height, out.data.length], [48, 32, 3 * 48 * 32]);
    assert.ok(out.data.every((value) => value === 1));
  });

  it('refuses options out of range', () => {
    const good = { max_image_size: 64, min_image_size: 32, image_stride: 16 };
    assert.throws(() => new ImageTransform({ ...good, image_stride: 0 }), ConfigError);
    assert.throws(() => new ImageTransform({ ...good, max_pixels: 1.5 }), ConfigError);
    assert.throws(() => new ImageTransform({ ...good, min_image_size: 65 }), ConfigError);
  });

  it('refuses images without pixels', () => {
    const transform = new ImageTransform(TRANSFORM_PRESETS.vae);
    const empty = { width: 0, height: 5, data: new Uint8Array(0) };
    assert.throws(() => transform.apply(empty), ImageError);
  });
});
