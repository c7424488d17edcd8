import type { DecodingConstraint } from '../generate/text.js';
import { ConfigError, DataError } from '../util/errors.js';
import { type ByteGrammar, DEAD } from './byte-grammar.js';
import type { TokenVocabulary } from './token-vocabulary.js';

/** Where a constrained answer stands. Immutable; made by `start` and `advance`. */
export interface AnswerState {
  /** State of the byte grammar. */
  readonly node: number;
  /** Tokens that may still be written. */
  readonly left: number;
  /** Tokens that may still be spent on thinking. */
  readonly thinkLeft: number;
}

/** Limits of one answer, in tokens. */
export interface AnswerBudget {
  /** Whole answer, thoughts included. */
  maxTokens: number;
  /** Thoughts with their closing tag; default: whatever the rest of the answer does not need. */
  maxThinkTokens?: number;
}

/**
 * Keeps a token-by-token answer inside a byte grammar. Whatever the model prefers, an answer made
 * only of allowed tokens is complete, and parses, within its budget: a token is allowed when its
 * bytes are and when the shortest completion after it still fits into what is left.
 *
 * One object serves any number of answers to the same question (batches, repeats).
 */
export class TokenConstraint {
  readonly grammar: ByteGrammar;
  readonly vocabulary: TokenVocabulary;
  /** Fewest tokens any answer takes. */
  readonly minTokens: number;
  /** Fewest tokens from each position of the shortest answer to its end, none across the tag's end. */
  readonly #cost: Int32Array;
  /** The most that `#cost` comes to from each position on. */
  readonly #worst: Int32Array;
  /** Length of the tag that closes the thoughts; 0 without thoughts. */
  readonly #tagBytes: number;
  readonly #masks = new Map<number, Uint8Array>();

  /**
   * @throws ConfigError when the vocabulary lacks tokens for single bytes that an answer needs.
   */
  constructor(grammar: ByteGrammar, vocabulary: TokenVocabulary) {
    this.grammar = grammar;
    this.vocabulary = vocabulary;
    const needed = new Set([0x30, 0x80, 0x90, 0xa0, ...grammar.shortest]);
    if (!vocabulary.hasBytesAbove127) for (const b of [0x80, 0x90, 0xa0]) needed.delete(b);
    const lacking = [...needed].filter((byte) => vocabulary.singleByte(byte) === null);
    if (lacking.length > 0) {
      throw new ConfigError('ERR_VOCABULARY', 'the tokenizer cannot spell a constrained answer', {
        expected: 'a token for every single byte of it',
        found: `none for ${lacking.map((b) => JSON.stringify(String.fromCharCode(b))).join(', ')}`,
        hint: 'Byte-level tokenizers have all of them.',
      });
    }
    const first = grammar.parts[0];
    this.#tagBytes = first?.kind === 'until' ? new TextEncoder().encode(first.tag).length : 0;
    this.#cost = fewestTokens(vocabulary, grammar.shortest, this.#tagBytes);
    this.#worst = this.#cost.slice();
    for (let i = this.#worst.length - 2; i >= 0; i -= 1) {
      this.#worst[i] = Math.max(this.#worst[i], this.#worst[i + 1]);
    }
    this.minTokens = this.#cost[0];
  }

