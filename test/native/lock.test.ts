import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { withLock } from '../../lib/native/lock.js';
import { temporaryFolder } from './support/trees.js';

describe('lock', () => {
  const folder = temporaryFolder();
  const file = (): string => path.join(folder(), 'deep', 'lock');

  it('lets one in at a time and cleans up after success and failure', async () => {
    const events: string[] = [];
    const task = (name: string, fails: boolean): Promise<unknown> =>
      withLock(file(), async () => {
        events.push(`${name} in`);
        await new Promise((resolve) => setTimeout(resolve, 20));
        events.push(`${name} out`);
        if (fails) throw new Error(name);
      }).catch((error) => error.message);
    assert.deepEqual((await Promise.all([task('a', true), task('b', false)])).sort(), [
      'a',
      undefined,
    ]);
    const first = events[0][0];
    const second = first === 'a' ? 'b' : 'a';
    assert.deepEqual(events, [`${first} in`, `${first} out`, `${second} in`, `${second} out`]);
    assert.deepEqual(fs.readdirSync(path.dirname(file())), []);
  });

  it('takes over from a holder that died', async () => {
    const { pid } = spawnSync(process.execPath, ['-e', '']);
    fs.mkdirSync(path.dirname(file()), { recursive: true });
    fs.writeFileSync(file(), JSON.stringify({ pid, host: os.hostname(), token: 1 }));
    assert.equal(await withLock(file(), async () => 'done'), 'done');
  });

  it('takes over from another machine only after a long silence', async () => {
    fs.mkdirSync(path.dirname(file()), { recursive: true });
    fs.writeFileSync(file(), JSON.stringify({ pid: 1, host: 'elsewhere', token: 1 }));
    const waited: number[] = [];
    const result = withLock(
      file(),
      async () => 'done',
      (pid) => {
        waited.push(pid);
        const longAgo = new Date(Date.now() - 3_600_000);
        fs.utimesSync(file(), longAgo, longAgo);
      },
    );
    assert.equal(await result, 'done');
    assert.deepEqual(waited, [1]);
  });
});
