import { packedAttention } from '../../nn/attention.js';
import { Linear } from '../../nn/linear.js';
import { Module } from '../../nn/module.js';
import { RMSNorm } from '../../nn/norm.js';
import type { AttentionCall } from '../../nn/packed-layout.js';
import type { DType, Tensor } from '../../torch/index.js';
import { empty, noGrad, ops, scope } from '../../torch/index.js';
import type { LlmConfig } from './config.js';
import { headDim } from './config.js';
import type { KvStep } from './kv-cache.js';
import type { RopeTable } from './rope.js';
import { applyRope } from './rope.js';

/** The two sets of weights: understanding (text and ViT tokens) and generation (latent tokens). */
export type Expert = 'und' | 'gen';

/** Both experts, in the order in which their streams are laid end to end. */
export const EXPERTS: readonly Expert[] = ['und', 'gen'];

/** Something per expert; null where the batch has no tokens of that kind. */
export interface PerExpert<T> {
  und: T | null;
  gen: T | null;
}

/** Tokens sorted by expert: [tokens of it, H] each. */
export type Streams = PerExpert<Tensor>;

/** What one expert does in a layer; experts may share parts. */
export interface ExpertParts {
  inputNorm: RMSNorm;
  qProj: Linear;
  kProj: Linear;
  vProj: Linear;
  oProj: Linear;
  qNorm: RMSNorm | null;
  kNorm: RMSNorm | null;
  postNorm: RMSNorm;
  mlp: Mlp;
}

/** What a training pass shares between layers. */
export interface TrainContext {
  /** Rotations of each stream's tokens. */
  rope: PerExpert<RopeTable>;
  /** [T] int64: row of each sequence position in the streams laid end to end; null: they are in order. */
  order: Tensor | null;
  /** [tokens of it] int64: sequence position of each stream's tokens; null: all, in order. */
  rows: PerExpert<Tensor>;
  plan: readonly AttentionCall[];
}

/** What a cached pass shares between layers. */
export interface InferenceContext {
  rope: PerExpert<RopeTable>;
  /** [tokens of it] int64: query row of each stream's tokens; null: all, in order. */
  rows: PerExpert<Tensor>;
  /** [tokens of it] int64: cache row of each stream's tokens. */
  cacheRows: PerExpert<Tensor>;
  step: KvStep;
  /** M: number of query rows. */
  queries: number;
  /** Mode `gen`: MoT layers do norm and rotation of q and k in float32. */
  generating: boolean;
}

/** `down(silu(gate(x)) * up(x))`. */
export class Mlp extends Module {
  gateProj: Linear;
  upProj: Linear;
  downProj: Linear;

  constructor(config: LlmConfig) {
    super();
    const { hidden_size: hidden, intermediate_size: inner } = config;
    this.gateProj = new Linear(hidden, inner, { bias: false });
    this.upProj = new Linear(hidden, inner, { bias: false });
    this.downProj = new Linear(inner, hidden, { bias: false });
  }

  /** [n, H] -> [n, H]. */
  forward(x: Tensor): Tensor {
    return scope(() => {
      const gate = this.gateProj.forward(x);
      return this.downProj.forward(ops.srum.swiglu(gate, this.upProj.forward(x)));
    });
  }
}

/** The projections of one attention; a MoT layer's second set has the suffix `MoeGen`. */
class PackedAttention extends Module {
  qProj: Linear;
  kProj: Linear;
  vProj: Linear;
  oProj: Linear;
  qNorm?: RMSNorm;
  kNorm?: RMSNorm;

  constructor(config: LlmConfig) {
    super();
    const p = projections(config);
    this.qProj = p.q;
    this.kProj = p.k;
    this.vProj = p.v;
    this.oProj = p.o;
    if (config.qk_norm) {
      this.qNorm = new RMSNorm(headDim(config), config.rms_norm_eps);
      this.kNorm = new RMSNorm(headDim(config), config.rms_norm_eps);
    }
  }
}

class PackedAttentionMoT extends PackedAttention {
  qNormMoeGen?: RMSNorm;
  kNormMoeGen?: RMSNorm;
  qProjMoeGen: Linear;
  kProjMoeGen: Linear;
  vProjMoeGen: Linear;
  oProjMoeGen: Linear;

  constructor(config: LlmConfig) {
    super(config);
    if (config.qk_norm) {
      this.qNormMoeGen = new RMSNorm(headDim(config), config.rms_norm_eps);
      this.kNormMoeGen = new RMSNorm(headDim(config), config.rms_norm_eps);
    }
    const p = projections(config);
    this.qProjMoeGen = p.q;
    this.kProjMoeGen = p.k;
    this.vProjMoeGen = p.v;
    this.oProjMoeGen = p.o;
  }
}

