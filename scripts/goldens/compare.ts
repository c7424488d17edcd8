import type { Tensor } from '../../lib/torch/index.js';
import { SrumError } from '../../lib/util/errors.js';

/** What a golden index says about one output tensor. */
export interface OutputSpec {
  /** `<case id>/out/<name>` */
  name: string;
  shape: number[];
  exact?: boolean;
  atol?: number;
  rtol?: number;
  dtype?: string;
  /** Share of values of a uint8 image that may differ at all (always by at most `atol` levels). */
  max_fraction_off_by_one?: number;
}

/** Values a handler may offer for comparison. Plain numbers carry no dtype; a flat list carries no shape either. */
export type Values = Tensor | ArrayLike<number> | ArrayLike<bigint> | readonly unknown[] | number;

/** A tensor as the comparison sees it: row-major values, shape, and whether the type is a whole-number one. */
export interface Plain {
  data: ArrayLike<number> | ArrayLike<bigint>;
  /** null: the source was a flat list that has no shape of its own */
  shape: number[] | null;
  family: 'float' | 'integer' | 'unknown';
}

/** Outcome of one comparison; `error` is the worst error in units of the tolerance (1 = just allowed). */
export interface Comparison {
  ok: boolean;
  error: number;
  message?: string;
}

const floatTypes = new Set(['float32', 'float64', 'float16', 'bfloat16']);

function isTensor(x: unknown): x is Tensor {
  return typeof x === 'object' && x !== null && 'dtype' in x && 'toTypedArray' in x;
}

/** Brings a tensor, typed array, nested or flat list, or number into the form that is compared. */
export function plain(values: Values, shape?: readonly number[]): Plain {
  if (typeof values === 'number') return { data: [values], shape: [], family: 'unknown' };
  if (isTensor(values)) {
    const isFloat = floatTypes.has(values.dtype);
    const cpu = values.detach().to({ device: 'cpu' });
    const wide = values.dtype === 'float64' || !isFloat;
    return {
      data: wide
        ? (cpu.contiguous().toTypedArray() as ArrayLike<number>)
        : cpu.contiguous().toFloat32Array(),
      shape: shape === undefined ? [...values.shape] : [...shape],
      family: isFloat ? 'float' : 'integer',
    };
  }
  if (ArrayBuffer.isView(values)) {
    const isFloat = values instanceof Float32Array || values instanceof Float64Array;
    return {
      data: values as unknown as ArrayLike<number>,
      shape: shape === undefined ? null : [...shape],
      family: isFloat ? 'float' : 'integer',
    };
  }
  const list = values as readonly unknown[];
  if (Array.isArray(list) && list.some(Array.isArray)) {
    return { data: flatten(list), shape: shapeOf(list), family: 'unknown' };
  }
  return {
    data: list as ArrayLike<number>,
    shape: shape === undefined ? null : [...shape],
    family: 'unknown',
  };
}

function flatten(list: readonly unknown[]): number[] {
  return list.flatMap((v) => (Array.isArray(v) ? flatten(v) : [Number(v)]));
}

function shapeOf(list: readonly unknown[]): number[] {
  const first = list[0];
  if (!Array.isArray(first)) return [list.length];
  const inner = shapeOf(first);
  for (const v of list) {
    if (!Array.isArray(v) || String(shapeOf(v)) !== String(inner)) {
      throw new SrumError('GOLDEN_VALUES', 'a nested list offered for comparison is ragged');
    }
  }
  return [list.length, ...inner];
}

function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

/** `[2, 3]`-style position of a flat index. */
function position(flat: number, shape: readonly number[]): string {
  const at: number[] = [];
  let rest = flat;
  for (let d = shape.length - 1; d >= 0; d--) {
    at.unshift(rest % shape[d]);
    rest = Math.floor(rest / shape[d]);
  }
  return `[${at.join(', ')}]`;
}

/**
 * Compares values with their reference by the rules of the golden format: equal shapes; equal values and type
 * family where the output is `exact`, else `|got - ref| <= atol + rtol * |ref|` for every element. NaN equals
 * nothing, infinities must match. `max_fraction_off_by_one` also limits the share of differing values.
 */
