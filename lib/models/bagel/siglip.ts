import {
  type AttentionCall,
  Embedding,
  LayerNorm,
  Linear,
  Module,
  packedAttention,
  segmentPlan,
} from '../../nn/index.js';
import { arange, ops, type Tensor } from '../../torch/index.js';
import { CheckpointError, ConfigError, DataError } from '../../util/errors.js';
import type { VitConfig } from './config.js';
import { visionActivation } from './connector.js';

/** Cosine and sine tables of the two axes, each `[maxRows * maxColumns, dim]` float32. */
export interface Rope2dTables {
  cosH: Tensor;
  sinH: Tensor;
  cosW: Tensor;
  sinW: Tensor;
}

/**
 * Rotary tables for a grid of patches; row `r * maxColumns + c` belongs to the patch in row r and column c.
 *
 * Frequencies are `base^(-2k/dim)` for `k < dim/2`, repeated once (half-split layout). One half of
 * every head is turned by the row's tables (`H`), the other by the column's (`W`).
 */
export function rope2dTables(
  dim: number,
  maxRows: number,
  maxColumns: number,
  base = 10000,
): Rope2dTables {
  if (dim <= 0 || dim % 2 !== 0) {
    throw new ConfigError('config.rope_2d', 'a rotated half must have an even width', {
      expected: 'hidden_size / num_attention_heads divisible by 4',
      found: `half of a head is ${dim} wide`,
    });
  }
  const exponent = arange(0, dim, 2, { dtype: 'float32' }).div(dim);
  const inverse = ops.reciprocal(ops.exp(exponent.mul(Math.log(base))));
  const oneSide = (positions: Tensor): [Tensor, Tensor] => {
    const half = positions.reshape([-1, 1]).mul(inverse.reshape([1, -1]));
    const angle = ops.cat([half, half], -1);
    return [angle.cos(), angle.sin()];
  };
  const cells = arange(0, maxRows * maxColumns, 1, { dtype: 'int64' });
  const rows = ops.divide(cells, maxColumns, { roundingMode: 'floor' }).to('float32');
  const columns = ops.remainder(cells, maxColumns).to('float32');
  const [cosH, sinH] = oneSide(rows);
  const [cosW, sinW] = oneSide(columns);
  return { cosH, sinH, cosW, sinW };
}

/** Swaps the halves of the last axis and negates what was the second: `[a, b] -> [-b, a]`. */
function rotateHalf(x: Tensor): Tensor {
  const [a, b] = x.chunk(2, -1);
  return ops.cat([b.neg(), a], -1);
}

/** The four tables at the positions of one packed batch, with an axis for the heads: `[n, 1, d/2]`. */
function rope2dAt(tables: Rope2dTables, positionIds: Tensor, like: Tensor): Rope2dTables {
  const pick = (table: Tensor): Tensor =>
    table.to({ device: like.device, dtype: like.dtype }).indexSelect(0, positionIds).unsqueeze(1);
  return {
    cosH: pick(tables.cosH),
    sinH: pick(tables.sinH),
    cosW: pick(tables.cosW),
    sinW: pick(tables.sinW),
  };
}

/** Turns the first half of every head by the row angle and the second by the column angle. */
function applyRope2d(x: Tensor, at: Rope2dTables): Tensor {
  const [h, w] = x.chunk(2, -1);
  return ops.cat(
    [
      h.mul(at.cosH).add(rotateHalf(h).mul(at.sinH)),
      w.mul(at.cosW).add(rotateHalf(w).mul(at.sinW)),
    ],
    -1,
  );
}

/** Patch embedding as one linear layer on flattened patches, plus a learned row per grid position. */
export class SiglipEmbeddings extends Module {
  patchEmbedding: Linear;
  positionEmbedding?: Embedding;