function projections(config: LlmConfig) {
  const { hidden_size: hidden, num_attention_heads: heads, num_key_value_heads: kv } = config;
  const d = headDim(config);
  return {
    q: new Linear(hidden, heads * d),
    k: new Linear(hidden, kv * d),
    v: new Linear(hidden, kv * d),
    o: new Linear(heads * d, hidden, { bias: false }),
  };
}

/**
 * One decoder layer over tokens sorted by expert. Norms, projections and MLPs run per stream; only the
 * attention sees the tokens in sequence order. Subclasses say which weights an expert uses.
 */
export abstract class DecoderLayer extends Module {
  readonly heads: number;
  readonly kvHeads: number;
  /** Understanding tokens give and pass no gradient in this layer. */
  readonly freezeUnd: boolean = false;
  /** Mode `gen` computes q and k in float32. */
  readonly wideInGen: boolean = false;

  constructor(config: LlmConfig) {
    super();
    this.heads = config.num_attention_heads;
    this.kvHeads = config.num_key_value_heads;
  }

  /** The weights that an expert uses in this layer. */
  abstract expert(name: Expert): ExpertParts;

  /** Training pass. @returns new streams; the given ones stay usable. */
  forwardTrain(streams: Streams, context: TrainContext): Streams {
    return scope(() => {
      const parts: Tensor[][] = [[], [], []];
      for (const name of EXPERTS) {
        const x = streams[name];
        if (x === null) continue;
        const rope = context.rope[name] as RopeTable;
        const qkv = this.run(name, () => this.project(this.expert(name), x, rope, false));
        for (const [i, part] of qkv.entries()) parts[i].push(part);
      }
      const [q, k, v] = parts.map((part) => inSequenceOrder(part, context.order));
      const attended = packedAttention(q, k, v, context.plan).flatten(1);
      return this.finish(streams, attended, context.rows);
    });
  }

  /**
   * Cached pass: writes the new tokens' K and V into the cache and attends over past and new ones.
   * @returns new streams, or null with `cacheOnly` (only K and V are wanted)
   */
  forwardInference(
    layer: number,
    streams: Streams,
    context: InferenceContext,
    cacheOnly = false,
  ): Streams | null {
    return scope(() => {
      const key = context.step.key(layer);
      const value = context.step.value(layer);
      const wide = this.wideInGen && context.generating;
      let q: Tensor | null = null;
      for (const name of EXPERTS) {
        const x = streams[name];
        if (x === null) continue;
        const rope = context.rope[name] as RopeTable;
        const [qs, ks, vs] = this.project(this.expert(name), x, rope, wide, cacheOnly);
        const cacheRows = context.cacheRows[name] as Tensor;
        key.indexCopy_(0, cacheRows, ks.to(key.dtype));
        value.indexCopy_(0, cacheRows, vs.to(value.dtype));
        if (cacheOnly) continue;
        const rows = context.rows[name];
        if (rows === null) q = qs.to(key.dtype);
        else {
          q ??= emptyQueries(context.queries, qs, key.dtype);
          q.indexCopy_(0, rows, qs.to(key.dtype));
        }
      }
      if (q === null) return null;
      const attended = packedAttention(q, key, value, context.step.plan).flatten(1);
      return this.finish(streams, attended, context.rows);
    });
  }

  /** Norm, projections, head norm and rotation: q [n, heads, d], k and v [n, kvHeads, d]. */
  private project(
    parts: ExpertParts,
    x: Tensor,
    rope: RopeTable,
    wide: boolean,
    keysOnly = false,
  ): [Tensor, Tensor, Tensor] {
    return scope(() => {
      const normed = parts.inputNorm.forward(x);
      const rotated = (proj: Linear, norm: RMSNorm | null, heads: number) => {
        let y = splitHeads(proj.forward(normed), heads);
        if (wide) y = y.to('float32');
        return applyRope(norm === null ? y : norm.forward(y), rope);
      };
      const k = rotated(parts.kProj, parts.kNorm, this.kvHeads);
      const v = splitHeads(parts.vProj.forward(normed), this.kvHeads);
      return [keysOnly ? k : rotated(parts.qProj, parts.qNorm, this.heads), k, v];
    });
  }

  /** Output projection, residual and MLP of each stream. `attended` [rows, heads * d] is in order. */
  private finish(streams: Streams, attended: Tensor, rows: PerExpert<Tensor>): Streams {
    const out: Streams = { und: null, gen: null };
    for (const name of EXPERTS) {
      const x = streams[name];
      if (x === null) continue;
      out[name] = this.run(name, () =>
        scope(() => {
          const { oProj, postNorm, mlp } = this.expert(name);
          const index = rows[name];
          const own = index === null ? attended : attended.indexSelect(0, index);
          const middle = x.add(oProj.forward(own.to(oProj.weight.dtype)));
          return middle.add(mlp.forward(postNorm.forward(middle)));
        }),
      );
    }
    return out;
  }

