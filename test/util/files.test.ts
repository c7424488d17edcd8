import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import {
  AtomicFile,
  FileError,
  makeFolder,
  readTextFile,
  removeStaleTempFiles,
  writeFileAtomic,
  writeStreamAtomic,
} from '../../lib/util/files.js';
import { temporaryFolder } from '../support/temp.js';

/** Runs `body` while a function of node:fs fails like a full or read-only disk. */
function withFailing(
  name: 'writeSync' | 'openSync' | 'renameSync' | 'fsyncSync',
  code: string,
  body: () => void,
): void {
  const original = fs[name];
  const failing = () => {
    throw Object.assign(new Error(`${code}: simulated`), { code });
  };
  Object.assign(fs, { [name]: failing });
  try {
    body();
  } finally {
    Object.assign(fs, { [name]: original });
  }
}

const hasCode = (code: string, file: string) => (error: unknown) => {
  assert.ok(error instanceof FileError, String(error));
  assert.equal(error.code, code);
  assert.ok(error.message.includes(file), error.message);
  return true;
};

describe('writeFileAtomic', () => {
  const folder = temporaryFolder();
  const target = () => path.join(folder(), 'out.txt');

  it('writes, replaces, and leaves no other file', () => {
    writeFileAtomic(target(), 'first');
    writeFileAtomic(target(), Buffer.from('second'));
    assert.equal(readTextFile(target()), 'second');
    assert.deepEqual(fs.readdirSync(folder()), ['out.txt']);
  });

  it('creates missing folders', () => {
    const deep = path.join(folder(), 'a/b/c.txt');
    writeFileAtomic(deep, 'x');
    assert.equal(readTextFile(deep), 'x');
  });

  it('writes through a symbolic link and keeps the mode of the old file', () => {
    const real = path.join(folder(), 'real.txt');
    fs.writeFileSync(real, 'old', { mode: 0o640 });
    fs.chmodSync(real, 0o640);
    fs.symlinkSync(real, target());
    writeFileAtomic(target(), 'new');
    assert.ok(fs.lstatSync(target()).isSymbolicLink());
    assert.equal(readTextFile(real), 'new');
    assert.equal(fs.statSync(real).mode & 0o777, 0o640);
  });

  for (const [call, errno, code] of [
    ['writeSync', 'ENOSPC', 'ERR_DISK_FULL'],
    ['writeSync', 'EDQUOT', 'ERR_DISK_FULL'],
    ['fsyncSync', 'ENOSPC', 'ERR_DISK_FULL'],
    ['fsyncSync', 'EIO', 'ERR_IO'],
    ['renameSync', 'EROFS', 'ERR_READ_ONLY'],
    ['openSync', 'EROFS', 'ERR_READ_ONLY'],
    ['openSync', 'EACCES', 'ERR_NO_ACCESS'],
  ] as const) {
    it(`keeps the old content and cleans up when ${call} fails with ${errno}`, () => {
      fs.writeFileSync(target(), 'old');
      withFailing(call, errno, () => {
        assert.throws(() => writeFileAtomic(target(), 'new'), hasCode(code, target()));
      });
      assert.equal(readTextFile(target()), 'old');
      assert.deepEqual(fs.readdirSync(folder()), ['out.txt']);
    });
  }

  it('never puts a file in place of a device or pipe', function () {
    if (process.platform === 'win32') this.skip();
    execFileSync('mkfifo', [target()]);
    assert.throws(() => writeFileAtomic(target(), 'x'), hasCode('ERR_NOT_A_FILE', target()));
    assert.ok(fs.statSync(target()).isFIFO());
    assert.deepEqual(fs.readdirSync(folder()), ['out.txt']);
  });

  it('names the path when a part of it is a file', () => {
    fs.writeFileSync(target(), '');
    const below = path.join(target(), 'x.txt');
    assert.throws(() => writeFileAtomic(below, 'x'), hasCode('ERR_NOT_A_FOLDER', below));
    assert.throws(() => makeFolder(target()), hasCode('ERR_NOT_A_FOLDER', target()));
  });

  it('says that a file system is read-only where folders are missing', () => {
    const deep = path.join(folder(), 'a/b');
    const original = fs.mkdirSync;
    // As on Linux: the plain call tells the truth, Node's recursive one says ENOENT.
    const mkdirSync = (name: string, options?: { recursive?: boolean }) => {
      const code = options?.recursive ? 'ENOENT' : 'EROFS';
      throw Object.assign(new Error(`${code}: simulated, mkdir ${name}`), { code });
    };
    Object.assign(fs, { mkdirSync });
    try {
      assert.throws(() => makeFolder(deep), hasCode('ERR_READ_ONLY', deep));
      const write = () => writeFileAtomic(path.join(deep, 'x.txt'), 'x');
      assert.throws(write, hasCode('ERR_READ_ONLY', deep));
    } finally {
      Object.assign(fs, { mkdirSync: original });
    }
    makeFolder(deep);
    makeFolder(path.relative(process.cwd(), path.join(deep, '../c')));
    assert.deepEqual(fs.readdirSync(path.join(folder(), 'a')), ['b', 'c']);
  });

  it('refuses to replace a folder', () => {
    assert.throws(() => writeFileAtomic(folder(), 'x'), hasCode('ERR_NOT_A_FILE', folder()));
  });

  it('survives a kill in the middle: the old file stays, the rest is swept up', () => {
    fs.writeFileSync(target(), 'old');
    const module = new URL('../../lib/util/files.js', import.meta.url).href;
    const script = `
      import { AtomicFile } from ${JSON.stringify(module)};
      const file = new AtomicFile(${JSON.stringify(target())});
      file.write('half of the new con');
      process.kill(process.pid, 'SIGKILL');
    `;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
    assert.equal(child.signal, 'SIGKILL');
    assert.equal(readTextFile(target()), 'old');
    const left = fs.readdirSync(folder()).filter((name) => name !== 'out.txt');
    assert.equal(left.length, 1);
    assert.deepEqual(removeStaleTempFiles(folder()), left);
    assert.deepEqual(fs.readdirSync(folder()), ['out.txt']);
  });

  it('does not sweep up what a living process writes', () => {
    const file = new AtomicFile(target());
    assert.deepEqual(removeStaleTempFiles(folder()), []);
    file.write('x');
    file.commit();
    assert.equal(readTextFile(target()), 'x');
  });
});

describe('writeStreamAtomic', () => {
  const folder = temporaryFolder();

  it('joins the pieces', async () => {
    const file = path.join(folder(), 's.bin');
    await writeStreamAtomic(file, async (write) => {
      write('a');
      await Promise.resolve();
      write(Uint8Array.of(98));
    });
    assert.equal(readTextFile(file), 'ab');
  });

  it('passes the writer’s error on and leaves nothing', async () => {
    const file = path.join(folder(), 's.bin');
    const failing = writeStreamAtomic(file, (write) => {
      write('a');
      throw new RangeError('mine');
    });
    await assert.rejects(failing, RangeError);
    assert.deepEqual(fs.readdirSync(folder()), []);
  });
});

describe('readTextFile', () => {
  const folder = temporaryFolder();

  it('drops a byte order mark', () => {
    const file = path.join(folder(), 'bom.txt');
    fs.writeFileSync(file, '\ufeffx');
    assert.equal(readTextFile(file), 'x');
  });

  it('names a file that is missing or is a folder', () => {
    const missing = path.join(folder(), 'none');
    assert.throws(() => readTextFile(missing), hasCode('ERR_NO_FILE', missing));
    assert.throws(() => readTextFile(folder()), hasCode('ERR_NOT_A_FILE', folder()));
  });
});