export function compare(got: Plain, reference: Plain, spec: OutputSpec): Comparison {
  const shape = reference.shape ?? spec.shape;
  const bad = (message: string, error = Number.POSITIVE_INFINITY): Comparison => ({
    ok: false,
    error,
    message,
  });
  if (String(shape) !== String(spec.shape)) {
    return bad(`the folder is inconsistent: index says [${spec.shape}], file holds [${shape}]`);
  }
  // A flat list has no shape of its own; its count is checked below, its order by the values.
  const gotShape = got.shape ?? shape;
  // A single number is offered as a scalar where the index stores one element.
  const scalar = got.shape !== null && gotShape.length === 0 && got.family === 'unknown';
  if (String(gotShape) !== String(shape) && !(scalar && product(shape) === 1)) {
    return bad(`shape is [${gotShape}], reference has [${shape}]`);
  }
  if (got.data.length !== product(shape)) {
    return bad(`${got.data.length} values for shape [${shape}]`);
  }
  const exact = spec.exact === true || (spec.atol === undefined && spec.rtol === undefined);
  const typed = got.family !== 'unknown' && reference.family !== 'unknown';
  if (typed && got.family !== reference.family) {
    return bad(`values are of ${got.family} type, reference is of ${reference.family} type`);
  }
  return exact ? compareExact(got, reference, shape) : compareClose(got, reference, shape, spec);
}

function compareExact(got: Plain, reference: Plain, shape: number[]): Comparison {
  let wrong = 0;
  let first = -1;
  for (let i = 0; i < got.data.length; i++) {
    const a = got.data[i];
    const b = reference.data[i];
    const same =
      typeof a === typeof b
        ? a === b
        : Number.isInteger(Number(a)) && BigInt(a as number) === BigInt(b as number);
    if (!same) {
      if (wrong === 0) first = i;
      wrong++;
    }
  }
  if (wrong === 0) return { ok: true, error: 0 };
  const where = `at ${position(first, shape)} got ${got.data[first]}, reference ${reference.data[first]}`;
  return {
    ok: false,
    error: Number.POSITIVE_INFINITY,
    message: `${wrong} of ${got.data.length} values differ where all must be equal; first ${where}`,
  };
}

function compareClose(got: Plain, ref: Plain, shape: number[], spec: OutputSpec): Comparison {
  const atol = spec.atol ?? 0;
  const rtol = spec.rtol ?? 0;
  let worst = 0;
  let at = -1;
  let outside = 0;
  let different = 0;
  for (let i = 0; i < got.data.length; i++) {
    const a = Number(got.data[i]);
    const b = Number(ref.data[i]);
    if (a === b) continue;
    different++;
    const limit = atol + rtol * Math.abs(b);
    const difference = Math.abs(a - b);
    const comparable = Number.isFinite(a) && Number.isFinite(b) && limit > 0;
    const error = comparable ? difference / limit : Number.POSITIVE_INFINITY;
    if (!(error <= 1)) outside++;
    if (error > worst) {
      worst = error;
      at = i;
    }
  }
  const fraction = got.data.length === 0 ? 0 : different / got.data.length;
  const allowed = spec.max_fraction_off_by_one;
  if (outside > 0) {
    const where = `worst at ${position(at, shape)}: got ${got.data[at]}, reference ${ref.data[at]}`;
    return {
      ok: false,
      error: worst,
      message: `${outside} of ${got.data.length} values are outside atol ${atol}, rtol ${rtol}; ${where}`,
    };
  }
  if (allowed !== undefined && fraction > allowed) {
    return {
      ok: false,
      error: fraction / allowed,
      message: `${(100 * fraction).toFixed(2)} % of the values differ, ${100 * allowed} % may`,
    };
  }
  // For images the share of differing values is what comes near its limit, not the one level each may be off.
  return { ok: true, error: allowed === undefined ? worst : fraction / allowed };
}

/** Plain JSON view of a result, for comparison with `params`: tensors and typed arrays become lists, bigints numbers. */
export function toJson(value: unknown): unknown {
  if (isTensor(value)) return toJson(value.toArray());
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'boolean' || typeof value === 'number' || typeof value === 'string') {
    return value;
  }
  if (value === null || value === undefined) return null;
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number>, toJson);
  if (Array.isArray(value)) return value.map(toJson);
  if (value instanceof Map) return toJson(Object.fromEntries(value));
  if (value instanceof Set) return [...value].map(toJson);
  const out: Record<string, unknown> = {};
  for (const [k, v] of Object.entries(value as object)) if (v !== undefined) out[k] = toJson(v);
  return out;
}
