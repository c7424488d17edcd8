import type { Device, DType, Generator } from '../torch/index.js';
import { keep, Tensor, zeros } from '../torch/index.js';
import type { KeyRules } from './key-report.js';
import { compareKeys, requireFit } from './key-report.js';

/** Options of {@link Module.loadStateDict}. */
export interface LoadOptions extends KeyRules {
  /** Only keys that start with this are read, and it is cut off; the rules see what is left. */
  prefix?: string;
  /** File or directory the tensors come from, for the message. */
  source?: string;
}

interface Slot {
  key: string;
  owner: Record<string, unknown>;
  name: string;
  tensor: Tensor;
}

/** `qProjMoeGen` -> `q_proj_moe_gen`; names that are snake_case already stay as they are. */
export function toSnakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/**
 * A parameter place without memory: a tensor on the `meta` device that carries only its shape.
 * `loadStateDict` or `initWeights` puts the real values in.
 */
export function parameter(shape: number[], dtype: DType = 'float32'): Tensor {
  return keep(zeros(shape, { dtype, device: 'meta' }));
}

/**
 * Base of all layers. Every own enumerable property that is a Tensor is a parameter, one that is a
 * Module is a child, one that is an array of Modules is a list of children. The checkpoint key of a
 * parameter is its property path in snake_case. Buffers that are not saved live in #private fields.
 */
export class Module {
  /** Parameters with their checkpoint keys, in order of construction. */
  *namedParameters(prefix = ''): IterableIterator<[string, Tensor]> {
    for (const slot of slots(this, prefix)) yield [slot.key, slot.tensor];
  }

  /** Parameters in order of construction. */
  parameters(): Tensor[] {
    return [...slots(this, '')].map((slot) => slot.tensor);
  }

  /** Direct children with their key part (`layers.0` for list members). */
  *namedChildren(): IterableIterator<[string, Module]> {
    for (const [name, value] of Object.entries(this)) {
      if (value instanceof Module) yield [toSnakeCase(name), value];
      else if (Array.isArray(value)) {
        for (const [index, item] of value.entries()) {
          if (item instanceof Module) yield [`${toSnakeCase(name)}.${index}`, item];
        }
      }
    }
  }

  /** All parameters by checkpoint key. The tensors are the live ones, not copies. */
  stateDict(): Map<string, Tensor> {
    return new Map(this.namedParameters());
  }

  /**
   * Puts the tensors of `state` in place of the parameters: assigned, not copied, in their own dtype
   * and on their own device. Nothing is changed when anything does not fit.
   * @throws StateDictError with every missing, unexpected and misshapen key.
   */
  loadStateDict(state: Iterable<[string, Tensor]>, options: LoadOptions = {}): this {
    const { prefix = '', source } = options;
    const given = new Map<string, Tensor>();
    for (const [key, tensor] of state) {
      if (key.startsWith(prefix)) given.set(key.slice(prefix.length), tensor);
    }
    const own = [...slots(this, '')];
    const shapes = (entries: Iterable<[string, Tensor]>) =>
      new Map([...entries].map(([key, tensor]) => [key, tensor.shape]));
    const expected = shapes(own.map((slot) => [slot.key, slot.tensor]));
    requireFit(compareKeys(expected, shapes(given), options), source);
    for (const slot of own) {
      const tensor = given.get(slot.key);
      if (tensor !== undefined) assign(slot, keep(tensor));
    }
    return this;
  }

  /** Converts every parameter that is not of the given dtype or device yet. */
  to(target: { dtype?: DType; device?: Device }): this {
    for (const slot of slots(this, '')) {
      const { tensor } = slot;
      const dtype = target.dtype ?? tensor.dtype;
      const device = target.device ?? tensor.device;
      if (dtype === tensor.dtype && device === tensor.device) continue;
      const wasLeaf = tensor.requiresGrad;
      const converted = keep(tensor.detach().to({ dtype, device }));
      if (wasLeaf) converted.requiresGrad_(true);
      assign(slot, converted);
    }
    return this;
  }

  /** Marks every parameter as trainable or frozen. */
  requiresGrad_(value = true): this {
    for (const tensor of Object.values(this)) {
      if (tensor instanceof Tensor) tensor.requiresGrad_(value);
    }
    for (const [, child] of this.namedChildren()) child.requiresGrad_(value);
    return this;
  }

  /** Fills every parameter with fresh values; layers override this with their own scheme. */
  initWeights(generator: Generator): this {
    for (const [, child] of this.namedChildren()) child.initWeights(generator);
    return this;
  }

  /** Frees the memory of all parameters now; the module cannot be used afterwards. */
  dispose(): void {
    for (const tensor of Object.values(this)) {
      if (tensor instanceof Tensor) tensor.dispose();
    }
    for (const [, child] of this.namedChildren()) child.dispose();
  }
}

/** Replaces one parameter of a module by its property name, freeing a placeholder. */
export function setParameter(owner: Module, name: string, tensor: Tensor): void {
  const record = owner as unknown as Record<string, unknown>;
  assign({ key: name, owner: record, name, tensor: record[name] as Tensor }, keep(tensor));
}

function assign(slot: Slot, tensor: Tensor): void {
  slot.owner[slot.name] = tensor;
  if (slot.tensor !== tensor && slot.tensor.device === 'meta') slot.tensor.dispose();
}

function* slots(module: Module, prefix: string): IterableIterator<Slot> {
  for (const [name, value] of Object.entries(module)) {
    const key = prefix + toSnakeCase(name);
    if (value instanceof Tensor) {
      yield { key, owner: module as unknown as Record<string, unknown>, name, tensor: value };
    } else if (value instanceof Module) {
      yield* slots(value, `${key}.`);
    } else if (Array.isArray(value)) {
      for (const [index, item] of value.entries()) {
        if (item instanceof Module) yield* slots(item, `${key}.${index}.`);
      }
    }
  }
}
