import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type BuildResult, ensureAddon } from '../lib/native/build-addon.js';
import { installLibTorch } from '../lib/native/libtorch-install.js';
import { type LibTorch, locateLibTorch } from '../lib/native/libtorch-locate.js';
import { describeCandidate } from '../lib/native/load-addon.js';
import { packageRoot } from '../lib/native/paths.js';
import { probeAddon } from '../lib/native/probe.js';
import { NativeError, SrumError } from '../lib/util/errors.js';
import { formatSeconds } from '../lib/util/format.js';

// Puts a clone in working order: LibTorch, the addon, the operators' types, the compiled TypeScript.
// Each step looks first whether there is anything to do; when there is not, nothing is printed.

const root = packageRoot();
const dist = path.join(root, 'dist');
const log = (line: string): void => console.error(`setup: ${line}`);

async function findOrFetchLibTorch(): Promise<LibTorch> {
  const { found, candidates } = locateLibTorch({ forBuild: true });
  if (found) return found;
  const chosen = candidates.find((candidate) => candidate.source === 'SRUM_LIBTORCH');
  if (chosen) {
    throw new NativeError(
      'ERR_LIBTORCH_MISSING',
      `SRUM_LIBTORCH=${chosen.place} ${chosen.refused}`,
      {
        hint: 'Point it at the folder that holds lib/ and include/, or unset it.',
      },
    );
  }
  log(`no LibTorch yet; looked at:${candidates.map(describeCandidate).join('')}`);
  return installLibTorch({ log });
}

/** Loads a new binary in a process of its own before anything relies on it. */
function tryOut(addon: BuildResult, libtorch: LibTorch): void {
  if (addon.did === 'nothing') return;
  const result = probeAddon({
    ...process.env,
    SRUM_LIBTORCH: libtorch.root,
    SRUM_ADDON: addon.file,
  });
  if (typeof result === 'string') {
    throw new NativeError('ERR_ADDON_LOAD', `the addon does not load: ${result}`, {
      file: addon.file,
    });
  }
}

function runNode(script: string, args: string[], env: NodeJS.ProcessEnv = process.env): void {
  const run = spawnSync(process.execPath, [script, ...args], { cwd: root, env, stdio: 'inherit' });
  if (run.status !== 0) {
    const name = path.relative(root, script);
    throw new SrumError('ERR_SETUP', `${name} ended with ${run.status ?? run.signal}`);
  }
}

/** Writes the operators' types anew when the addon or the generator changed. */
function generateDeclarations(addon: BuildResult, libtorch: LibTorch): void {
  const generator = path.join(dist, 'scripts', 'generate-ops.js');
  const target = path.join(root, 'lib', 'torch', 'generated', 'aten.ts');
  const stampFile = path.join(dist, '.operators-stamp');
  const stamp = `${addon.record.key} ${hashOf([fs.readFileSync(generator)])}`;
  if (fs.existsSync(target) && readOr(stampFile, '') === stamp) return;
  log(`writing the types of the operators of LibTorch ${libtorch.version}`);
  runNode(generator, [], { ...process.env, SRUM_LIBTORCH: libtorch.root, SRUM_ADDON: addon.file });
  fs.writeFileSync(stampFile, stamp);
}

/** Compiles the TypeScript when a source was added, changed or removed. */
function compileTypeScript(): void {
  const sources = ['lib', 'scripts', 'test'].flatMap((folder) =>
    listSources(path.join(root, folder)),
  );
  const configs = ['tsconfig.json', 'tsconfig.base.json', 'package-lock.json'];
  const stampFile = path.join(dist, '.sources-stamp');
  const stamp = hashOf(
    [...sources, ...configs.map((name) => path.join(root, name))].map((file) => {
      const { mtimeMs, size } = fs.statSync(file);
      return `${path.relative(root, file)} ${mtimeMs} ${size}\n`;
    }),
  );
  const outputs = new Set(sources.map((file) => outputOf(file)));
  const complete = [...outputs].every((file) => fs.existsSync(file));
  if (complete && readOr(stampFile, '') === stamp) return;
  log(`compiling ${sources.length} TypeScript files`);
  removeStaleOutputs(outputs);
  // tsc trusts its own notes over what lies in dist/: outputs that vanished would stay away.
  if (!complete) fs.rmSync(path.join(dist, '.tsbuildinfo'), { force: true });
  runNode(path.join(root, 'node_modules', 'typescript', 'bin', 'tsc'), ['-p', 'tsconfig.json']);
  fs.writeFileSync(stampFile, stamp);
}

function listSources(folder: string): string[] {
  if (!fs.existsSync(folder)) return [];
  return fs
    .readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .map((name) => path.join(folder, name))
    .filter((file) => !file.startsWith(path.join(root, 'test', 'types') + path.sep))
    .sort();
}

function outputOf(source: string): string {
  return path.join(dist, path.relative(root, source)).replace(/\.ts$/, '.js');
}

/** A test or module that was deleted must not go on living in dist/. */
function removeStaleOutputs(outputs: Set<string>): void {
  if (!fs.existsSync(dist)) return;
  for (const name of fs.readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
    const file = path.join(dist, name);
    if (!/\.js$/.test(name) || outputs.has(file)) continue;
    const stem = file.slice(0, -3);
    for (const end of ['.js', '.js.map', '.d.ts']) fs.rmSync(stem + end, { force: true });
  }
}

function hashOf(parts: (string | Buffer)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

function readOr(file: string, otherwise: string): string {
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : otherwise;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      'node-gyp': { type: 'boolean', default: false },
      asan: { type: 'boolean', default: false },
      force: { type: 'boolean', default: false },
    },
  });
  const started = Date.now();
  let worked = false;
  const libtorch = await findOrFetchLibTorch();
  const addon = await ensureAddon({
    libtorch,
    tool: values['node-gyp'] ? 'node-gyp' : 'cmake-js',
    asan: values.asan,
    force: values.force,
    log: (line) => {
      worked = true;
      log(line);
    },
  });
  tryOut(addon, libtorch);
  generateDeclarations(addon, libtorch);
  compileTypeScript();
  if (worked) log(`ready after ${formatSeconds((Date.now() - started) / 1000)}`);
}

main().catch((error) => {
  // What went wrong on purpose is told in its message; a stack is for faults of our own.
  console.error(error instanceof SrumError ? `setup: ${error.message}` : error);
  process.exitCode = 1;
});
