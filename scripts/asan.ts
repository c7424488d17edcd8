import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { ensureAddon } from '../lib/native/build-addon.js';
import { locateLibTorch } from '../lib/native/libtorch-locate.js';
import { packageRoot } from '../lib/native/paths.js';
import { SrumError } from '../lib/util/errors.js';

// Builds the addon with AddressSanitizer (build/asan) and runs the tests of the tensor floor with it; arguments after
// `--` name other compiled test files. What goes wrong in memory is reported with a stack and ends the run.

const root = packageRoot();
const log = (line: string): void => console.error(`asan: ${line}`);

/** The runtime belonging to the compiler: it has to be there before node itself. */
function findRuntime(): string {
  if (process.platform !== 'linux')
    throw new SrumError(
      'ERR_ASAN',
      `AddressSanitizer is preloaded on Linux only, this is ${process.platform}`,
    );
  const compiler = process.env.CXX || 'c++';
  const asked = spawnSync(compiler, ['-print-file-name=libasan.so'], { encoding: 'utf8' });
  if (asked.error || asked.status !== 0)
    throw new SrumError('ERR_ASAN', `the compiler ${compiler} cannot be asked for libasan.so`, {
      hint: 'Install g++, or name a GCC in CXX.',
    });
  const file = asked.stdout.trim();
  // A compiler that does not have it repeats the bare name.
  if (!path.isAbsolute(file) || !fs.existsSync(file))
    throw new SrumError('ERR_ASAN', `${compiler} has no libasan.so`, {
      hint: 'On Debian or Ubuntu it comes with libgcc-<version>-dev; Clang needs CXX=g++ here.',
    });
  return fs.realpathSync(file);
}

async function main(): Promise<number> {
  const runtime = findRuntime();
  const { found } = locateLibTorch({ forBuild: true });
  if (found === null)
    throw new SrumError('ERR_ASAN', 'LibTorch was not found', { hint: 'Run npm run setup' });
  const addon = await ensureAddon({ libtorch: found, asan: true, log });
  const folder = path.join(root, 'dist', 'test', 'torch');
  const files = process.argv.slice(2).filter((argument) => argument !== '--');
  const tests =
    files.length > 0
      ? files
      : fs
          .readdirSync(folder)
          .filter((name) => name.endsWith('.test.js'))
          .map((name) => path.join(folder, name));
  log(`${tests.length} test files with ${path.relative(root, addon.file)}`);
  const options = [
    // Node and LibTorch keep what they need until the end; leaks of tensors are what the tests count.
    'detect_leaks=0',
    // Requests for absurd sizes fail as they do without the sanitizer.
    'allocator_may_return_null=1',
    'max_allocation_size_mb=12000',
    'detect_stack_use_after_return=1',
    'strict_string_checks=1',
    'abort_on_error=1',
  ];
  const run = spawnSync(
    process.execPath,
    [
      path.join(root, 'node_modules', 'mocha', 'bin', 'mocha.js'),
      ...tests,
      '--timeout=900000',
      // These compare resident memory, of which the sanitizer needs much for itself.
      '--grep=stays under',
      '--invert',
    ],
    {
      cwd: root,
      stdio: 'inherit',
      env: {
        ...process.env,
        LD_PRELOAD: [runtime, process.env.LD_PRELOAD].filter(Boolean).join(' '),
        ASAN_OPTIONS: [...options, process.env.ASAN_OPTIONS].filter(Boolean).join(':'),
        OMP_NUM_THREADS: process.env.OMP_NUM_THREADS ?? '1',
        SRUM_LIBTORCH: found.root,
        SRUM_ADDON: addon.file,
      },
    },
  );
  if (run.signal !== null) log(`the tests were ended by ${run.signal}`);
  return run.status ?? 1;
}

main().then(
  (status) => {
    process.exitCode = status;
  },
  (error) => {
    console.error(error instanceof SrumError ? `asan: ${error.message}` : error);
    process.exitCode = 1;
  },
);
