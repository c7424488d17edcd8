import { DataError } from '../util/errors.js';

/** How the tokens of a split see each other and are seen; `noise` splits are invisible to others. */
export type AttnMode = 'causal' | 'full' | 'noise';

/**
 * One attention over contiguous ranges: query rows [qStart, qEnd) over key rows [kStart, kEnd).
 * With `causal` the mask is aligned bottom-right: query row j of nq sees keys 0 .. nk - nq + j.
 * Calls that cover the same query rows are parts of one softmax.
 */
export interface AttentionCall {
  qStart: number;
  qEnd: number;
  kStart: number;
  kEnd: number;
  causal: boolean;
}

/** A packed batch as the data loader describes it. */
export interface LayoutSpec {
  /** Tokens of each sample, in order; may include a trailing padding pseudo-sample. */
  sampleLens: readonly number[];
  /** Tokens of each split, in order; splits may be empty and never cross a sample's border. */
  splitLens: readonly number[];
  /** One mode per split. */
  attnModes: readonly AttnMode[];
  /** Rows that really exist; what lies beyond is padding and is cut off. Default: all. */
  length?: number;
}

const MODES: ReadonlySet<string> = new Set(['causal', 'full', 'noise']);

/**
 * Who may attend to whom in a packed batch, as a short list of attentions over contiguous ranges
 * instead of a dense mask. The rule is the BAGEL reference's: within a sample a token sees every
 * earlier split that is not `noise`, and its own split wholly (`full`, `noise`) or up to itself (`causal`).
 */
export class PackedLayout {
  readonly sampleLens: readonly number[];
  readonly splitLens: readonly number[];
  readonly attnModes: readonly AttnMode[];
  /** Number of rows covered. */
  readonly length: number;
  /** The attentions to run; together they cover every row. */
  readonly calls: readonly AttentionCall[];

  private constructor(spec: LayoutSpec, length: number, calls: AttentionCall[]) {
    this.sampleLens = spec.sampleLens;
    this.splitLens = spec.splitLens;
    this.attnModes = spec.attnModes;
    this.length = length;
    this.calls = calls;
  }

  /** Plans a batch once. @throws DataError when lengths and modes contradict each other. */
  static plan(spec: LayoutSpec): PackedLayout {
    const total = check(spec);
    const length = spec.length ?? total;
    if (!Number.isInteger(length) || length < 0 || length > total) {
      throw new DataError('ERR_LAYOUT', 'The packed sequence does not match its layout', {
        expected: `at most ${total} rows`,
        found: `${length}`,
      });
    }
    const calls: AttentionCall[] = [];
    let position = 0;
    let split = 0;
    for (const sampleLen of spec.sampleLens) {
      const end = position + sampleLen;
      const visible: Array<[number, number]> = [];
      while (split < spec.splitLens.length && (position < end || spec.splitLens[split] === 0)) {
        const splitEnd = position + spec.splitLens[split];
        const clipped = Math.min(splitEnd, length);
        if (clipped > position) {
          planSplit(calls, visible, position, clipped, spec.attnModes[split] === 'causal');
        }
        if (spec.attnModes[split] !== 'noise') addRange(visible, position, splitEnd);
        position = splitEnd;
        split += 1;
      }
    }
    // A single query row sees all its keys either way; without the flag kernels skip the masking.
    for (const call of calls) call.causal &&= call.qEnd - call.qStart > 1;
    return new PackedLayout(spec, length, calls);
  }

  /** The same layout for a sequence of `length` rows, without the padding behind it. */
  clip(length: number): PackedLayout {
    return length === this.length ? this : PackedLayout.plan({ ...this.spec(), length });
  }

  private spec(): LayoutSpec {
    return { sampleLens: this.sampleLens, splitLens: this.splitLens, attnModes: this.attnModes };
  }
}

/** Independent segments, each attending within itself: the plan of a batch of whole sequences. */
export function segmentPlan(lens: readonly number[], causal = false): AttentionCall[] {
  const calls: AttentionCall[] = [];
  let start = 0;
  for (const len of lens) {
    if (len > 0) {
      calls.push({ qStart: start, qEnd: start + len, kStart: start, kEnd: start + len, causal });
    }
    start += len;
  }
  return calls;
}

/** What a cached step attends over. */
export interface InferencePlanSpec {
  /** New rows per sample. */
  queryLens: readonly number[];
  /** Cached rows per sample. */
  pastLens: readonly number[];
  causal: boolean;
  /** First key row of each sample; default: samples packed tightly as [past_0, new_0, past_1, ...]. */
  keyOffsets?: readonly number[];
}

