import type { AtenOperators } from './generated/aten.js';
import { hot } from './hot.js';
import { native } from './native.js';
import { camelCase, Operator } from './operators.js';
import { Tensor, wrap } from './tensor.js';

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
    kernel?: string,
  ): Tensor;
  /** `x * rsqrt(mean(x^2) + eps)`, rounded to the dtype of x, times weight: [..., n], [n] -> [..., n] */
  rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor;
  /** `silu(gate) * up`, both of one shape. */
  swiglu(gate: Tensor, up: Tensor): Tensor;
  /** `x * cos + roll(x, d/2) * sin`: x [n, heads, d]; cos and sin [n, 1, d], whose first half has the sign. */
  rope(x: Tensor, cos: Tensor, sin: Tensor): Tensor;
}

/** The function form of every operator: `ops.cat([a, b], 0)`; arguments in ATen's order, options by name last. */
export const ops = {} as AtenOperators & { srum: SrumOperators };
/** The same operators run on a thread of Node's pool, each returning a promise. */
export const asyncOps = {} as {
  [K in keyof AtenOperators]: (...args: unknown[]) => Promise<unknown>;
};

/** Direct bindings that take the place of the search by types when the arguments are the plain ones; null otherwise. */
const unary = (name: 'relu' | 'silu' | 'neg' | 'exp' | 'rsqrt' | 'sum' | 'mean' | 'detach') => {
  const call = hot[name];
  return (args: readonly unknown[]) =>
    args.length === 1 && args[0] instanceof Tensor ? wrap(call(args[0].handle)) : null;
};
const crossEntropy = native.bindOperator('aten::cross_entropy_loss', '');
const direct: Record<string, (args: readonly unknown[]) => Tensor | null> = {
  relu: unary('relu'),
  silu: unary('silu'),
  neg: unary('neg'),
  exp: unary('exp'),
  rsqrt: unary('rsqrt'),
  sum: unary('sum'),
  mean: unary('mean'),
  detach: unary('detach'),
  linear: ([x, weight, bias, ...rest]) =>
    rest.length === 0 &&
    x instanceof Tensor &&
    weight instanceof Tensor &&
    (bias === undefined || bias === null || bias instanceof Tensor)
      ? wrap(hot.linear(x.handle, weight.handle, bias?.handle))
      : null,
  indexSelect: ([x, dim, index, ...rest]) =>
    rest.length === 0 && x instanceof Tensor && typeof dim === 'number' && index instanceof Tensor
      ? wrap(hot.indexSelect(x.handle, dim, index.handle))
      : null,
  crossEntropyLoss: ([x, target, ...rest]) =>
    rest.length === 0 && x instanceof Tensor && target instanceof Tensor
      ? wrap(crossEntropy(x.handle, target.handle) as number)
      : null,
  copy_: ([x, source, ...rest]) => {
    if (rest.length > 0 || !(x instanceof Tensor) || !(source instanceof Tensor)) return null;
    hot.copy_(x.handle, source.handle);
    return x;
  },
};

const srum: Record<string, Callable> = {};
for (const qualified of native.listOperators()) {
  const [library, name] = qualified.split('::');
  if (library !== 'aten' && library !== 'srum') continue;
  const operator = new Operator(qualified);
  const key = camelCase(name);
  const plain = library === 'aten' ? direct[key] : undefined;
  const callable: Callable =
    plain === undefined
      ? (...args) => operator.call(args)
      : (...args) => plain(args) ?? operator.call(args);
  if (library === 'srum') {
    srum[key] = callable;
    continue;
  }
  (ops as unknown as Record<string, Callable>)[key] = callable;
  (asyncOps as unknown as Record<string, Callable>)[key] = (...args) => operator.callAsync(args);
  if (!(key in Tensor.prototype)) {
    Object.defineProperty(Tensor.prototype, key, {
      value: function (this: Tensor, ...args: unknown[]) {
        return callable(this, ...args);
      },
      configurable: true,
      writable: true,
    });
  }
}
ops.srum = srum as unknown as SrumOperators;
