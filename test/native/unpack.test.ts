import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { parseRecord } from '../../lib/native/libtorch-wheel.js';
import { extract, openArchive, requireSpace } from '../../lib/native/unpack.js';
import { temporaryFolder } from './support/trees.js';
import { zip } from './support/zip.js';

describe('unpacking', () => {
  const folder = temporaryFolder();
  const archiveFile = (content: Buffer): string => {
    const file = path.join(folder(), 'archive.zip');
    fs.writeFileSync(file, content);
    return file;
  };
  const large = Buffer.alloc(3 << 20, 'x');

  it('writes small and large entries where they belong', async () => {
    const archive = await openArchive(
      archiveFile(zip({ 'a/one.txt': 'one', 'b.bin': large, skip: 'no' })),
    );
    const seen: number[] = [];
    const target = path.join(folder(), 'out');
    await extract(
      archive,
      target,
      new Map([
        ['a/one.txt', 'x/1'],
        ['b.bin', 'b'],
      ]),
      {
        onProgress: (done, total) => seen.push(done / total),
      },
    );
    archive.close();
    assert.equal(fs.readFileSync(path.join(target, 'x/1'), 'utf8'), 'one');
    assert.ok(fs.readFileSync(path.join(target, 'b')).equals(large));
    assert.deepEqual(fs.readdirSync(target).sort(), ['b', 'x']);
    assert.equal(seen.pop(), 1);
  });

  it('refuses a file that was cut off anywhere', async () => {
    const whole = zip({ 'a.txt': 'one', 'b.txt': 'two' });
    for (const length of [0, 1, 40, whole.length - 30, whole.length - 1]) {
      await assert.rejects(openArchive(archiveFile(whole.subarray(0, length))), {
        code: 'ERR_ARCHIVE',
      });
    }
  });

  it('notices changed content, small and large', async () => {
    for (const content of [Buffer.from('small content'), large]) {
      const bytes = zip({ entry: content });
      bytes[30 + 'entry'.length + 5] ^= 1;
      const archive = await openArchive(archiveFile(bytes));
      await assert.rejects(
        extract(archive, path.join(folder(), 'out'), new Map([['entry', 'entry']])),
        {
          code: 'ERR_ARCHIVE',
        },
      );
      archive.close();
    }
  });

  it('holds every entry against the list of hashes', async () => {
    const archive = await openArchive(archiveFile(zip({ entry: 'content' })));
    const run = (hashes: Map<string, string>): Promise<void> =>
      extract(archive, path.join(folder(), 'out'), new Map([['entry', 'entry']]), { hashes });
    await assert.rejects(run(new Map([['entry', 'AAAA']])), /wrong check value in entry/);
    await assert.rejects(run(new Map()), /not in the wheel's list of hashes/);
    archive.close();
  });

  it('refuses names that lead out of the folder', async () => {
    for (const name of ['../evil', '/etc/evil']) {
      await assert.rejects(openArchive(archiveFile(zip({ [name]: 'x' }))), { code: 'ERR_ARCHIVE' });
    }
  });

  it('asks for room before it writes', () => {
    requireSpace(folder(), 1);
    assert.throws(() => requireSpace(folder(), 1e18), { code: 'ERR_DISK_FULL' });
  });

  it('reads lists of hashes, quoted names included', () => {
    const map = parseRecord(
      'a/b.py,sha256=abc_-9,12\r\n"odd,""name""",sha256=xyz=,3\nx.dist-info/RECORD,,\n',
    );
    assert.deepEqual(
      [...map],
      [
        ['a/b.py', 'abc_-9'],
        ['odd,"name"', 'xyz'],
      ],
    );
  });
});
