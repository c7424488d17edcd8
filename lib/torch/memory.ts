import { TorchError } from './errors.js';
import { native } from './native.js';
import type { Tensor } from './tensor.js';

/**
 * Objects that hold tensors in private fields list them under this key, so that a scope can find them in its result.
 */
export const ownedTensors: unique symbol = Symbol('srum.ownedTensors');

let depth = 0;

/** Whether a scope is open on this thread: its tensors need no help from the garbage collector. */
export const inScope = (): boolean => depth > 0;

interface TensorLike {
  handle: number;
}

// Set by tensor.ts; a direct import would close a circle.
let isTensor: (value: unknown) => value is Tensor;
export function registerTensorTest(test: (value: unknown) => value is Tensor): void {
  isTensor = test;
}

/** Every tensor reachable from `value` through arrays, maps, sets, own properties and {@link ownedTensors}. */
export function tensorsIn(
  value: unknown,
  found = new Set<Tensor>(),
  seen = new Set<object>(),
): Set<Tensor> {
  if (typeof value !== 'object' || value === null) return found;
  if (isTensor(value)) return found.add(value);
  if (seen.has(value) || ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return found;
  seen.add(value);
  const owned = (value as { [ownedTensors]?: () => Iterable<unknown> })[ownedTensors];
  if (typeof owned === 'function')
    for (const item of owned.call(value)) tensorsIn(item, found, seen);
  if (Array.isArray(value) || value instanceof Set) {
    for (const item of value) tensorsIn(item, found, seen);
  } else if (value instanceof Map) {
    for (const [key, item] of value) {
      tensorsIn(key, found, seen);
      tensorsIn(item, found, seen);
    }
  } else {
    for (const item of Object.values(value)) tensorsIn(item, found, seen);
  }
  return found;
}

/**
 * Runs `body` and frees every tensor made inside it, except those in its result (see {@link tensorsIn}) and those given
 * to {@link keep}. The fast path of memory management: nothing waits for the garbage collector.
 *
 * @throws {TorchError} ERR_SCOPE when `body` returns a promise: an asynchronous body would interleave with other scopes.
 */
export function scope<T>(body: () => T): T {
  const level = native.beginScope();
  depth++;
  let kept: Tensor[] = [];
  try {
    const result = body();
    if (result instanceof Promise) {
      // Its rejection would otherwise go unhandled beside the error below.
      result.catch(() => {});
      throw new TorchError(
        'ERR_SCOPE',
        'scope() needs a synchronous body; open scopes inside the asynchronous function',
      );
    }
    kept = [...tensorsIn(result)].filter((tensor) => !tensor.isDisposed);
    return result;
  } finally {
    depth--;
    native.endScope(
      level,
      kept.map((tensor) => tensor.handle),
    );
    if (depth === 0) for (const tensor of kept) track(tensor);
  }
}

const tracked = new WeakSet<object>();

/** Hands a tensor over to the garbage collector: it is freed when no longer reachable. */
export function track(tensor: TensorLike): void {
  if (tracked.has(tensor)) return;
  tracked.add(tensor);
  native.track(tensor, tensor.handle);
}

/** Takes a tensor out of all open scopes; it lives until disposed or collected. */
export function keep<T extends Tensor>(tensor: T): T {
  if (depth === 0 || tracked.has(tensor)) return tensor;
  // The scope still owns the old handle; the object moves to a handle of its own.
  (tensor as TensorLike).handle = native.alias(tensor.handle);
  track(tensor);
  return tensor;
}

/** How many tensors are alive in the process, for leak tests. */
export const liveTensors = (): number => native.liveTensors();
