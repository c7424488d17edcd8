import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import path from 'node:path';
import { sourceFiles } from '../lib/native/build-key.js';
import { packageRoot } from '../lib/native/paths.js';

// Formats the C++ sources in place; with --check only says which ones differ, and fails if any does.
// clang-format comes as WebAssembly from npm, so everybody has the same version and nothing is fetched.

const root = packageRoot();
const check = process.argv.includes('--check');
const tool = createRequire(import.meta.url).resolve('@wasm-fmt/clang-format/clang-format-cli.cjs');
const files = sourceFiles(path.join(root, 'cpp')).map((file) => path.relative(root, file));
const mode = check ? ['--dry-run', '--Werror'] : ['-i'];
const run = spawnSync(process.execPath, [tool, ...mode, ...files], { cwd: root, stdio: 'inherit' });
if (check && run.status !== 0) console.error('C++ sources are not formatted: run npm run format');
process.exitCode = run.status ?? 1;
