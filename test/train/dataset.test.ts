import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { writePng } from '../../lib/data/images.js';
import { ByteTokenizer } from '../../lib/data/tokenizer.js';
import { RewardDataset } from '../../lib/train/dataset.js';
import type { Objective } from '../../lib/train/objectives.js';
import { DataError } from '../../lib/util/errors.js';
import { buildWorkshop, type Workshop } from './tiny.js';

describe('regional-reward data for training', () => {
  let shop: Workshop;
  before(async () => {
    shop = await buildWorkshop(6);
  });
  after(() => fs.rmSync(shop.dir, { recursive: true, force: true }));

  function open(changes: { objective?: Objective; goodDir?: string; stride?: number } = {}) {
    const { objective = 'code', goodDir = shop.images, stride = 16 } = changes;
    return new RewardDataset({
      sources: [{ name: 'tiny', jsonl: shop.rewards, badDir: shop.images, goodDir }],
      transform: { image_stride: stride, max_image_size: 64, min_image_size: 32 },
      objective,
      tokenizer: new ByteTokenizer(),
      tokenPixels: 16,
      seed: 3,
    });
  }

  it('visits every record once per epoch, in an order of its own each time', () => {
    const data = open();
    assert.equal(data.size, 6);
    assert.deepEqual([...data.order(0)].sort(), [0, 1, 2, 3, 4, 5]);
    assert.deepEqual(data.order(1), open().order(1));
    const orders = new Set([0, 1, 2, 3].map((epoch) => data.order(epoch).join()));
    assert.ok(orders.size > 1);
  });

  it('counts tokens as they are packed and names records by line', async () => {
    const sample = await open().load(2);
    assert.equal(sample?.id, 'tiny:3');
    assert.equal(sample?.numTokens, 'picture 2'.length + 3 * 2);
    assert.deepEqual(
      sample?.images.map((i) => [i.width, i.height]),
      [[48, 32]],
    );
  });

  it('builds the released map for code and the signed one for paper', async () => {
    const values = async (objective: Objective) => {
      const map = (await open({ objective }).load(1))?.rewardMap;
      return new Set([...(map?.data ?? [])].map((v) => Math.round(v * 1000) / 1000));
    };
    // Record 1: layout 0.4, one region of -0.9; alpha = 0.7.
    assert.deepEqual(await values('code'), new Set([0.35]));
    assert.deepEqual(await values('paper'), new Set([-0.63, 0]));
  });

  it('leaves out a target of another size, with the reason', async () => {
    const good = path.join(shop.dir, 'good');
    fs.cpSync(shop.images, good, { recursive: true });
    const data = new Uint8Array(48 * 32 * 3).fill(9);
    await writePng(path.join(good, '0.png'), { width: 48, height: 32, data });
    const set = open({ goodDir: good });
    assert.equal(await set.load(0), null);
    assert.match(set.report().problems[0].reason, /different sizes/);
    assert.notEqual((await set.load(1))?.gtImage, undefined);
    assert.equal(set.report().usable, 5);
  });

  it('refuses a stride that cuts tokens and a file that is not there', () => {
    assert.throws(() => open({ stride: 24 }), DataError);
    const fingerprint = open().fingerprint;
    assert.match(fingerprint, /^[0-9a-f]{64}$/);
    assert.equal(open({ objective: 'paper' }).fingerprint, fingerprint);
  });
});
