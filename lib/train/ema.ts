import { keep, noGrad, ops, scope, type Tensor } from '../torch/index.js';
import { CheckpointError, ConfigError } from '../util/errors.js';

/**
 * Exponential moving average of trained parameters: after every step
 * `average = decay * average + (1 - decay) * parameter`, started from a copy of the parameters.
 *
 * Only what is trained is averaged; frozen parameters have no copy.
 */
export class Ema {
  /** Share of the old average in the new one. */
  readonly decay: number;
  readonly #params: Map<string, Tensor>;
  readonly #average = new Map<string, Tensor>();

  /**
   * @param params the trained parameters by name; they are read at every update, never written.
   * @throws ConfigError unless 0 < decay < 1.
   */
  constructor(params: Iterable<readonly [string, Tensor]>, decay: number) {
    if (!(decay > 0 && decay < 1)) {
      throw new ConfigError('ERR_EMA', 'the decay of the moving average is out of range', {
        key: 'ema',
        expected: 'a number between 0 and 1, both excluded',
        found: String(decay),
      });
    }
    this.decay = decay;
    this.#params = new Map(params);
    noGrad(() => {
      for (const [name, param] of this.#params) {
        const copy = param.detach().clone();
        keep(copy);
        this.#average.set(name, copy);
      }
    });
  }

  /** Moves the average towards the current parameters. */
  update(): void {
    noGrad(() =>
      scope(() => {
        const average = [...this.#average.values()];
        ops._foreachMul_(average, this.decay);
        ops._foreachAdd_(average, [...this.#params.values()], { alpha: 1 - this.decay });
      }),
    );
  }

  /** Starts again from the current parameters. */
  restart(): void {
    noGrad(() => {
      for (const [name, own] of this.#average) own.copy_(this.#params.get(name) as Tensor);
    });
  }

  /** The averages by parameter name; the live tensors, not copies. */
  stateDict(): Map<string, Tensor> {
    return new Map(this.#average);
  }

  /** Copies saved averages in. @throws CheckpointError unless names and shapes are exactly ours. */
  loadStateDict(entries: ReadonlyMap<string, Tensor>): void {
    const faults: string[] = [];
    for (const [name, own] of this.#average) {
      const saved = entries.get(name);
      if (saved === undefined) faults.push(`${name}: missing`);
      else if (saved.shape.join('x') !== own.shape.join('x')) faults.push(`${name}: misshapen`);
    }
    for (const name of entries.keys()) {
      if (!this.#average.has(name)) faults.push(`${name}: unknown`);
    }
    if (faults.length > 0) {
      throw new CheckpointError('ERR_EMA_STATE', 'the saved averages do not fit the model', {
        found: faults.slice(0, 20).join(', '),
      });
    }
    noGrad(() => {
      for (const [name, own] of this.#average) own.copy_(entries.get(name) as Tensor);
    });
  }

  /** Frees the averages. */
  dispose(): void {
    for (const t of this.#average.values()) t.dispose();
    this.#average.clear();
  }
}
