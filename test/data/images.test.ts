import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { decodeImage, encodePng, readImage, writePng } from '../../lib/data/images.js';
import { addPngText, readPngText } from '../../lib/data/png-chunks.js';
import { ImageError, SrumError } from '../../lib/util/errors.js';
import { temporaryFolder } from '../support/temp.js';

interface Example {
  name: string;
  width: number;
  height: number;
  file: string;
  rgb: string;
}

/** Encoded images and what the reference's conversion makes of them with Pillow 12.1. */
const examples: Example[] = JSON.parse(
  fs.readFileSync(new URL('../../../test/data/fixtures/decode.json', import.meta.url), 'utf8'),
);
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));
const example = (name: string): Uint8Array => {
  const found = examples.find((e) => e.name === name);
  assert.ok(found);
  return bytes(found.file);
};

describe('decodeImage', () => {
  for (const { name, width, height, file, rgb } of examples) {
    it(`decodes a ${name} as Pillow does`, async () => {
      const image = await decodeImage(bytes(file));
      assert.deepEqual([image.width, image.height], [width, height]);
      assert.deepEqual(image.data, bytes(rgb));
    });
  }

  const unreadable = (name: string) => (error: unknown) => {
    assert.ok(error instanceof ImageError, String(error));
    assert.equal(error.code, 'ERR_IMAGE_UNREADABLE');
    assert.equal(error.details.file, name);
    return true;
  };

  it('refuses truncated images', async () => {
    for (const kind of ['rgb png', 'rgb jpeg', 'webp with alpha']) {
      const file = example(kind);
      const cut = file.subarray(0, Math.floor(file.length * 0.7));
      await assert.rejects(decodeImage(cut, { name: kind }), unreadable(kind));
    }
  });

  it('refuses damaged, empty and foreign bytes', async () => {
    const damaged = example('rgb png').slice();
    damaged[damaged.length - 30] ^= 0xff;
    await assert.rejects(decodeImage(damaged, { name: 'd' }), unreadable('d'));
    await assert.rejects(decodeImage(new Uint8Array(0), { name: 'e' }), unreadable('e'));
    await assert.rejects(decodeImage(Buffer.from('not an image'), { name: 'f' }), unreadable('f'));
  });

  it('refuses drawings and documents', async () => {
    const svg =
      '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><rect width="4" height="4"/></svg>';
    await assert.rejects(
      decodeImage(Buffer.from(svg), { name: 's' }),
      (error) =>
        error instanceof ImageError &&
        error.code === 'ERR_IMAGE_FORMAT' &&
        error.details.file === 's' &&
        error.details.found === 'svg',
    );
    await assert.rejects(decodeImage(Buffer.from('%PDF-1.4\n'), { name: 'p' }), unreadable('p'));
  });

  it('refuses images with too many pixels', async () => {
    await assert.rejects(
      decodeImage(example('rgb png'), { maxPixels: 10 }),
      (error) => error instanceof ImageError && error.code === 'ERR_IMAGE_TOO_LARGE',
    );
  });
});

describe('image files', () => {
  const folder = temporaryFolder();
  const image = { width: 3, height: 2, data: Uint8Array.from({ length: 18 }, (_, i) => i * 14) };

  it('round-trips pixels and text through PNG', async () => {
    const file = path.join(folder(), 'x.png');
    const text = { Software: 'srum', prompt: 'ein Käse — 日本', seed: '9007199254740993' };
    await writePng(file, image, { text });
    assert.deepEqual(await readImage(file), image);
    assert.deepEqual(readPngText(fs.readFileSync(file)), text);
  });

  it('names a missing file and a broken one', async () => {
    const missing = path.join(folder(), 'none.png');
    await assert.rejects(
      readImage(missing),
      (e) => e instanceof SrumError && e.code === 'ERR_NO_FILE' && e.message.includes(missing),
    );
    const broken = path.join(folder(), 'broken.png');
    fs.writeFileSync(broken, (await encodePng(image)).subarray(0, 40));
    await assert.rejects(
      readImage(broken),
      (e) => e instanceof ImageError && e.details.file === broken,
    );
  });

  it('refuses data that does not fit and keywords PNG does not allow', async () => {
    await assert.rejects(encodePng({ ...image, width: 4 }), ImageError);
    const png = await encodePng(image);
    assert.throws(() => addPngText(png, { '': 'x' }), ImageError);
    assert.throws(() => addPngText(Buffer.from('x'), { a: 'x' }), ImageError);
  });

  it('finds no text in files cut off in the middle or of other formats', async () => {
    const png = await encodePng(image, { text: { a: 'b' } });
    assert.deepEqual(readPngText(png.subarray(0, 45)), {});
    assert.deepEqual(readPngText(Buffer.from('GIF89a')), {});
  });
});