  constructor(config: VitConfig) {
    super();
    const patch = config.num_channels * config.patch_size * config.patch_size;
    this.patchEmbedding = new Linear(patch, config.hidden_size);
    if (!config.rope) {
      const side = Math.floor(config.image_size / config.patch_size);
      this.positionEmbedding = new Embedding(side * side, config.hidden_size);
    }
  }

  /** `[n, patch]` pixels and `[n]` int64 grid positions -> `[n, hidden]`. */
  forward(patches: Tensor, positionIds: Tensor): Tensor {
    const x = this.patchEmbedding.forward(patches);
    return this.positionEmbedding ? x.add(this.positionEmbedding.forward(positionIds)) : x;
  }
}

/** Bidirectional self-attention inside each image of a packed batch; biases on all four projections. */
export class SiglipAttention extends Module {
  qProj: Linear;
  kProj: Linear;
  vProj: Linear;
  outProj: Linear;
  readonly #heads: number;
  readonly #headDim: number;

  constructor(config: VitConfig) {
    super();
    const width = config.hidden_size;
    this.#heads = config.num_attention_heads;
    this.#headDim = width / this.#heads;
    if (!Number.isInteger(this.#headDim)) {
      throw new ConfigError('ERR_HEADS', 'the width is not a multiple of the head count', {
        key: 'num_attention_heads',
        expected: `a divisor of hidden_size ${width}`,
        found: String(this.#heads),
      });
    }
    this.qProj = new Linear(width, width);
    this.kProj = new Linear(width, width);
    this.vProj = new Linear(width, width);
    this.outProj = new Linear(width, width);
  }

  /** `[n, hidden]` -> `[n, hidden]`; `plan` says where each image begins and ends. */
  forward(x: Tensor, plan: readonly AttentionCall[], rope?: Rope2dTables): Tensor {
    const shape = [-1, this.#heads, this.#headDim];
    let q = this.qProj.forward(x).view(shape);
    let k = this.kProj.forward(x).view(shape);
    const v = this.vProj.forward(x).view(shape);
    if (rope) {
      q = applyRope2d(q, rope);
      k = applyRope2d(k, rope);
    }
    const out = packedAttention(q, k, v, plan, { scale: this.#headDim ** -0.5 });
    return this.outProj.forward(out.reshape([-1, this.#heads * this.#headDim]));
  }
}

/** `fc2(act(fc1(x)))`. */
export class SiglipMlp extends Module {
  fc1: Linear;
  fc2: Linear;
  readonly #activation: (x: Tensor) => Tensor;

  constructor(config: VitConfig) {
    super();
    this.#activation = visionActivation(config.hidden_act);
    this.fc1 = new Linear(config.hidden_size, config.intermediate_size);
    this.fc2 = new Linear(config.intermediate_size, config.hidden_size);
  }

  /** [n, hidden] -> [n, hidden]. */
  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.#activation(this.fc1.forward(x)));
  }
}

/** One pre-norm transformer block. */
export class SiglipEncoderLayer extends Module {
  layerNorm1: LayerNorm;
  selfAttn: SiglipAttention;
  layerNorm2: LayerNorm;
  mlp: SiglipMlp;

  constructor(config: VitConfig) {
    super();
    this.layerNorm1 = new LayerNorm(config.hidden_size, config.layer_norm_eps);
    this.selfAttn = new SiglipAttention(config);
    this.layerNorm2 = new LayerNorm(config.hidden_size, config.layer_norm_eps);
    this.mlp = new SiglipMlp(config);
  }

  /** [n, hidden] -> [n, hidden]; `plan` says which patches see each other. */
  forward(x: Tensor, plan: readonly AttentionCall[], rope?: Rope2dTables): Tensor {
    const attended = x.add(this.selfAttn.forward(this.layerNorm1.forward(x), plan, rope));
    return attended.add(this.mlp.forward(this.layerNorm2.forward(attended)));
  }
}

/** The stack of blocks; exists to give checkpoint keys their `encoder.layers.N` path. */
export class SiglipEncoder extends Module {
  layers: SiglipEncoderLayer[];

  constructor(config: VitConfig) {
    super();
    this.layers = Array.from(
      { length: config.num_hidden_layers },
      () => new SiglipEncoderLayer(config),
    );
  }

  /** [n, hidden] -> [n, hidden], through all blocks. */
  forward(x: Tensor, plan: readonly AttentionCall[], rope?: Rope2dTables): Tensor {
    let hidden = x;
    for (const layer of this.layers) hidden = layer.forward(hidden, plan, rope);
    return hidden;
  }
}

/** Embeddings, blocks and the final norm, which is applied to the last block that was built. */
export class SiglipVisionTransformer extends Module {
  embeddings: SiglipEmbeddings;
  encoder: SiglipEncoder;
  postLayernorm: LayerNorm;
  readonly #rope?: Rope2dTables;

  constructor(config: VitConfig) {
    super();
    this.embeddings = new SiglipEmbeddings(config);
    this.encoder = new SiglipEncoder(config);
    this.postLayernorm = new LayerNorm(config.hidden_size, config.layer_norm_eps);
    if (config.rope) {
      const side = Math.floor(config.image_size / config.patch_size);
      this.#rope = rope2dTables(config.hidden_size / config.num_attention_heads / 2, side, side);
    }
  }

  /**
   * @param patches [n, patch * patch * channels]
   * @param positionIds [n] int64
   * @param seqlens patches of each image; images do not see each other
   * @returns [n, hidden]
   * @throws DataError when the lengths do not sum to n
   */
  forward(patches: Tensor, positionIds: Tensor, seqlens: readonly number[]): Tensor {
    const total = seqlens.reduce((sum, n) => sum + n, 0);
    if (total !== patches.shape[0]) {
      throw new DataError('ERR_VIT_LENGTHS', 'image lengths do not add up to the packed patches', {
        expected: `${patches.shape[0]} patches`,
        found: `${seqlens.join(' + ')} = ${total}`,
      });
    }
    const x = this.embeddings.forward(patches, positionIds);
    const plan = segmentPlan(seqlens);
    const rope = this.#rope ? rope2dAt(this.#rope, positionIds, x) : undefined;
    return this.postLayernorm.forward(this.encoder.forward(x, plan, rope));
  }
}

/**
 * SigLIP vision tower for images of any size, packed one behind the other (NaViT style).
 * State keys begin with `vision_model.`.
 */
export class SiglipVisionModel extends Module {
  visionModel: SiglipVisionTransformer;

  constructor(config: VitConfig) {
    super();
    this.visionModel = new SiglipVisionTransformer(config);
  }

  /**
   * @param patches `[n, patch_size^2 * channels]`, flattened (row, column, channel), channel fastest.
   * @param positionIds `[n]` int64, `row * max_patches_per_side + column`.
   * @param seqlens patches of each image, in order; they sum to n.
   * @returns `[n, hidden]`, after the final layer norm.
   */
  forward(patches: Tensor, positionIds: Tensor, seqlens: readonly number[]): Tensor {
    return this.visionModel.forward(patches, positionIds, seqlens);
  }
}

/**
 * A SigLIP convolution kernel `[out, channel, row, column]` as the weight of a linear layer on
 * patches flattened (row, column, channel). A weight that is already a matrix is returned unchanged.
 *
 * @throws CheckpointError for any other rank.
 */
export function patchEmbeddingToLinear(weight: Tensor): Tensor {
  if (weight.ndim === 2) return weight;
  if (weight.ndim !== 4) {
    throw new CheckpointError('ERR_PATCH_EMBEDDING', 'patch embedding has a wrong rank', {
      expected: '[out, channels, rows, columns] or [out, rows * columns * channels]',
      found: `[${weight.shape.join(', ')}]`,
    });
  }
  return weight.permute([0, 2, 3, 1]).reshape([weight.shape[0], -1]).contiguous();
}
