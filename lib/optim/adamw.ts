import { keep, noGrad, ops, scope, type Tensor, tensor, zeros } from '../torch/index.js';
import { CheckpointError } from '../util/errors.js';

/** Hyper-parameters of {@link AdamW}; the defaults are those of the BAGEL reference trainer. */
export interface AdamWOptions {
  /** Decay rates of the two moments. */
  betas?: readonly [number, number];
  /** Added to the root of the second moment. The BAGEL reference uses 1e-15. */
  eps?: number;
  /** Decoupled decay: parameters shrink by `lr * weightDecay` before each update. */
  weightDecay?: number;
  /** Elements updated per batch of operator calls; bounds the temporary memory of one step. */
  chunkElements?: number;
}

interface ParameterState {
  step: number;
  expAvg: Tensor;
  expAvgSq: Tensor;
}

interface Update {
  param: Tensor;
  grad: Tensor;
  state: ParameterState;
}

const MOMENTS = ['exp_avg', 'exp_avg_sq'] as const;
const STEP = 'step';

/**
 * Adam with decoupled weight decay (Loshchilov and Hutter 2019), in PyTorch's order of operations,
 * so that three steps agree with `torch.optim.AdamW` to rounding.
 *
 * Moments have the dtype and device of their parameter and appear with the first gradient. A
 * parameter without gradient is left alone: neither decayed nor counted, as in PyTorch.
 */
export class AdamW {
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly weightDecay: number;
  readonly #params: Map<string, Tensor>;
  readonly #state = new Map<string, ParameterState>();
  readonly #chunkElements: number;

  /** `params` are updated in place; their names become the keys of the exported state. */
  constructor(params: Iterable<readonly [string, Tensor]>, options: AdamWOptions = {}) {
    this.#params = new Map(params);
    this.betas = options.betas ?? [0.9, 0.95];
    this.eps = options.eps ?? 1e-15;
    this.weightDecay = options.weightDecay ?? 0;
    this.#chunkElements = options.chunkElements ?? 1 << 27;
  }