  /** Begins an answer. @throws ConfigError when the budget is too small for any answer. */
  start(budget: AnswerBudget): AnswerState {
    const { maxTokens } = budget;
    const thinks = this.#thinks(this.grammar.start);
    const thinkLeft = budget.maxThinkTokens ?? maxTokens;
    if (maxTokens < this.minTokens || (thinks && thinkLeft < this.#tagCost(0))) {
      throw new ConfigError('ERR_BUDGET', 'the answer cannot be given in so few tokens', {
        expected: `at least ${this.minTokens} tokens${thinks ? `, ${this.#tagCost(0)} to think` : ''}`,
        found: `${maxTokens} tokens${thinks ? `, ${thinkLeft} to think` : ''}`,
      });
    }
    return { node: this.grammar.start, left: maxTokens, thinkLeft };
  }

  /** Begins an answer that keeps its own state, as text decoding wants it. @throws ConfigError */
  decoding(budget: AnswerBudget): DecodingConstraint {
    let state = this.start(budget);
    // Asked for twice at each place: is there a choice, and which is best?
    let allowed: Uint8Array | null = null;
    const isComplete = () => this.isComplete(state);
    return {
      allowedTokens: () => {
        allowed ??= this.allowedTokens(state);
        return allowed;
      },
      advance: (token) => {
        state = this.advance(state, token);
        allowed = null;
      },
      get isComplete() {
        return isComplete();
      },
    };
  }

  /** Whether the whole answer has been written. */
  isComplete(state: AnswerState): boolean {
    return state.node === this.grammar.end;
  }

  /**
   * Which tokens may come next: 1 = allowed, one entry per token id. All zero when the answer is
   * complete. The array is shared and must not be changed.
   */
  allowedTokens(state: AnswerState): Uint8Array {
    const { node } = state;
    const { join } = this.grammar.shortestFrom(node);
    const thinks = this.#thinks(node);
    // Thoughts may fall back to the beginning of the tag; elsewhere an answer only moves on. Four
    // further tokens finish a character or a number begun by the next token.
    const roomy = state.left - 1 >= this.#worst[thinks ? 0 : join] + 4;
    const calm = !thinks || state.thinkLeft - 1 >= this.#tagBytes;
    if (roomy && calm) return this.#plainMask(node);
    return this.#walk(node, (next) => this.#fits(next, state)).mask;
  }

  /**
   * The state after a token.
   *
   * @throws DataError when the token is not allowed here.
   */
  advance(state: AnswerState, token: number): AnswerState {
    const bytes = this.vocabulary.bytes(token);
    const node = bytes === null ? DEAD : this.grammar.run(state.node, bytes);
    if (node === DEAD || !this.#fits(node, state)) {
      throw new DataError('ERR_TOKEN', 'the token is not allowed at this place of the answer', {
        found: bytes === null ? `token ${token}` : JSON.stringify(Buffer.from(bytes).toString()),
      });
    }
    const thinkLeft = this.#thinks(state.node) ? state.thinkLeft - 1 : state.thinkLeft;
    return { node, left: state.left - 1, thinkLeft };
  }

  /** The only token that may come next, or null when there is a choice (or nothing to choose). */
  forcedToken(state: AnswerState): number | null {
    const mask = this.allowedTokens(state);
    const token = mask.indexOf(1);
    return token >= 0 && mask.indexOf(1, token + 1) < 0 ? token : null;
  }

  #thinks(node: number): boolean {
    return this.#tagBytes > 0 && this.grammar.partOf(node) === 0;
  }

  /** Fewest tokens from a position of the closing tag to its end. */
  #tagCost(position: number): number {
    return this.#cost[position] - this.#cost[this.#tagBytes];
  }

  /** Whether the shortest way on from `node` fits after one more token is spent in `state`. */
  #fits(node: number, state: AnswerState): boolean {
    const { bytes, join } = this.grammar.shortestFrom(node);
    if (bytes.length + this.#cost[join] > state.left - 1) return false;
    return !this.#thinks(node) || this.#tagCost(join) <= state.thinkLeft - 1;
  }

  /** The mask without regard to budgets, kept where the walk is long. */
  #plainMask(node: number): Uint8Array {
    const key = this.grammar.localKey(node, this.vocabulary.longest);
    if (key === null) return this.#walk(node, () => true).mask;
    const kept = this.vocabulary.masks.get(key) ?? this.#masks.get(node);
    if (kept !== undefined) return kept;
    const { mask, local } = this.#walk(node, () => true);
    if (local) this.vocabulary.masks.set(key, mask);
    else this.#masks.set(node, mask);
    return mask;
  }

  /** One pass over the part of the prefix tree that the grammar can enter from `node`. */
  #walk(node: number, accept: (next: number) => boolean): { mask: Uint8Array; local: boolean } {
    const { nodeByte, nodeDepth, nodeEnd, nodeTokens, tokenOrder } = this.vocabulary;
    const { grammar } = this;
    const mask = new Uint8Array(this.vocabulary.size);
    const stack = new Int32Array(this.vocabulary.longest + 1);
    stack[0] = node;
    let local = true;
    for (let n = 0; n < nodeByte.length; ) {
      const depth = nodeDepth[n];
      const next = grammar.row(stack[depth - 1])[nodeByte[n]];
      if (next === DEAD) {
        n = nodeEnd[n];
        continue;
      }
      stack[depth] = next;
      if (local && !grammar.isLocal(node, next)) local = false;
      const last = nodeTokens[n + 1];
      if (nodeTokens[n] < last && accept(next)) {
        for (let i = nodeTokens[n]; i < last; i += 1) mask[tokenOrder[i]] = 1;
      }
      n += 1;
    }
    return { mask, local };
  }
}

/**
 * Fewest tokens that spell `text` from each position to the end; the entry after the last is 0.
 * No token reaches across `boundary`. Every byte of the text must be a token.
 */
function fewestTokens(vocabulary: TokenVocabulary, text: Uint8Array, boundary: number): Int32Array {
  const cost = new Int32Array(text.length + 1);
  for (let i = text.length - 1; i >= 0; i -= 1) {
    let best = Number.MAX_SAFE_INTEGER;
    for (const length of vocabulary.lengthsAt(text, i)) {
      if (i < boundary && i + length > boundary) continue;
      best = Math.min(best, 1 + cost[i + length]);
    }
    cost[i] = best;
  }
  return cost;
}
