import type { AtenOperators } from './generated/aten.js';
import { native } from './native.js';
import { camelCase, Operator } from './operators.js';
import { Tensor } from './tensor.js';

type Callable = (...args: unknown[]) => unknown;

/** Operators of our own library, registered by the addon beside ATen's. */
export interface SrumOperators {
  /**
   * Attention over packed ranges; lib/nn/attention.ts describes it.
   * q [Tq, heads, d], k and v [Tk, kv_heads, d] -> [Tq, heads, d]
   */
  packedAttention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    qStarts: readonly number[],
    qEnds: readonly number[],
    kStarts: readonly number[],
    kEnds: readonly number[],
    causal: readonly boolean[],
    scale: number,
  ): Tensor;
}

/** The function form of every operator: `ops.cat([a, b], 0)`; arguments in ATen's order, options by name last. */
export const ops = {} as AtenOperators & { srum: SrumOperators };
/** The same operators run on a thread of Node's pool, each returning a promise. */
export const asyncOps = {} as {
  [K in keyof AtenOperators]: (...args: unknown[]) => Promise<unknown>;
};

const srum: Record<string, Callable> = {};
for (const qualified of native.listOperators()) {
  const [library, name] = qualified.split('::');
  if (library !== 'aten' && library !== 'srum') continue;
  const operator = new Operator(qualified);
  const key = camelCase(name);
  const callable: Callable = (...args) => operator.call(args);
  if (library === 'srum') {
    srum[key] = callable;
    continue;
  }
  (ops as unknown as Record<string, Callable>)[key] = callable;
  (asyncOps as unknown as Record<string, Callable>)[key] = (...args) => operator.callAsync(args);
  if (!(key in Tensor.prototype)) {
    Object.defineProperty(Tensor.prototype, key, {
      value: function (this: Tensor, ...args: unknown[]) {
        return operator.call([this, ...args]);
      },
      configurable: true,
      writable: true,
    });
  }
}
ops.srum = srum as unknown as SrumOperators;
