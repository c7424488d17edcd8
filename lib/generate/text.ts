import { setImmediate as macrotask } from 'node:timers/promises';
import type { KvCache } from '../models/bagel/kv-cache.js';
import { type Generator, noGrad, scope, type Tensor } from '../torch/index.js';
import { ConfigError } from '../util/errors.js';
import { type GenerationContext, type GenerationModel, indexTensor } from './context.js';
import { prepareStartTokens } from './prepare.js';
import {
  type ChoiceOptions,
  chooseTokens,
  type DecodingConstraint,
  forcedToken,
} from './token-choice.js';

export { type DecodingConstraint, sampleToken } from './token-choice.js';

/** Options of text decoding. */
export interface TextOptions extends ChoiceOptions {
  /** Tokens of the result, the start token counted; the prediction after the last one is dropped. */
  max_length: number;
}

/** Greedy decoding of at most 512 tokens. */
export const textDefaults: Readonly<TextOptions> = Object.freeze({
  max_length: 512,
  do_sample: false,
  temperature: 1,
  top_k: 0,
  top_p: 1,
});

/** Why a sequence ended. */
export type FinishReason = 'eos' | 'length' | 'constraint';

/** One batch of texts to decode. */
export interface GenerateTextRequest {
  context: GenerationContext;
  options: Partial<TextOptions>;
  /** Ends a sequence; not part of the result. Without it decoding runs to `max_length`. */
  endTokenId?: number;
  /** Number of token ids the tokenizer knows; padding rows of the vocabulary above are never chosen. */
  vocabSize?: number;
  /** One generator per sequence; needed to sample. */
  generators?: readonly Generator[];
  /** One constraint per sequence (or null for none). A constrained sequence ignores `endTokenId`. */
  constraints?: ReadonlyArray<DecodingConstraint | null>;
  /** Instead of `options.max_length` for all: one per sequence. */
  maxLengths?: readonly number[];
  /**
   * `each` (default): every sequence stops at its own end token. `first`: all stop when the first one
   * does, and the others run past their ends, as in the BAGEL reference.
   */
  stop?: 'each' | 'first';
  /**
   * Sees the raw logits float32 `[running, vocab]` of each step, one row per sequence that has not ended;
   * valid during the callback only.
   */
  onLogits?: (logits: Tensor, step: number) => void;
  /** Sees each token of the result but the start token. */
  onToken?: (token: number, sequence: number) => void;
  signal?: AbortSignal;
}

/** What was decoded, and why each sequence ended. */
export interface GenerateTextResult {
  /** Per sequence: the start token and what was decoded, without the end token. */
  ids: number[][];
  finish: FinishReason[];
}

/** One sequence on its way. */
interface Sequence {
  readonly index: number;
  readonly ids: number[];
  /** Part of the result already, but not yet seen by the network. */
  pending: number[];
  /** Rotary position of the first pending token. */
  position: number;
  finish?: FinishReason;
}

/**
 * Decodes text after a context, beginning with `bos`. The context itself is not changed.
 *
 * Tokens that a constraint leaves no choice about go through the network together with the next chosen
 * one, so the fixed parts of an answer cost next to nothing.
 *
 * @throws ConfigError for options out of range or an empty context; the signal's reason when aborted.
 */
export async function generateText(
  g: GenerationModel,
  request: GenerateTextRequest,
): Promise<GenerateTextResult> {
  const options = { ...textDefaults, ...request.options };
  const start = prepareStartTokens(request.context, g.special);
  const sequences = start.packed_start_tokens.map(
    (token, index): Sequence => ({
      index,
      ids: [token],
      pending: [token],
      position: start.packed_query_position_ids[index],
    }),
  );
  checkOptions(options, request, sequences.length);
  request.signal?.throwIfAborted();
  const { vocab_size } = g.model.config.llm;
  const known = Math.min(request.vocabSize ?? vocab_size, vocab_size);

  let cache = request.context.cache;
  try {
    for (let step = 0; !isDone(sequences, request); step++) {
      if (step > 0) await macrotask();
      request.signal?.throwIfAborted();
      const running = sequences.filter((s) => s.finish === undefined);
      const next = noGrad(() =>
        scope(() => {
          const out = decodeStep(g, sequences, cache);
          request.onLogits?.(out.logits, step);
          const limits = running.map(({ index }) => ({
            known,
            constraint: request.constraints?.[index],
            generator: request.generators?.[index],
          }));
          return { cache: out.cache, chosen: chooseTokens(out.logits, options, limits) };
        }),
      );
      // The caller's context stays valid; caches of earlier steps are ours to free.
      if (cache !== request.context.cache) cache.dispose();
      cache = next.cache;
      running.forEach((s, row) => {
        s.position += s.pending.length;
        s.pending = [];
        // In the reference the end of the first sequence drops what the others chose in that step.
        if (request.stop === 'first' && sequences[0].finish === 'eos') return;
        const most = request.maxLengths?.[s.index] ?? options.max_length;
        accept(s, next.chosen[row], request, most, known);
      });
    }
  } finally {
    if (cache !== request.context.cache) cache.dispose();
  }
  return { ids: sequences.map((s) => s.ids), finish: sequences.map((s) => s.finish ?? 'length') };
}

