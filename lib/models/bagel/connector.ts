import { Linear, Module } from '../../nn/index.js';
import { ops, type Tensor } from '../../torch/index.js';
import { ConfigError } from '../../util/errors.js';

/**
 * Looks an activation up by the name Hugging Face configuration files use.
 *
 * @throws ConfigError for a name that no BAGEL checkpoint uses.
 */
export function visionActivation(name: string): (x: Tensor) => Tensor {
  switch (name) {
    case 'gelu_pytorch_tanh':
    case 'gelu_new':
      return (x) => ops.gelu(x, { approximate: 'tanh' });
    case 'gelu':
      return (x) => ops.gelu(x);
    case 'relu':
      return (x) => ops.relu(x);
    case 'silu':
    case 'swish':
      return (x) => ops.silu(x);
    default:
      throw new ConfigError('ERR_ACTIVATION', 'unknown activation', {
        key: 'hidden_act',
        expected: 'gelu_pytorch_tanh, gelu_new, gelu, relu or silu',
        found: name,
      });
  }
}

/** Two linear layers that lift vision features to the width of the language model. */
export class MlpConnector extends Module {
  fc1: Linear;
  fc2: Linear;
  readonly #activation: (x: Tensor) => Tensor;

  /**
   * @param inDim width of the vision tower.
   * @param outDim width of the language model.
   */
  constructor(inDim: number, outDim: number, activation = 'gelu_pytorch_tanh') {
    super();
    this.#activation = visionActivation(activation);
    this.fc1 = new Linear(inDim, outDim);
    this.fc2 = new Linear(outDim, outDim);
  }

  /** `[n, inDim]` -> `[n, outDim]`. */
  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.#activation(this.fc1.forward(x)));
  }
}
