import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { itemSeed } from '../../../lib/app/stages/item-seed.js';
import { type ItemStageOptions, runItemStage } from '../../../lib/app/stages/item-stage.js';
import { canonicalJson } from '../../../lib/app/stages/run-folder.js';
import { shardFromEnv } from '../../../lib/app/stages/shard.js';
import { ConfigError, DataError } from '../../../lib/util/errors.js';

describe('app/stages/item-stage', () => {
  let dir: string;
  beforeEach(() => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'srum-stage-'));
  });
  afterEach(() => fs.rmSync(dir, { recursive: true, force: true }));

  /** A stage that writes each item's number into a file; keeps count of what it worked on. */
  function stage(numbers: number[], more: Partial<ItemStageOptions<number>> = {}) {
    const worked: number[] = [];
    const options: ItemStageOptions<number> = {
      stage: 'numbers',
      stage_version: 1,
      model: 'none',
      settings: { factor: 2 },
      folder: path.join(dir, 'out'),
      items: numbers.map((value) => ({
        key: `n${value}`,
        order: [value],
        identity: () => ({ value }),
        value,
      })),
      work: async ({ value }) => {
        worked.push(value);
        const data = Buffer.from(`${value * 2}`);
        return { record: { value, twice: value * 2 }, files: [{ name: `n${value}.txt`, data }] };
      },
      views: (items) => [{ file: 'all.jsonl', records: items.map((item) => item.record) }],
      ...more,
    };
    return { worked, run: () => runItemStage(options) };
  }

  const view = () => fs.readFileSync(path.join(dir, 'out', 'all.jsonl'), 'utf8');
  const file = (name: string) => path.join(dir, 'out', name);

  it('accounts for every input and sorts the view by place, not by time', async () => {
    const report = await stage([3, 1, 2]).run();
    assert.deepEqual(
      [report.inputs, report.done, report.skipped, report.failed, report.remaining],
      [3, 3, 0, 0, 0],
    );
    assert.deepEqual(
      view()
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).value),
      [1, 2, 3],
    );
  });

  it('works again only on what is not there: new, changed, damaged or lost items', async () => {
    await stage([1, 2, 3, 4]).run();
    fs.rmSync(file('n2.txt'));
    fs.writeFileSync(file('records/n3.json'), '{"key": "n3"');
    const again = stage([1, 2, 3, 4, 5]);
    const report = await again.run();
    assert.deepEqual(again.worked, [2, 3, 5]);
    assert.deepEqual([report.done, report.skipped], [3, 2]);
    const other = stage([1, 2], {
      items: [
        { key: 'n1', order: [1], identity: () => ({ value: 1 }), value: 1 },
        { key: 'n2', order: [2], identity: () => ({ value: 'changed' }), value: 2 },
      ],
    });
    await other.run();
    assert.deepEqual(other.worked, [2]);
    assert.equal(view().trim().split('\n').length, 5, 'records of other items stay');
  });

  it('overwrite makes all again', async () => {
    await stage([1, 2]).run();
    const again = stage([1, 2], { overwrite: true });
    await again.run();
    assert.deepEqual(again.worked, [1, 2]);
  });

  it('counts what an item throws, keeps the reason, and tries again the next time', async () => {
    let broken = true;
    const flaky = stage([1, 2], {
      work: async ({ value }) => {
        if (value === 1 && broken) throw new DataError('ERR_ODD', 'an odd number');
        return { record: { value }, files: [] };
      },
    });
    const first = await flaky.run();
    assert.deepEqual([first.done, first.failed], [1, 1]);
    assert.deepEqual(first.failures, [{ item: 'n1', code: 'ERR_ODD', reason: 'an odd number' }]);
    assert.match(fs.readFileSync(file('failures.jsonl'), 'utf8'), /an odd number/);
    broken = false;
    const second = await flaky.run();
    assert.deepEqual([second.done, second.skipped, second.failed], [1, 1, 0]);
    assert.equal(fs.existsSync(file('failures.jsonl')), false);
  });

  it('refuses other settings, names them, and takes over when forced', async () => {
    await stage([1]).run();
    const other = stage([1], { settings: { factor: 3 } });
    await assert.rejects(other.run(), (error: unknown) => {
      assert.ok(error instanceof ConfigError);
      assert.equal(error.code, 'ERR_OTHER_SETTINGS');
      assert.deepEqual(
        [error.details.key, error.details.expected, error.details.found],
        ['factor', 'factor 2', 'factor 3'],
      );
      return true;
    });
    const forced = stage([1], { settings: { factor: 3 }, force: true });
    await forced.run();
    assert.deepEqual(forced.worked, [1]);
  });

  it('names only settings that differ, and takes over a folder in which nothing was made', async () => {
    const settings = { factor: 2, left_out: undefined };
    await stage([1], { settings }).run();
    const other = stage([1], { settings: { ...settings, factor: 3, also: undefined } });
    await assert.rejects(other.run(), (error: unknown) => {
      assert.equal((error as ConfigError).details.key, 'factor');
      return true;
    });
    const fails = { work: () => Promise.reject(new DataError('ERR_TEST', 'no')) };
    const folder = path.join(dir, 'nothing');
    await stage([1], { ...fails, folder }).run();
    const next = stage([1], { folder, settings: { factor: 3 } });
    assert.equal((await next.run()).done, 1);
  });

  it('shows nothing that was made with other settings or from another input', async () => {
    await stage([1, 2]).run();
    await stage([1], { settings: { factor: 3 }, force: true }).run();
    assert.equal(view().trim().split('\n').length, 1, 'the other item has the old settings');
    assert.equal(fs.existsSync(file('n2.txt')), false);
    const changed = [{ key: 'n1', order: [1], identity: () => ({ value: 9 }), value: 9 }];
    const fails = { work: () => Promise.reject(new DataError('ERR_TEST', 'no')) };
    const now = { items: changed, settings: { factor: 3 }, ...fails };
    assert.equal((await stage([], now).run()).failed, 1);
    assert.equal(view(), '', 'the old result belongs to the old input');
  });

  it('keeps other inputs’ items in the view, unless told to leave them out', async () => {
    await stage([1, 2, 3]).run();
    await stage([2]).run();
    assert.equal(view().trim().split('\n').length, 3);
    await stage([2], { only_inputs: true }).run();
    assert.equal(JSON.parse(view()).value, 2);
    await stage([1, 2, 3]).run();
    assert.equal(view().trim().split('\n').length, 3, 'nothing was lost');
  });

  it('stops after the item at hand', async () => {
    const controller = new AbortController();
    const stopped = stage([1, 2, 3], {
      signal: controller.signal,
      onItem: () => controller.abort(),
    });
    const report = await stopped.run();
    assert.deepEqual([report.done, report.remaining, report.interrupted], [1, 2, true]);
    assert.equal(view(), '{"value":1,"twice":2}\n');
  });

  it('prepares once, and not at all when there is nothing to do', async () => {
    let prepared = 0;
    const prepare = () => {
      prepared += 1;
    };
    await stage([1, 2], { prepare }).run();
    await stage([1, 2], { prepare }).run();
    assert.equal(prepared, 1);
  });

  it('shares items between processes without gap or overlap; odd inputs go to the first', async () => {
    const rejected = [{ key: 'line 9', reason: 'odd' }];
    const parts = [0, 1, 2].map((rank) =>
      stage([1, 2, 3, 4, 5], { shard: { rank, world: 3 }, rejected }),
    );
    const reports = await Promise.all(parts.map((part) => part.run()));
    assert.deepEqual(parts.flatMap(({ worked }) => worked).sort(), [1, 2, 3, 4, 5]);
    assert.deepEqual(
      reports.map(({ inputs, failed }) => [inputs, failed]),
      [
        [3, 1],
        [2, 0],
        [1, 0],
      ],
    );
    assert.equal(view().trim().split('\n').length, 5);
  });

  it('refuses two items of one name', async () => {
    await assert.rejects(stage([1, 1]).run(), { code: 'ERR_DUPLICATE_ITEM' });
  });

  it('ends, instead of counting failures, when results cannot be written', async () => {
    fs.writeFileSync(path.join(dir, 'plain'), '');
    const below = stage([1], { folder: path.join(dir, 'plain', 'out') });
    await assert.rejects(below.run(), { code: 'ERR_NOT_A_FOLDER' });
    const full = stage([1, 2], {
      work: async () => {
        // The record's place is taken by a folder: the write fails after the work is done.
        fs.mkdirSync(file('records/n1.json'), { recursive: true });
        return { record: {}, files: [] };
      },
    });
    await assert.rejects(full.run(), { code: 'ERR_NOT_A_FILE' });
  });
});

