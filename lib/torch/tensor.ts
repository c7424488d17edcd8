import {
  type Device,
  type DType,
  elementSize,
  isDevice,
  isDType,
  isFloatingDType,
  type TypedArray,
  typedArrayOver,
} from './dtype.js';
import { TorchError } from './errors.js';
import type { TensorMethods } from './generated/aten.js';
import { h, hot } from './hot.js';
import { inScope, own, registerTensorTest, track } from './memory.js';
import { native } from './native.js';

/** A stretch of a dimension, as Python's start:stop:step. */
export interface Slice {
  /** First position; null: from the beginning. Negative counts from the end. */
  readonly start: number | null;
  /** First position left out; null: to the end. */
  readonly stop: number | null;
  /** At least 1. */
  readonly step: number;
}

/** `slice(1, -1)` is Python's `1:-1`; null leaves a side open. */
export const slice = (
  start: number | null = null,
  stop: number | null = null,
  step = 1,
): Slice => ({ start, stop, step });

/** An entry of {@link Tensor.index}: a position, a stretch, `null` for a new dimension, `'...'`, or a mask or index tensor. */
export type Index = number | Slice | null | '...' | Tensor;

/** Numbers in arrays in arrays, one level a dimension. */
export type NestedArray = number | bigint | boolean | NestedArray[];

type Metadata = readonly [DType, Device, readonly number[]];

/**
 * A multi-dimensional array in LibTorch's memory, named by a handle.
 *
 * Every ATen operator whose first parameter is `self` is a method, camelCased; a trailing options object gives any
 * parameter by name. Wrong calls throw {@link TorchError}.
 */
export interface Tensor
  extends Omit<
    TensorMethods,
    | 'add'
    | 'sub'
    | 'mul'
    | 'div'
    | 'matmul'
    | 'view'
    | 'reshape'
    | 'to'
    | 'item'
    | 'size'
    | 'index'
    | 'indexPut_'
    | 'backward'
    | 'requiresGrad_'
    | 'numel'
    | 'transpose'
    | 'unsqueeze'
    | 'select'
    | 'narrow'
    | 'permute'
    | 'add_'
    | 'mul_'
  > {}

export class Tensor {
  /** Name in the native table; changes only when the tensor leaves its scopes. */
  handle: number;
  /** @internal See memory.ts. */
  owner: object | null = null;
  private metadata: Metadata | null = null;

  /** @internal Use the factories or {@link wrap}. */
  constructor(handle: number) {
    this.handle = handle;
  }

  private meta(): Metadata {
    if (this.metadata === null) {
      const info = native.tensorInfo(this.handle);
      this.metadata = [info[0] as DType, info[1], info.slice(3) as number[]];
    }
    return this.metadata;
  }

  /** @internal In-place operators may change shape or dtype. */
  metadataChanged(): void {
    this.metadata = null;
  }

  /** Element type. */
  get dtype(): DType {
    return this.meta()[0];
  }

  /** Where the memory lies: `cpu`, `cuda:0`, `meta`. */
  get device(): Device {
    return this.meta()[1];
  }

  /** Extents of all dimensions; [] for a scalar. */
  get shape(): readonly number[] {
    return this.meta()[2];
  }

  /** Number of dimensions. */
  get ndim(): number {
    return this.shape.length;
  }

  /** Number of elements. */
  get numel(): number {
    return this.shape.reduce((product, extent) => product * extent, 1);
  }

  /** Bytes of the elements, views counted as if contiguous. */
  get nbytes(): number {
    return this.numel * elementSize(this.dtype);
  }

  /** Extent of dimension `dim` (negative counts from the end). */
  size(dim: number): number {
    const extent = this.shape.at(dim);
    if (extent === undefined || dim >= this.ndim)
      throw new TorchError('ERR_INDEX', `size(${dim}) of a tensor of shape [${this.shape}]`);
    return extent;
  }

  /** Whether the elements are real floating point numbers. */
  get isFloating(): boolean {
    return isFloatingDType(this.dtype);
  }

  // --- values

  /** The single element as a number (integers beyond 2^53 throw: use {@link itemBigInt}); booleans become 0 or 1. */
  item(): number {
    const value = native.tensorItem(this.handle);
    if (typeof value === 'bigint')
      throw new TorchError(
        'ERR_ARGUMENT',
        `item(): ${value} is no safe JavaScript integer; use itemBigInt()`,
      );
    return Number(value);
  }

