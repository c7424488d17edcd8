import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { DataError, SrumError } from '../../lib/util/errors.js';
import {
  appendJsonl,
  JsonlWriter,
  jsonLine,
  readJsonFile,
  readJsonl,
  rebuildJsonl,
  repairJsonl,
  streamJsonl,
  writeJsonFile,
  writeJsonl,
} from '../../lib/util/jsonl.js';
import { temporaryFolder } from '../support/temp.js';

describe('reading jsonl', () => {
  const folder = temporaryFolder();
  const file = () => path.join(folder(), 'x.jsonl');

  it('counts and reports malformed lines, in any position', () => {
    fs.writeFileSync(file(), '\ufeff{"a":1}\r\n{"a":\n\n  \n[2]\nNaN\n{"a":3}\n{"a":');
    const result = readJsonl(file());
    assert.deepEqual(result.records, [
      { line: 1, value: { a: 1 } },
      { line: 5, value: [2] },
      { line: 7, value: { a: 3 } },
    ]);
    assert.deepEqual(
      result.problems.map(({ line }) => line),
      [2, 6, 8],
    );
    assert.match(result.problems[0].reason, /not valid JSON/);
    assert.match(result.problems[2].reason, /ends in the middle/);
    assert.equal(result.blank, 2);
    assert.equal(result.lines, 8);
  });

  it('reports lines that are no UTF-8', () => {
    fs.writeFileSync(
      file(),
      Buffer.concat([Buffer.from('{"a":"\xff"}\n', 'latin1'), Buffer.from('1')]),
    );
    const { records, problems } = readJsonl(file());
    assert.deepEqual(records, [{ line: 2, value: 1 }]);
    assert.deepEqual(
      problems.map(({ line, reason }) => [line, reason]),
      [[1, 'not valid UTF-8']],
    );
  });

  it('turns what a check throws into the reason, but not programming errors', () => {
    fs.writeFileSync(file(), '1\n2\n');
    const { records, problems } = readJsonl(file(), (value) => {
      if (value === 2) throw new DataError('ERR_X', 'two is not allowed');
      return String(value);
    });
    assert.deepEqual(records, [{ line: 1, value: '1' }]);
    assert.match(problems[0].reason, /two is not allowed/);
    const broken = () =>
      readJsonl(file(), () => {
        throw new TypeError('bug');
      });
    assert.throws(broken, TypeError);
  });

  it('streams lines longer than a chunk', () => {
    const long = 'é'.repeat(1_500_000);
    writeJsonl(file(), [{ long }, { n: 2 }]);
    const seen = [...streamJsonl<{ long?: string; n?: number }>(file(), () => assert.fail())];
    assert.equal(seen[0].value.long, long);
    assert.deepEqual(seen[1], { line: 2, value: { n: 2 } });
  });

  it('names a missing file', () => {
    assert.throws(() => readJsonl(file()), /no such file.*x\.jsonl/);
  });
});

