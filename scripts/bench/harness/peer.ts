import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { messageOf, SrumError } from '../../../lib/util/errors.js';

/** What the peer says of itself when it is ready. */
interface Hello {
  ready: true;
  version: string;
  threads: number;
  cases: string[];
}

/** The answer to one timing request. */
interface Answer {
  seconds?: number;
  error?: string;
}

/** How long a peer may take to import its library. */
const startSeconds = 120;

/**
 * One long-lived Python process that times the same work in PyTorch. Requests and answers are JSON lines:
 * `{"case": ..., "iterations": n}` is answered by `{"seconds": s}` or `{"error": text}`.
 */
export class Peer {
  readonly hello: Hello;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  private constructor(
    child: ChildProcessWithoutNullStreams,
    lines: AsyncIterator<string>,
    hello: Hello,
  ) {
    this.#child = child;
    this.#lines = lines;
    this.hello = hello;
  }

  /**
   * Starts `<python> <script> --threads N` and waits until it is ready. Python is `SRUM_PYTHON`, else `python3`.
   *
   * @throws SrumError `BENCH_PEER` where Python or its torch is absent; the message says which.
   */
  static async start(script: string, threads: number): Promise<Peer> {
    const python = process.env.SRUM_PYTHON || 'python3';
    const child = spawn(python, ['-u', script, '--threads', String(threads)], {
      env: { ...process.env, OMP_NUM_THREADS: String(threads) },
    });
    let said = '';
    child.stderr.on('data', (data) => {
      said = (said + data).slice(-4000);
    });
    child.stdin.on('error', () => {});
    const failed = new Promise<string>((resolve) => {
      child.on('error', (error) => resolve(messageOf(error)));
      child.on('close', (code) => resolve(`ended with ${code}: ${lastLine(said)}`));
    });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const timer = setTimeout(() => child.kill(), startSeconds * 1000);
    try {
      const first = await Promise.race([lines.next(), failed]);
      if (typeof first === 'string' || first.done) {
        const reason = typeof first === 'string' ? first : await failed;
        throw new SrumError('BENCH_PEER', `${python}: ${reason}`);
      }
      return new Peer(child, lines, JSON.parse(first.value) as Hello);
    } catch (error) {
      child.kill();
      if (error instanceof SrumError) throw error;
      throw new SrumError('BENCH_PEER', `${python}: ${messageOf(error)}`);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Seconds the peer took for `iterations` operations of a case. */
  async time(name: string, iterations: number): Promise<number> {
    this.#child.stdin.write(`${JSON.stringify({ case: name, iterations })}\n`);
    const line = await this.#lines.next();
    if (line.done) throw new SrumError('BENCH_PEER', `the peer ended while timing ${name}`);
    const answer = JSON.parse(line.value) as Answer;
    if (answer.seconds === undefined) {
      throw new SrumError('BENCH_PEER', `the peer failed on ${name}: ${answer.error}`);
    }
    return answer.seconds;
  }

  /** Ends the process. */
  close(): void {
    this.#child.stdin.end();
    this.#child.kill();
  }
}

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? '';
}
