import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { isRunning } from '../util/processes.js';

/** A holder that has shown no sign of life for this long is taken for dead (it may sit on another machine). */
const STALE_AFTER = 60_000;

/**
 * Runs `work` while holding the lock `file`, so that two processes do not do the same long job twice.
 * A lock whose holder died is taken over. The lock saves work; it is never the only thing that keeps data whole:
 * results are put in place by rename.
 *
 * @param onWait called once, with the holder's process id, when somebody else holds the lock.
 */
export async function withLock<T>(
  file: string,
  work: () => Promise<T>,
  onWait?: (pid: number) => void,
): Promise<T> {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const mine = JSON.stringify({ pid: process.pid, host: os.hostname(), token: Math.random() });
  let told = false;
  while (!tryTake(file, mine)) {
    const holder = readHolder(file);
    if (holder !== null && isDead(file, holder)) {
      steal(file, holder.text);
      continue;
    }
    if (!told && holder !== null) {
      told = true;
      onWait?.(holder.pid);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  const beat = setInterval(() => {
    const now = new Date();
    fs.utimes(file, now, now, () => {});
  }, STALE_AFTER / 6);
  beat.unref();
  try {
    return await work();
  } finally {
    clearInterval(beat);
    // Only our own: a lock that was taken over belongs to somebody else now.
    if (readHolder(file)?.text === mine) fs.rmSync(file, { force: true });
  }
}

/** Appears whole or not at all: a link to a finished file, never a half-written lock. */
function tryTake(file: string, mine: string): boolean {
  const temp = `${file}.${process.pid}-${Math.random().toString(36).slice(2)}`;
  fs.writeFileSync(temp, mine);
  try {
    fs.linkSync(temp, file);
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EEXIST') return false;
    // File systems without hard links: exclusive creation instead.
    if (code === 'EPERM' || code === 'ENOTSUP' || code === 'EOPNOTSUPP') {
      try {
        fs.writeFileSync(file, mine, { flag: 'wx' });
        return true;
      } catch (inner) {
        if ((inner as NodeJS.ErrnoException).code === 'EEXIST') return false;
        throw inner;
      }
    }
    throw error;
  } finally {
    fs.rmSync(temp, { force: true });
  }
}

interface Holder {
  pid: number;
  host: string;
  text: string;
}

function readHolder(file: string): Holder | null {
  try {
    const text = fs.readFileSync(file, 'utf8');
    const { pid, host } = JSON.parse(text);
    return { pid, host, text };
  } catch {
    return null;
  }
}

function isDead(file: string, holder: Holder): boolean {
  if (holder.host === os.hostname() && !isRunning(holder.pid)) return true;
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  return stat !== undefined && Date.now() - stat.mtimeMs > STALE_AFTER;
}

/** Removes a dead lock by renaming it first, so that of several thieves only one succeeds. */
function steal(file: string, text: string): void {
  const grave = `${file}.dead-${process.pid}`;
  try {
    fs.renameSync(file, grave);
  } catch {
    return;
  }
  // Somebody may have taken the lock between our look and the rename: give it back.
  if (readHolder(grave)?.text !== text) {
    try {
      fs.linkSync(grave, file);
    } catch {
      // Taken again meanwhile; the rename-wins rule still keeps results whole.
    }
  }
  fs.rmSync(grave, { force: true });
}
