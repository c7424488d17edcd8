import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { NativeError } from '../util/errors.js';
import type { Env } from './paths.js';

/** A command line that runs pip. */
export type PipCommand = string[];

/**
 * The user's own pip: of `SRUM_PYTHON` if set, else of the active virtual environment, of python3 or python, else a
 * bare `pip3` or `pip`. Null when there is none.
 */
export function findPip(env: Env = process.env): PipCommand | null {
  const commands: PipCommand[] = [];
  if (env.SRUM_PYTHON) commands.push([env.SRUM_PYTHON, '-m', 'pip']);
  else {
    if (env.VIRTUAL_ENV) commands.push([path.join(env.VIRTUAL_ENV, 'bin', 'python'), '-m', 'pip']);
    for (const name of ['python3', 'python']) commands.push([name, '-m', 'pip']);
    commands.push(['pip3'], ['pip']);
  }
  for (const command of commands) {
    const run = spawnSync(command[0], [...command.slice(1), '--version'], {
      env: env as NodeJS.ProcessEnv,
      timeout: 20_000,
    });
    if (!run.error && run.status === 0) return command;
  }
  return null;
}

export interface PipDownload {
  /** Requirements, e.g. `torch==2.13.0+cpu`. */
  requirements: string[];
  /** Empty folder the wheels end up in. */
  folder: string;
  /** Further arguments, e.g. an index. */
  args?: string[];
  withDependencies?: boolean;
  /** Expected size, where known, for the progress. */
  expectedBytes?: number;
  env?: Env;
  onProgress?: (done: number, total: number) => void;
}

/**
 * Runs `pip download`, with the user's index, proxy and certificate settings untouched.
 *
 * @returns the paths of the wheels.
 * @throws NativeError ERR_PIP with pip's last lines.
 */
export async function pipDownload(pip: PipCommand, options: PipDownload): Promise<string[]> {
  const scratch = path.join(options.folder, '.pip');
  fs.mkdirSync(scratch, { recursive: true });
  const args = [
    ...pip.slice(1),
    'download',
    '--progress-bar',
    'off',
    ...(options.withDependencies ? [] : ['--no-deps']),
    ...(options.args ?? []),
    '--dest',
    options.folder,
    ...options.requirements,
  ];
  const child = spawn(pip[0], args, {
    env: {
      ...(options.env ?? process.env),
      // pip's working files beside the result: the size is watched there, and /tmp may be small.
      TMPDIR: scratch,
      PIP_DISABLE_PIP_VERSION_CHECK: '1',
      PIP_NO_INPUT: '1',
      PYTHONUNBUFFERED: '1',
      PIP_REQUIRE_VIRTUALENV: '0',
    } as NodeJS.ProcessEnv,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  let announced = options.expectedBytes ?? 0;
  const listen = (chunk: Buffer): void => {
    text += chunk.toString();
    const sizes = [
      ...text.matchAll(/Downloading \S*torch-\S+\.whl.*?\((\d+(?:\.\d+)?) (kB|MB|GB)\)/g),
    ];
    const last = sizes.pop();
    if (last === undefined) return;
    announced = Number(last[1]) * { kB: 1e3, MB: 1e6, GB: 1e9 }[last[2] as 'kB' | 'MB' | 'GB'];
  };
  child.stdout.on('data', listen);
  child.stderr.on('data', listen);
  const watch = setInterval(() => {
    const done = largestFile(options.folder);
    if (done > 0) options.onProgress?.(done, Math.max(announced, done));
  }, 500);
  const status = await new Promise<number | string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
  clearInterval(watch);
  fs.rmSync(scratch, { recursive: true, force: true });
  const command = `${path.basename(pip[0])} ${args.slice(0, -2 - options.requirements.length).join(' ')} ${options.requirements.join(' ')}`;
  if (status !== 0) {
    const lines = text.split('\n').map((line) => line.trim());
    const errors = lines.filter((line) =>
      /^(ERROR|WARNING: Retrying|.*No module named)/.test(line),
    );
    const told = (errors.length > 0 ? errors : lines.filter(Boolean)).slice(-2).join(' | ');
    throw new NativeError('ERR_PIP', `\`${command}\` ended with ${status}: ${told}`);
  }
  return fs
    .readdirSync(options.folder)
    .filter((name) => name.endsWith('.whl'))
    .map((name) => path.join(options.folder, name));
}

function largestFile(folder: string): number {
  let largest = 0;
  try {
    for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const size = fs.statSync(path.join(entry.parentPath ?? entry.path, entry.name)).size;
      largest = Math.max(largest, size);
    }
  } catch {
    // pip moves files while we look.
  }
  return largest;
}