  /** The single element as a bigint. @throws {TorchError} ERR_DTYPE for a fraction. */
  itemBigInt(): bigint {
    const value = native.tensorItem(this.handle);
    if (typeof value === 'number' && !Number.isInteger(value))
      throw new TorchError('ERR_DTYPE', `itemBigInt(): ${value} is no whole number`);
    return BigInt(value);
  }

  /** A copy of the elements in row-major order, in the dtype's own array (raw bits for bfloat16 and float16). */
  toTypedArray(): TypedArray {
    return typedArrayOver(this.dtype, native.toArrayBuffer(this.handle));
  }

  /** The tensor's own memory as a typed array: no copy, writes go both ways. Contiguous CPU tensors only. */
  asTypedArray(): TypedArray {
    return typedArrayOver(this.dtype, native.shareArrayBuffer(this.handle));
  }

  /** A copy as float32, from any real dtype and device. */
  toFloat32Array(): Float32Array {
    if (this.dtype === 'float32') return this.toTypedArray() as Float32Array;
    using converted = this.to('float32');
    return converted.toTypedArray() as Float32Array;
  }

  /** A copy of an integer or boolean tensor as JavaScript numbers; beyond 2^53 throws ERR_ARGUMENT. */
  toIntArray(): number[] {
    if (this.isFloating) throw new TorchError('ERR_DTYPE', `toIntArray() of ${this.dtype}`);
    return Array.from(this.toTypedArray() as Iterable<number | bigint>, (value) => {
      const number = Number(value);
      if (!Number.isSafeInteger(number))
        throw new TorchError('ERR_ARGUMENT', `${value} is no safe JavaScript integer`);
      return number;
    });
  }

  /** Nested arrays of numbers (bigints beyond 2^53, booleans for bool). */
  toArray(): NestedArray {
    const { shape, dtype } = this;
    const flat: TypedArray =
      dtype === 'bfloat16' || dtype === 'float16' ? this.toFloat32Array() : this.toTypedArray();
    const convert = (value: number | bigint): NestedArray => {
      if (dtype === 'bool') return value !== 0;
      return typeof value === 'bigint' && BigInt.asIntN(54, value) === value
        ? Number(value)
        : value;
    };
    let offset = 0;
    const build = (dim: number): NestedArray => {
      if (dim === shape.length) return convert(flat[offset++]);
      return Array.from({ length: shape[dim] }, () => build(dim + 1));
    };
    return build(0);
  }

  // --- hot operators: bound once, no overload search

  /** `this + alpha * other`, broadcast; a number keeps the dtype where it can hold it. */
  add(other: Tensor | number, options?: { alpha?: number }): Tensor {
    return wrap(
      typeof other === 'number'
        ? hot.addScalar(this.handle, other, options?.alpha)
        : hot.addTensor(this.handle, h(other), options?.alpha),
    );
  }

  /** As {@link add}, written into this tensor, which keeps shape and dtype. */
  add_(other: Tensor | number, options?: { alpha?: number }): this {
    if (typeof other === 'number') hot.addScalar_(this.handle, other, options?.alpha);
    else hot.addTensor_(this.handle, h(other), options?.alpha);
    return this;
  }

  /** `this - alpha * other`, broadcast. */
  sub(other: Tensor | number, options?: { alpha?: number }): Tensor {
    return wrap(
      typeof other === 'number'
        ? hot.subScalar(this.handle, other, options?.alpha)
        : hot.subTensor(this.handle, h(other), options?.alpha),
    );
  }

  /** The product element by element, broadcast. */
  mul(other: Tensor | number): Tensor {
    return wrap(
      typeof other === 'number'
        ? hot.mulScalar(this.handle, other)
        : hot.mulTensor(this.handle, h(other)),
    );
  }

  /** As {@link mul}, written into this tensor, which keeps shape and dtype. */
  mul_(other: Tensor | number): this {
    if (typeof other === 'number') hot.mulScalar_(this.handle, other);
    else hot.mulTensor_(this.handle, h(other));
    return this;
  }

  /**
   * The quotient element by element, broadcast; of integers a float unless `roundingMode` asks for whole
   * numbers (`floor`: towards minus infinity, `trunc`: towards 0).
   */
  div(other: Tensor | number, options?: { roundingMode?: 'floor' | 'trunc' | null }): Tensor {
    if (options?.roundingMode)
      return wrap(hot.divMode(this.handle, this.operand(other), options.roundingMode));
    return wrap(
      typeof other === 'number'
        ? hot.divScalar(this.handle, other)
        : hot.divTensor(this.handle, h(other)),
    );
  }

