import { SrumError } from '../util/errors.js';

/** Stable codes of {@link TorchError}. */
export type TorchErrorCode =
  | 'ERR_ARGUMENT'
  | 'ERR_AUTOGRAD'
  | 'ERR_DEVICE'
  | 'ERR_DISPOSED'
  | 'ERR_DTYPE'
  | 'ERR_INDEX'
  | 'ERR_NOT_IMPLEMENTED'
  | 'ERR_OUT_OF_MEMORY'
  | 'ERR_SCOPE'
  | 'ERR_SHAPE'
  | 'ERR_TORCH';

/**
 * Whatever goes wrong in a tensor call. The message starts with the operator and its arguments' dtypes, shapes and devices,
 * then says what LibTorch objected to.
 */
export class TorchError extends SrumError {
  /** What kind of fault it is. */
  declare readonly code: TorchErrorCode;
}

/** `String(value)` for messages: objects whose conversion throws are named by their type. */
export function printable(value: unknown): string {
  try {
    return String(value);
  } catch {
    return typeof value;
  }
}
