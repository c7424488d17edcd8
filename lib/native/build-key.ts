import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import type { LibTorch } from './libtorch-locate.js';
import { type Env, packageRoot, platformTag } from './paths.js';

export type BuildTool = 'cmake-js' | 'node-gyp';

export interface BuildKeyOptions {
  libtorch: LibTorch;
  tool: BuildTool;
  asan: boolean;
  /** Folder that holds cpp/ and the build files. */
  root?: string;
  env?: Env;
}

/**
 * Names what a build would give: a hash over the sources, the build file, LibTorch's version, the compiler, the
 * Node-API headers and the platform. Paths are not part of it, so clones share binaries.
 */
export function buildKey(options: BuildKeyOptions): string {
  const root = options.root ?? packageRoot();
  const env = options.env ?? process.env;
  const hash = createHash('sha256');
  const add = (...parts: string[]): void => {
    for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  };
  add(platformTag(), options.tool, options.asan ? 'asan' : 'plain');
  add(options.libtorch.version, String(options.libtorch.hasCuda));
  add(compilerIdentity(env), options.libtorch.hasCuda ? programVersion('nvcc') : '');
  add(env.CXXFLAGS ?? '', env.LDFLAGS ?? '');
  const require = createRequire(path.join(root, 'package.json'));
  for (const name of ['node-addon-api', 'node-api-headers'])
    add(name, packageVersion(require, name));
  const buildFile = options.tool === 'cmake-js' ? 'CMakeLists.txt' : 'binding.gyp';
  for (const file of [...sourceFiles(path.join(root, 'cpp')), path.join(root, buildFile)]) {
    add(path.relative(root, file), fs.readFileSync(file, 'latin1'));
  }
  return hash.digest('hex').slice(0, 32);
}

/** Every file below cpp/ that a compiler reads, sorted. */
export function sourceFiles(folder: string): string[] {
  if (!fs.existsSync(folder)) return [];
  return fs
    .readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(cpp|cc|h|hpp|inc|cu|cuh)$/.test(name))
    .sort()
    .map((name) => path.join(folder, name));
}

/** The C++ compiler the build will use. */
export function compilerCommand(env: Env = process.env): string {
  return env.CXX || 'c++';
}

function compilerIdentity(env: Env): string {
  return programVersion(compilerCommand(env), ['-dumpfullversion', '-dumpmachine']) || 'none';
}

/** What a program prints about itself; empty when it is not there. */
export function programVersion(command: string, args = ['--version']): string {
  const run = spawnSync(command, args, { encoding: 'utf8', timeout: 20_000 });
  return run.error || run.status !== 0 ? '' : run.stdout.trim();
}

function packageVersion(require: NodeJS.Require, name: string): string {
  try {
    return JSON.parse(fs.readFileSync(require.resolve(`${name}/package.json`), 'utf8')).version;
  } catch {
    return 'none';
  }
}