  private operand(other: Tensor | number): number {
    return typeof other === 'number' ? hot.scalarTensor(other, 'float64') : h(other);
  }

  /**
   * Matrix product of the last two dimensions, [.., n, k] x [.., k, m] -> [.., n, m], the others broadcast;
   * vectors stand for one row or one column. @throws {TorchError} ERR_SHAPE
   */
  matmul(other: Tensor): Tensor {
    return wrap(hot.matmul(this.handle, h(other)));
  }

  /** `view(shape)`, or `view(dtype)` to read the same bytes as another dtype. */
  view(shape: readonly number[] | DType): Tensor {
    return wrap(
      typeof shape === 'string' ? hot.viewDtype(this.handle, shape) : hot.view(this.handle, shape),
    );
  }

  /** The same elements in another shape, where one extent may be -1; a view where possible. */
  reshape(shape: readonly number[]): Tensor {
    return wrap(hot.reshape(this.handle, shape));
  }

  /** A view with two dimensions exchanged. */
  transpose(dim0: number, dim1: number): Tensor {
    return wrap(hot.transpose(this.handle, dim0, dim1));
  }

  /** A view with the dimensions in another order: dimension i is the old `dims[i]`. */
  permute(dims: readonly number[]): Tensor {
    return wrap(hot.permute(this.handle, dims));
  }

  /** A view with a new dimension of extent 1 at `dim`. */
  unsqueeze(dim: number): Tensor {
    return wrap(hot.unsqueeze(this.handle, dim));
  }

  /** A view of one position of a dimension, which disappears. @throws {TorchError} ERR_INDEX */
  select(dim: number, index: number): Tensor {
    return wrap(hot.select(this.handle, dim, index));
  }

  /** A view of `length` positions of a dimension from `start` on. @throws {TorchError} */
  narrow(dim: number, start: number, length: number): Tensor {
    return wrap(hot.narrow(this.handle, dim, start, length));
  }

  /** Another dtype and/or device; returns a tensor that shares memory when nothing changes. */
  to(target: DType | Device | { dtype?: DType; device?: Device; copy?: boolean }): Tensor {
    const wanted: { dtype?: DType; device?: Device; copy?: boolean } =
      typeof target !== 'string'
        ? target
        : isDType(target)
          ? { dtype: target }
          : { device: target };
    if (wanted.device !== undefined && !isDevice(wanted.device))
      throw new TorchError('ERR_ARGUMENT', `'${wanted.device}' is neither a dtype nor a device`);
    if (wanted.dtype !== undefined && !isDType(wanted.dtype))
      throw new TorchError('ERR_ARGUMENT', `unknown dtype '${String(wanted.dtype)}'`);
    return wrap(
      hot.to(
        this.handle,
        wanted.dtype,
        undefined,
        wanted.device,
        undefined,
        false,
        wanted.copy ?? false,
      ),
    );
  }

  // --- indexing

  /** `x.index(0, slice(1, -1), null, '...', mask)`: views where possible, a copy where a mask or index tensor takes part. */
  index(...indices: readonly Index[]): Tensor {
    const [view, advanced] = this.basicIndex(indices);
    return advanced === null ? view : wrap(hot.index(view.handle, advanced));
  }

  /** Writes `value` (broadcast) where `index(...indices)` would read. */
  indexPut_(
    indices: readonly Index[],
    value: Tensor | number,
    options?: { accumulate?: boolean },
  ): this {
    const [view, advanced] = this.basicIndex(indices);
    const source =
      typeof value === 'number'
        ? wrap(hot.scalarTensor(value, this.dtype, undefined, this.device))
        : value;
    if (advanced !== null)
      hot.indexPut_(view.handle, advanced, h(source), options?.accumulate ?? false);
    else if (options?.accumulate) hot.addTensor_(view.handle, h(source));
    else hot.copy_(view.handle, h(source));
    return this;
  }

