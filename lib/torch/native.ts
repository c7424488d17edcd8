import { loadAddon } from '../native/load-addon.js';
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

export interface ParamSchema {
  name: string;
  kind: ParamKind;
  optional: boolean;
  keywordOnly: boolean;
  hasDefault: boolean;
  defaultText: string;
  fixedLength: number;
}

export interface OverloadSchema {
  overload: string;
  params: ParamSchema[];
  returns: ParamKind[];
  /** In-place form: the call returns nothing new, the caller keeps its first argument. */
  returnsFirstArgument: boolean;
}

/** A bound operator overload: tensors go in and come out as handles. */
// biome-ignore lint/suspicious/noExplicitAny: arguments and results follow the schema, not a static type
export type BoundOperator = (...args: any[]) => any;

/** The addon's exports. Tensors are named by handles: numbers of a process-global table. */
export interface Native {
  setErrorClass(cls: typeof TorchError): void;
  listOperators(): string[];
  schemasOf(name: string): OverloadSchema[];
  bindOperator(name: string, overload: string): BoundOperator;
  /** Direct bindings by `name.overload`, for the operators called most. */
  hotOperators(): Record<string, BoundOperator>;
  bindAsync(name: string, overload: string): BoundOperator;
  /** [dtype, device, requiresGrad, ...shape] */
  tensorInfo(handle: number): [string, string, boolean, ...number[]];
  tensorItem(handle: number): number | bigint | boolean;
  fromTypedArray(data: NodeJS.TypedArray, dtype: string, shape: readonly number[]): number;
  toArrayBuffer(handle: number): ArrayBuffer;
  shareArrayBuffer(handle: number): ArrayBuffer;
  dispose(handle: number): boolean;
  isAlive(handle: number): boolean;
  liveTensors(): number;
  alias(handle: number): number;
  track(object: object, handle: number): void;
  openBatch(): object;
  beginScope(): number;
  endScope(depth: number, kept: readonly number[]): void;
  backward(
    outputs: number[],
    gradients: (number | null)[] | null,
    retain: boolean,
    create: boolean,
  ): void;
  backwardAsync(
    outputs: number[],
    gradients: (number | null)[] | null,
    retain: boolean,
    create: boolean,
  ): Promise<void>;
  gradients(
    outputs: number[],
    inputs: number[],
    gradients: (number | null)[] | null,
    retain: boolean,
    create: boolean,
    allowUnused: boolean,
  ): (number | null)[];
  getGrad(handle: number): number | null;
  setGrad(handle: number, gradient: number | null): void;
  setRequiresGrad(handle: number, flag: boolean): void;
  setGradEnabled(flag: boolean): boolean;
  pushInferenceMode(): void;
  popInferenceMode(): void;
  generatorNew(seed: bigint, device: string): number;
  generatorRelease(id: number): void;
  generatorGetState(id: number): number;
  generatorSetState(id: number, state: number): void;
  setNumThreads(count: number): void;
  getNumThreads(): number;
  runtimeInfo(): {
    builtFor: string;
    config: string;
    cuda: boolean;
    cudaDevices: number;
    cpuCapability: string;
  };
}

export const native = loadAddon() as Native;
native.setErrorClass(TorchError);
