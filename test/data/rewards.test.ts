import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { parseGenerationRecord, readGenerationRecords } from '../../lib/data/generation-record.js';
import {
  checkRewardRecord,
  parseRewardRecord,
  readRewardRecords,
  scaleBox,
} from '../../lib/data/rewards.js';
import { DataError } from '../../lib/util/errors.js';
import { temporaryFolder } from '../support/temp.js';

const region = (extra: object = {}) => ({
  object: 'kite',
  bbox: [1, 2, 30, 40],
  score: 0.5,
  ...extra,
});
const record = (rewards: unknown, extra: object = {}) => ({
  bad_image_file: 'a.png',
  good_image_file: 'a.png',
  prompt: 'a kite',
  width: 64,
  height: 48,
  vlm_rewards: rewards,
  ...extra,
});
const problems = (rewards: unknown, extra: object = {}) =>
  checkRewardRecord(parseRewardRecord(record(rewards, extra)));

describe('checkRewardRecord', () => {
  it('accepts what scoring writes', () => {
    const layout = { object: 'global_layout_reward', score: 0.8, reason: 'fine' };
    assert.deepEqual(problems([layout, region(), region({ bbox: [0, 0, 64, 48], score: -1 })]), []);
  });

  const faulty: Array<[string, object, RegExp, RegExp]> = [
    ['a score above 1', { score: 8 }, /\[0\]\.score/, /outside \[-1, 1\] \(8\)/],
    ['a score below -1', { score: -1.5 }, /\[0\]\.score/, /-1\.5/],
    ['a missing score', { score: undefined }, /\[0\]\.score/, /found nothing/],
    ['a null score', { score: null }, /\[0\]\.score/, /found null/],
    ['a text as score', { score: '0.5' }, /\[0\]\.score/, /found "0.5"/],
    ['a missing box', { bbox: undefined }, /\[0\]\.bbox/, /found nothing/],
    ['a box of three numbers', { bbox: [1, 2, 3] }, /\[0\]\.bbox/, /./],
    ['an empty box', { bbox: [5, 5, 5, 9] }, /\[0\]\.bbox/, /empty/],
    ['a box over the right edge', { bbox: [0, 0, 65, 9] }, /\[0\]\.bbox/, /outside.*64x48/],
    ['a box over the lower edge', { bbox: [0, 0, 6, 49] }, /\[0\]\.bbox/, /outside/],
    ['a negative box', { bbox: [-1, 0, 6, 9] }, /\[0\]\.bbox/, /outside/],
    ['an unnamed object', { object: '' }, /\[0\]\.object/, /./],
  ];
  for (const [what, change, key, reason] of faulty) {
    it(`reports ${what}`, () => {
      const found = problems([region(change)]);
      assert.equal(found.length, 1);
      assert.match(found[0].key, key);
      assert.match(found[0].reason, reason);
    });
  }

  it('reports record-level faults', () => {
    const keys = (rewards: unknown, extra: object = {}) =>
      problems(rewards, extra).map((p) => p.key);
    assert.deepEqual(keys([]), ['vlm_rewards']);
    assert.deepEqual(keys(undefined), ['vlm_rewards']);
    assert.deepEqual(keys([region()], { prompt: ' ' }), ['prompt']);
    assert.deepEqual(keys([region()], { height: undefined }), ['width']);
    assert.deepEqual(keys([7]), ['vlm_rewards[0]']);
    const layout = { object: 'global_layout_reward', score: 0 };
    assert.deepEqual(keys([layout, layout]), ['vlm_rewards']);
  });

  it('checks against the saved image where it is known', () => {
    const parsed = parseRewardRecord(record([region()]));
    const [problem] = checkRewardRecord(parsed, { width: 32, height: 48 });
    assert.match(problem.reason, /for 64x48.*is 32x48/);
  });
});

describe('parseRewardRecord', () => {
  it('refuses records without file names or with wrong types', () => {
    assert.throws(() => parseRewardRecord({}), /bad_image_file.*found nothing/);
    assert.throws(() => parseRewardRecord(record([], { prompt: 3 })), /prompt/);
    assert.throws(() => parseRewardRecord(record([], { width: 0 })), /width/);
    assert.throws(() => parseRewardRecord([1]), DataError);
    assert.throws(
      () => parseRewardRecord(record([], { width: 0 })),
      /; key width; expected a number of at least 1; found 0$/,
    );
    assert.throws(() => parseRewardRecord(7), /unusable; expected an object; found 7$/);
  });
});

describe('scaleBox', () => {
  const from = { width: 100, height: 50 };

  it('scales both directions on their own and rounds to whole pixels', () => {
    assert.deepEqual(scaleBox([10, 5, 20, 10], from, { width: 200, height: 25 }), [20, 3, 40, 5]);
    assert.deepEqual(scaleBox([10, 5, 20, 10], from, from), [10, 5, 20, 10]);
  });

  it('never makes a box vanish', () => {
    assert.deepEqual(scaleBox([10, 10, 11, 11], from, { width: 10, height: 5 }), [1, 1, 2, 2]);
  });
});

describe('reward and generation files', () => {
  const folder = temporaryFolder();

  it('counts unusable lines; strict mode also refuses broken rules', () => {
    const file = path.join(folder(), 'r.jsonl');
    const lines = [record([region()]), record([region({ score: 8 })]), { prompt: 'x' }];
    fs.writeFileSync(file, `${lines.map((l) => JSON.stringify(l)).join('\n')}\n{"bad`);
    const loose = readRewardRecords(file);
    assert.deepEqual([loose.records.length, loose.problems.map((p) => p.line)], [2, [3, 4]]);
    const strict = readRewardRecords(file, true);
    assert.deepEqual([strict.records.length, strict.problems.map((p) => p.line)], [1, [2, 3, 4]]);
    assert.match(strict.problems[0].reason, /vlm_rewards\[0\]\.score/);
  });

  it('reads output.jsonl and keeps further keys', () => {
    const file = path.join(folder(), 'output.jsonl');
    const good = { prompt_id: 9001, image_file: '9001.png', original_prompt: 'a kite', seed: 5 };
    fs.writeFileSync(
      file,
      `${JSON.stringify(good)}\n${JSON.stringify({ ...good, image_file: 3 })}\n`,
    );
    const { records, problems } = readGenerationRecords(file);
    assert.deepEqual(records, [{ line: 1, value: good }]);
    assert.match(problems[0].reason, /image_file.*found 3/);
    assert.throws(() => parseGenerationRecord(null), DataError);
    assert.throws(
      () => parseGenerationRecord({ ...good, prompt_id: null }),
      /key prompt_id; expected a number or a text; found null$/,
    );
  });
});
