import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writePng } from '../../lib/data/images.js';
import { ones, tensor, writeSafetensors } from '../../lib/torch/index.js';
import { DataError } from '../../lib/util/errors.js';
import { handlers } from '../../scripts/goldens/areas.js';
import { compare, plain } from '../../scripts/goldens/compare.js';
import { GoldenFolder } from '../../scripts/goldens/folder.js';
import { GoldenCase } from '../../scripts/goldens/golden-case.js';
import { isInformation, readIndex } from '../../scripts/goldens/index-file.js';
import { GoldenRunner } from '../../scripts/goldens/runner.js';

const empty = {
  format: 1,
  special_token_ids: {},
  weights: {},
  default_config: { llm: { a: 1, b: 2 }, vit: { c: 3 } },
  cases: [] as object[],
};

describe('golden index', () => {
  let dir = '';
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'srum-goldens-'));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  const write = (value: unknown): void =>
    writeFileSync(
      join(dir, 'cases.json'),
      typeof value === 'string' ? value : JSON.stringify(value),
    );
  const code = (expected: string) => (error: unknown) =>
    error instanceof DataError && error.code === expected;

  it('names a missing folder and a missing index', () => {
    assert.throws(() => readIndex(join(dir, 'nowhere')), code('GOLDENS_MISSING'));
    assert.throws(() => readIndex(dir), code('GOLDENS_MISSING'));
  });

  it('refuses an index that is not JSON, not an object or incomplete', () => {
    write('{"format": 1,');
    assert.throws(() => readIndex(dir), code('GOLDENS_JSON'));
    write([]);
    assert.throws(() => readIndex(dir), code('GOLDENS_INDEX'));
    write({ ...empty, cases: undefined });
    assert.throws(() => readIndex(dir), code('GOLDENS_INDEX'));
    write({
      ...empty,
      cases: [
        { id: 'a', outputs: [] },
        { id: 'a', outputs: [] },
      ],
    });
    assert.throws(() => readIndex(dir), code('GOLDENS_INDEX'));
  });

  it('says what to do about an addon from older sources', () => {
    write(empty);
    const addon = join(dir, 'old.cjs');
    writeFileSync(addon, 'module.exports = { listOperators: () => [] };');
    const program = fileURLToPath(new URL('../../scripts/goldens.js', import.meta.url));
    const { status, stderr } = spawnSync(process.execPath, [program, dir], {
      env: { ...process.env, SRUM_ADDON: addon },
      encoding: 'utf8',
    });
    assert.equal(status, 1);
    assert.match(
      stderr,
      /^NativeError ERR_ADDON_OUTDATED: .*old\.cjs.*hotOperators.*npm run setup$/m,
    );
    assert.doesNotMatch(stderr, /TypeError/);
  });

  it('refuses other formats and says that the SAM set belongs to a later release', () => {
    write({ ...empty, format: 2 });
    assert.throws(() => readIndex(dir), code('GOLDENS_FORMAT'));
    write({ ...empty, format: 'sam-goldens-1' });
    assert.throws(() => readIndex(dir), /SAM.*later release/);
  });

  it('merges an override part by part', () => {
    const entry = { id: 'x', file: null, outputs: [], inputs: [], about: '' };
    write({ ...empty, cases: [{ ...entry, config_override: { llm: { b: 5 } } }] });
    const folder = new GoldenFolder(dir);
    const c = new GoldenCase(folder, folder.index.cases[0]);
    assert.deepEqual(c.config, { llm: { a: 1, b: 5 }, vit: { c: 3 } });
  });

  it('takes null for an override, parameters and lists that a case leaves out', async () => {
    const bare = { file: null, config_override: null, params: null, inputs: null, outputs: null };
    write({ ...empty, cases: [{ ...bare, id: 'x' }, { id: 'rmsnorm_0' }] });
    const runner = new GoldenRunner(dir);
    const [first, second] = runner.entries();
    const c = new GoldenCase(runner.folder, first);
    assert.deepEqual([c.config, c.params], [empty.default_config, {}]);
    assert.deepEqual([c.inputNames(), c.outputNames()], [[], []]);
    assert.equal((await runner.run(second)).status, 'failed');
  });

  it('names file, case and key where a parameter is missing, and refuses other than objects', async () => {
    write({ ...empty, cases: [{ id: 'pack_a', file: null }] });
    const runner = new GoldenRunner(dir);
    const result = await runner.run(runner.entries()[0]);
    assert.equal(result.status, 'failed');
    assert.equal(
      result.failures[0],
      `DataError: case pack_a lacks a parameter; file ${join(dir, 'cases.json')}; key params.samples`,
    );
    write({ ...empty, cases: [{ id: 'a', file: null, params: [1] }] });
    assert.throws(() => readIndex(dir), code('GOLDENS_INDEX'));
  });

  it('knows a kind of case under any numbering', () => {
    const kinds = ['rope', 'rope_table', 'rmsnorm', 'sincos2d', 'sincos2d_rows', 'patchify'];
    kinds.push('attention_mask', 'adamw', 'resize_rule', 'image_transform', 'packing_loop');
    const handler = (id: string) => handlers.find(([pattern]) => pattern.test(id))?.[1];
    for (const kind of kinds) {
      assert.ok(handler(kind), kind);
      for (const id of [`${kind}_0`, `${kind}_12`]) assert.equal(handler(id), handler(kind), id);
    }
    assert.notEqual(handler('rope_0'), handler('rope_table_0'));
    assert.notEqual(handler('sincos2d_0'), handler('sincos2d_rows_0'));
  });

  it('compares the target image of a reward record at its own size', async () => {
    const files = { bad: [32, 16], good: [16, 48] };
    for (const [name, [width, height]] of Object.entries(files)) {
      const data = new Uint8Array(3 * width * height).fill(255);
      await writePng(join(dir, `${name}.png`), { width, height, data });
    }
    const record = { bad_image_file: 'bad.png', good_image_file: 'good.png', prompt: 'a' };
    writeFileSync(join(dir, 'r.jsonl'), `${JSON.stringify({ ...record, vlm_rewards: [] })}\n`);
    const values: Record<string, ReturnType<typeof ones>> = {
      'regional_dataset/out/line0/reward_map': ones([16, 32]).mul(0.25),
      'regional_dataset/out/line0/image': ones([3, 16, 32]),
      'regional_dataset/out/line0/gt_image': ones([3, 48, 16]),
    };
    await writeSafetensors(join(dir, 't.safetensors'), Object.entries(values));
    const transform = { max_image_size: 48, min_image_size: 16, image_stride: 16 };
    const params = { jsonl: 'r.jsonl', transform, lines: { 0: {} }, skipped_lines: [] };
    const outputs = Object.entries(values).map(([name, { shape }]) => ({
      name,
      shape,
      atol: 1e-6,
    }));
    write({
      ...empty,
      cases: [{ id: 'regional_dataset', file: 't.safetensors', params, inputs: [], outputs }],
    });
    const runner = new GoldenRunner(dir);
    const result = await runner.run(runner.entries()[0]);
    assert.deepEqual(result.failures, []);
  });

  it('fails a case without a handler, and does not count information', async () => {
    const entry = { file: null, outputs: [], inputs: [], about: '' };
    const unknown = { ...entry, id: 'no_such_thing' };
    const info = { ...entry, id: 'bf16', params: { deviation: {} } };
    write({ ...empty, cases: [unknown, info] });
    const runner = new GoldenRunner(dir);
    const [first, second] = runner.entries();
    assert.match((await runner.run(first)).failures.join(), /no handler/);
    assert.ok(isInformation(second));
    assert.equal((await runner.run(second)).status, 'information');
  });

  it('demands every listed output and no other, and counts a foreign error as no refusal', async () => {
    mkdirSync(join(dir, 'd'));
    const outputs = [
      { name: 'x/out/a', shape: [2], atol: 0.1, rtol: 0 },
      { name: 'x/out/b', shape: [1], exact: true },
    ];
    const values = { 'x/out/a': tensor([1, 2]), 'x/out/b': tensor([7], { dtype: 'int64' }) };
    await writeSafetensors(join(dir, 't.safetensors'), Object.entries(values));
    write({
      ...empty,
      cases: [{ id: 'x', file: 't.safetensors', inputs: [], outputs, about: '' }],
    });
    const folder = new GoldenFolder(dir);
    const c = new GoldenCase(folder, folder.index.cases[0]);
    c.expect('a', [1.05, 2]);
    c.expect('nowhere', [1]);
    await c.expectThrows('typed', () => {
      throw new DataError('X', 'refused');
    });
    await c.expectThrows('untyped', () => {
      throw new TypeError('broken');
    });
    await c.expectThrows('accepted', () => 1);
    c.finish();
    const failed = c.checks.filter((check) => !check.ok).map((check) => check.name);
    assert.deepEqual(failed, ['untyped', 'accepted', 'b']);
  });
});

