import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, it } from 'mocha';
import { temporaryFolder } from '../support/temp.js';

const program = fileURLToPath(new URL('../support/fuzz-program.js', import.meta.url));
// The sanitizer's shadow memory needs more addresses than any limit would leave.
const sanitized = (process.env.LD_PRELOAD ?? '').includes('asan');

describe('every operator, called with right and wrong arguments', function () {
  this.timeout(300_000);
  const folder = temporaryFolder();

  it('returns or throws a TorchError, and the process lives on', () => {
    const log = path.join(folder(), 'call');
    const args = [program, '--seed=1', '--trials=4', '--seconds=60', `--log=${log}`];
    // Absurd sizes shall fail at once instead of filling the machine's memory.
    const limit = sanitized || process.platform !== 'linux' ? '' : 'ulimit -v 12000000; ';
    const run = spawnSync('sh', ['-c', `${limit}exec "$0" "$@"`, process.execPath, ...args], {
      cwd: folder(),
      timeout: 240_000,
      encoding: 'utf8',
      env: { ...process.env, OMP_NUM_THREADS: '1' },
    });
    const last = fs.existsSync(log) ? fs.readFileSync(log, 'utf8').trim() : 'nothing';
    assert.deepEqual([run.signal, run.status], [null, 0], `${last}\n${run.stderr.slice(-2000)}`);
    const outcome = JSON.parse(run.stdout.trim().split('\n').at(-1) ?? '');
    assert.deepEqual(outcome.foreign, []);
    assert.equal(outcome.leaked, 0);
    assert.ok(outcome.succeeded > 100 && outcome.refused > 100, run.stdout);
  });
});
