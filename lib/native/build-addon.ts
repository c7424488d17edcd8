import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { NativeError } from '../util/errors.js';
import { startProgress } from '../util/progress.js';
import { type BuildTool, buildKey, compilerCommand, programVersion } from './build-key.js';
import type { LibTorch } from './libtorch-locate.js';
import { withLock } from './lock.js';
import { cacheRoot, type Env, packageRoot } from './paths.js';
import { runLogged } from './run-logged.js';

export interface BuildOptions {
  libtorch: LibTorch;
  tool?: BuildTool;
  /** Build with AddressSanitizer, into a folder of its own. */
  asan?: boolean;
  /** Build even if the binary is up to date. */
  force?: boolean;
  /** Folder that holds cpp/, the build files and package.json. */
  root?: string;
  env?: Env;
  log?: (line: string) => void;
  stream?: NodeJS.WriteStream | null;
}

/** What is kept beside a binary: which sources and which LibTorch it was built from. */
export interface BuildRecord {
  key: string;
  tool: BuildTool;
  /** LibTorch it was built against, e.g. `2.13.0+cpu`. */
  torch: string;
  /** What it can be loaded with, e.g. `2.13`. */
  minor: string;
  node: string;
  compiler: string;
  seconds: number;
  /** Size of the binary, to notice one that was exchanged. */
  size: number;
}

export interface BuildResult {
  file: string;
  record: BuildRecord;
  /** What had to be done: nothing, a copy from the shared cache, or a build. */
  did: 'nothing' | 'copy' | 'build';
}

/** How many binaries the shared cache keeps. */
const KEEP = 16;
/** One source with LibTorch's headers takes up to this much memory to compile. */
const MEMORY_PER_JOB = 1.2e9;

/** Where a tool leaves the binary, below the package folder. */
export function addonFile(root: string, tool: BuildTool, asan = false): string {
  if (tool === 'node-gyp') return path.join(root, 'build-gyp', 'build', 'Release', 'srum.node');
  return path.join(root, 'build', ...(asan ? ['asan'] : []), 'Release', 'srum.node');
}

/** Reads the record beside a binary; null when there is none or it does not belong to this binary. */
export function readBuildRecord(file: string): BuildRecord | null {
  try {
    const record = JSON.parse(fs.readFileSync(recordFile(file), 'utf8')) as BuildRecord;
    return fs.statSync(file).size === record.size ? record : null;
  } catch {
    return null;
  }
}

function recordFile(file: string): string {
  return file.replace(/\.node$/, '.build.json');
}

/**
 * Makes sure the addon is built from the present sources. Nothing is done when the binary is up to date; a binary
 * another clone built from the same sources is copied; otherwise cmake-js (or node-gyp) builds it.
 *
 * @throws NativeError ERR_BUILD with the compiler's own errors and the log's path; ERR_BUILD_TOOLS when a tool is missing.
 */