describe('app/stages seeds, shards, settings', () => {
  it('a seed depends on run, stage, item and sample, and on nothing else', () => {
    const seed = itemSeed(42, 'generate', 7, 0);
    assert.equal(seed, itemSeed(42, 'generate', '7', 0));
    const others = [
      itemSeed(43, 'generate', 7, 0),
      itemSeed(42, 'score', 7, 0),
      itemSeed(42, 'generate', 8, 0),
      itemSeed(42, 'generate', 7, 1),
    ];
    assert.equal(new Set([seed, ...others]).size, 5);
    for (const value of others) assert.ok(Number.isSafeInteger(value) && value >= 0);
  });

  it('reads the variables of the usual launchers', () => {
    assert.deepEqual(shardFromEnv({}), { rank: 0, world: 1 });
    assert.deepEqual(shardFromEnv({ RANK: '1', WORLD_SIZE: '4' }), { rank: 1, world: 4 });
    const slurm = { SLURM_PROCID: '2', SLURM_NTASKS: '3' };
    assert.deepEqual(shardFromEnv(slurm), { rank: 2, world: 3 });
    assert.throws(() => shardFromEnv({ RANK: '4', WORLD_SIZE: '4' }), { code: 'ERR_SHARD' });
    assert.throws(() => shardFromEnv({ RANK: 'x', WORLD_SIZE: '4' }), { code: 'ERR_SHARD' });
  });

  it('equal settings have one text, whatever the order of their keys', () => {
    assert.equal(
      canonicalJson({ b: [{ d: 1, c: 2 }], a: undefined }),
      canonicalJson({ b: [{ c: 2, d: 1 }] }),
    );
  });
});