/** Pending tokens through the network: logits of each running sequence's last one, and the longer cache. */
function decodeStep(
  g: GenerationModel,
  sequences: readonly Sequence[],
  cache: KvCache,
): { logits: Tensor; cache: KvCache } {
  const { languageModel, device } = g.model;
  // A sequence that has ended takes part with no tokens.
  const fed = sequences.map((s) => (s.finish === undefined ? s.pending : []));
  const tokens = fed.flat();
  const positions = fed.flatMap((pending, i) => pending.map((_, j) => sequences[i].position + j));
  const out = languageModel.forwardInference({
    query: languageModel.embed(indexTensor(tokens, device)),
    queryLens: fed.map((pending) => pending.length),
    positionIds: indexTensor(positions, device),
    cache,
    causal: true,
    updateCache: true,
    mode: 'und',
  });
  const lastRows: number[] = [];
  let row = -1;
  for (const pending of fed) {
    row += pending.length;
    if (pending.length > 0) lastRows.push(row);
  }
  const last = out.hidden.indexSelect(0, indexTensor(lastRows, device));
  return { logits: languageModel.logits(last).to('float32'), cache: out.cache };
}

/** Adds a chosen token, and those that follow from it, to a sequence, or ends it. */
function accept(
  s: Sequence,
  chosen: number,
  request: GenerateTextRequest,
  maxLength: number,
  known: number,
): void {
  const constraint = request.constraints?.[s.index];
  // In the reference's mode the others go on until the first sequence ends.
  const mayEnd = !constraint && (request.stop !== 'first' || s.index === 0);
  if (mayEnd && chosen === request.endTokenId) {
    s.finish = 'eos';
    return;
  }
  for (let token: number | undefined = chosen; token !== undefined; ) {
    if (s.ids.length >= maxLength) {
      s.finish = 'length';
      return;
    }
    s.ids.push(token);
    s.pending.push(token);
    request.onToken?.(token, s.index);
    if (!constraint) return;
    constraint.advance(token);
    if (constraint.isComplete) {
      s.finish = 'constraint';
      return;
    }
    token = forcedToken(constraint, known);
  }
}

function isDone(sequences: readonly Sequence[], request: GenerateTextRequest): boolean {
  return request.stop === 'first'
    ? sequences[0].finish !== undefined
    : sequences.every((s) => s.finish !== undefined);
}

function checkOptions(o: TextOptions, request: GenerateTextRequest, batch: number): void {
  const bad = (key: string, expected: string, found: unknown): never => {
    throw new ConfigError(`config.${key}`, 'text option out of range', {
      key,
      expected,
      found: String(found),
    });
  };
  for (const most of request.maxLengths ?? [o.max_length]) {
    if (!Number.isInteger(most) || most < 1) {
      bad('max_length', 'a whole number of at least 1', most);
    }
  }
  if (!(o.temperature >= 0) || !Number.isFinite(o.temperature)) {
    bad('temperature', 'a finite number of at least 0', o.temperature);
  }
  if (!Number.isInteger(o.top_k) || o.top_k < 0) bad('top_k', 'a whole number from 0', o.top_k);
  if (!(o.top_p > 0 && o.top_p <= 1)) bad('top_p', 'a number above 0 and up to 1', o.top_p);
  for (const key of ['generators', 'constraints', 'maxLengths'] as const) {
    const list = request[key];
    if (list !== undefined && list.length !== batch) bad(key, `${batch} of them`, list.length);
  }
  if (o.do_sample && o.temperature > 0 && !request.generators) {
    bad('generators', 'one per sequence, for sampling', 'none');
  }
}