export async function ensureAddon(options: BuildOptions): Promise<BuildResult> {
  const env = options.env ?? process.env;
  const root = options.root ?? packageRoot();
  const tool = options.tool ?? 'cmake-js';
  const asan = options.asan ?? false;
  const log = options.log ?? (() => {});
  const file = addonFile(root, tool, asan);
  const key = buildKey({ libtorch: options.libtorch, tool, asan, root, env });
  const current = (): BuildResult | null => {
    const record = options.force ? null : readBuildRecord(file);
    return record?.key === key ? { file, record, did: 'nothing' } : null;
  };
  const upToDate = current();
  if (upToDate) return upToDate;
  const shared = path.join(cacheRoot(env), 'addon', key, 'srum.node');
  fs.mkdirSync(path.dirname(file), { recursive: true });
  return withLock(
    path.join(root, tool === 'node-gyp' ? 'build-gyp' : 'build', 'build.lock'),
    async () => {
      const meanwhile = current();
      if (meanwhile) return meanwhile;
      const stored = options.force ? null : readBuildRecord(shared);
      if (stored?.key === key) {
        log(`the addon was built before from the same sources (${key}); taking it from the cache`);
        copyBinary(shared, file, stored);
        return { file, record: stored, did: 'copy' };
      }
      const started = Date.now();
      requireTools(tool, env);
      // A binary from the cache would look newer than the objects to the build tool.
      fs.rmSync(file, { force: true });
      fs.rmSync(recordFile(file), { force: true });
      const logFile = path.join(root, tool === 'node-gyp' ? 'build-gyp' : 'build', 'build.log');
      fs.writeFileSync(logFile, '');
      const job: BuildJob = { root, libtorch: options.libtorch, asan, env, logFile };
      log(`building the addon with ${tool} against LibTorch ${options.libtorch.version}`);
      const progress = startProgress('compile', { unit: 'steps', stream: options.stream });
      const onLine = (line: string): void => {
        const step = line.match(/^\[(\d+)\/(\d+)\]/);
        if (step) progress.update(Number(step[1]), Number(step[2]));
        const percent = line.match(/^\[ *(\d+)%\]/);
        if (percent) progress.update(Number(percent[1]), 100);
      };
      try {
        await (tool === 'node-gyp' ? buildWithGyp(job, onLine) : buildWithCmake(job, onLine));
      } finally {
        progress.stop();
      }
      if (!fs.existsSync(file)) throw buildError(job, 'left no binary', '');
      const record: BuildRecord = {
        key,
        tool,
        torch: options.libtorch.version,
        minor: options.libtorch.minor,
        node: process.version,
        compiler: programVersion(compilerCommand(env)).split('\n')[0],
        seconds: Math.round((Date.now() - started) / 1000),
        size: fs.statSync(file).size,
      };
      fs.writeFileSync(recordFile(file), `${JSON.stringify(record, null, 2)}\n`);
      copyBinary(file, shared, record);
      prune(path.dirname(path.dirname(shared)));
      log(`the addon was built in ${record.seconds} s`);
      return { file, record, did: 'build' };
    },
    (pid) => log(`process ${pid} is building the addon; waiting for it`),
  );
}

interface BuildJob {
  root: string;
  libtorch: LibTorch;
  asan: boolean;
  env: Env;
  logFile: string;
}

/** Puts a binary and its record in place by rename: a running process keeps the old file. */
function copyBinary(from: string, to: string, record: BuildRecord): void {
  fs.mkdirSync(path.dirname(to), { recursive: true });
  const temp = `${to}.${process.pid}.tmp`;
  fs.copyFileSync(from, temp);
  fs.renameSync(temp, to);
  fs.writeFileSync(`${recordFile(to)}.tmp`, `${JSON.stringify(record, null, 2)}\n`);
  fs.renameSync(`${recordFile(to)}.tmp`, recordFile(to));
}

/** Keeps the newest binaries of the shared cache. */
function prune(folder: string): void {
  const entries = fs.readdirSync(folder).map((name) => {
    const entry = path.join(folder, name);
    return { entry, time: fs.statSync(entry).mtimeMs };
  });
  entries.sort((a, b) => b.time - a.time);
  for (const { entry } of entries.slice(KEEP)) fs.rmSync(entry, { recursive: true, force: true });
}

function requireTools(tool: BuildTool, env: Env): void {
  const missing: string[] = [];
  const check = (command: string, what: string): void => {
    if (spawnSync(command, ['--version'], { env: env as NodeJS.ProcessEnv }).error)
      missing.push(what);
  };
  check(compilerCommand(env), 'a C++20 compiler (g++)');
  if (tool === 'cmake-js') check('cmake', 'cmake');
  else check('make', 'make');
  if (missing.length > 0) {
    throw new NativeError(
      'ERR_BUILD_TOOLS',
      `cannot build the addon: ${missing.join(' and ')} missing`,
      {
        hint: 'On Debian or Ubuntu run sudo apt-get install g++ cmake make.',
      },
    );
  }
}

/** Folder of an installed package, found from the package that is built. */
function dependency(root: string, name: string): string {
  return path.dirname(
    createRequire(path.join(root, 'package.json')).resolve(`${name}/package.json`),
  );
}

function jobs(): number {
  const memory = process.availableMemory?.() ?? os.freemem();
  return Math.max(1, Math.min(os.availableParallelism(), Math.floor(memory / MEMORY_PER_JOB)));
}

