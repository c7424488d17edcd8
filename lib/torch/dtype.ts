import { TorchError } from './errors.js';

/** Element types, by PyTorch's names. */
export type DType =
  | 'float32'
  | 'float64'
  | 'bfloat16'
  | 'float16'
  | 'int8'
  | 'int16'
  | 'int32'
  | 'int64'
  | 'uint8'
  | 'bool'
  | 'complex64'
  | 'complex128';

/** `cpu`, `cuda`, `cuda:1`, `meta`. */
export type Device = string;

/** The typed arrays a tensor can be made from or read into. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Uint8Array
  | Uint8ClampedArray
  | Uint16Array;

type ArrayConstructor = new (buffer: ArrayBufferLike) => TypedArray;

const arrays: Record<DType, { array: ArrayConstructor; bytes: number }> = {
  float32: { array: Float32Array, bytes: 4 },
  float64: { array: Float64Array, bytes: 8 },
  // JavaScript has no 16-bit floats in Node 20: their raw bits travel.
  bfloat16: { array: Uint16Array, bytes: 2 },
  float16: { array: Uint16Array, bytes: 2 },
  int8: { array: Int8Array, bytes: 1 },
  int16: { array: Int16Array, bytes: 2 },
  int32: { array: Int32Array, bytes: 4 },
  int64: { array: BigInt64Array, bytes: 8 },
  uint8: { array: Uint8Array, bytes: 1 },
  bool: { array: Uint8Array, bytes: 1 },
  complex64: { array: Float32Array, bytes: 8 },
  complex128: { array: Float64Array, bytes: 16 },
};

/** Whether a value names an element type. */
export const isDType = (name: unknown): name is DType =>
  typeof name === 'string' && Object.hasOwn(arrays, name);

/** Whether a value has the form of a device name; the device need not exist. */
export const isDevice = (name: unknown): name is Device =>
  typeof name === 'string' && /^(cpu|cuda|meta)(:\d+)?$/.test(name);

/** True for the real floating point types, 16-bit ones included. */
export const isFloatingDType = (dtype: DType): boolean => /^b?float/.test(dtype);

/** Bytes of one element. */
export const elementSize = (dtype: DType): number => arrays[dtype].bytes;

/** A view of `buffer` as the typed array that matches `dtype` (raw bits for 16-bit floats). */
export const typedArrayOver = (dtype: DType, buffer: ArrayBuffer): TypedArray =>
  new arrays[dtype].array(buffer);

/** The dtype a typed array stands for when none is given. */
export function dtypeOfArray(data: TypedArray): DType {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof Int8Array) return 'int8';
  if (data instanceof Int16Array) return 'int16';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof BigInt64Array) return 'int64';
  if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return 'uint8';
  throw new TorchError(
    'ERR_DTYPE',
    `a ${(data as object).constructor.name} needs an explicit dtype`,
  );
}