  /** Names of the parameters this optimiser owns, in the order given. */
  get names(): string[] {
    return [...this.#params.keys()];
  }

  /** The gradients that exist now; one handle per parameter that has one. */
  gradients(): Map<string, Tensor> {
    const found = new Map<string, Tensor>();
    for (const [name, param] of this.#params) {
      const grad = param.grad;
      if (grad !== null) found.set(name, grad);
    }
    return found;
  }

  /** Drops every gradient. */
  zeroGrad(): void {
    for (const param of this.#params.values()) param.grad = null;
  }

  /** One update with learning rate `lr`. */
  step(lr: number): void {
    noGrad(() =>
      scope(() => {
        for (const [count, group] of this.#groups()) {
          for (const chunk of chunksOf(group, this.#chunkElements)) {
            scope(() => this.#update(chunk, count, lr));
          }
        }
      }),
    );
  }

  /** Counts the update in every parameter that has a gradient and groups them by their count. */
  #groups(): Map<number, Update[]> {
    const byCount = new Map<number, Update[]>();
    for (const [name, param] of this.#params) {
      const grad = param.grad;
      if (grad === null) continue;
      const state = this.#stateOf(name, param);
      state.step += 1;
      const group = byCount.get(state.step) ?? [];
      group.push({ param, grad, state });
      byCount.set(state.step, group);
    }
    return byCount;
  }

  #update(group: readonly Update[], step: number, lr: number): void {
    const [beta1, beta2] = this.betas;
    const params = group.map((u) => u.param);
    const grads = group.map((u) => u.grad);
    const expAvgs = group.map((u) => u.state.expAvg);
    const expAvgSqs = group.map((u) => u.state.expAvgSq);
    if (this.weightDecay !== 0) ops._foreachMul_(params, 1 - lr * this.weightDecay);
    ops._foreachLerp_(expAvgs, grads, 1 - beta1);
    ops._foreachMul_(expAvgSqs, beta2);
    ops._foreachAddcmul_(expAvgSqs, grads, grads, 1 - beta2);
    const denominators = ops._foreachSqrt(expAvgSqs);
    ops._foreachDiv_(denominators, Math.sqrt(1 - beta2 ** step));
    ops._foreachAdd_(denominators, this.eps);
    ops._foreachAddcdiv_(params, expAvgs, denominators, -(lr / (1 - beta1 ** step)));
  }

  #stateOf(name: string, param: Tensor): ParameterState {
    let state = this.#state.get(name);
    if (state === undefined) {
      const like = { dtype: param.dtype, device: param.device };
      state = { step: 0, expAvg: zeros(param.shape, like), expAvgSq: zeros(param.shape, like) };
      keep(state.expAvg);
      keep(state.expAvgSq);
      this.#state.set(name, state);
    }
    return state;
  }

  /**
   * The state as tensors: `<name>.exp_avg`, `<name>.exp_avg_sq` and the int64 scalar
   * `<name>.step`, for every parameter updated so far. The moments are the live ones, not copies.
   */
  stateDict(): Map<string, Tensor> {
    const out = new Map<string, Tensor>();
    for (const [name, state] of this.#state) {
      out.set(`${name}.exp_avg`, state.expAvg);
      out.set(`${name}.exp_avg_sq`, state.expAvgSq);
      out.set(`${name}.${STEP}`, tensor(BigInt64Array.of(BigInt(state.step)), { shape: [] }));
    }
    return out;
  }

  /**
   * Takes over a state written by `stateDict`; the tensors are copied.
   *
   * @throws CheckpointError naming every parameter whose entries are missing, unknown or misshapen.
   */
  loadStateDict(entries: ReadonlyMap<string, Tensor>): void {
    const faults: string[] = [];
    const loaded = new Map<string, ParameterState>();
    const used = new Set<string>();
    scope(() => {
      for (const [name, param] of this.#params) {
        const step = entries.get(`${name}.${STEP}`);
        const [expAvg, expAvgSq] = MOMENTS.map((m) => entries.get(`${name}.${m}`));
        if (step === undefined && expAvg === undefined && expAvgSq === undefined) continue;
        for (const key of [STEP, ...MOMENTS]) used.add(`${name}.${key}`);
        if (step === undefined || expAvg === undefined || expAvgSq === undefined) {
          faults.push(`${name}: incomplete`);
          continue;
        }
        const shape = param.shape.join('x');
        if (expAvg.shape.join('x') !== shape || expAvgSq.shape.join('x') !== shape) {
          faults.push(`${name}: shape ${expAvg.shape.join('x')} instead of ${shape}`);
          continue;
        }
        const like = { dtype: param.dtype, device: param.device };
        const copies = [expAvg, expAvgSq].map((t) => zeros(param.shape, like).copy_(t));
        loaded.set(name, { step: step.item(), expAvg: copies[0], expAvgSq: copies[1] });
      }
      for (const key of entries.keys()) if (!used.has(key)) faults.push(`${key}: unknown`);
      if (faults.length === 0) {
        for (const state of loaded.values()) {
          keep(state.expAvg);
          keep(state.expAvgSq);
        }
      }
    });
    if (faults.length > 0) {
      throw new CheckpointError(
        'ERR_OPTIMIZER_STATE',
        'the optimiser state does not fit the model',
        {
          expected: `moments of ${this.#params.size} parameters`,
          found: faults.slice(0, 20).join(', '),
          hint: 'Resume with the recipe the checkpoint was written with.',
        },
      );
    }
    this.dispose();
    for (const [name, state] of loaded) this.#state.set(name, state);
  }

  /** Frees the moments. */
  dispose(): void {
    for (const state of this.#state.values()) {
      state.expAvg.dispose();
      state.expAvgSq.dispose();
    }
    this.#state.clear();
  }
}

/** Splits a group so that no part holds more than `limit` elements, unless one tensor alone does. */
function* chunksOf(group: readonly Update[], limit: number): Iterable<Update[]> {
  let part: Update[] = [];
  let size = 0;
  for (const update of group) {
    if (part.length > 0 && size + update.param.numel > limit) {
      yield part;
      part = [];
      size = 0;
    }
    part.push(update);
    size += update.param.numel;
  }
  if (part.length > 0) yield part;
}
