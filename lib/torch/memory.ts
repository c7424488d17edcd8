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

/** What a tensor shows of itself to the memory management. */
export interface Collectable {
  /** Number of the tensor in the native table. */
  handle: number;
  /** What keeps the native tensor alive: a batch, or the object itself; null while a scope owns it. */
  owner: object | null;
}

// Set by tensor.ts; a direct import would close a circle.
let isTensor: (value: unknown) => value is Tensor;
/** @internal Tells the memory management how to know a tensor; called once by tensor.ts. */
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

// The addon sets this bit in the handles of tensors with 16 KiB or more of storage.
const LARGE = 2 ** 51;
// Small tensors made one after the other share an owner: one weak reference for all of them, at the price that they are
// freed together. 32 of less than 16 KiB bound what one survivor can hold back.
const BATCH = 32;
let owner = native.openBatch();
let room = BATCH;

/**
 * Hands tensors the addon has just made to their owner: the innermost scope, which has them already, or the garbage
 * collector. Collection frees them at once, in a synchronous loop too, because the finalizers run inside it.
 */
export function own(...tensors: Collectable[]): void {
  if (depth > 0) return;
  for (const tensor of tensors) {
    if (tensor.handle >= LARGE) {
      track(tensor);
    } else {
      // The addon has listed all of them with the present owner: it must not change before the last one.
      tensor.owner = owner;
      room--;
    }
  }
  if (room <= 0) {
    owner = native.openBatch();
    room = BATCH;
  }
}

/** Gives a tensor that no scope owns any more to the garbage collector. */
export function track(tensor: Collectable): void {
  if (tensor.owner !== null) return;
  native.track(tensor, tensor.handle);
  tensor.owner = tensor;
}

/** Takes a tensor out of all open scopes; it lives until disposed or collected. */
export function keep<T extends Tensor>(tensor: T): T {
  if (depth === 0 || tensor.owner !== null) return tensor;
  // The scope still owns the old handle; the object moves to a handle of its own.
  tensor.handle = native.alias(tensor.handle);
  track(tensor);
  return tensor;
}

/** How many tensors are alive in the process, for leak tests. */
export const liveTensors = (): number => native.liveTensors();
