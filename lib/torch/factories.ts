import { type Device, type DType, dtypeOfArray, type TypedArray } from './dtype.js';
import { TorchError } from './errors.js';
import { native } from './native.js';
import { ops } from './operators-install.js';
import type { Generator } from './random.js';
import { type NestedArray, type Tensor, wrap } from './tensor.js';

/** Where a new tensor lies and what it holds. */
export interface TensorOptions {
  /** Default: float32. */
  dtype?: DType;
  /** Default: cpu. */
  device?: Device;
}

/** The same for random tensors. */
export interface RandomOptions extends TensorOptions {
  /** Where the numbers come from. Default: LibTorch's global generator of the device. */
  generator?: Generator;
}

/** LibTorch's limit for most operators. */
const MAX_DIMENSIONS = 64;

const storage: Partial<Record<DType, (length: number) => TypedArray>> = {
  float32: (n) => new Float32Array(n),
  float64: (n) => new Float64Array(n),
  int8: (n) => new Int8Array(n),
  int16: (n) => new Int16Array(n),
  int32: (n) => new Int32Array(n),
  int64: (n) => new BigInt64Array(n),
  uint8: (n) => new Uint8Array(n),
  bool: (n) => new Uint8Array(n),
};

/**
 * A tensor from numbers (float32 unless a dtype is given), booleans, nested arrays of one shape, or a typed array (copied
 * once, its own dtype unless one is given).
 *
 * @throws {TorchError} ERR_SHAPE for ragged arrays, ERR_DTYPE and ERR_ARGUMENT for values that do not fit the dtype.
 */
export function tensor(
  data: NestedArray | TypedArray,
  options: TensorOptions & { shape?: readonly number[] } = {},
): Tensor {
  if (ArrayBuffer.isView(data)) return fromTypedArray(data, options);
  const shape: number[] = [];
  for (let level: NestedArray = data; Array.isArray(level); level = level[0]) {
    shape.push(level.length);
    if (level.length === 0) break;
    // Also how an array that contains itself is found out.
    if (shape.length > MAX_DIMENSIONS)
      throw new TorchError('ERR_SHAPE', `tensor(): more than ${MAX_DIMENSIONS} dimensions`);
  }
  let flat: unknown[] = [data];
  for (let level = 0; level < shape.length; level++) flat = flat.flat();
  const count = shape.reduce((product, extent) => product * extent, 1);
  if (flat.length !== count || flat.some((value) => Array.isArray(value)))
    throw new TorchError(
      'ERR_SHAPE',
      `ragged array: expected ${count} values for shape [${shape}], found ${flat.length}`,
    );
  const dtype =
    options.dtype ??
    (typeof flat[0] === 'boolean' ? 'bool' : typeof flat[0] === 'bigint' ? 'int64' : 'float32');
  const make = storage[dtype];
  const array = (make ?? (storage.float32 as (n: number) => TypedArray))(count);
  const check = (make ?? (storage.float32 as (n: number) => TypedArray))(1);
  for (let i = 0; i < count; i++) array[i] = element(flat[i], check, dtype);
  const result = fromTypedArray(array, {
    shape: options.shape ?? shape,
    dtype: make ? dtype : 'float32',
  });
  return finish(result, { dtype, device: options.device });
}

/** The value as the array stores it; `check` is a one-element array of the same kind. */
function element(value: unknown, check: TypedArray, dtype: DType): never {
  if (typeof value !== 'number' && typeof value !== 'bigint' && typeof value !== 'boolean')
    throw new TorchError(
      'ERR_ARGUMENT',
      `tensor(): expected numbers, found ${value === null ? 'null' : typeof value}`,
    );
  if (dtype.startsWith('int') || dtype === 'uint8') {
    if (!Number.isInteger(Number(value)))
      throw new TorchError('ERR_DTYPE', `tensor(): ${value} is no ${dtype}`);
    if (check instanceof BigInt64Array) check[0] = BigInt(value);
    else check[0] = Number(value);
    if (BigInt(check[0]) !== BigInt(value))
      throw new TorchError('ERR_DTYPE', `tensor(): ${value} does not fit ${dtype}`);
    return check[0] as never;
  }
  if (dtype === 'bool') return (value ? 1 : 0) as never;
  return Number(value) as never;
}

/** A tensor with a copy of the array's elements; for 16-bit floats the array holds raw bits. */
export function fromTypedArray(
  data: TypedArray,
  options: TensorOptions & { shape?: readonly number[] } = {},
): Tensor {
  const own = data instanceof Uint16Array ? (options.dtype ?? 'bfloat16') : dtypeOfArray(data);
  // Uint8Array also carries bool: same bytes.
  const dtype = own === 'uint8' && options.dtype === 'bool' ? 'bool' : own;
  const result = wrap(native.fromTypedArray(data, dtype, options.shape ?? [data.length]));
  return finish(result, options);
}

function finish(result: Tensor, options: TensorOptions): Tensor {
  const dtype = options.dtype ?? result.dtype;
  const device = options.device ?? 'cpu';
  return dtype === result.dtype && device === 'cpu' ? result : result.to({ dtype, device });
}

const known = (options: TensorOptions) => ({ dtype: options.dtype, device: options.device });

/** A tensor whose elements are whatever the memory held. */
export const empty = (shape: readonly number[], options: TensorOptions = {}): Tensor =>
  ops.empty(shape, known(options));
/** All zeros. */
export const zeros = (shape: readonly number[], options: TensorOptions = {}): Tensor =>
  ops.zeros(shape, known(options));
/** All ones. */
export const ones = (shape: readonly number[], options: TensorOptions = {}): Tensor =>
  ops.ones(shape, known(options));
/** float32 unless a dtype is given, whatever the value: JavaScript has one kind of number. */
export const full = (
  shape: readonly number[],
  value: number,
  options: TensorOptions = {},
): Tensor => ops.full(shape, value, { ...known(options), dtype: options.dtype ?? 'float32' });

/** `arange(end)` or `arange(start, end, step)`; float32 unless a dtype is given. */
export function arange(start: number, end?: number, step = 1, options: TensorOptions = {}): Tensor {
  const [from, to] = end === undefined ? [0, start] : [start, end];
  return ops.arange(from, to, step, { ...known(options), dtype: options.dtype ?? 'float32' });
}

/**
 * [steps] evenly spaced numbers from `start` to `end`, both included; float32 unless a dtype is given.
 */
export const linspace = (
  start: number,
  end: number,
  steps: number,
  options: TensorOptions = {},
): Tensor => ops.linspace(start, end, steps, known(options));

/** Standard normal numbers. */
export const randn = (shape: readonly number[], options: RandomOptions = {}): Tensor =>
  ops.randn(shape, { ...known(options), generator: options.generator });

/** Uniform numbers of [0, 1). */
export const rand = (shape: readonly number[], options: RandomOptions = {}): Tensor =>
  ops.rand(shape, { ...known(options), generator: options.generator });
