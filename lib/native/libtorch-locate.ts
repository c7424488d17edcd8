import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { DEFAULT_VERSION, SUPPORTED_MINORS } from './libtorch-manifest.js';
import { cacheRoot, type Env } from './paths.js';

/** Where a LibTorch was looked for. */
export type LibTorchSource = 'option' | 'SRUM_LIBTORCH' | 'cache' | 'python';

/** A LibTorch that can be loaded. */
export interface LibTorch {
  /** Folder that holds `lib/` and, for building, `include/`. */
  root: string;
  lib: string;
  /** Folder of the headers; null where only the libraries are there. */
  include: string | null;
  /** Full version, e.g. `2.13.0+cpu`. */
  version: string;
  /** Major and minor, e.g. `2.13`: one addon serves all of them. */
  minor: string;
  /** `cpu`, `cu130`, ... */
  variant: string;
  hasCuda: boolean;
  source: LibTorchSource;
}

/** One place that was looked at, and why it was not taken (null: it was taken, or would have been). */
export interface LibTorchCandidate {
  source: LibTorchSource;
  place: string;
  refused: string | null;
}

export interface LocateReport {
  found: LibTorch | null;
  candidates: LibTorchCandidate[];
}

export interface LocateOptions {
  /** An explicit root; nothing else is looked at then. */
  root?: string;
  env?: Env;
  /** Only a LibTorch with headers will do. */
  forBuild?: boolean;
  /** Prefer this variant among those in the cache (`cpu` or a prefix such as `cu`). */
  variant?: string;
  /** Leave out the Python interpreters. */
  noPython?: boolean;
}

const LIBRARY_NAMES: Record<string, (name: string) => string> = {
  darwin: (name) => `lib${name}.dylib`,
  win32: (name) => `${name}.dll`,
};

/** File name of a shared library on this platform. */
export function libraryName(name: string): string {
  return (LIBRARY_NAMES[process.platform] ?? ((n: string) => `lib${n}.so`))(name);
}

/** Name of the file that marks a finished installation in the cache. */
export const INSTALL_RECORD = 'srum-libtorch.json';

/**
 * Finds LibTorch. The order: the option, `SRUM_LIBTORCH`, the cache, then the torch package of `SRUM_PYTHON`,
 * of `VIRTUAL_ENV` and of `python3`. Whoever names a place gets that place or an error, never another one.
 * Nothing is loaded and torch is never imported, so a look takes milliseconds (a Python interpreter ~0.1 s).
 */
export function locateLibTorch(options: LocateOptions = {}): LocateReport {
  const env = options.env ?? process.env;
  const candidates: LibTorchCandidate[] = [];
  const tryRoot = (root: string, source: LibTorchSource): LibTorch | null => {
    const result = inspectLibTorch(root, source);
    let refused = typeof result === 'string' ? result : null;
    if (typeof result !== 'string' && options.forBuild && result.include === null) {
      refused = 'has no headers (include/), which building needs';
    }
    candidates.push({ source, place: root, refused });
    return typeof result === 'string' || refused !== null ? null : result;
  };

  if (options.root) {
    return { found: tryRoot(path.resolve(options.root), 'option'), candidates };
  }
  if (env.SRUM_LIBTORCH) {
    return { found: tryRoot(path.resolve(env.SRUM_LIBTORCH), 'SRUM_LIBTORCH'), candidates };
  }
  for (const root of cachedRoots(env, options.variant, candidates)) {
    const found = tryRoot(root, 'cache');
    if (found) return { found, candidates };
  }
  if (!options.noPython) {
    for (const probe of pythonProbes(env)) {
      const place = probe.find();
      if (place.root === null) {
        candidates.push({ source: 'python', place: probe.name, refused: place.why });
        continue;
      }
      const found = tryRoot(place.root, 'python');
      if (found) return { found, candidates };
    }
  }
  return { found: null, candidates };
}

/** Reads what lies under `root`; returns the reason as text when it is not a LibTorch we can use. */
export function inspectLibTorch(root: string, source: LibTorchSource): LibTorch | string {
  if (!fs.existsSync(root)) return 'does not exist';
  const lib = path.join(root, 'lib');
  for (const name of ['c10', 'torch_cpu']) {
    const file = path.join(lib, libraryName(name));
    if (!fs.existsSync(file)) return `has no lib/${path.basename(file)}`;
  }
  const version = readVersion(root);
  if (version === null)
    return 'tells no version (version.py, build-version and version.h are missing)';
  const minor = version.split('.').slice(0, 2).join('.');
  if (!(SUPPORTED_MINORS as readonly string[]).includes(minor)) {
    const range = `${SUPPORTED_MINORS[0]} to ${SUPPORTED_MINORS[SUPPORTED_MINORS.length - 1]}`;
    return `is version ${version}; versions ${range} are supported`;
  }
  const hasCuda = fs.existsSync(path.join(lib, libraryName('torch_cuda')));
  const headers = path.join(root, 'include');
  const include = versionHeader(root) === null ? null : headers;
  // A CUDA build whose GPU libraries were left out counts as what it can do.
  const variant = hasCuda ? (version.split('+')[1] ?? 'cuda') : 'cpu';
  return { root, lib, include, version, minor, variant, hasCuda, source };
}