  /** Applies positions and stretches as views; what remains are index tensors by dimension, or null. */
  private basicIndex(indices: readonly Index[]): [Tensor, (number | null)[] | null] {
    const consumed = indices.filter((index) => index !== null && index !== '...').length;
    const maskExtra = indices.reduce(
      (n: number, index) =>
        n + (index instanceof Tensor && index.dtype === 'bool' ? index.ndim - 1 : 0),
      0,
    );
    if (consumed + maskExtra > this.ndim || indices.filter((index) => index === '...').length > 1)
      throw new TorchError(
        'ERR_INDEX',
        `${indices.length} indices for a tensor of shape [${this.shape}]`,
      );
    let view: Tensor = this;
    let dim = 0;
    // ATen takes one entry per index tensor, and null for every dimension before it; a mask covers all its dimensions.
    const advanced: (number | null)[] = [];
    let covered = 0;
    for (const index of indices) {
      if (index === '...') dim += this.ndim - consumed - maskExtra;
      else if (index === null) view = view.unsqueeze(dim++);
      else if (typeof index === 'number') view = view.select(dim, index);
      else if (index instanceof Tensor) {
        for (; covered < dim; covered++) advanced.push(null);
        advanced.push(index.handle);
        dim += index.dtype === 'bool' ? index.ndim : 1;
        covered = dim;
      } else {
        view = wrap(hot.slice(view.handle, dim++, index.start, index.stop, index.step));
      }
    }
    return [view, advanced.length > 0 ? advanced : null];
  }

  // --- autograd

  /** Whether operations on this tensor are recorded for {@link backward}. */
  get requiresGrad(): boolean {
    return native.tensorInfo(this.handle)[2];
  }

  /**
   * Makes a leaf take gradients, or not. @throws {TorchError} unless it is a floating point leaf.
   */
  requiresGrad_(flag = true): this {
    native.setRequiresGrad(this.handle, flag);
    return this;
  }

  /**
   * The gradient a leaf has gathered, as a new tensor over the same memory; null before the first
   * {@link backward}. Setting it replaces the gradient, null clears it.
   *
   * @throws {TorchError} ERR_SHAPE, ERR_DTYPE or ERR_DEVICE for a gradient unlike its tensor.
   */
  get grad(): Tensor | null {
    const handle = native.getGrad(this.handle);
    return handle === null ? null : wrap(handle);
  }

  set grad(gradient: Tensor | null) {
    native.setGrad(this.handle, gradient === null ? null : h(gradient));
  }

  /** Accumulates d(this)/d(leaf) into every leaf's `grad`. `gradient` defaults to one and is needed unless `this` is a scalar. */
  backward(
    gradient: Tensor | null = null,
    options: { retainGraph?: boolean; createGraph?: boolean } = {},
  ): void {
    const create = options.createGraph ?? false;
    native.backward(
      [this.handle],
      gradient === null ? null : [h(gradient)],
      options.retainGraph ?? create,
      create,
    );
  }

  /** {@link backward} on a thread of Node's pool. */
  async backwardAsync(
    gradient: Tensor | null = null,
    options: { retainGraph?: boolean } = {},
  ): Promise<void> {
    await native.backwardAsync(
      [this.handle],
      gradient === null ? null : [h(gradient)],
      options.retainGraph ?? false,
      false,
    );
  }

  // --- lifetime

  /** Frees the tensor's hold on its memory now; views keep theirs. Using it afterwards throws ERR_DISPOSED. */
  dispose(): void {
    native.dispose(this.handle);
  }

  /** Whether the memory was given up, by {@link dispose} or by the end of a scope. */
  get isDisposed(): boolean {
    return !native.isAlive(this.handle);
  }

  /** As {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** A number another thread of this process can open with {@link Tensor.adopt}; the tensor stays alive until adopted. */
  share(): number {
    return native.alias(this.handle);
  }

  /** Takes over a tensor shared by another thread. Each shared number can be adopted once. */
  static adopt(shared: number): Tensor {
    if (!native.isAlive(shared))
      throw new TorchError('ERR_DISPOSED', `adopt(${shared}): no such shared tensor`);
    const tensor = new Tensor(shared);
    track(tensor);
    return tensor;
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    if (this.isDisposed) return 'Tensor(disposed)';
    const values =
      this.numel <= 32 && this.device !== 'meta'
        ? ` ${JSON.stringify(this.toArray(), (_, v) => (typeof v === 'bigint' ? String(v) : v))}`
        : '';
    return `Tensor(${this.dtype}[${this.shape.join(', ')}] ${this.device}${values})`;
  }
}

registerTensorTest((value): value is Tensor => value instanceof Tensor);

/** Gives a fresh native handle its object and its owner. */
export function wrap(handle: number): Tensor {
  const tensor = new Tensor(handle);
  if (!inScope()) own(tensor);
  return tensor;
}

/** The same for the results of one call. */
export function wrapAll(handles: readonly (number | null)[]): (Tensor | null)[] {
  const tensors = handles.map((handle) => (handle === null ? null : new Tensor(handle)));
  own(...tensors.filter((tensor) => tensor !== null));
  return tensors;
}
