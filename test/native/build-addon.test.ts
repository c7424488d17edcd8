import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import {
  addonFile,
  type BuildRecord,
  ensureAddon,
  readBuildRecord,
} from '../../lib/native/build-addon.js';
import { buildKey } from '../../lib/native/build-key.js';
import { inspectLibTorch, type LibTorch } from '../../lib/native/libtorch-locate.js';
import { packageRoot } from '../../lib/native/paths.js';
import { fakeLibTorch, temporaryFolder, writeTree } from './support/trees.js';

describe('building the addon', () => {
  const folder = temporaryFolder();
  const libtorch = (version = '2.13.0+cpu', at = 'libtorch'): LibTorch => {
    const root = writeTree(path.join(folder(), at), fakeLibTorch({ version }));
    return inspectLibTorch(root, 'option') as LibTorch;
  };
  const clone = (name: string, extra: Record<string, string> = {}): string =>
    writeTree(path.join(folder(), name), {
      'package.json': '{"name":"srum","binary":{"napi_versions":[8]}}',
      'CMakeLists.txt':
        'cmake_minimum_required(VERSION 3.22)\nproject(srum LANGUAGES NONE)\nmessage(FATAL_ERROR "boom")\n',
      'binding.gyp': '{}',
      'cpp/a.cpp': 'int a;',
      'cpp/kernels/cpu/k.h': 'int k;',
      ...extra,
    });
  const env = (): Record<string, string> => ({
    ...(process.env as Record<string, string>),
    SRUM_CACHE: path.join(folder(), 'cache'),
  });

  it('names a build by all that matters and nothing else', () => {
    const key = (
      root: string,
      torch = libtorch(),
      tool: 'cmake-js' | 'node-gyp' = 'cmake-js',
      asan = false,
    ): string => buildKey({ libtorch: torch, tool, asan, root });
    const base = key(clone('one'));
    assert.equal(key(clone('two')), base);
    assert.equal(key(clone('three', { 'README.md': 'x', 'lib/x.ts': 'x' })), base);
    assert.equal(key(clone('four'), libtorch('2.13.0+cpu', 'elsewhere')), base);
    const others = [
      key(clone('a', { 'cpp/a.cpp': 'int b;' })),
      key(clone('b', { 'cpp/kernels/cpu/k.h': 'int l;' })),
      key(clone('c', { 'cpp/new.cpp': '' })),
      key(clone('d', { 'CMakeLists.txt': '' })),
      key(clone('e'), libtorch('2.14.0+cpu', 'newer')),
      key(clone('f'), libtorch(), 'node-gyp'),
      key(clone('g'), libtorch(), 'cmake-js', true),
      buildKey({
        libtorch: libtorch(),
        tool: 'cmake-js',
        asan: false,
        root: clone('h'),
        env: { CXXFLAGS: '-O0' },
      }),
    ];
    assert.equal(new Set([base, ...others]).size, others.length + 1);
  });

  const stored = (root: string): { record: BuildRecord; entry: string } => {
    const key = buildKey({ libtorch: libtorch(), tool: 'cmake-js', asan: false, root, env: env() });
    const record: BuildRecord = {
      key,
      tool: 'cmake-js',
      torch: '2.13.0+cpu',
      minor: '2.13',
      node: 'v20',
      compiler: 'c++',
      seconds: 1,
      size: 6,
    };
    const entry = path.join(folder(), 'cache', 'addon', key);
    writeTree(entry, { 'srum.node': 'binary', 'srum.build.json': JSON.stringify(record) });
    return { record, entry };
  };

  it("takes another clone's binary, then has nothing to do", async () => {
    const root = clone('one');
    stored(root);
    const options = { root, libtorch: libtorch(), env: env(), stream: null };
    const first = await ensureAddon(options);
    assert.equal(first.did, 'copy');
    assert.equal(fs.readFileSync(addonFile(root, 'cmake-js'), 'utf8'), 'binary');
    assert.equal((await ensureAddon(options)).did, 'nothing');
  });

  it('does not trust a binary that was exchanged or is not whole', async () => {
    const root = clone('one');
    const { entry } = stored(root);
    await ensureAddon({ root, libtorch: libtorch(), env: env(), stream: null });
    fs.writeFileSync(addonFile(root, 'cmake-js'), 'something else');
    assert.equal(readBuildRecord(addonFile(root, 'cmake-js')), null);
    assert.equal(
      (await ensureAddon({ root, libtorch: libtorch(), env: env(), stream: null })).did,
      'copy',
    );
    fs.writeFileSync(path.join(entry, 'srum.node'), 'bin');
    assert.equal(readBuildRecord(path.join(entry, 'srum.node')), null);
  });

  it("tells the build tool's own error and where the log is", async () => {
    const root = clone('broken');
    fs.symlinkSync(path.join(packageRoot(), 'node_modules'), path.join(root, 'node_modules'));
    await assert.rejects(
      ensureAddon({ root, libtorch: libtorch(), env: env(), stream: null }),
      (error: Error & { code: string }) => {
        assert.equal(error.code, 'ERR_BUILD');
        assert.match(error.message, /boom/);
        assert.ok(error.message.includes(path.join(root, 'build', 'build.log')));
        return true;
      },
    );
    assert.match(fs.readFileSync(path.join(root, 'build', 'build.log'), 'utf8'), /boom/);
    assert.equal(fs.existsSync(path.join(root, 'build', 'build.lock')), false);
  });

  it('names the missing compiler and the command that brings it', async () => {
    const root = clone('no-tools');
    const bare = { ...env(), CXX: '/nowhere/c++' };
    await assert.rejects(
      ensureAddon({ root, libtorch: libtorch(), env: bare, stream: null }),
      /C\+\+20 compiler.*apt-get install g\+\+/s,
    );
  });
});
