import { printable, TorchError } from './errors.js';
import { type BoundOperator, native, outdatedAddon } from './native.js';

/** The handle of an operand; anything but a tensor is refused before it reaches the addon. */
export function h(value: { handle: number }): number {
  if (typeof value?.handle !== 'number')
    throw new TorchError('ERR_ARGUMENT', `a Tensor is expected, found ${printable(value)}`);
  return value.handle;
}

const bound = native.hotOperators();
const direct = (name: string): BoundOperator => {
  const call = bound[name];
  if (call === undefined) throw outdatedAddon([name]);
  return call;
};
const boxed = (name: string, overload = '') => native.bindOperator(`aten::${name}`, overload);

/** Overloads called often enough to be bound by hand, without a search by argument types. */
export const hot = {
  addTensor: direct('add.Tensor'),
  addScalar: direct('add.Scalar'),
  addTensor_: direct('add_.Tensor'),
  addScalar_: direct('add_.Scalar'),
  subTensor: direct('sub.Tensor'),
  subScalar: direct('sub.Scalar'),
  mulTensor: direct('mul.Tensor'),
  mulScalar: direct('mul.Scalar'),
  mulTensor_: direct('mul_.Tensor'),
  mulScalar_: direct('mul_.Scalar'),
  divTensor: direct('div.Tensor'),
  divScalar: direct('div.Scalar'),
  divMode: boxed('div', 'Tensor_mode'),
  scalarTensor: boxed('scalar_tensor'),
  matmul: direct('matmul'),
  linear: direct('linear'),
  view: direct('view'),
  viewDtype: direct('view.dtype'),
  reshape: direct('reshape'),
  transpose: direct('transpose.int'),
  permute: direct('permute'),
  unsqueeze: direct('unsqueeze'),
  select: direct('select.int'),
  narrow: direct('narrow'),
  slice: direct('slice.Tensor'),
  indexSelect: direct('index_select'),
  relu: direct('relu'),
  silu: direct('silu'),
  neg: direct('neg'),
  exp: direct('exp'),
  rsqrt: direct('rsqrt'),
  sum: direct('sum'),
  mean: direct('mean'),
  detach: direct('detach'),
  copy_: direct('copy_'),
  index: boxed('index', 'Tensor'),
  indexPut_: boxed('index_put_'),
  to: boxed('to', 'dtype_layout'),
};
