import { isDevice, isDType } from './dtype.js';
import { printable, TorchError } from './errors.js';
import { own } from './memory.js';
import {
  type BoundOperator,
  native,
  type OverloadSchema,
  type ParamKind,
  type ParamSchema,
} from './native.js';
import { Generator } from './random.js';
import { Tensor } from './tensor.js';

/** `masked_fill_` -> `maskedFill_`; leading and trailing underscores stay. */
export const camelCase = (name: string): string =>
  name.replace(/(?<=[A-Za-z0-9])_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

const isInteger = (value: unknown): boolean => typeof value === 'bigint' || Number.isInteger(value);
const isScalar = (value: unknown): boolean =>
  typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint';
const every = (test: (value: unknown) => boolean) => (value: unknown) =>
  Array.isArray(value) && value.every(test);
const isTensor = (value: unknown): boolean => value instanceof Tensor;

const fits: Record<ParamKind, (value: unknown) => boolean> = {
  Tensor: isTensor,
  'Tensor[]': every(isTensor),
  'Tensor?[]': every((value) => value === null || value === undefined || isTensor(value)),
  int: isInteger,
  'int[]': every(isInteger),
  float: (value) => typeof value === 'number',
  'float[]': every((value) => typeof value === 'number'),
  bool: (value) => typeof value === 'boolean',
  'bool[]': every((value) => typeof value === 'boolean'),
  Scalar: isScalar,
  'Scalar[]': every(isScalar),
  str: (value) => typeof value === 'string',
  'str[]': every((value) => typeof value === 'string'),
  ScalarType: isDType,
  Layout: (value) => typeof value === 'string',
  MemoryFormat: (value) => typeof value === 'string',
  Device: isDevice,
  Generator: (value) => value instanceof Generator,
  unsupported: () => false,
};

function accepts(param: ParamSchema, value: unknown): boolean {
  if (value === undefined) return param.hasDefault || param.optional;
  if (value === null) return param.optional;
  if (fits[param.kind](value)) return true;
  return param.fixedLength > 0 && !Array.isArray(value) && fits[param.kind]([value]);
}

/** What the addon expects in place of a TypeScript value. */
function lower(value: unknown): unknown {
  if (value instanceof Tensor) return value.handle;
  if (value instanceof Generator) return value.id;
  if (Array.isArray(value))
    return value.some((item) => item instanceof Tensor) ? value.map(lower) : value;
  return value;
}

const isOptions = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;

class Overload {
  readonly #schema: OverloadSchema;
  readonly #name: string;
  readonly #keys: Map<string, number>;
  readonly #positional: number;
  readonly #returnsTensors: boolean[];
  #call: BoundOperator | null = null;
  #async: BoundOperator | null = null;

  constructor(name: string, schema: OverloadSchema) {
    this.#name = name;
    this.#schema = schema;
    this.#keys = new Map();
    schema.params.forEach((param, i) => {
      this.#keys.set(param.name, i);
      this.#keys.set(camelCase(param.name), i);
    });
    this.#positional = schema.params.filter((param) => !param.keywordOnly).length;
    this.#returnsTensors = schema.returns.map((kind) => kind.startsWith('Tensor'));
  }

  get supported(): boolean {
    return this.#schema.params.every(
      (param) => param.kind !== 'unsupported' || param.hasDefault || param.optional,
    );
  }

  /** The arguments in schema order, or null when they do not fit this overload. */
  match(args: readonly unknown[], options: Record<string, unknown> | null): unknown[] | null {
    const { params } = this.#schema;
    if (args.length > this.#positional) return null;
    const values = args.slice();
    if (options !== null) {
      for (const key of Object.keys(options)) {
        if (options[key] === undefined) continue;
        const index = this.#keys.get(key);
        if (index === undefined || index < args.length) return null;
        while (values.length <= index) values.push(undefined);
        values[index] = options[key];
      }
    }
    for (let i = 0; i < params.length; i++) {
      if (i >= values.length || (values[i] === undefined && i >= args.length)) {
        if (!params[i].hasDefault) return null;
      } else if (!accepts(params[i], values[i])) {
        return null;
      }
    }
    return values;
  }

  invoke(values: unknown[]): unknown {
    this.#call ??= native.bindOperator(this.#name, this.#schema.overload);
    return this.#raise(this.#call(...values.map(lower)), values);
  }

  async invokeAsync(values: unknown[]): Promise<unknown> {
    this.#async ??= native.bindAsync(this.#name, this.#schema.overload);
    return this.#raise(await this.#async(...values.map(lower)), values);
  }

  #raise(result: unknown, values: unknown[]): unknown {
    const { returns, returnsFirstArgument } = this.#schema;
    if (returnsFirstArgument) {
      (values[0] as Tensor).metadataChanged();
      return values[0];
    }
    if (returns.length === 0) return undefined;
    // All handles of a call get their owner together, after the last one: see memory.ts.
    const made: Tensor[] = [];
    const raise = (value: unknown): unknown => {
      if (value === null) return null;
      if (Array.isArray(value)) return value.map(raise);
      const tensor = new Tensor(value as number);
      made.push(tensor);
      return tensor;
    };
    const raised =
      returns.length === 1
        ? this.#returnsTensors[0]
          ? raise(result)
          : result
        : (result as unknown[]).map((item, i) => (this.#returnsTensors[i] ? raise(item) : item));
    own(...made);
    return raised;
  }

  toString(): string {
    const params = this.#schema.params.map(
      (param) =>
        `${camelCase(param.name)}: ${param.kind}${param.optional ? '?' : ''}${param.hasDefault ? ` = ${param.defaultText}` : ''}`,
    );
    return `${this.#name.replace(/^aten::/, '')}(${params.join(', ')})`;
  }
}

function describe(value: unknown, depth = 0): string {
  if (value instanceof Tensor)
    return value.isDisposed ? 'disposed Tensor' : `${value.dtype}[${value.shape}] ${value.device}`;
  if (Array.isArray(value)) {
    // An array may contain itself.
    if (depth > 2) return '[…]';
    const items = value.slice(0, 8).map((item) => describe(item, depth + 1));
    return `[${items.join(', ')}${value.length > 8 ? ', …' : ''}]`;
  }
  if (isOptions(value)) return `{${Object.keys(value).join(', ')}}`;
  return typeof value === 'string' ? `'${value}'` : printable(value);
}

/** One operator with all its overloads; the arguments choose. */
export class Operator {
  readonly #name: string;
  #overloads: Overload[] | null = null;

  /** @param name qualified, such as `aten::add`; looked up at the first call. */
  constructor(name: string) {
    this.#name = name;
  }

  #resolve(args: readonly unknown[]): [Overload, unknown[]] {
    this.#overloads ??= native
      .schemasOf(this.#name)
      .map((schema) => new Overload(this.#name, schema))
      .filter((overload) => overload.supported);
    const last = args.at(-1);
    const options = isOptions(last) ? last : null;
    const positional = options === null ? args : args.slice(0, -1);
    for (const overload of this.#overloads) {
      const values = overload.match(positional, options);
      if (values !== null) return [overload, values];
    }
    throw new TorchError(
      'ERR_ARGUMENT',
      `${this.#name.replace(/^aten::/, '')}(${args.map((value) => describe(value)).join(', ')}) fits no overload; known: ${this.#overloads.join('; ') || 'none'}`,
    );
  }

  /**
   * Runs at once.
   *
   * @throws {TorchError} ERR_ARGUMENT when no overload takes the arguments, else what LibTorch objects to.
   */
  call(args: readonly unknown[]): unknown {
    const [overload, values] = this.#resolve(args);
    return overload.invoke(values);
  }

  /** Runs on a thread of Node's pool; the arguments must not be modified meanwhile. */
  async callAsync(args: readonly unknown[]): Promise<unknown> {
    const [overload, values] = this.#resolve(args);
    return overload.invokeAsync(values);
  }
}
