import { type Generator, ops, scope, type Tensor, tensor } from '../torch/index.js';
import { ConfigError } from '../util/errors.js';

/** Limits decoding to answers of a certain form; one per sequence, used once. */
export interface DecodingConstraint {
  /** One byte per row of the vocabulary (or fewer: missing rows are forbidden); non-zero allows a token. */
  allowedTokens(): Uint8Array;
  /** Tells that a token was chosen. */
  advance(token: number): void;
  /** True once the answer is whole; decoding of the sequence then ends without an end token. */
  readonly isComplete: boolean;
}

/** How one token is drawn, under the reference's names where it has them. */
export interface ChoiceOptions {
  /** Draw from the distribution instead of taking its maximum. */
  do_sample: boolean;
  /** 0 is the same as `do_sample: false`. */
  temperature: number;
  /** Draw among the k likeliest tokens only; 0 for no limit. */
  top_k: number;
  /** Draw among the likeliest tokens that together reach this probability; 1 for no limit. */
  top_p: number;
}

/** What may be chosen, and with which randomness. */
export interface ChoiceLimits {
  /** Rows of the logits from here on are padding of the vocabulary. */
  known: number;
  constraint?: DecodingConstraint | null;
  /** Needed to sample. */
  generator?: Generator;
}

/**
 * The next token of each of several sequences. Each draws from its own generator, so that its choice
 * does not depend on the others.
 *
 * @param logits float32 `[sequences, vocab]`.
 * @param limits one entry per sequence.
 * @throws ConfigError when a constraint allows nothing, or sampling has no generator.
 */
export function chooseTokens(
  logits: Tensor,
  options: ChoiceOptions,
  limits: readonly ChoiceLimits[],
): number[] {
  const [rows, vocab] = logits.shape;
  const greedy = !options.do_sample || options.temperature === 0;
  // One copy of all logits costs less than a few operators for each sequence.
  const values = greedy && limits.some((l) => l.constraint) ? logits.toFloat32Array() : null;
  const chosen: number[] = [];
  for (let row = 0; row < rows; row++) {
    const { constraint, known } = limits[row];
    if (values !== null && constraint) {
      const scores = values.subarray(row * vocab, row * vocab + Math.min(known, vocab));
      chosen.push(bestAllowed(scores, constraint.allowedTokens()));
    } else {
      chosen.push(chooseToken(logits, row, options, limits[row]));
    }
  }
  return chosen;
}

/** The next token of the sequence in one row of the logits, by operators. */
function chooseToken(
  logits: Tensor,
  row: number,
  options: ChoiceOptions,
  limits: ChoiceLimits,
): number {
  return scope(() => {
    const { constraint, known, generator } = limits;
    let scores = logits.select(0, row).narrow(0, 0, Math.min(known, logits.shape[1]));
    if (constraint) {
      const mask = forbidden(constraint.allowedTokens(), scores);
      scores = scores.maskedFill(mask, Number.NEGATIVE_INFINITY);
    }
    if (!options.do_sample || options.temperature === 0) return scores.argmax().item();
    if (!generator) throw new ConfigError('ERR_NO_GENERATOR', 'sampling needs a generator');
    return sampleToken(scores, options, generator);
  });
}

/** The likeliest allowed token; of equally likely ones the first. */
function bestAllowed(scores: Float32Array, allowed: Uint8Array): number {
  let best = -1;
  for (let token = 0; token < Math.min(scores.length, allowed.length); token++) {
    if (allowed[token] && (best < 0 || scores[token] > scores[best])) best = token;
  }
  if (best < 0) throw nothingAllowed();
  return best;
}

/** Bool mask like the scores, true where a token must not be chosen. */
function forbidden(allowed: Uint8Array, scores: Tensor): Tensor {
  const mask = new Uint8Array(scores.shape[0]);
  let any = false;
  for (let i = 0; i < mask.length; i++) {
    if (allowed[i]) any = true;
    else mask[i] = 1;
  }
  if (any) return tensor(mask, { dtype: 'bool', device: scores.device });
  throw nothingAllowed();
}

function nothingAllowed(): ConfigError {
  return new ConfigError('ERR_CONSTRAINT', 'the constraint allows no token at all', {
    hint: 'A constraint must offer a next token until it is complete',
  });
}

/** The only token a constraint allows next, or undefined when there is a choice. */
export function forcedToken(constraint: DecodingConstraint, known: number): number | undefined {
  const allowed = constraint.allowedTokens();
  let only: number | undefined;
  for (let i = 0; i < Math.min(allowed.length, known); i++) {
    if (!allowed[i]) continue;
    if (only !== undefined) return undefined;
    only = i;
  }
  return only;
}

/** Draws from `softmax(scores / temperature)` restricted by top-k and top-p, on the CPU in float32. */
export function sampleToken(
  scores: Tensor,
  options: Pick<ChoiceOptions, 'temperature' | 'top_k' | 'top_p'>,
  generator: Generator,
): number {
  return scope(() => {
    const scaled = scores.to({ dtype: 'float32', device: 'cpu' }).div(options.temperature);
    if (options.top_k === 0 && options.top_p === 1) {
      return ops.multinomial(scaled.softmax(-1), 1, false, { generator }).item();
    }
    const k = options.top_k > 0 ? Math.min(options.top_k, scaled.shape[0]) : scaled.shape[0];
    const [top, order] = ops.topk(scaled, k, -1, true, true);
    let probabilities = top.softmax(-1);
    if (options.top_p < 1) {
      // A token stays while those before it have not reached the limit, so the likeliest always stays.
      const before = probabilities.cumsum(-1).sub(probabilities);
      probabilities = probabilities.maskedFill(before.ge(options.top_p), 0);
    }
    const draw = ops.multinomial(probabilities, 1, false, { generator });
    return order.indexSelect(0, draw).item();
  });
}
