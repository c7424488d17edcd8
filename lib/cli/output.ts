import type { CommanderError } from 'commander';
import { messageOf, SrumError } from '../util/errors.js';

/** What a command found out: for programs and for people. */
export interface Outcome {
  json: object;
  text: string;
  /** Default 0. */
  exitCode?: number;
}

/** Exit code after Ctrl-C, as shells have it. */
export const INTERRUPTED = 130;

function write(stream: NodeJS.WriteStream, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

/** Writes the outcome to standard output. @throws SrumError when it cannot be written there. */
export async function print(outcome: Outcome, json: boolean): Promise<void> {
  const text = json ? JSON.stringify(outcome.json) : outcome.text;
  if (text === '') return;
  try {
    await write(process.stdout, `${text}\n`);
  } catch (cause) {
    // Whoever closed the pipe (`| head`) has seen enough.
    if ((cause as NodeJS.ErrnoException).code === 'EPIPE') return;
    throw new SrumError(
      'ERR_OUTPUT',
      `the result cannot be written to standard output: ${messageOf(cause)}`,
      {},
      { cause },
    );
  }
}

/** Tells what went wrong: one line with code and advice, or one JSON object. */
export async function printError(error: unknown, json: boolean): Promise<void> {
  const known = error instanceof SrumError;
  const code = known ? error.code : 'ERR_UNEXPECTED';
  const message = messageOf(error);
  if (json) {
    const details = known ? error.details : {};
    const object = { error: { code, message, ...details } };
    await write(process.stdout, `${JSON.stringify(object)}\n`).catch(() => {});
  }
  const lines = [`srum: ${message} [${code}]`];
  if (!known) lines.push('This is a fault in srum; set SRUM_DEBUG=1 to see where it happened.');
  if (process.env.SRUM_DEBUG && error instanceof Error) lines.push(error.stack ?? '');
  if (!json) await write(process.stderr, `${lines.join('\n')}\n`).catch(() => {});
}

/** A command line that cannot be understood, as one JSON object on standard output. */
export async function usageError(error: CommanderError): Promise<void> {
  const help = error.code === 'commander.help' || error.code === 'commander.helpDisplayed';
  const [first, ...rest] = help
    ? ['no command was given', 'See srum --help.']
    : error.message.replace(/^error: /, '').split('\n');
  const hint = rest.join(' ').trim();
  const object = { code: 'ERR_USAGE', message: first, ...(hint === '' ? {} : { hint }) };
  await write(process.stdout, `${JSON.stringify({ error: object })}\n`).catch(() => {});
}

/** Lines of `name   value` with the values in one column. */
export function columns(rows: ReadonlyArray<readonly [string, string]>): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n');
}
