import fs from 'node:fs';
import { fileError } from '../util/files.js';
import { JsonlWriter, readJsonl } from '../util/jsonl.js';

/** One line of `metrics.jsonl`. */
export interface StepMetrics {
  /** Optimiser step, counted from 0. */
  step: number;
  /** What was minimised: `mse_weight` times `mse` plus `ce_weight` times `ce`. */
  loss: number;
  /** Flow loss before `mse_weight`; null in a step without images to generate. */
  mse: number | null;
  /** mean(R (v - target)^2); null without rewards. */
  mse_reward: number | null;
  /** mean((v - target)^2) towards the good image, before lambda. */
  mse_constraint: number | null;
  /** Cross entropy per label in nats, before `ce_weight`; null in a step without labels. */
  ce: number | null;
  /** Learning rate of the step. */
  lr: number;
  /** Global norm before clipping. */
  grad_norm: number;
  /** Share of loss tokens whose weight `R + lambda` is below 0. */
  negative_token_fraction: number;
  /** Rows of all packed sequences of the step. */
  tokens: number;
  /** Those of them with a flow loss. */
  loss_tokens: number;
  /** Samples in all packs of the step. */
  samples: number;
  /** Epoch of the last sample, counted from 0. */
  epoch: number;
  /** `tokens` over the wall time of the whole step, loading included. */
  tokens_per_second: number;
}

/**
 * The metrics file of a run. Opened at a step, it drops the lines of that and later steps: they
 * belong to a run that was interrupted after its last checkpoint and will be computed again.
 */
export class MetricsFile {
  /** The file it writes. */
  readonly path: string;
  readonly #writer: JsonlWriter;

  /**
   * @param file created when absent.
   * @param step first step that is going to be appended.
   * @throws FileError when the file cannot be read, shortened or opened.
   */
  constructor(file: string, step: number) {
    this.path = file;
    rewind(file, step);
    this.#writer = new JsonlWriter(file);
  }

  /** Writes one line. @throws FileError */
  append(metrics: StepMetrics): void {
    this.#writer.append(metrics);
  }

  /** Closes the file; nothing can be appended afterwards. */
  close(): void {
    this.#writer.close();
  }
}

/** The metrics written so far, in order, without lines that cannot be read; [] without a file. */
export function readMetrics(file: string): StepMetrics[] {
  if (!fs.existsSync(file)) return [];
  return readJsonl<StepMetrics>(file).records.map((r) => r.value);
}

/** Cuts the file in front of the first line that is not a metric of a step before `step`. */
function rewind(file: string, step: number): void {
  let text: string;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw fileError('read the file', file, error);
  }
  let end = 0;
  while (end < text.length) {
    const stop = text.indexOf('\n', end);
    if (stop < 0 || !isBefore(text.slice(end, stop), step)) break;
    end = stop + 1;
  }
  if (end === text.length) return;
  try {
    fs.truncateSync(file, Buffer.byteLength(text.slice(0, end)));
  } catch (error) {
    throw fileError('shorten the file', file, error);
  }
}

function isBefore(line: string, step: number): boolean {
  try {
    const value = JSON.parse(line) as { step?: unknown } | null;
    return typeof value?.step === 'number' && value.step < step;
  } catch {
    return false;
  }
}
