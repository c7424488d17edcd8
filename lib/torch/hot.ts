import { TorchError } from './errors.js';
import { native } from './native.js';

/** The handle of an operand; anything but a tensor is refused before it reaches the addon. */
export function h(value: { handle: number }): number {
  if (typeof value?.handle !== 'number')
    throw new TorchError('ERR_ARGUMENT', `a Tensor is expected, found ${String(value)}`);
  return value.handle;
}

const bind = (name: string, overload = '') => native.bindOperator(`aten::${name}`, overload);

/** Overloads called often enough to be bound by hand, without a search by argument types. */
export const hot = {
  addTensor: bind('add', 'Tensor'),
  addScalar: bind('add', 'Scalar'),
  addTensor_: bind('add_', 'Tensor'),
  addScalar_: bind('add_', 'Scalar'),
  subTensor: bind('sub', 'Tensor'),
  subScalar: bind('sub', 'Scalar'),
  mulTensor: bind('mul', 'Tensor'),
  mulScalar: bind('mul', 'Scalar'),
  mulTensor_: bind('mul_', 'Tensor'),
  mulScalar_: bind('mul_', 'Scalar'),
  divTensor: bind('div', 'Tensor'),
  divScalar: bind('div', 'Scalar'),
  divMode: bind('div', 'Tensor_mode'),
  scalarTensor: bind('scalar_tensor'),
  matmul: bind('matmul'),
  view: bind('view'),
  viewDtype: bind('view', 'dtype'),
  reshape: bind('reshape'),
  transpose: bind('transpose', 'int'),
  permute: bind('permute'),
  unsqueeze: bind('unsqueeze'),
  select: bind('select', 'int'),
  narrow: bind('narrow'),
  slice: bind('slice', 'Tensor'),
  index: bind('index', 'Tensor'),
  indexPut_: bind('index_put_'),
  copy_: bind('copy_'),
  to: bind('to', 'dtype_layout'),
};
