import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { runDoctor } from '../../lib/native/doctor.js';
import { inspectLibTorch, type LibTorch } from '../../lib/native/libtorch-locate.js';
import { findAddon } from '../../lib/native/load-addon.js';
import { probeAddon } from '../../lib/native/probe.js';
import { fakeLibTorch, script, temporaryFolder, writeTree } from './support/trees.js';

describe('loading the addon', () => {
  const folder = temporaryFolder();
  /** An environment in which nothing is to be found. */
  const bare = (extra: Record<string, string> = {}): Record<string, string> => ({
    PATH: path.join(folder(), 'bin'),
    SRUM_CACHE: path.join(folder(), 'cache'),
    ...extra,
  });

  it('lists every place where LibTorch is missing and one command', () => {
    script(path.join(folder(), 'bin', 'python3'), 'echo');
    const message = String(probeAddon(bare()));
    assert.match(message, /LibTorch was not found/);
    assert.match(message, /cache: .* nothing is installed there/);
    assert.match(message, /python: python3 \(python3\) has no torch package/);
    assert.equal(message.match(/Run /g)?.length, 1);
  });

  it('says which addon was refused and why', () => {
    const root = writeTree(path.join(folder(), 'libtorch'), fakeLibTorch({ version: '2.11.0' }));
    const addon = path.join(folder(), 'srum.node');
    writeTree(folder(), {
      'srum.node': 'binary',
      'srum.build.json': JSON.stringify({ minor: '2.13', size: 6 }),
    });
    const env = bare({ SRUM_LIBTORCH: root, SRUM_ADDON: addon });
    assert.deepEqual(findAddon(inspectLibTorch(root, 'option') as LibTorch, env), [
      { place: addon, refused: 'was built for LibTorch 2.13' },
    ]);
    assert.match(
      String(probeAddon(env)),
      /no addon fits LibTorch 2\.11\.0.*was built for LibTorch 2\.13.*Run /s,
    );
    const missing = bare({ SRUM_LIBTORCH: root, SRUM_ADDON: path.join(folder(), 'none.node') });
    assert.match(String(probeAddon(missing)), /none\.node: does not exist/);
  });

  it('reports libraries the system cannot open', () => {
    const root = writeTree(path.join(folder(), 'libtorch'), fakeLibTorch());
    writeTree(folder(), { 'srum.node': 'binary' });
    const env = bare({ SRUM_LIBTORCH: root, SRUM_ADDON: path.join(folder(), 'srum.node') });
    assert.match(String(probeAddon(env)), /LibTorch cannot be opened: .*libc10/s);
  });

  it('loads on the main thread and in several workers at once', () => {
    const module = fileURLToPath(new URL('../../lib/native/load-addon.js', import.meta.url));
    const code = `
      import { Worker } from 'node:worker_threads';
      import { loadAddon } from ${JSON.stringify(module)};
      const body = \`Promise.all([import('node:worker_threads'), import(${JSON.stringify(module)})])
        .then(([threads, own]) => threads.parentPort.postMessage(typeof own.loadAddon()))\`;
      const run = () => new Promise((resolve, reject) =>
        new Worker(body, { eval: true }).on('message', resolve).on('error', reject));
      const workers = await Promise.all([run(), run(), run()]);
      console.log(JSON.stringify([typeof loadAddon(), ...workers, loadAddon() === loadAddon()]));`;
    const run = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
      encoding: 'utf8',
    });
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(JSON.parse(run.stdout), ['object', 'object', 'object', 'object', true]);
  });

  it('survives a binary that crashes', () => {
    writeTree(folder(), { 'crash.cjs': "process.kill(process.pid, 'SIGSEGV');" });
    const options = `--require=${path.join(folder(), 'crash.cjs')}`;
    assert.match(
      String(probeAddon(bare({ NODE_OPTIONS: options }))),
      /ended the process with SIGSEGV/,
    );
  });
});

describe('doctor', () => {
  const folder = temporaryFolder();

  it('finds this machine in order', () => {
    const report = runDoctor();
    const failed = report.checks.filter((check) => check.status === 'fail');
    assert.deepEqual(failed, []);
    assert.equal(report.healthy, true);
    const ids = report.checks.map((check) => check.id);
    for (const id of [
      'node',
      'platform',
      'libtorch',
      'addon',
      'cuda',
      'threads',
      'cache',
    ] as const) {
      assert.ok(ids.includes(id), id);
    }
    assert.match(report.checks.find((check) => check.id === 'libtorch')?.found ?? '', /^2\.1[1-4]/);
  });

  it('gives advice for everything that is missing', () => {
    const report = runDoctor({
      PATH: path.join(folder(), 'bin'),
      SRUM_CACHE: path.join(folder(), 'cache'),
    });
    assert.equal(report.healthy, false);
    const failed = report.checks.filter((check) => check.status === 'fail');
    assert.deepEqual(
      failed.map((check) => check.id),
      ['libtorch', 'addon'],
    );
    for (const check of failed) assert.match(check.advice ?? '', /^Run /);
  });
});
