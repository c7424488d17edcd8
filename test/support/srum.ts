import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url));

/** How a command ended. */
export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  cwd?: string;
  env?: Record<string, string | undefined>;
  /** Sends this signal as soon as the condition holds. */
  kill?: { when: () => boolean; signal: NodeJS.Signals };
  /** File that takes standard output. */
  stdoutFile?: string;
}

/** Runs `srum` as a user does, in a process of its own with one computing thread. */
export function srum(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const out = options.stdoutFile === undefined ? null : fs.openSync(options.stdoutFile, 'w');
  const env = { ...process.env, OMP_NUM_THREADS: '1', RANK: undefined, WORLD_SIZE: undefined };
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: options.cwd,
    env: { ...env, ...options.env },
    stdio: ['ignore', out ?? 'pipe', 'pipe'],
  });
  const timer = options.kill && watch(child, options.kill);
  return new Promise((resolve, reject) => {
    const texts = { stdout: '', stderr: '' };
    child.stdout?.on('data', (data) => {
      texts.stdout += data;
    });
    child.stderr?.on('data', (data) => {
      texts.stderr += data;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearInterval(timer);
      if (out !== null) fs.closeSync(out);
      resolve({ code, signal, ...texts });
    });
  });
}

function watch(child: ChildProcess, kill: NonNullable<RunOptions['kill']>): NodeJS.Timeout {
  const timer = setInterval(() => {
    if (!kill.when()) return;
    clearInterval(timer);
    child.kill(kill.signal);
  }, 3);
  return timer;
}

/** Runs `srum ... --json`: what it printed must be one JSON object and nothing else. */
export async function srumJson(
  args: readonly string[],
  options: RunOptions = {},
  // biome-ignore lint/suspicious/noExplicitAny: each command has a shape of its own
): Promise<Ended & { json: any }> {
  const ended = await srum([...args, '--json'], options);
  const lines = ended.stdout.split('\n');
  if (lines.length !== 2 || lines[1] !== '') {
    throw new Error(`expected one line, found ${JSON.stringify(ended.stdout)}; ${ended.stderr}`);
  }
  return { ...ended, json: JSON.parse(lines[0]) };
}

/** A fresh temporary folder. */
export function tempDir(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'srum-cli-'));
}

/** Contents of a folder's files by relative path, sub-folders included. */
export function contents(folder: string): Map<string, Buffer> {
  const names = fs.readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  const files = names.filter((name) => fs.statSync(path.join(folder, name)).isFile());
  return new Map(files.map((name) => [name, fs.readFileSync(path.join(folder, name))]));
}

/** The records of a jsonl file. */
// biome-ignore lint/suspicious/noExplicitAny: records of any kind
export function records(file: string): any[] {
  const text = fs.readFileSync(file, 'utf8').trim();
  return text === '' ? [] : text.split('\n').map((line) => JSON.parse(line));
}

/** Three prompts in the form of the SRUM prompt files. */
export const PROMPTS = [
  { Question: 'a red kite above a stone bridge', Category: 'spatial', Question_id: 9001 },
  { Question: 'two green pears', Category: 'numeracy', Question_id: 9002 },
  { Question: 'a square clock on a wall', Category: 'shape', Question_id: 9003 },
];

/** Small pictures in few steps. */
export const QUICK = ['--image-size', '64x64', '--num-timesteps', '4', '--device', 'cpu'];
/** Short verdicts. */
export const SHORT = [
  '--max-regions',
  '2',
  '--no-judge-think',
  '--max-object-bytes',
  '6',
  '--max-reason-bytes',
  '6',
];

/** Where the commands of one test file work; made before its tests, removed after them. */
export interface Workplace {
  /** Folder of the embedded model. */
  readonly model: string;
  /** File with {@link PROMPTS}. */
  readonly prompts: string;
  /** A path in the temporary folder. */
  at(...parts: string[]): string;
  /** What a command that must succeed prints as JSON, with the folder it filled. */
  run(args: readonly string[], out: string): Promise<Made>;
}

/** What a command made: its report and its files. */
export interface Made {
  // biome-ignore lint/suspicious/noExplicitAny: each command has a shape of its own
  json: any;
  files: Map<string, Buffer>;
}

/** A model folder and a prompt list in a temporary folder, for the suite that calls this. */
export function workplace(): Workplace {
  let dir = '';
  const at = (...parts: string[]): string => path.join(dir, ...parts);
  before(async () => {
    const { createTinyModel } = await import('../../lib/models/bagel/presets.js');
    const { tinyTokenizerDir } = await import('../../lib/app/stages/model-session.js');
    dir = tempDir();
    createTinyModel(at('model'), tinyTokenizerDir());
    fs.writeFileSync(at('prompts.json'), JSON.stringify(PROMPTS));
  });
  after(() => fs.rmSync(dir, { recursive: true, force: true }));
  return {
    at,
    get model() {
      return at('model');
    },
    get prompts() {
      return at('prompts.json');
    },
    async run(args, out) {
      const { code, json, stderr } = await srumJson([...args, '--out', at(out)]);
      if (code !== 0) throw new Error(`srum ${args[0]} ended with ${code}: ${stderr}`);
      return { json, files: contents(at(out)) };
    },
  };
}
