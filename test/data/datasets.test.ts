import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { rowDraws } from '../../lib/data/draws.js';
import { editSample } from '../../lib/data/edit.js';
import { imagePath } from '../../lib/data/image-folder.js';
import { encodePng, type RgbImage, writePng } from '../../lib/data/images.js';
import { type MapBuilder, RegionalRewardDataset } from '../../lib/data/regional-reward.js';
import { t2iSample } from '../../lib/data/t2i.js';
import { ByteTokenizer } from '../../lib/data/tokenizer.js';
import { ImageTransform } from '../../lib/data/transforms.js';
import { parseVlmRecord, vlmSample } from '../../lib/data/vlm.js';
import { DataError, ImageError, SrumError } from '../../lib/util/errors.js';
import { temporaryFolder } from '../support/temp.js';

const tokenizer = new ByteTokenizer();
const transform = new ImageTransform({ max_image_size: 64, min_image_size: 32, image_stride: 16 });
const picture = (width: number, height: number, value = 100): RgbImage => ({
  width,
  height,
  data: new Uint8Array(width * height * 3).fill(value),
});
const source = { dataset: 'test', row: 1 };

describe('RegionalRewardDataset', () => {
  const folder = temporaryFolder();
  const seen: Array<{ size: object; frame: object }> = [];
  const buildMap: MapBuilder = (_rewards, size, frame) => {
    seen.push({ size, frame });
    return {
      ...size,
      data: new Float32Array(size.width * size.height),
      skipped: [{ index: 0, reason: 'no box' }],
      outOfRange: 2,
    };
  };

  beforeEach(async () => {
    seen.length = 0;
    await writePng(path.join(folder(), 'a.png'), picture(64, 41));
    await writePng(path.join(folder(), 'b.png'), picture(48, 32, 7));
    fs.writeFileSync(path.join(folder(), 'broken.png'), 'x');
  });

  const record = (bad: string, extra: object = {}) => ({
    bad_image_file: bad,
    good_image_file: bad,
    prompt: 'ab',
    vlm_rewards: [{ object: 'x', bbox: [0, 0, 4, 4], score: 0.5 }],
    ...extra,
  });
  const open = (records: unknown[], options: object = {}) => {
    const jsonl = path.join(folder(), 'r.jsonl');
    fs.writeFileSync(
      jsonl,
      records.map((r) => (typeof r === 'string' ? r : JSON.stringify(r))).join('\n'),
    );
    return new RegionalRewardDataset({
      jsonl,
      badDir: folder(),
      goodDir: folder(),
      transform,
      tokenizer,
      buildMap,
      ...options,
    });
  };

  it('makes a sample of prompt, judged image, target and map', async () => {
    const dataset = open([record('a.png', { good_image_file: 'b.png' })]);
    const sample = await dataset.sample(0);
    assert.deepEqual(sample.textIdsList, [tokenizer.encode('ab')]);
    assert.deepEqual([sample.images[0].width, sample.images[0].height], [64, 48]);
    assert.deepEqual([sample.gtImage?.width, sample.gtImage?.height], [48, 32]);
    assert.equal(sample.numTokens, 2 + 4 * 3);
    assert.deepEqual(
      sample.sequencePlan.map(({ type, loss, enable_cfg }) => [type, loss, enable_cfg]),
      [
        ['text', 0, 1],
        ['vae_image', 1, 0],
      ],
    );
    assert.deepEqual(sample.source, { dataset: dataset.name, row: 1 });
  });

  it('takes the boxes’ frame from the record, else from the saved image, else as the reference', async () => {
    const records = [record('a.png', { width: 128, height: 80 }), record('a.png')];
    const dataset = open(records);
    await dataset.sample(0);
    await dataset.sample(1);
    await open(records, { boxFrame: 'reference' }).sample(0);
    assert.deepEqual(
      seen.map(({ frame }) => frame),
      [
        { width: 128, height: 80 },
        { width: 64, height: 41 },
        { width: 64, height: 48 },
      ],
    );
  });

  it('counts tokens as the reference when told to', async () => {
    const sample = await open([record('a.png')], { tokenCount: 'reference' }).sample(0);
    assert.equal(sample.numTokens, 2 + (64 * 48) / 16);
  });

  it('decodes an image once when it is its own target', async () => {
    const sample = await open([record('a.png')]).sample(0);
    assert.equal(sample.gtImage, sample.images[0]);
  });

  it('reports bad lines, failed records and altered regions', async () => {
    const dataset = open([
      '{"bad',
      record('a.png'),
      record('missing.png'),
      record('broken.png'),
      record('../a.png'),
      { prompt: 'no files' },
    ]);
    assert.equal(dataset.length, 4);
    assert.deepEqual(
      dataset.report.lines.map(({ line }) => line),
      [1, 6],
    );
    for (let pass = 0; pass < 2; pass++) {
      const made = [];
      for (let i = 0; i < dataset.length; i++) made.push((await dataset.trySample(i)) !== null);
      assert.deepEqual(made, [true, false, false, false]);
    }
    assert.deepEqual(
      dataset.report.records.map(({ line }) => line),
      [3, 4, 5],
    );
    assert.match(dataset.report.records[0].reason, /missing\.png/);
    assert.match(dataset.report.records[2].reason, /out of the image folder/);
    // Two passes, and yet each record counts once.
    assert.deepEqual([dataset.report.regionsSkipped, dataset.report.scoresOutOfRange], [1, 2]);
    assert.equal(dataset.report.regions.length, 1);
    assert.deepEqual(dataset.report.regions[0], { line: 2, index: 0, reason: 'no box' });
  });

  it('refuses records that break a rule when strict', async () => {
    const outside = record('a.png', {
      vlm_rewards: [{ object: 'x', bbox: [0, 0, 65, 4], score: 1 }],
    });
    const dataset = open([record('a.png'), outside], { strict: true });
    assert.notEqual(await dataset.trySample(0), null);
    await assert.rejects(dataset.sample(1), /vlm_rewards\[0\]\.bbox.*64x41/);
    const scores = record('a.png', {
      vlm_rewards: [{ object: 'x', bbox: [0, 0, 5, 4], score: 2 }],
    });
    assert.throws(() => open([scores], { strict: true }), /no usable record/);
  });

  it('refuses empty files and positions outside', async () => {
    assert.throws(
      () => open([]),
      (e) => e instanceof DataError && e.code === 'ERR_NO_RECORDS',
    );
    await assert.rejects(open([record('a.png')]).sample(1), DataError);
  });
});