describe('golden comparison', () => {
  const float = (values: number[], shape = [values.length]) =>
    plain(Float32Array.from(values), shape);
  const spec = (shape: number[], rest: object) => ({ name: 'y', shape, ...rest });

  it('allows atol + rtol * |reference| and reports the share of it that was used', () => {
    const close = spec([2], { atol: 0.5, rtol: 0.25 });
    assert.equal(compare(float([1.5, 9]), float([1, 8]), close).error, 0.5 / 0.75);
    assert.ok(compare(float([1, 10.5]), float([1, 8]), close).ok);
    assert.ok(!compare(float([1, 10.75]), float([1, 8]), close).ok);
  });

  it('lets NaN equal nothing and infinities only themselves', () => {
    const close = spec([1], { atol: 1, rtol: 1 });
    const inf = Number.POSITIVE_INFINITY;
    assert.ok(!compare(float([Number.NaN]), float([Number.NaN]), close).ok);
    assert.ok(!compare(float([Number.NaN]), float([1]), close).ok);
    assert.ok(!compare(float([inf]), float([1]), close).ok);
    assert.ok(!compare(float([1]), float([inf]), close).ok);
    assert.ok(!compare(float([-inf]), float([inf]), close).ok);
    assert.ok(compare(float([-inf]), float([-inf]), close).ok);
    assert.ok(!compare(float([Number.NaN]), float([Number.NaN]), spec([1], { exact: true })).ok);
  });

  it('demands equal values, shape and type family where the output is exact', () => {
    const exact = spec([2], { exact: true });
    const ids = plain(BigInt64Array.from([1n, 2n]), [2]);
    assert.ok(compare(plain([1, 2]), ids, exact).ok);
    assert.ok(compare(plain(Int32Array.from([1, 2])), ids, exact).ok);
    assert.ok(!compare(plain([1, 3]), ids, exact).ok);
    assert.ok(!compare(float([1, 2]), ids, exact).ok);
    assert.ok(!compare(plain([[1, 2]]), ids, exact).ok);
    assert.ok(!compare(plain([1, 2, 3]), ids, exact).ok);
    const tiny = 1 + 2 ** -23;
    assert.ok(!compare(float([tiny, 2]), float([1, 2]), exact).ok);
  });

  it('limits how many values of an image may be off by one level', () => {
    const image = spec([1, 2, 3], { atol: 1, rtol: 0, max_fraction_off_by_one: 0.2 });
    const reference = plain(Uint8Array.from([1, 2, 3, 4, 5, 6]), [1, 2, 3]);
    const got = Uint8Array.from([1, 2, 3, 4, 5, 7]);
    assert.ok(compare(plain(got), reference, image).ok);
    assert.ok(!compare(plain(got, [2, 1, 3]), reference, image).ok);
    assert.ok(!compare(plain(got.subarray(1)), reference, image).ok);
    const two = Uint8Array.from([1, 2, 3, 4, 6, 7]);
    assert.ok(!compare(plain(two, [1, 2, 3]), reference, image).ok);
    const level = Uint8Array.from([1, 2, 3, 4, 5, 8]);
    assert.ok(!compare(plain(level, [1, 2, 3]), reference, image).ok);
  });
});
