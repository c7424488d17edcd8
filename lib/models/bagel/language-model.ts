import { Embedding } from '../../nn/embedding.js';
import { normalInit, zerosInit } from '../../nn/init.js';
import { Linear } from '../../nn/linear.js';
import { Module, setParameter } from '../../nn/module.js';
import { RMSNorm } from '../../nn/norm.js';
import type { PackedLayout } from '../../nn/packed-layout.js';
import type { DType, Generator, Tensor } from '../../torch/index.js';
import { keep, noGrad, ops, scope } from '../../torch/index.js';
import { DataError } from '../../util/errors.js';
import type { LlmConfig } from './config.js';
import { headDim } from './config.js';
import type {
  DecoderLayer,
  Expert,
  InferenceContext,
  PerExpert,
  Streams,
  TrainContext,
} from './decoder-layer.js';
import { createDecoderLayer, EXPERTS } from './decoder-layer.js';
import type { KvCache, KvStep } from './kv-cache.js';
import type { RopeTable } from './rope.js';
import { inverseFrequencies, ropeTable } from './rope.js';

/** A whole packed sequence, as embeddings. */
export interface TrainInputs {
  /** [T, H] embeddings in sequence order. */
  sequence: Tensor;
  layout: PackedLayout;
  /** [T] int64. */
  positionIds: Tensor;
  /** Rows of text and ViT tokens, int64, any order. */
  undIndexes: Tensor;
  /** Rows of latent tokens, int64; with `undIndexes` they make up all T rows. */
  genIndexes?: Tensor;
  /** Sees the residual stream [T, H] after each layer. */
  hiddenHook?: (layer: number, x: Tensor) => void;
}

/** A packed sequence already sorted by expert, which saves putting it in order first. */
export interface StreamInputs {
  /** Embeddings of the tokens at `undIndexes` and `genIndexes`, in that order. */
  streams: Streams;
  layout: PackedLayout;
  positionIds: Tensor;
  undIndexes: Tensor;
  genIndexes?: Tensor;
}

/** New tokens on top of a cache. */
export interface InferenceInputs {
  /** [M, H] embeddings, samples one behind the other. */
  query: Tensor;
  /** New tokens of each sample. */
  queryLens: readonly number[];
  /** [M] int64 rope positions. */
  positionIds: Tensor;
  cache: KvCache;
  /** Whether new tokens see each other only backwards. */
  causal: boolean;
  /** Whether the returned cache holds the new tokens too. */
  updateCache: boolean;
  /** `und`: all rows through the understanding expert; `gen`: rows sorted by the two index lists. */
  mode: Expert;
  undIndexes?: Tensor;
  genIndexes?: Tensor;
}

/** `model.*`: embedding table, layers and final norms. */
class Qwen2Model extends Module {
  embedTokens: Embedding;
  layers: DecoderLayer[];
  norm: RMSNorm;
  normMoeGen?: RMSNorm;

  constructor(config: LlmConfig) {
    super();
    this.embedTokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from({ length: config.num_hidden_layers }, () =>
      createDecoderLayer(config),
    );
    this.norm = new RMSNorm(config.hidden_size, config.rms_norm_eps);
    if (config.layer_module !== 'Qwen2DecoderLayer') {
      this.normMoeGen = new RMSNorm(config.hidden_size, config.rms_norm_eps);
    }
  }
}

/** The decoder with its embedding table and output head; keys `model.*` and `lm_head.weight`. */
export class LanguageModel extends Module {
  model: Qwen2Model;
  lmHead?: Linear;
  readonly #config: LlmConfig;
  #inverse: Tensor | null = null;

  constructor(config: LlmConfig) {
    super();
    this.#config = config;
    this.model = new Qwen2Model(config);
    if (!config.tie_word_embeddings) {
      this.lmHead = new Linear(config.hidden_size, config.vocab_size, { bias: false });
    }
  }

  /** The configuration it was built with. */
  get config(): LlmConfig {
    return this.#config;
  }

  /** Number of decoder layers. */
  get depth(): number {
    return this.model.layers.length;
  }

  /** Token ids [n] int64 -> [n, H]. */
  embed(ids: Tensor): Tensor {
    return this.model.embedTokens.forward(ids);
  }

  /** Hidden states [n, H] after the final norm -> next-token logits [n, vocabulary]. */
  logits(hidden: Tensor): Tensor {
    const head = this.lmHead?.weight ?? this.model.embedTokens.weight;
    return ops.linear(hidden, head);
  }