describe('vlmSample', () => {
  const folder = temporaryFolder();
  beforeEach(() => writePng(path.join(folder(), 'a.png'), picture(32, 32)));

  const sample = (value: unknown) =>
    vlmSample(parseVlmRecord(value), folder(), transform, tokenizer, source);
  const turn = (from: string, value: string) => ({ from, value });

  it('places images by their marks over all turns, never more than there are', async () => {
    const made = await sample({
      image: ['a.png', 'a.png'],
      conversations: [
        turn('human', '<image> x'),
        turn('gpt', 'y <image>'),
        turn('human', '<image><image>z'),
        turn('gpt', 'w'),
      ],
    });
    assert.deepEqual(
      made.sequencePlan.map(({ type, loss }) => `${type}${loss}`),
      ['vit_image0', 'text0', 'text1', 'vit_image0', 'text0', 'text1'],
    );
    assert.deepEqual(made.textIdsList[1], tokenizer.encode('y <image>'));
  });

  it('refuses records with nothing to learn, wrong types, videos and missing images', async () => {
    await assert.rejects(sample({ conversations: [turn('human', 'x')] }), /no answer to learn/);
    assert.throws(
      () => parseVlmRecord({ conversations: [{ from: 'gpt' }] }),
      /conversations\[0\]\.value/,
    );
    assert.throws(() => parseVlmRecord({ video: 'v.mp4', conversations: [] }), /not supported/);
    const missing = { image: 'no.png', conversations: [turn('gpt', 'x')] };
    await assert.rejects(
      sample(missing),
      (e) => e instanceof SrumError && e.code === 'ERR_NO_FILE',
    );
  });
});

describe('t2iSample and editSample', () => {
  const png = () => encodePng(picture(32, 32));
  const first = { choice: () => 0, uniform: () => 0.9 };

  it('refuses rows with broken images or captions', async () => {
    const image = await png();
    const make = (row: { image: Uint8Array; captions: string }) =>
      t2iSample(row, transform, tokenizer, first, source);
    await assert.rejects(make({ image: Buffer.from('x'), captions: '{}' }), ImageError);
    await assert.rejects(make({ image, captions: 'no json' }), DataError);
    await assert.rejects(make({ image, captions: '["a"]' }), DataError);
    await assert.rejects(make({ image, captions: '{"a": 5}' }), DataError);
    assert.deepEqual((await make({ image, captions: '{}' })).textIdsList, [tokenizer.encode(' ')]);
  });

  it('refuses editing rows without enough images or instructions', async () => {
    const image = await png();
    const make = (imageList: Uint8Array[], instructionList: string[][]) =>
      editSample(
        { imageList, instructionList },
        { vae: transform, vit: transform },
        tokenizer,
        first,
        source,
      );
    await assert.rejects(make([image], []), /image_list/);
    await assert.rejects(make([image, image], []), /instruction_list/);
    await assert.rejects(make([image, image], [[]]), /instruction_list\[0\]/);
    const made = await make([image, image], [['do it']]);
    assert.deepEqual(
      made.sequencePlan.map(({ type, loss }) => `${type}${loss}`),
      ['vae_image0', 'vit_image0', 'text0', 'vae_image1'],
    );
  });
});

describe('rowDraws and imagePath', () => {
  it('chooses evenly and never out of range', () => {
    const values = [0, 0.5, 0.999999999];
    const draws = rowDraws(() => values.shift() ?? 1);
    assert.deepEqual(
      [draws.choice(4), draws.choice(4), draws.choice(4), draws.choice(4)],
      [0, 2, 3, 3],
    );
  });

  it('keeps image names inside their folder', () => {
    assert.equal(imagePath('/x', 'a/b.png'), path.join('/x', 'a/b.png'));
    assert.equal(imagePath('/x', '..png'), path.join('/x', '..png'));
    for (const name of ['../a.png', 'a/../../b.png', '/etc/x.png']) {
      assert.throws(() => imagePath('/x', name), DataError);
    }
  });
});
