import { loadAddon, loadedAddon, setupCommand } from '../native/load-addon.js';
import { NativeError } from '../util/errors.js';
import { TorchError } from './errors.js';

/** What an operator parameter accepts, as the addon reads it from the schema. */
export type ParamKind =
  | 'Tensor'
  | 'Tensor[]'
  | 'Tensor?[]'
  | 'int'
  | 'int[]'
  | 'float'
  | 'float[]'
  | 'bool'
  | 'bool[]'
  | 'Scalar'
  | 'Scalar[]'
  | 'str'
  | 'str[]'
  | 'ScalarType'
  | 'Layout'
  | 'MemoryFormat'
  | 'Device'
  | 'Generator'
  | 'unsupported';

/** A parameter of an operator overload, as its schema has it. */
export interface ParamSchema {
  /** In snake_case. */
  name: string;
  /** What it accepts. */
  kind: ParamKind;
  /** Whether null is accepted. */
  optional: boolean;
  /** Whether it can only be given by name. */
  keywordOnly: boolean;
  /** Whether it can be left out. */
  hasDefault: boolean;
  /** The default as text, for messages; empty without one. */
  defaultText: string;
  /** Length of a list that one number can stand for; 0 where there is none. */
  fixedLength: number;
}

/** One overload of an operator. */
export interface OverloadSchema {
  /** Its name within the operator; '' for the first. */
  overload: string;
  /** In the order of the schema. */
  params: ParamSchema[];
  /** Kinds of the results. */
  returns: ParamKind[];
  /** In-place form: the call returns nothing new, the caller keeps its first argument. */
  returnsFirstArgument: boolean;
}

/** A bound operator overload: tensors go in and come out as handles. */
// biome-ignore lint/suspicious/noExplicitAny: arguments and results follow the schema, not a static type
export type BoundOperator = (...args: any[]) => any;

/** The addon's exports. Tensors are named by handles: numbers of a process-global table. */
export interface Native {
  /** Class of the errors the addon throws. */
  setErrorClass(cls: typeof TorchError): void;
  /** Qualified names (`aten::add`) of all operators. */
  listOperators(): string[];
  /** Overloads of an operator by its qualified name. */
  schemasOf(name: string): OverloadSchema[];
  /** The call of one overload; all parameters by position. */
  bindOperator(name: string, overload: string): BoundOperator;
  /** Direct bindings by `name.overload`, for the operators called most. */
  hotOperators(): Record<string, BoundOperator>;
  /** The same on a thread of the pool; the call returns a promise. */
  bindAsync(name: string, overload: string): BoundOperator;
  /** [dtype, device, requiresGrad, ...shape] */
  tensorInfo(handle: number): [string, string, boolean, ...number[]];
  /** The only element; bigint for integers a number cannot hold. */
  tensorItem(handle: number): number | bigint | boolean;
  /** A tensor with a copy of the array. */
  fromTypedArray(data: NodeJS.TypedArray, dtype: string, shape: readonly number[]): number;
  /** A copy of the elements in row-major order, from any device. */
  toArrayBuffer(handle: number): ArrayBuffer;
  /** The memory of a contiguous CPU tensor itself. */
  shareArrayBuffer(handle: number): ArrayBuffer;
  /** Frees a handle; false when it was free already. */
  dispose(handle: number): boolean;
  /** Whether the handle names a tensor. */
  isAlive(handle: number): boolean;
  /** Number of handles in use. */
  liveTensors(): number;
  /** A second handle of the same tensor, owned by no scope. */
  alias(handle: number): number;
  /** Frees the handle when the object is collected. */
  track(object: object, handle: number): void;
  /** An object whose collection frees the tensors made while it is the open batch. */
  openBatch(): object;
  /** Opens a scope. @returns its depth. */
  beginScope(): number;
  /** Closes a scope and frees its tensors except those kept. */
  endScope(depth: number, kept: readonly number[]): void;
  /** Adds gradients to the leaves. */
  backward(
    outputs: number[],
    gradients: (number | null)[] | null,
    retain: boolean,
    create: boolean,
  ): void;
  /** The same on a thread of the pool. */
  backwardAsync(
    outputs: number[],
    gradients: (number | null)[] | null,
    retain: boolean,
    create: boolean,
  ): Promise<void>;
  /** Gradients with respect to inputs, returned instead of added. */
  gradients(
    outputs: number[],
    inputs: number[],
    gradients: (number | null)[] | null,
    retain: boolean,
    create: boolean,
    allowUnused: boolean,
  ): (number | null)[];
  /** A handle of the gradient; null where there is none. */
  getGrad(handle: number): number | null;
  /** Replaces or clears the gradient. */
  setGrad(handle: number, gradient: number | null): void;
  /** Makes a leaf take gradients, or not. */
  setRequiresGrad(handle: number, flag: boolean): void;
  /** Turns recording on or off on this thread. @returns what it was. */
  setGradEnabled(flag: boolean): boolean;
  /** Enters inference mode on this thread. */
  pushInferenceMode(): void;
  /** Leaves the innermost inference mode. */
  popInferenceMode(): void;
  /** A generator. @returns its number. */
  generatorNew(seed: bigint, device: string): number;
  /** Frees a generator. */
  generatorRelease(id: number): void;
  /** Handle of the state as a uint8 tensor. */
  generatorGetState(id: number): number;
  /** Takes a state over. */
  generatorSetState(id: number, state: number): void;
  /** Threads of LibTorch's CPU operators. */
  setNumThreads(count: number): void;
  /** Threads of LibTorch's CPU operators. */
  getNumThreads(): number;
  /** What LibTorch is running on. */
  runtimeInfo(): {
    builtFor: string;
    config: string;
    cuda: boolean;
    cudaDevices: number;
    cpuCapability: string;
  };
}

const functions: Record<keyof Native, true> = {
  setErrorClass: true,
  listOperators: true,
  schemasOf: true,
  bindOperator: true,
  hotOperators: true,
  bindAsync: true,
  tensorInfo: true,
  tensorItem: true,
  fromTypedArray: true,
  toArrayBuffer: true,
  shareArrayBuffer: true,
  dispose: true,
  isAlive: true,
  liveTensors: true,
  alias: true,
  track: true,
  openBatch: true,
  beginScope: true,
  endScope: true,
  backward: true,
  backwardAsync: true,
  gradients: true,
  getGrad: true,
  setGrad: true,
  setRequiresGrad: true,
  setGradEnabled: true,
  pushInferenceMode: true,
  popInferenceMode: true,
  generatorNew: true,
  generatorRelease: true,
  generatorGetState: true,
  generatorSetState: true,
  setNumThreads: true,
  getNumThreads: true,
  runtimeInfo: true,
};

/** The addon, or an error that says what to do where it was built from older sources than these files. */
function load(): Native {
  const addon = loadAddon() as Native;
  const absent = (Object.keys(functions) as Array<keyof Native>).filter((name) => !addon[name]);
  if (absent.length > 0) throw outdatedAddon(absent);
  addon.setErrorClass(TorchError);
  return addon;
}

/** The error for an addon that lacks functions or operators this version calls. */
export function outdatedAddon(absent: readonly string[]): NativeError {
  return new NativeError('ERR_ADDON_OUTDATED', 'the addon is older than the rest of the package', {
    file: loadedAddon()?.file,
    expected: absent.join(', '),
    hint: `Run ${setupCommand('addon')}`,
  });
}

/** The addon, loaded. @throws NativeError when it is not built, does not load or is outdated. */
export const native = load();
