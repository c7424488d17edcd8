import type { Command } from 'commander';
import { INTERRUPTED, type Outcome, print, printError } from './output.js';

/** What a command's work is given besides its arguments. */
export interface CommandContext {
  json: boolean;
  /** Aborted at the first Ctrl-C (or SIGTERM); the second ends the process. */
  signal: AbortSignal;
  /** A line for people, on standard error; silent with `--json`. */
  note(line: string): void;
  /** Where progress is drawn; null with `--json`. */
  stream: NodeJS.WriteStream | null;
}

/**
 * The action of a command: runs the work, prints its outcome or its error, sets the exit code. Ctrl-C
 * asks the work to stop where it can be taken up again.
 *
 * @param work is given the context, the options and the command's arguments.
 */
export function action<O extends { json?: boolean }>(
  work: (context: CommandContext, options: O, ...args: string[]) => Promise<Outcome>,
): (this: Command, ...all: unknown[]) => Promise<void> {
  return async function act(this: Command, ...all: unknown[]): Promise<void> {
    const options = this.optsWithGlobals<O>();
    const args = all.slice(0, this.registeredArguments.length) as string[];
    const json = options.json === true;
    const { signal, release } = interruptSignal(json);
    const context: CommandContext = {
      json,
      signal,
      note: (line) => {
        if (!json) process.stderr.write(`${line}\n`);
      },
      stream: json ? null : process.stderr,
    };
    try {
      const outcome = await work(context, options, ...args);
      process.exitCode = outcome.exitCode ?? 0;
      await print(outcome, json);
    } catch (error) {
      process.exitCode = signal.aborted ? INTERRUPTED : 1;
      if (!(signal.aborted && error === signal.reason)) await printError(error, json);
    } finally {
      release();
    }
  };
}

function interruptSignal(json: boolean): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const onSignal = (): void => {
    if (controller.signal.aborted) process.exit(INTERRUPTED);
    if (!json)
      process.stderr.write('\nstopping after the current item; once more to stop at once\n');
    controller.abort();
  };
  const names = ['SIGINT', 'SIGTERM'] as const;
  for (const name of names) process.on(name, onSignal);
  return {
    signal: controller.signal,
    release: () => {
      for (const name of names) process.off(name, onSignal);
    },
  };
}