async function buildWithCmake(job: BuildJob, onLine: (line: string) => void): Promise<void> {
  const out = path.join(job.root, 'build', ...(job.asan ? ['asan'] : []));
  const cache = path.join(out, 'CMakeCache.txt');
  const freshStart = (): void => {
    fs.rmSync(cache, { force: true });
    fs.rmSync(path.join(out, 'CMakeFiles'), { recursive: true, force: true });
  };
  // CMake refuses a build folder that was moved or copied along with the clone.
  const home = fs.existsSync(cache)
    ? fs.readFileSync(cache, 'utf8').match(/^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m)?.[1]
    : job.root;
  if (home !== job.root) freshStart();
  const tool = path.join(dependency(job.root, 'cmake-js'), 'bin', 'cmake-js');
  const common = ['--directory', job.root, '--out', out];
  const settings = [
    `--CDSRUM_LIBTORCH=${job.libtorch.root}`,
    `--CDSRUM_ASAN=${job.asan ? 'ON' : 'OFF'}`,
    `--CDSRUM_CUDA=${job.env.SRUM_CUDA || 'AUTO'}`,
  ];
  const run = (args: string[]): ReturnType<typeof runLogged> =>
    runLogged(process.execPath, [tool, ...args, ...common], {
      cwd: job.root,
      env: job.env as NodeJS.ProcessEnv,
      logFile: job.logFile,
      onLine,
    });
  let configured = await run(['configure', ...settings]);
  if (configured.status !== 0 && fs.existsSync(cache)) {
    freshStart();
    configured = await run(['configure', ...settings]);
  }
  if (configured.status !== 0)
    throw buildError(job, `cmake ended with ${configured.status}`, configured.output);
  const built = await run(['build', '--parallel', String(jobs())]);
  if (built.status !== 0)
    throw buildError(job, `the build ended with ${built.status}`, built.output);
}

async function buildWithGyp(job: BuildJob, onLine: (line: string) => void): Promise<void> {
  // node-gyp always writes to build/ beside binding.gyp; a copy in build-gyp/ keeps it apart from cmake-js's build/.
  const folder = path.join(job.root, 'build-gyp');
  fs.copyFileSync(path.join(job.root, 'binding.gyp'), path.join(folder, 'binding.gyp'));
  const tool = path.join(dependency(job.root, 'node-gyp'), 'bin', 'node-gyp.js');
  const prefix = path.dirname(path.dirname(process.execPath));
  const headers = fs.existsSync(path.join(prefix, 'include', 'node', 'common.gypi'));
  const args = [
    tool,
    'rebuild',
    '--directory',
    folder,
    `--jobs=${jobs()}`,
    // Headers that came with Node spare a download.
    ...(headers ? [`--nodedir=${prefix}`] : []),
    '--',
    '-Dsrum_root=..',
    `-Dsrum_libtorch=${job.libtorch.root}`,
    `-Dsrum_asan=${job.asan ? 1 : 0}`,
  ];
  const built = await runLogged(process.execPath, args, {
    cwd: job.root,
    env: job.env as NodeJS.ProcessEnv,
    logFile: job.logFile,
    onLine,
  });
  if (built.missing) throw buildError(job, 'node-gyp is missing', '');
  if (built.status !== 0)
    throw buildError(job, `node-gyp ended with ${built.status}`, built.output);
}

/** The lines a person needs of a failed build. */
function buildError(job: BuildJob, what: string, output: string): NativeError {
  const lines = output.split('\n').filter((line) => line.trim() !== '');
  const picked = new Set<string>();
  for (const [i, line] of lines.entries()) {
    // CMake and the linker say what is wrong in the lines after the one that has the word.
    if (/\b(error|Error|undefined reference|fatal)\b/.test(line)) {
      for (const near of lines.slice(i, i + 3)) picked.add(near);
    }
  }
  const told = (picked.size > 0 ? [...picked].slice(0, 15) : lines.slice(-12)).join('\n  ');
  return new NativeError('ERR_BUILD', `the addon was not built: ${what}\n  ${told}`, {
    file: job.logFile,
    hint: 'The whole log is in that file.',
  });
}
