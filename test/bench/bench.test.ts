import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { loadAddon, loadedAddon } from '../../lib/native/load-addon.js';

const script = fileURLToPath(new URL('../../scripts/bench.js', import.meta.url));
loadAddon();
/** LibTorch may have been found through the Python that a test takes away. */
const libtorch = { SRUM_LIBTORCH: loadedAddon()?.libtorch.root ?? '' };
const tiny = ['--rounds', '2', '--iterations', '3'];

/** Runs the bench command; resolves with its exit status too. */
async function bench(args: string[], env: Record<string, string> = {}) {
  try {
    const options = { env: { ...process.env, ...libtorch, ...env } };
    const done = await promisify(execFile)(process.execPath, [script, ...args], options);
    return { ...done, status: 0 };
  } catch (error) {
    const failed = error as { stdout: string; stderr: string; code: number };
    return { stdout: failed.stdout, stderr: failed.stderr, status: failed.code };
  }
}

describe('bench command', function () {
  this.timeout(180_000);

  it('prints one JSON object with a row per case, ratio null without a peer', async () => {
    const { stdout } = await bench(['overhead', '--json', '--no-peer', ...tiny]);
    const report = JSON.parse(stdout);
    assert.equal(report.name, 'overhead');
    assert.match(report.machine, /LibTorch/);
    assert.equal(report.rows.length, 6);
    for (const row of report.rows) {
      assert.equal(typeof row.case, 'string');
      assert.ok(row.ours > 0);
      assert.equal(row.peer, null);
      assert.equal(row.ratio, null);
      assert.equal(row.unit, 'ns');
    }
  });

  it('says why there is no peer when Python is missing', async () => {
    const { stdout } = await bench(['overhead', '--json', '--only', 'add', ...tiny], {
      SRUM_PYTHON: '/no/such/python',
    });
    const report = JSON.parse(stdout);
    assert.equal(report.rows.length, 2);
    assert.equal(report.rows[0].ratio, null);
    assert.match(report.left_out.join(), /peer.*no\/such\/python/);
  });

  it('gives ratio = ours / peer where Python torch is present', async function () {
    const { stdout } = await bench(['overhead', '--json', '--only', 'add', ...tiny]);
    const report = JSON.parse(stdout);
    const [row] = report.rows;
    if (row.peer === null) {
      assert.match(report.left_out.join(), /the peer/);
      this.skip();
    }
    assert.ok(Math.abs(row.ratio - row.ours / row.peer) <= 0.002 * row.ratio);
  });

  it('prints a table without --json', async () => {
    const { stdout } = await bench(['overhead', '--no-peer', '--only', 'view', ...tiny]);
    assert.match(stdout, /^case +ours +peer +ratio/m);
    assert.match(stdout, /left out: the peer: switched off/);
  });

  it('refuses an unknown name with the list of benches', async () => {
    const { status, stderr } = await bench(['no-such-bench']);
    assert.equal(status, 1);
    assert.match(stderr, /BENCH_NAME.*overhead/);
  });
});
