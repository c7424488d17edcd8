import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { writePng } from '../../lib/data/images.js';
import type { BoxFrame } from '../../lib/data/regional-reward.js';
import { ByteTokenizer } from '../../lib/data/tokenizer.js';
import { RewardDataset } from '../../lib/train/dataset.js';
import type { RewardMapKind } from '../../lib/train/reward-maps.js';
import { DataError } from '../../lib/util/errors.js';
import { writeJsonl } from '../../lib/util/jsonl.js';
import { buildWorkshop, type Workshop } from '../support/workshop.js';

describe('regional-reward data for training', () => {
  let shop: Workshop;
  before(async () => {
    shop = await buildWorkshop(6);
  });
  after(() => fs.rmSync(shop.dir, { recursive: true, force: true }));

  interface Changes {
    rewardMap?: RewardMapKind;
    goodDir?: string;
    stride?: number;
    jsonl?: string;
    boxFrame?: BoxFrame;
  }
  function open(changes: Changes = {}) {
    const { rewardMap = 'code', goodDir = shop.images, stride = 16, boxFrame } = changes;
    const { jsonl = shop.rewards } = changes;
    return new RewardDataset({
      sources: [{ name: 'tiny', jsonl, badDir: shop.images, goodDir }],
      transform: { image_stride: stride, max_image_size: 64, min_image_size: 32 },
      rewardMap,
      boxFrame,
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
    const values = async (rewardMap: RewardMapKind) => {
      const map = (await open({ rewardMap }).load(1))?.rewardMap;
      return new Set([...(map?.data ?? [])].map((v) => Math.round(v * 1000) / 1000));
    };
    // Record 1: layout 0.4, one region of -0.9; alpha = 0.7.
    assert.deepEqual(await values('code'), new Set([0.35]));
    assert.deepEqual(await values('paper'), new Set([-0.63, 0]));
  });

  it('scales boxes with their picture unless told to take them as the reference does', async () => {
    const data = new Uint8Array(128 * 128 * 3).fill(7);
    await writePng(path.join(shop.images, 'large.png'), { width: 128, height: 128, data });
    const jsonl = path.join(shop.dir, 'large.jsonl');
    const line = {
      bad_image_file: 'large.png',
      good_image_file: 'large.png',
      prompt: 'a large picture',
      vlm_rewards: [{ object: 'thing', bbox: [32, 32, 64, 64], score: 1 }],
    };
    writeJsonl(jsonl, [line, { ...line, width: 64, height: 64 }]);
    const painted = async (rewardMap: RewardMapKind, record: number, boxFrame?: BoxFrame) => {
      const map = (await open({ rewardMap, jsonl, boxFrame }).load(record))?.rewardMap;
      assert.deepEqual([map?.width, map?.height], [64, 64]);
      const places = [...(map?.data ?? [])].flatMap((v, i) => (v === 0.5 ? [i] : []));
      return [places[0], places.length];
    };
    for (const rewardMap of ['code', 'paper'] as const) {
      // Halved with the picture; as it is where the record says that it was written for that size.
      assert.deepEqual(await painted(rewardMap, 0), [16 * 64 + 16, 16 * 16], rewardMap);
      assert.deepEqual(await painted(rewardMap, 1), [32 * 64 + 32, 32 * 32], rewardMap);
      for (const record of [0, 1]) {
        assert.deepEqual(await painted(rewardMap, record, 'reference'), [32 * 64 + 32, 32 * 32]);
      }
    }
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
    assert.equal(open({ rewardMap: 'paper' }).fingerprint, fingerprint);
  });
});