  /** Runs a part of an expert's work, without a graph where the expert is frozen. */
  private run<T>(name: Expert, work: () => T): T {
    return name === 'und' && this.freezeUnd ? noGrad(work) : work();
  }
}

/** Dense layer: one set of weights for all tokens. */
export class Qwen2DecoderLayer extends DecoderLayer {
  selfAttn: PackedAttention;
  mlp: Mlp;
  inputLayernorm: RMSNorm;
  postAttentionLayernorm: RMSNorm;

  constructor(config: LlmConfig) {
    super(config);
    this.selfAttn = new PackedAttention(config);
    this.mlp = new Mlp(config);
    this.inputLayernorm = new RMSNorm(config.hidden_size, config.rms_norm_eps);
    this.postAttentionLayernorm = new RMSNorm(config.hidden_size, config.rms_norm_eps);
  }

  /** The same weights for both experts. */
  expert(_name: Expert): ExpertParts {
    return { ...attentionParts(this.selfAttn), ...this.normParts(), mlp: this.mlp };
  }

  /** The two norms of the layer, shared by the experts. */
  protected normParts() {
    return { inputNorm: this.inputLayernorm, postNorm: this.postAttentionLayernorm };
  }
}

/** Shared attention and norms, an MLP per expert. */
export class Qwen2MoEDecoderLayer extends Qwen2DecoderLayer {
  mlpMoeGen: Mlp;

  constructor(config: LlmConfig) {
    super(config);
    this.mlpMoeGen = new Mlp(config);
  }

  /** Shared attention and norms with the MLP of the expert. */
  override expert(name: Expert): ExpertParts {
    const parts = super.expert(name);
    return name === 'und' ? parts : { ...parts, mlp: this.mlpMoeGen };
  }
}

/** Mixture of transformers: two complete layers that share only the attention operation. */
export class Qwen2MoTDecoderLayer extends DecoderLayer {
  selfAttn: PackedAttentionMoT;
  mlp: Mlp;
  mlpMoeGen: Mlp;
  inputLayernorm: RMSNorm;
  inputLayernormMoeGen: RMSNorm;
  postAttentionLayernorm: RMSNorm;
  postAttentionLayernormMoeGen: RMSNorm;
  override readonly freezeUnd: boolean;
  override readonly wideInGen = true;

  constructor(config: LlmConfig) {
    super(config);
    this.freezeUnd = config.freeze_und;
    this.selfAttn = new PackedAttentionMoT(config);
    this.mlp = new Mlp(config);
    this.mlpMoeGen = new Mlp(config);
    const norm = () => new RMSNorm(config.hidden_size, config.rms_norm_eps);
    this.inputLayernorm = norm();
    this.inputLayernormMoeGen = norm();
    this.postAttentionLayernorm = norm();
    this.postAttentionLayernormMoeGen = norm();
  }

  /** The complete set of weights of the expert. */
  expert(name: Expert): ExpertParts {
    const a = this.selfAttn;
    if (name === 'und') {
      return {
        ...attentionParts(a),
        inputNorm: this.inputLayernorm,
        postNorm: this.postAttentionLayernorm,
        mlp: this.mlp,
      };
    }
    return {
      inputNorm: this.inputLayernormMoeGen,
      qProj: a.qProjMoeGen,
      kProj: a.kProjMoeGen,
      vProj: a.vProjMoeGen,
      oProj: a.oProjMoeGen,
      qNorm: a.qNormMoeGen ?? null,
      kNorm: a.kNormMoeGen ?? null,
      postNorm: this.postAttentionLayernormMoeGen,
      mlp: this.mlpMoeGen,
    };
  }
}

/** The layer that `layer_module` names. */
export function createDecoderLayer(config: LlmConfig): DecoderLayer {
  switch (config.layer_module) {
    case 'Qwen2MoTDecoderLayer':
      return new Qwen2MoTDecoderLayer(config);
    case 'Qwen2MoEDecoderLayer':
      return new Qwen2MoEDecoderLayer(config);
    case 'Qwen2DecoderLayer':
      return new Qwen2DecoderLayer(config);
  }
}

function attentionParts(attention: PackedAttention) {
  const { qProj, kProj, vProj, oProj } = attention;
  const { qNorm = null, kNorm = null } = attention;
  return { qProj, kProj, vProj, oProj, qNorm, kNorm };
}

function splitHeads(x: Tensor, heads: number): Tensor {
  return x.view([x.shape[0], heads, x.shape[1] / heads]);
}

/** The streams' rows laid end to end, brought into sequence order. */
function inSequenceOrder(parts: Tensor[], order: Tensor | null): Tensor {
  const joined = parts.length === 1 ? parts[0] : ops.cat(parts, 0);
  return order === null ? joined : joined.indexSelect(0, order);
}

function emptyQueries(rows: number, like: Tensor, dtype: DType): Tensor {
  const [, heads, d] = like.shape;
  return empty([rows, heads, d], { dtype, device: like.device });
}
