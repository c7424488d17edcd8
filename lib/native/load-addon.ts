import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { messageOf, NativeError } from '../util/errors.js';
import { addonFile, readBuildRecord } from './build-addon.js';
import {
  type LibTorch,
  type LibTorchCandidate,
  libraryName,
  locateLibTorch,
} from './libtorch-locate.js';
import { type Env, isClone, packageRoot, platformTag } from './paths.js';

/** A file that may be the addon, and why it was not taken (null: it was). */
export interface AddonCandidate {
  place: string;
  refused: string | null;
}

/** What `loadAddon` ended up with. */
export interface LoadedAddon {
  addon: unknown;
  file: string;
  libtorch: LibTorch;
  /** CUDA libraries that could not be opened, with the reason; the CPU still works then. */
  warnings: string[];
}

export interface LoadOptions {
  /** Root of LibTorch; otherwise it is searched for. */
  libtorch?: string;
  env?: Env;
}

let loaded: LoadedAddon | undefined;

/**
 * Loads the addon: LibTorch is found and opened first, so the addon needs no path to it. The result is kept; each
 * worker thread loads for itself and shares the libraries.
 *
 * @throws NativeError ERR_LIBTORCH_MISSING or ERR_ADDON_MISSING, listing every place that was looked at and the one
 *   command that mends it; ERR_ADDON_LOAD when the system's loader refuses a file.
 */
export function loadAddon(options: LoadOptions = {}): unknown {
  loaded ??= load(options);
  return loaded.addon;
}

/** Which files are in use; null before the first `loadAddon`. */
export function loadedAddon(): LoadedAddon | null {
  return loaded ?? null;
}

/** The command that puts everything in place, for a clone or for an installed package. */
export function setupCommand(missing: 'libtorch' | 'addon'): string {
  if (isClone()) return 'npm run setup';
  return missing === 'libtorch' ? 'npx srum libtorch install' : 'npx srum libtorch build';
}

function load(options: LoadOptions): LoadedAddon {
  const env = options.env ?? process.env;
  const { found, candidates } = locateLibTorch({ root: options.libtorch, env });
  if (found === null) {
    const list = candidates.map(describeCandidate).join('');
    throw new NativeError('ERR_LIBTORCH_MISSING', `LibTorch was not found; looked at:${list}`, {
      hint: `Run ${setupCommand('libtorch')}`,
    });
  }
  const addons = findAddon(found, env);
  const chosen = addons.find((candidate) => candidate.refused === null);
  if (!chosen) {
    const list = addons.map((a) => `\n  - ${a.place}: ${a.refused}`).join('');
    throw new NativeError(
      'ERR_ADDON_MISSING',
      `no addon fits LibTorch ${found.version} on ${platformTag()}; looked at:${list}`,
      { hint: `Run ${setupCommand('addon')}` },
    );
  }
  const warnings = openLibTorch(found);
  try {
    const addon: unknown = createRequire(import.meta.url)(chosen.place);
    return { addon, file: chosen.place, libtorch: found, warnings };
  } catch (error) {
    throw new NativeError(
      'ERR_ADDON_LOAD',
      `the addon cannot be loaded with LibTorch ${found.version} (${found.root}): ${messageOf(error)}`,
      { file: chosen.place, hint: `Run ${setupCommand('addon')}` },
      { cause: error },
    );
  }
}

/** One line per place that was looked at. */
export function describeCandidate(candidate: LibTorchCandidate): string {
  return `\n  - ${candidate.source}: ${candidate.place} ${candidate.refused ?? 'fits'}`;
}

/** Files that may be the addon, in the order of preference: named by the user, built here, prebuilt. */
export function findAddon(libtorch: LibTorch, env: Env = process.env): AddonCandidate[] {
  if (env.SRUM_ADDON) return [checkAddon(path.resolve(env.SRUM_ADDON), libtorch)];
  const root = packageRoot();
  const candidates = [
    checkAddon(addonFile(root, 'cmake-js'), libtorch),
    checkAddon(addonFile(root, 'node-gyp'), libtorch),
  ];
  const name = `@srum/${platformTag()}`;
  try {
    const manifest = createRequire(path.join(root, 'package.json')).resolve(`${name}/package.json`);
    const prebuilt = path.join(path.dirname(manifest), `torch-${libtorch.minor}.node`);
    candidates.push(checkAddon(prebuilt, libtorch));
  } catch {
    candidates.push({ place: name, refused: 'the prebuilt package is not installed' });
  }
  return candidates;
}

function checkAddon(file: string, libtorch: LibTorch): AddonCandidate {
  if (!fs.existsSync(file)) return { place: file, refused: 'does not exist' };
  const record = readBuildRecord(file);
  if (record !== null && record.minor !== libtorch.minor) {
    return { place: file, refused: `was built for LibTorch ${record.minor}` };
  }
  return { place: file, refused: null };
}

/**
 * Opens LibTorch so that its symbols are there for the addon. Node can only open addons, so it complains about each
 * library after having opened it; that complaint is expected. Returns the failures that do not matter on a CPU.
 */
function openLibTorch(libtorch: LibTorch): string[] {
  // OpenMP's threads spin while they wait for work; on a shared machine that starves the very threads they wait for. A short
  // spin keeps the speed of a quiet machine. Read once, when the library is opened; the user's own settings stand.
  if (process.env.OMP_WAIT_POLICY === undefined) process.env.GOMP_SPINCOUNT ??= '10000';
  const flags = os.constants.dlopen.RTLD_NOW | os.constants.dlopen.RTLD_GLOBAL;
  const open = (name: string): string | null => {
    const file = path.join(libtorch.lib, libraryName(name));
    try {
      process.dlopen({ exports: {} }, file, flags);
    } catch (error) {
      const message = messageOf(error);
      if (!/did not self-register/i.test(message)) return message;
    }
    return null;
  };
  for (const name of ['c10', 'torch_cpu']) {
    const failure = open(name);
    if (failure !== null) {
      throw new NativeError('ERR_ADDON_LOAD', `LibTorch cannot be opened: ${failure}`, {
        file: path.join(libtorch.lib, libraryName(name)),
        hint: `Run ${setupCommand('libtorch')}`,
      });
    }
  }
  if (!libtorch.hasCuda) return [];
  return ['c10_cuda', 'torch_cuda'].map(open).filter((failure) => failure !== null);
}