function readText(file: string): string | null {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}

function versionHeader(root: string): string | null {
  for (const part of ['torch/headeronly/version.h', 'torch/csrc/api/include/torch/version.h']) {
    const text = readText(path.join(root, 'include', part));
    if (text?.includes('define TORCH_VERSION_MAJOR')) return text;
  }
  return null;
}

/** Version from the Python package's version.py, the archive's build-version, or the headers, in this order. */
function readVersion(root: string): string | null {
  const python = readText(path.join(root, 'version.py'))?.match(/^__version__ = '([^']+)'/m);
  if (python) return python[1];
  const archive = readText(path.join(root, 'build-version'))?.trim();
  if (archive && /^\d+\.\d+/.test(archive)) return archive;
  const header = versionHeader(root);
  if (header === null) return null;
  const part = (name: string): string | undefined =>
    header.match(new RegExp(`define TORCH_VERSION_${name} (\\d+)`))?.[1];
  const parts = [part('MAJOR'), part('MINOR'), part('PATCH')];
  return parts.every((p) => p !== undefined) ? parts.join('.') : null;
}

/** The cache folder of one installation; LibTorch itself is its sub-folder `torch`, as in a wheel. */
export function installFolder(version: string, variant: string, env: Env = process.env): string {
  return path.join(cacheRoot(env), 'libtorch', `${version}-${variant}`);
}

/** Finished installations in the cache, the best first. */
function cachedRoots(
  env: Env,
  variant: string | undefined,
  candidates: LibTorchCandidate[],
): string[] {
  const base = path.join(cacheRoot(env), 'libtorch');
  let names: string[] = [];
  try {
    names = fs.readdirSync(base).filter((name) => /^\d+\.\d+\.\d+-/.test(name));
  } catch {
    // No cache yet: reported below as an empty one.
  }
  if (names.length === 0) {
    candidates.push({ source: 'cache', place: base, refused: 'nothing is installed there' });
  }
  const wanted = variant ?? (hasNvidiaDriver() ? 'cu' : 'cpu');
  const rank = (name: string): number => {
    const [version, flavour] = [
      name.slice(0, name.indexOf('-')),
      name.slice(name.indexOf('-') + 1),
    ];
    return (flavour.startsWith(wanted) ? 0 : 2) + (version === DEFAULT_VERSION ? 0 : 1);
  };
  return names
    .filter((name) => {
      if (fs.existsSync(path.join(base, name, INSTALL_RECORD))) return true;
      candidates.push({
        source: 'cache',
        place: path.join(base, name),
        refused: `is not a finished installation (no ${INSTALL_RECORD})`,
      });
      return false;
    })
    .sort((a, b) => rank(a) - rank(b) || b.localeCompare(a, 'en', { numeric: true }))
    .map((name) => path.join(base, name, 'torch'));
}

/** True where an NVIDIA kernel driver is loaded. */
export function hasNvidiaDriver(): boolean {
  return ['/proc/driver/nvidia/version', '/dev/nvidiactl', '/dev/nvidia0'].some((file) =>
    fs.existsSync(file),
  );
}

interface PythonProbe {
  name: string;
  find(): { root: string; why?: undefined } | { root: null; why: string };
}

/** Asks the interpreter where its torch lies; a folder that merely has the name does not count. */
const FIND_TORCH =
  "import importlib.util as u;s=u.find_spec('torch');print((s.submodule_search_locations or [''])[0] if s and s.origin else '')";

function pythonProbes(env: Env): PythonProbe[] {
  const probes: PythonProbe[] = [];
  const add = (label: string, command: string): void => {
    probes.push({ name: `${label} (${command})`, find: () => askPython(command, env) });
  };
  // A chosen interpreter is the only one asked.
  if (env.SRUM_PYTHON) {
    add('SRUM_PYTHON', env.SRUM_PYTHON);
    return probes;
  }
  if (env.VIRTUAL_ENV) add('VIRTUAL_ENV', path.join(env.VIRTUAL_ENV, 'bin', 'python'));
  add('python3', process.platform === 'win32' ? 'python' : 'python3');
  return probes;
}

function askPython(command: string, env: Env): ReturnType<PythonProbe['find']> {
  const run = spawnSync(command, ['-c', FIND_TORCH], {
    encoding: 'utf8',
    timeout: 10_000,
    env: env as NodeJS.ProcessEnv,
    // Not the user's folder: Python would take a sub-folder `torch` there for the package.
    cwd: path.parse(process.cwd()).root,
  });
  if (run.error) {
    const code = (run.error as NodeJS.ErrnoException).code;
    return {
      root: null,
      why: code === 'ENOENT' ? 'no such interpreter' : `cannot be run: ${code}`,
    };
  }
  if (run.status !== 0) {
    const last = run.stderr.trim().split('\n').pop() ?? '';
    return { root: null, why: `ended with status ${run.status}: ${last}` };
  }
  const root = run.stdout.trim();
  return root === '' ? { root: null, why: 'has no torch package' } : { root };
}
