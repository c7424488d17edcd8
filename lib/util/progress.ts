import cliProgress from 'cli-progress';
import { formatBytes, formatSeconds } from './format.js';

/** Receives progress of one long step. Units are whatever the step counts in. */
export interface Progress {
  /** Sets how far the step is and how far it will go. */
  update(done: number, total: number): void;
  /** Ends the step; without a call the line stays open. */
  stop(): void;
}

export interface ProgressOptions {
  /** Where to write; nothing is written when this is null. */
  stream?: NodeJS.WriteStream | null;
  /** Formats a count; bytes are shown as megabytes. */
  unit?: 'bytes' | 'steps';
}

/**
 * Shows a bar with rate and time left on a terminal, and one line every few seconds elsewhere (a log, CI).
 */
export function startProgress(label: string, options: ProgressOptions = {}): Progress {
  const stream = options.stream === undefined ? process.stderr : options.stream;
  const unit = options.unit ?? 'bytes';
  if (stream === null) return { update: () => {}, stop: () => {} };
  return stream.isTTY ? bar(label, unit, stream) : lines(label, unit, stream);
}

/** Counts from the first update on: what was done before, by an earlier run, took no time of this one. */
function paceOf(): (done: number) => number {
  let first: { done: number; at: number } | null = null;
  return (done) => {
    const now = Date.now();
    first ??= { done, at: now };
    return now > first.at ? (1000 * (done - first.done)) / (now - first.at) : 0;
  };
}

function describe(unit: string, done: number, total: number, rate: number): string {
  const left = rate > 0 ? formatSeconds(Math.max(0, total - done) / rate) : '?';
  return unit === 'bytes'
    ? `${formatBytes(done)} of ${formatBytes(total)}, ${formatBytes(rate)}/s, ${left} left`
    : `${done} of ${total}, ${pace(rate)}, ${left} left`;
}

/** `3.2/s`, or for slow steps `12.4 s each`. */
function pace(rate: number): string {
  if (rate === 0) return '?/s';
  return rate >= 1 ? `${rate.toFixed(1)}/s` : `${(1 / rate).toFixed(1)} s each`;
}

function bar(label: string, unit: string, stream: NodeJS.WriteStream): Progress {
  const rate = paceOf();
  const shown = new cliProgress.SingleBar(
    {
      format: `${label} {bar} {percentage}% {text}`,
      barsize: 24,
      hideCursor: false,
      clearOnComplete: false,
      etaBuffer: 50,
      stream,
    },
    cliProgress.Presets.shades_classic,
  );
  let open = false;
  return {
    update(done, total) {
      const text = describe(unit, done, total, rate(done));
      if (!open) shown.start(total, done, { text });
      else {
        shown.setTotal(total);
        shown.update(done, { text });
      }
      open = true;
    },
    stop() {
      if (open) shown.stop();
      open = false;
    },
  };
}

function lines(label: string, unit: string, stream: NodeJS.WriteStream): Progress {
  const rate = paceOf();
  let last = Date.now();
  return {
    update(done, total) {
      const now = Date.now();
      const perSecond = rate(done);
      if (now - last < 5000) return;
      last = now;
      const percent = total > 0 ? ` ${Math.floor((100 * done) / total)}%` : '';
      stream.write(`${label}${percent}: ${describe(unit, done, total, perSecond)}\n`);
    },
    stop() {},
  };
}