  /** Training pass over a packed sequence: [T, H] after the final norms, in sequence order. */
  forwardTrain(inputs: TrainInputs): Tensor {
    const { sequence, undIndexes, genIndexes, hiddenHook } = inputs;
    return scope(() => {
      const sorted = this.#sorts(undIndexes, genIndexes, sequence.shape[0]);
      const streams: Streams = {
        und: sorted.und === null ? null : pick(sequence, sorted.und.rows),
        gen: sorted.gen === null ? null : pick(sequence, sorted.gen.rows),
      };
      const context = this.trainContext({ ...inputs, streams });
      const hook = hiddenHook && ((i: number, s: Streams) => hiddenHook(i, merge(s, context)));
      return merge(this.forwardStreams(streams, context, hook), context);
    });
  }

  /** The same for tokens sorted by expert; returns the final streams. */
  forwardStreams(
    streams: Streams,
    context: TrainContext,
    hook?: (layer: number, streams: Streams) => void,
  ): Streams {
    return scope(() => {
      let current = this.startTrain(streams);
      for (const [index, layer] of this.model.layers.entries()) {
        const next = layer.forwardTrain(current, context);
        if (index > 0) release(current);
        current = next;
        if (hook) scope(() => hook(index, current));
      }
      return this.endTrain(current);
    });
  }

  /** Everything a training pass computes once for all layers. */
  trainContext(inputs: StreamInputs): TrainContext {
    const { layout, positionIds, undIndexes, genIndexes } = inputs;
    return scope(() => {
      const length = positionIds.shape[0];
      const sorted = this.#sorts(undIndexes, genIndexes, length);
      const rows = { und: sorted.und?.rows ?? null, gen: sorted.gen?.rows ?? null };
      const dtype = (inputs.streams.und ?? inputs.streams.gen)?.dtype ?? 'float32';
      return {
        rope: this.#ropes(positionIds, sorted, dtype),
        rows,
        order: inverseOrder(rows),
        plan: layout.clip(length).calls,
      };
    });
  }

  /** First step of a training pass: cuts the graph of frozen tokens. */
  startTrain(streams: Streams): Streams {
    if (!this.#config.freeze_und) return streams;
    return { und: streams.und?.detach() ?? null, gen: streams.gen };
  }

  /** Last step of a training pass: the final norm of each expert. */
  endTrain(streams: Streams): Streams {
    return scope(() => {
      const { freeze_und: frozen } = this.#config;
      const und = () => streams.und && this.model.norm.forward(streams.und);
      return {
        und: frozen ? noGrad(und) : und(),
        gen: streams.gen && (this.model.normMoeGen ?? this.model.norm).forward(streams.gen),
      };
    });
  }

  /** Cached pass without gradients: hidden [M, H] after the final norms, in query order. */
  forwardInference(inputs: InferenceInputs): { hidden: Tensor; cache: KvCache } {
    const { hidden, cache } = this.#infer(inputs, false);
    return { hidden: hidden as Tensor, cache };
  }

  /** Only fills the cache: skips what the last layer computes beyond its K and V. */
  prefill(inputs: Omit<InferenceInputs, 'updateCache'>): KvCache {
    return this.#infer({ ...inputs, updateCache: true }, true).cache;
  }

  #infer(inputs: InferenceInputs, cacheOnly: boolean): { hidden: Tensor | null; cache: KvCache } {
    const { query, queryLens, cache, causal, mode } = inputs;
    checkQuery(inputs);
    const hidden = noGrad(() =>
      scope(() => {
        const { num_key_value_heads: kvHeads } = this.#config;
        const { dtype, device } = query;
        const format = { kvHeads, headDim: headDim(this.#config), dtype, device };
        const step = cache.begin(queryLens, causal, format);
        const gen = mode === 'gen' && this.model.normMoeGen !== undefined;
        const context = this.#inferenceContext(inputs, step, gen);
        let streams: Streams = {
          und: context.rope.und && pick(query, context.rows.und),
          gen: context.rope.gen && pick(query, context.rows.gen),
        };
        const last = this.depth - 1;
        for (const [index, layer] of this.model.layers.entries()) {
          const next = layer.forwardInference(index, streams, context, cacheOnly && index === last);
          if (index > 0) release(streams);
          if (next === null) return null;
          streams = next;
        }
        const final = this.endTrain(streams);
        const parts = EXPERTS.flatMap((name) => final[name] ?? []);
        if (parts.length === 1 && context.rows.und === null) return parts[0];
        return merge(final, { order: inverseOrder(context.rows) });
      }),
    );
    return { hidden, cache: inputs.updateCache ? cache.append(queryLens) : cache };
  }

  #inferenceContext(inputs: InferenceInputs, step: KvStep, gen: boolean): InferenceContext {
    const { query, positionIds, undIndexes, genIndexes } = inputs;
    const queries = query.shape[0];
    const sorted = gen
      ? this.#sorts(undIndexes, genIndexes, queries)
      : { und: { rows: null }, gen: null };
    return {
      rope: this.#ropes(positionIds, sorted, query.dtype),
      rows: { und: sorted.und?.rows ?? null, gen: sorted.gen?.rows ?? null },
      cacheRows: {
        und: sorted.und && pick(step.rows, sorted.und.rows),
        gen: sorted.gen && pick(step.rows, sorted.gen.rows),
      },
      step,
      queries,
      generating: gen,
    };
  }

  /** Which rows belong to which expert; null where there are none. */
  #sorts(
    und: Tensor | undefined,
    gen: Tensor | undefined,
    length: number,
  ): PerExpert<{ rows: Tensor | null }> {
    const counts = { und: und?.shape[0] ?? 0, gen: gen?.shape[0] ?? 0 };
    if (counts.und + counts.gen !== length) {
      throw new DataError('ERR_ROWS', 'Every row needs exactly one expert', {
        expected: `${length} indexes`,
        found: `${counts.und} for understanding and ${counts.gen} for generation`,
      });
    }
    if (this.model.normMoeGen === undefined) return { und: { rows: null }, gen: null };
    return {
      und: und !== undefined && counts.und > 0 ? { rows: und } : null,
      gen: gen !== undefined && counts.gen > 0 ? { rows: gen } : null,
    };
  }