describe('appending jsonl', () => {
  const folder = temporaryFolder();
  const file = () => path.join(folder(), 'x.jsonl');

  it('cuts a partial last line and tells', () => {
    fs.writeFileSync(file(), '{"a":1}\n{"a":22');
    assert.deepEqual(appendJsonl(file(), { a: 3 }), {
      kind: 'cut',
      line: 2,
      bytes: 7,
      text: '{"a":22',
    });
    assert.equal(fs.readFileSync(file(), 'utf8'), '{"a":1}\n{"a":3}\n');
  });

  it('keeps a whole last line that lacks its line feed', () => {
    fs.writeFileSync(file(), '{"a":1}\n{"a":2}');
    assert.equal(appendJsonl(file(), { a: 3 })?.kind, 'closed');
    assert.equal(fs.readFileSync(file(), 'utf8'), '{"a":1}\n{"a":2}\n{"a":3}\n');
  });

  it('leaves sound and absent files alone', () => {
    assert.equal(repairJsonl(file()), null);
    assert.equal(appendJsonl(file(), { ä: 'ö' }), null);
    assert.equal(repairJsonl(file()), null);
    assert.equal(fs.readFileSync(file(), 'utf8'), '{"ä":"ö"}\n');
  });

  it('has every appended record on the disk when the process is killed', () => {
    const module = new URL('../../lib/util/jsonl.js', import.meta.url).href;
    const script = `
      import { JsonlWriter } from ${JSON.stringify(module)};
      const writer = new JsonlWriter(${JSON.stringify(file())});
      for (let i = 0; i < 3; i++) writer.append({ i });
      process.kill(process.pid, 'SIGKILL');
    `;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
    assert.equal(child.signal, 'SIGKILL');
    assert.deepEqual(
      readJsonl(file()).records.map(({ value }) => value),
      [{ i: 0 }, { i: 1 }, { i: 2 }],
    );
  });

  it('reports a full disk with a typed error', function () {
    if (!fs.existsSync('/dev/full')) this.skip();
    assert.throws(
      () => appendJsonl('/dev/full', { a: 1 }),
      (error) => error instanceof SrumError && error.code === 'ERR_DISK_FULL',
    );
  });

  it('takes a half-written record back when the disk fills up', () => {
    const writer = new JsonlWriter(file());
    writer.append({ a: 1 });
    const original = fs.writeSync;
    let calls = 0;
    Object.assign(fs, {
      writeSync: (fd: number, bytes: Buffer) => {
        calls += 1;
        if (calls === 1) return original(fd, bytes, 0, 3);
        throw Object.assign(new Error('simulated'), { code: 'ENOSPC' });
      },
    });
    try {
      assert.throws(() => writer.append({ a: 2 }), /no space left/);
    } finally {
      Object.assign(fs, { writeSync: original });
    }
    writer.append({ a: 3 });
    writer.close();
    assert.equal(fs.readFileSync(file(), 'utf8'), '{"a":1}\n{"a":3}\n');
  });

  it('refuses numbers that JSON would turn into null', () => {
    assert.throws(() => jsonLine({ score: Number.NaN }), /finite.*key score/);
    assert.throws(() => writeJsonl(file(), [{ a: 1 }, { b: Number.POSITIVE_INFINITY }]), DataError);
    assert.deepEqual(fs.readdirSync(folder()), []);
  });

  it('refuses to append after close', () => {
    const writer = new JsonlWriter(file());
    writer.close();
    assert.throws(() => writer.append({}), SrumError);
  });
});

describe('JSON files and views', () => {
  const folder = temporaryFolder();

  it('round-trips a JSON file and names a malformed one', () => {
    const file = path.join(folder(), 'x.json');
    writeJsonFile(file, { a: [1, 'ü'] });
    assert.deepEqual(readJsonFile(file), { a: [1, 'ü'] });
    fs.writeFileSync(file, '{"a":');
    assert.throws(
      () => readJsonFile(file),
      (error) => {
        assert.ok(error instanceof DataError);
        assert.equal(error.details.file, file);
        return true;
      },
    );
  });

  it('rebuilds a view from record files, in order, and reports broken ones', () => {
    const files = ['b', 'a', 'broken', 'missing'].map((name) =>
      path.join(folder(), `${name}.json`),
    );
    writeJsonFile(files[0], { n: 1 });
    writeJsonFile(files[1], { n: 2 });
    fs.writeFileSync(files[2], '{');
    const view = path.join(folder(), 'view.jsonl');
    const { records, problems } = rebuildJsonl(view, files);
    assert.equal(records, 2);
    assert.equal(fs.readFileSync(view, 'utf8'), '{"n":1}\n{"n":2}\n');
    assert.deepEqual(
      problems.map(({ file }) => path.basename(file)),
      ['broken.json', 'missing.json'],
    );
  });
});
