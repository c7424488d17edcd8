import type { Device } from './dtype.js';
import { TorchError } from './errors.js';
import { native } from './native.js';
import { type Tensor, wrap } from './tensor.js';

const released = new FinalizationRegistry<number>((id) => native.generatorRelease(id));

/**
 * A seeded stream of random numbers; the same seed gives PyTorch's numbers on the same device.
 *
 * @throws {TorchError} ERR_ARGUMENT when the seed is no whole number from 0 to 2^64-1.
 */
export class Generator {
  /** Number in the native table. */
  readonly id: number;
  /** What it was made with; {@link setState} does not change it. */
  readonly seed: bigint;
  /** Device whose numbers it makes. */
  readonly device: Device;

  /** @param seed a whole number from 0 to 2^64-1. */
  constructor(seed: number | bigint, device: Device = 'cpu') {
    if (typeof seed === 'number' && (!Number.isSafeInteger(seed) || seed < 0))
      throw new TorchError('ERR_ARGUMENT', `seed must be a whole number from 0, found ${seed}`);
    this.seed = BigInt(seed);
    this.device = device;
    this.id = native.generatorNew(this.seed, device);
    released.register(this, this.id);
  }

  /** The whole state as a uint8 tensor, to be stored and given to {@link setState}. */
  state(): Tensor {
    return wrap(native.generatorGetState(this.id));
  }

  /** Goes on from a state that {@link state} gave. @throws {TorchError} for anything else. */
  setState(state: Tensor): void {
    native.generatorSetState(this.id, state.handle);
  }
}
