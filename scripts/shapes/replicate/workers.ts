import { spawn } from 'node:child_process';
import { SrumError } from '../../../lib/util/errors.js';
import { PHASES, type Phase } from './experiment.js';

/** One process's share of a phase: task i belongs to part i modulo `of`. */
export interface Part {
  phase: Phase;
  index: number;
  of: number;
}

/** Reads "arms:0/2". @returns null when it is nothing of the kind. */
export function parsePart(text: string): Part | null {
  const [, name, index, of] = /^(\w+):(\d+)\/(\d+)$/.exec(text) ?? [];
  const phase = PHASES.find((p) => p === name);
  return phase === undefined ? null : { phase, index: Number(index), of: Number(of) };
}

/**
 * Has processes share the tasks of each phase. They run this program with the same arguments and leave what
 * they did in the folder.
 *
 * @throws SrumError when one of them fails; the others of its phase are ended.
 */
export async function shareOut(workers: number, signal: AbortSignal): Promise<void> {
  for (const phase of PHASES) {
    signal.throwIfAborted();
    const stop = new AbortController();
    const running = Array.from({ length: workers }, (_, index) =>
      runPart(`${phase}:${index}/${workers}`, AbortSignal.any([signal, stop.signal])),
    );
    try {
      await Promise.all(running);
    } catch (error) {
      stop.abort();
      await Promise.allSettled(running);
      signal.throwIfAborted();
      throw error;
    }
  }
}

function runPart(part: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const args = [...process.execArgv, ...process.argv.slice(1), '--part', part];
    const child = spawn(process.execPath, args, { stdio: 'inherit' });
    const end = () => child.kill('SIGINT');
    signal.addEventListener('abort', end, { once: true });
    child.once('error', reject);
    child.once('close', (code, killed) => {
      signal.removeEventListener('abort', end);
      if (code === 0) resolve();
      else
        reject(
          new SrumError('ERR_WORKER', 'a process did not finish', {
            key: part,
            found: killed === null ? `exit status ${code}` : `ended by ${killed}`,
          }),
        );
    });
  });
}