  #ropes(
    positionIds: Tensor,
    sorted: PerExpert<{ rows: Tensor | null }>,
    dtype: DType,
  ): PerExpert<RopeTable> {
    const inverse = this.#inverseFrequencies(positionIds.device);
    const table = (of: { rows: Tensor | null } | null) =>
      of === null ? null : ropeTable(pick(positionIds, of.rows), inverse, dtype);
    return { und: table(sorted.und), gen: table(sorted.gen) };
  }

  #inverseFrequencies(device: string): Tensor {
    if (this.#inverse?.device !== device) {
      this.#inverse?.dispose();
      const { rope_theta: theta } = this.#config;
      this.#inverse = keep(inverseFrequencies(headDim(this.#config), theta, device));
    }
    return this.#inverse;
  }

  override dispose(): void {
    super.dispose();
    this.#inverse?.dispose();
    this.#inverse = null;
  }

  /** Qwen2's initialisation: N(0, initializer_range^2) for matrices, zero biases, unit norms. */
  override initWeights(generator: Generator): this {
    super.initWeights(generator);
    const visit = (module: Module) => {
      if (module instanceof Linear || module instanceof Embedding) {
        const std = this.#config.initializer_range;
        setParameter(module, 'weight', normalInit([...module.weight.shape], std, generator));
        if (module instanceof Linear && module.bias !== undefined) {
          setParameter(module, 'bias', zerosInit([...module.bias.shape]));
        }
      }
      for (const [, child] of module.namedChildren()) visit(child);
    };
    visit(this);
    return this;
  }
}

/** The streams as one tensor in sequence order. */
function merge(streams: Streams, context: Pick<TrainContext, 'order'>): Tensor {
  return scope(() => {
    const parts = EXPERTS.flatMap((name) => streams[name] ?? []);
    const joined = parts.length === 1 ? parts[0] : ops.cat(parts, 0);
    return context.order === null ? joined : joined.indexSelect(0, context.order);
  });
}

/** For each sequence position its row in the streams laid end to end. */
function inverseOrder(rows: PerExpert<Tensor>): Tensor | null {
  const parts = EXPERTS.flatMap((name) => rows[name] ?? []);
  return parts.length === 0 ? null : scope(() => ops.cat(parts, 0).argsort());
}

function pick(x: Tensor, rows: Tensor | null): Tensor {
  return rows === null ? x : x.indexSelect(0, rows);
}

function release(streams: Streams): void {
  streams.und?.dispose();
  streams.gen?.dispose();
}

function checkQuery({ query, queryLens, positionIds }: InferenceInputs): void {
  const total = queryLens.reduce((sum, len) => sum + len, 0);
  if (query.shape[0] === total && positionIds.shape[0] === total) return;
  throw new DataError('ERR_QUERY', 'The query does not match its lengths', {
    expected: `${total} rows and positions`,
    found: `${query.shape[0]} rows and ${positionIds.shape[0]} positions`,
  });
}