/**
 * Up to so many causal rows behind a past are planned row by row: a row by itself needs no mask, while
 * a causal call over past and new rows is computed in two parts that have to be merged.
 */
const FEW_ROWS = 4;

/** The plan of a cached step over keys laid out per sample as past rows followed by new rows. */
export function inferencePlan(spec: InferencePlanSpec): AttentionCall[] {
  const { queryLens, pastLens, causal, keyOffsets } = spec;
  if (queryLens.length !== pastLens.length) {
    throw new DataError('ERR_LAYOUT', 'Query and cache have different batch sizes', {
      expected: `${pastLens.length} samples`,
      found: `${queryLens.length}`,
    });
  }
  const calls: AttentionCall[] = [];
  let qStart = 0;
  let tight = 0;
  for (const [sample, m] of queryLens.entries()) {
    const total = pastLens[sample] + m;
    const kStart = keyOffsets?.[sample] ?? tight;
    if (causal && (m === 1 || (m <= FEW_ROWS && pastLens[sample] > 0))) {
      for (let row = 0; row < m; row++) {
        const q = qStart + row;
        const kEnd = kStart + pastLens[sample] + row + 1;
        calls.push({ qStart: q, qEnd: q + 1, kStart, kEnd, causal: false });
      }
    } else if (m > 0) {
      calls.push({ qStart, qEnd: qStart + m, kStart, kEnd: kStart + total, causal });
    }
    qStart += m;
    tight += total;
  }
  return calls;
}

/** Adds the attentions of rows [start, end) that see `visible` and themselves. */
function planSplit(
  calls: AttentionCall[],
  visible: ReadonlyArray<[number, number]>,
  start: number,
  end: number,
  causal: boolean,
): void {
  const adjacent = visible.at(-1)?.[1] === start ? visible.at(-1) : undefined;
  const kStart = adjacent?.[0] ?? start;
  const before = adjacent === undefined ? visible : visible.slice(0, -1);
  const last = calls.at(-1);
  if (causal && last?.causal && last.qEnd === start && last.kStart === kStart) {
    // A causal split right behind another one sees the same earlier keys and continues its triangle.
    for (const call of calls.slice(-1 - before.length)) call.qEnd = end;
    last.kEnd = end;
    return;
  }
  for (const [from, to] of before) {
    calls.push({ qStart: start, qEnd: end, kStart: from, kEnd: to, causal: false });
  }
  calls.push({ qStart: start, qEnd: end, kStart, kEnd: end, causal });
}

function addRange(ranges: Array<[number, number]>, start: number, end: number): void {
  if (start === end) return;
  const last = ranges.at(-1);
  if (last !== undefined && last[1] === start) last[1] = end;
  else ranges.push([start, end]);
}

/** Validates a spec and returns its number of tokens. */
function check(spec: LayoutSpec): number {
  const { sampleLens, splitLens, attnModes } = spec;
  if (splitLens.length !== attnModes.length) {
    throw new DataError('ERR_LAYOUT', 'Every split needs one attention mode', {
      expected: `${splitLens.length} modes`,
      found: `${attnModes.length}`,
    });
  }
  const badMode = attnModes.find((mode) => !MODES.has(mode));
  if (badMode !== undefined) {
    throw new DataError('ERR_LAYOUT', 'Unknown attention mode', {
      expected: 'causal, full or noise',
      found: String(badMode),
    });
  }
  const badLen = [...sampleLens, ...splitLens].find((len) => !Number.isInteger(len) || len < 0);
  if (badLen !== undefined) {
    throw new DataError('ERR_LAYOUT', 'Lengths are whole numbers from 0', { found: `${badLen}` });
  }
  const borders = new Set([0]);
  let total = 0;
  for (const len of splitLens) {
    total += len;
    borders.add(total);
  }
  let sampleEnd = 0;
  for (const len of sampleLens) {
    sampleEnd += len;
    if (!borders.has(sampleEnd)) {
      throw new DataError('ERR_LAYOUT', 'A split crosses the border of a sample', {
        expected: `a split that ends at token ${sampleEnd}`,
        found: `splits ${splitLens.join(', ')}`,
      });
    }
  }
  if (sampleEnd !== total) {
    throw new DataError('ERR_LAYOUT', 'Samples and splits have different totals', {
      expected: `${sampleEnd} tokens`,
      found: `${total}`,
    });
  }
  return total;
}
