import assert from 'node:assert/strict';
import fs from 'node:fs';
import { type Resampling, resizeImage } from '../../lib/data/resample.js';
import { ImageError } from '../../lib/util/errors.js';

interface Example {
  width: number;
  height: number;
  to: [number, number];
  resampling: Resampling;
  pixels: string;
  expected: string;
}

/** Made with Pillow 12.1 from random and from black-and-white noise. */
const examples: Example[] = JSON.parse(
  fs.readFileSync(new URL('../../../test/data/fixtures/resample.json', import.meta.url), 'utf8'),
);
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));

describe('resizeImage', () => {
  for (const { width, height, to, resampling, pixels, expected } of examples) {
    it(`equals Pillow's ${resampling} from ${width}x${height} to ${to.join('x')}`, () => {
      const out = resizeImage({ width, height, data: bytes(pixels) }, to[0], to[1], resampling);
      assert.deepEqual([out.width, out.height], to);
      assert.deepEqual(out.data, bytes(expected));
    });
  }

  it('returns the image itself when the size stays', () => {
    const image = { width: 2, height: 1, data: new Uint8Array(6) };
    assert.equal(resizeImage(image, 2, 1), image);
  });

  it('keeps a constant image constant', () => {
    const image = { width: 31, height: 17, data: new Uint8Array(31 * 17 * 3).fill(173) };
    const out = resizeImage(image, 7, 40);
    assert.ok(out.data.every((value) => value === 173));
  });

  it('refuses impossible sizes and data of the wrong length', () => {
    const image = { width: 2, height: 1, data: new Uint8Array(6) };
    assert.throws(() => resizeImage(image, 0, 1), ImageError);
    assert.throws(() => resizeImage(image, 1.5, 1), ImageError);
    assert.throws(() => resizeImage({ ...image, width: 3 }, 1, 1), ImageError);
  });
});
