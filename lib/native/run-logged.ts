import { spawn } from 'node:child_process';
import fs from 'node:fs';

export interface LoggedRun {
  /** Exit status, or why there is none. */
  status: number | string;
  output: string;
  /** True when the program does not exist. */
  missing: boolean;
}

/**
 * Runs a program, appends everything it prints to `logFile` and hands each line to `onLine`.
 * Never rejects: how it went is in the result.
 */
export function runLogged(
  command: string,
  args: string[],
  options: {
    cwd?: string;
    env?: NodeJS.ProcessEnv;
    logFile: string;
    onLine?: (line: string) => void;
  },
): Promise<LoggedRun> {
  fs.appendFileSync(options.logFile, `$ ${[command, ...args].join(' ')}\n`);
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const chunks: string[] = [];
    let rest = '';
    const listen = (chunk: Buffer): void => {
      const text = chunk.toString();
      chunks.push(text);
      fs.appendFileSync(options.logFile, text);
      const lines = (rest + text).split(/\r?\n|\r/);
      rest = lines.pop() ?? '';
      for (const line of lines) options.onLine?.(line);
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    let missing = false;
    let failure = '';
    child.once('error', (error: NodeJS.ErrnoException) => {
      missing = error.code === 'ENOENT';
      failure = error.message;
      if (child.pid === undefined) resolve({ status: failure, output: '', missing });
    });
    child.once('close', (code, signal) => {
      resolve({ status: code ?? signal ?? failure, output: chunks.join(''), missing });
    });
  });
}
