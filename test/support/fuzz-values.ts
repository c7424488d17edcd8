import { type Native, native, type ParamSchema } from '../../lib/torch/native.js';

// Values for every kind of operator parameter, the right ones and the wrong ones, drawn from a seeded stream.

/** Thrown by the getters and proxies below: the one foreign error that may come back out of the addon. */
export class Trap extends Error {}

/** mulberry32: small, seeded, good enough to choose values. */
export class Dice {
  #state: number;

  constructor(text: string) {
    let hash = 2166136261;
    for (let i = 0; i < text.length; i++)
      hash = Math.imul(hash ^ text.charCodeAt(i), 16777619) >>> 0;
    this.#state = hash;
  }

  unit(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  below(n: number): number {
    return Math.floor(this.unit() * n);
  }

  chance(probability: number): boolean {
    return this.unit() < probability;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }

  times<T>(n: number, make: () => T): T[] {
    return Array.from({ length: n }, make);
  }
}

const dtypes = [
  'float32',
  'float64',
  'bfloat16',
  'float16',
  'int8',
  'int16',
  'int32',
  'int64',
  'uint8',
  'bool',
  'complex64',
  'complex128',
];
// Nothing between a thousand and 2^40: such a size could be had, at the price of the machine's memory and minutes.
const ints = [
  -(2n ** 63n),
  -(2 ** 53),
  -100,
  -3,
  -2,
  -1,
  -1,
  0,
  0,
  0,
  1,
  1,
  1,
  1,
  2,
  2,
  2,
  3,
  3,
  4,
  5,
  7,
  8,
  64,
  1000,
  2 ** 40,
  2 ** 53,
  2n ** 62n,
  2n ** 63n - 1n,
];
const floats = [
  0,
  -0,
  1,
  -1,
  0.5,
  1e-5,
  2,
  1e30,
  -1e300,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.MAX_SAFE_INTEGER,
];
const strings = [
  '',
  'mean',
  'sum',
  'none',
  'tanh',
  'floor',
  'trunc',
  'linear',
  'nearest',
  'reflect',
  'constant',
  'left',
  'right',
  'L',
  'U',
  'ij',
  'xy',
  'fro',
  'nuc',
  'ortho',
  'reduced',
  'complete',
  'r',
  'sum,prod',
  'ij,jk->ik',
  'amax',
  'hann',
  '\0',
  'x'.repeat(5000),
  'ünïcødé',
];
const devices = ['cpu', 'cpu', 'cpu', 'cpu', 'meta', 'cuda', 'cuda:99', 'cpu:5', 'mps', 'x', ''];

const empty = native.bindOperator('aten::empty', 'memory_format');
const randint = native.bindOperator('aten::randint', 'low');
const randn = native.bindOperator('aten::randn', '');
const to = native.bindOperator('aten::to', 'dtype');
const toSparse = native.bindOperator('aten::to_sparse', '');
const toCsr = native.bindOperator('aten::to_sparse_csr', '');
const transpose = native.bindOperator('aten::transpose', 'int');
const expand = native.bindOperator('aten::expand', '');
const select = native.bindOperator('aten::select', 'int');
const fill = native.bindOperator('aten::fill_', 'Scalar');
const conj = native.bindOperator('aten::_conj', '');

const extents = [0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 8];

/** A shape that other arguments of the call often share, so that calls get past the shape checks. */
export interface Mood {
  shape: number[];
  dtype: string;
  /** How many of the arguments go along with it. */
  steadiness: number;
}

export const mood = (dice: Dice): Mood => ({
  shape: dice.times(dice.below(5), () => dice.pick(extents)),
  dtype: dice.chance(0.6) ? 'float32' : dice.pick(dtypes),
  steadiness: dice.pick([0.6, 0.6, 0.9, 0.98]),
});

function shapeOf(dice: Dice, m: Mood): number[] {
  if (dice.chance(m.steadiness)) return m.shape;
  const rank = dice.chance(0.2) ? dice.below(7) : dice.below(4);
  return dice.times(rank, () => dice.pick(dice.chance(0.3) && m.shape.length ? m.shape : extents));
}

/** A tiny tensor: mostly plain, sometimes of every strange sort there is. */
export function someTensor(dice: Dice, m: Mood, integral = false): number {
  const shape = shapeOf(dice, m);
  const own = integral ? 'int64' : m.dtype;
  const dtype = dice.chance(m.steadiness)
    ? own
    : dice.pick([...dtypes, 'int64', 'int64', 'float32']);
  if (dice.chance(0.03)) return empty(shape, dtype, 'strided', 'meta');
  let t: number;
  if (/^(int|uint|bool)/.test(dtype)) {
    const wide = dice.chance(0.15);
    t = to(randint(wide ? -(2 ** 40) : dice.pick([0, 0, -2]), wide ? 2 ** 40 : 4, shape), dtype);
    if (dice.chance(0.05)) fill(t, dice.pick([-128, -1, 0, 127]));
  } else {
    t = to(randn(shape), dtype);
    if (dice.chance(0.05)) fill(t, dice.pick(floats));
  }
  const rank = shape.length;
  if (rank >= 2 && dice.chance(0.15)) t = transpose(t, 0, rank - 1);
  if (rank >= 1 && shape[0] > 0 && dice.chance(0.05)) t = select(t, 0, 0);
  else if (dice.chance(0.04)) t = expand(t, [3, ...shape]);
  if (dtype.startsWith('complex') && dice.chance(0.2)) t = conj(t);
  if (dice.chance(0.03)) t = toSparse(t);
  else if (rank === 2 && dice.chance(0.02)) t = toCsr(t);
  if (/^(b?float|complex)/.test(dtype) && dice.chance(0.25)) native.setRequiresGrad(t, true);
  return t;
}

const longArray = () => {
  const list = [1];
  list.length = 100_000;
  return list;
};
const throwing = () =>
  Object.defineProperty([1, 2], 0, {
    get() {
      throw new Trap('getter');
    },
  });
const shrinking = () => {
  const list = [1, 2, 3, 4];
  Object.defineProperty(list, 0, {
    get() {
      list.length = 1;
      return 1;
    },
  });
  return list;
};
const cyclic = () => {
  const list: unknown[] = [];
  list.push(list);
  return list;
};
const trapped = (target: object) =>
  new Proxy(target, {
    get() {
      throw new Trap('proxy');
    },
    getPrototypeOf() {
      throw new Trap('proxy');
    },
    has() {
      throw new Trap('proxy');
    },
    ownKeys() {
      throw new Trap('proxy');
    },
  });
const detached = () => {
  const array = new Float32Array(4);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
};
const revoked = () => {
  const { proxy, revoke } = Proxy.revocable([], {});
  revoke();
  return proxy;
};
/** Disposes of what the call has been given already. */
const disposing = (others: readonly unknown[]) =>
  Object.defineProperty([0, 1], 0, {
    get() {
      for (const handle of others)
        if (typeof handle === 'number' && handle > 0 && handle < 2 ** 53) native.dispose(handle);
      return 0;
    },
  });

/** Anything JavaScript has. */
export function wrongValue(dice: Dice, m: Mood, others: readonly unknown[]): unknown {
  return dice.pick<() => unknown>([
    () => undefined,
    () => null,
    () => Number.NaN,
    () => dice.pick(ints),
    () => dice.pick(floats),
    () => 2n ** 200n,
    () => -1,
    () => 0.5,
    () => 2 ** 52 + 1,
    () => true,
    () => dice.pick(strings),
    () => Symbol('x'),
    () => () => 1,
    () => ({}),
    () => Object.create(null),
    () => ({ handle: 1, length: 3 }),
    () => [],
    () => [[]],
    () => [null, undefined],
    () => [Number.NaN],
    () => dice.times(dice.below(5), () => dice.pick(ints)),
    () => dice.times(dice.below(3), () => someTensor(dice, m)),
    longArray,
    throwing,
    shrinking,
    cyclic,
    () => trapped([]),
    () => trapped({}),
    revoked,
    () => disposing(others),
    detached,
    () => new Float32Array(new SharedArrayBuffer(16)),
    () => new BigInt64Array(2),
    () => new Date(Number.NaN),
    () => new Map(),
    () => someTensor(dice, m),
    () => {
      const handle = someTensor(dice, m);
      native.dispose(handle);
      return handle;
    },
  ])();
}

function smallInt(dice: Dice): number | bigint {
  return dice.chance(0.85) ? dice.below(5) - 1 : dice.pick(ints);
}

/** A value of the kind the parameter asks for. */
export function rightValue(dice: Dice, param: ParamSchema, m: Mood): unknown {
  if (param.optional && dice.chance(0.4)) return null;
  if (param.hasDefault && dice.chance(0.5)) return undefined;
  const length = () =>
    param.fixedLength > 0 && dice.chance(0.8) ? param.fixedLength : dice.below(5);
  switch (param.kind) {
    case 'Tensor':
      return someTensor(dice, m, /ind(ex|ices)|target|offsets|label|length/.test(param.name));
    case 'Tensor[]':
      return dice.times(dice.below(5), () => someTensor(dice, m));
    case 'Tensor?[]':
      return dice.times(dice.below(4), () => (dice.chance(0.3) ? null : someTensor(dice, m)));
    case 'int':
      return smallInt(dice);
    case 'int[]':
      return dice.chance(0.2) ? m.shape : dice.times(length(), () => smallInt(dice));
    case 'float':
      return dice.pick(floats);
    case 'float[]':
      return dice.times(length(), () => dice.pick(floats));
    case 'bool':
      return dice.chance(0.5);
    case 'bool[]':
      return dice.times(length(), () => dice.chance(0.5));
    case 'Scalar':
      return dice.chance(0.5) ? dice.pick(floats) : smallInt(dice);
    case 'Scalar[]':
      return dice.times(length(), () => dice.pick(floats));
    case 'str':
      return dice.pick(strings);
    case 'str[]':
      return dice.times(length(), () => dice.pick(strings));
    case 'ScalarType':
      return dice.pick(dtypes);
    case 'Layout':
      return dice.pick(['strided', 'strided', 'strided', 'sparse_coo', 'sparse_csr']);
    case 'MemoryFormat':
      return dice.pick(['contiguous', 'preserve', 'channels_last', 'channels_last_3d']);
    case 'Device':
      return dice.pick(devices);
    case 'Generator':
      return generator();
    case 'unsupported':
      return null;
  }
}

let shared: number | null = null;
function generator(): number {
  shared ??= (native as Native).generatorNew(1n, 'cpu');
  return shared;
}
