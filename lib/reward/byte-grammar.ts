import { SrumError } from '../util/errors.js';

/** One element of an answer. Scores and texts must be followed by a literal that ends them. */
export type GrammarPart =
  /** Exactly these bytes. */
  | { kind: 'literal'; text: string }
  /** A decimal number in [-1, 1]: optional minus, then 0 or 1, then up to two decimals. */
  | { kind: 'score' }
  /**
   * Valid UTF-8 of 1 to `maxBytes` bytes that does not begin with a blank and holds no control
   * characters, quotes, backslashes or `<`: the inside of a JSON string that needs no escapes and
   * cannot be taken for a tag.
   */
  | { kind: 'text'; maxBytes: number }
  /** Any bytes up to and including the first occurrence of `tag`. */
  | { kind: 'until'; tag: string }
  /** Up to `max` blanks or line feeds. */
  | { kind: 'blanks'; max: number };

/** No state: the byte is not allowed. */
export const DEAD = -1;

/** States of a UTF-8 character inside a text; the numbers are the order of `CONTINUATION`. */
const UTF8_DONE = 0;
const UTF8_STATES = 9;
/** Allowed next byte (from, to) and following state, by UTF-8 state (RFC 3629, section 4). */
const CONTINUATION: ReadonlyArray<readonly [number, number, number]> = [
  [1, 0, UTF8_DONE],
  [0x80, 0xbf, UTF8_DONE],
  [0x80, 0xbf, 1],
  [0x80, 0xbf, 2],
  [0xa0, 0xbf, 1], // after E0: nothing overlong
  [0x80, 0x9f, 1], // after ED: no surrogates
  [0x90, 0xbf, 2], // after F0: nothing overlong
  [0x80, 0x8f, 2], // after F4: nothing beyond U+10FFFF
  [0xa0, 0xbf, UTF8_DONE], // after C2: no C1 control characters
];

/** State and number of further bytes after the first byte of a character that is not ASCII. */
function utf8Lead(byte: number): readonly [state: number, more: number] | null {
  if (byte === 0xc2) return [8, 1];
  if (byte >= 0xc3 && byte <= 0xdf) return [1, 1];
  if (byte === 0xe0) return [4, 2];
  if (byte === 0xed) return [5, 2];
  if (byte >= 0xe1 && byte <= 0xef) return [2, 2];
  if (byte === 0xf0) return [6, 3];
  if (byte >= 0xf1 && byte <= 0xf3) return [3, 3];
  if (byte === 0xf4) return [7, 3];
  return null;
}

/** Score states: 0 nothing, 1 `-`, 2 `0`, 3 `1`, 4 `0.`, 5 `0.d`, 6 `0.dd`, 7 `1.`, 8 `1.0`, 9 `1.00`. */
const SCORE_STATES = 10;
const SCORE_ENDS = new Set([2, 3, 5, 6, 8, 9]);
const MINUS = 0x2d;
const POINT = 0x2e;

function scoreStep(state: number, byte: number): number {
  const digit = byte >= 0x30 && byte <= 0x39;
  if (state <= 1) {
    if (byte === MINUS) return state === 0 ? 1 : DEAD;
    return byte === 0x30 ? 2 : byte === 0x31 ? 3 : DEAD;
  }
  if (state === 2) return byte === POINT ? 4 : DEAD;
  if (state === 3) return byte === POINT ? 7 : DEAD;
  if (state === 4 || state === 5) return digit ? state + 1 : DEAD;
  if (state === 7 || state === 8) return byte === 0x30 ? state + 1 : DEAD;
  return DEAD;
}

/**
 * A deterministic automaton over bytes for a sequence of parts. States are small integers;
 * transitions are computed once per state, when first asked for.
 */
export class ByteGrammar {
  readonly parts: readonly GrammarPart[];
  readonly start = 0;
  /** The state in which the whole answer has been read. */
  readonly end: number;
  /** The shortest answer: empty thoughts, one-character texts, scores of 0. */
  readonly shortest: Uint8Array;
  readonly #bytes: Uint8Array[];
  readonly #offsets: number[];
  readonly #partOf: Int32Array;
  readonly #shortestStart: number[];
  readonly #rows: Array<Int32Array | undefined>;

  /** @throws SrumError when the sequence of parts is not deterministic (a defect of the caller). */
  constructor(parts: readonly GrammarPart[]) {
    this.parts = parts;
    this.#bytes = parts.map((part) => bytesOf(part));
    this.#offsets = [];
    this.#shortestStart = [];
    let states = 0;
    const shortest: number[] = [];
    parts.forEach((part, i) => {
      checkPart(part, this.#bytes[i], parts[i + 1]);
      this.#offsets.push(states);
      this.#shortestStart.push(shortest.length);
      states += stateCount(part, this.#bytes[i]);
      shortest.push(...shortestOf(part, this.#bytes[i]));
    });
    this.#offsets.push(states);
    this.#shortestStart.push(shortest.length);
    this.shortest = Uint8Array.from(shortest);
    this.end = states;
    this.#partOf = new Int32Array(states + 1);
    parts.forEach((_, i) => {
      this.#partOf.fill(i, this.#offsets[i], this.#offsets[i + 1]);
    });
    this.#partOf[states] = parts.length;
    this.#rows = new Array(states + 1);
  }

  /** Position of the part a state lies in; `parts.length` for the end. */
  partOf(state: number): number {
    return this.#partOf[state];
  }

  /** State at the beginning of a part. */
  startOf(part: number): number {
    return this.#offsets[part];
  }

  /** The state after one byte, or `DEAD`. */
  step(state: number, byte: number): number {
    return this.row(state)[byte];
  }

  /** The state after each of the 256 bytes. The array must not be changed. */
  row(state: number): Int32Array {
    let row = this.#rows[state];
    if (row === undefined) {
      row = new Int32Array(256);
      for (let byte = 0; byte < 256; byte += 1) row[byte] = this.#transition(state, byte);
      this.#rows[state] = row;
    }
    return row;
  }

  /** The state after several bytes, or `DEAD`. */
  run(state: number, bytes: Uint8Array): number {
    let s = state;
    for (let i = 0; i < bytes.length && s !== DEAD; i += 1) s = this.step(s, bytes[i]);
    return s;
  }

  /**
   * The shortest way on from a state: some bytes, after which the automaton stands where the
   * shortest answer stands at position `join`.
   */
  shortestFrom(state: number): { bytes: number[]; join: number } {
    const p = this.partOf(state);
    if (p === this.parts.length) return { bytes: [], join: this.shortest.length };
    const part = this.parts[p];
    const local = state - this.#offsets[p];
    const begin = this.#shortestStart[p];
    const after = this.#shortestStart[p + 1];
    if (part.kind === 'literal' || part.kind === 'until') return { bytes: [], join: begin + local };
    if (part.kind === 'blanks' || local === 0) return { bytes: [], join: begin };
    if (part.kind === 'score') {
      return SCORE_ENDS.has(local) ? { bytes: [], join: after } : { bytes: [0x30], join: after };
    }
    const bytes: number[] = [];
    for (let u = local % UTF8_STATES; u !== UTF8_DONE; u = CONTINUATION[u][2]) {
      bytes.push(CONTINUATION[u][0]);
    }
    return { bytes, join: after };
  }

  /**
   * For states from which most tokens are allowed (inside a text or a thought, between characters):
   * a name shared by all states, of this and other grammars, that behave alike for tokens of up to
   * `reach` bytes as long as they do not leave the next two parts (see `isLocal`). Null for others.
   */
  localKey(state: number, reach: number): string | null {
    const p = this.partOf(state);
    const part = this.parts[p];
    const local = state - this.#offsets[p];
    const next = JSON.stringify(this.parts.slice(p + 1, p + 3));
    if (part?.kind === 'until') return `until ${part.tag} ${local} ${next}`;
    if (part?.kind !== 'text' || local % UTF8_STATES !== UTF8_DONE) return null;
    const used = local / UTF8_STATES;
    // The last byte of a token of `reach` bytes may begin a character, which is only allowed with
    // room for its up to three further bytes. Any more room than that makes no difference.
    return `text ${used === 0} ${Math.min(part.maxBytes - used, reach + 3)} ${next}`;
  }

  /**
   * Whether `localKey(from)` tells all about what may follow `state`. States in which the second part
   * may be over do not count: what follows them is up to the third.
   */
  isLocal(from: number, state: number): boolean {
    const last = this.partOf(from) + 2;
    const p = this.partOf(state);
    if (p !== last || p === this.parts.length) return p <= last;
    const { kind } = this.parts[p];
    return kind !== 'blanks' && !(kind === 'score' && SCORE_ENDS.has(state - this.#offsets[p]));
  }

  #transition(state: number, byte: number): number {
    const p = this.partOf(state);
    if (p === this.parts.length) return DEAD;
    const part = this.parts[p];
    const base = this.#offsets[p];
    const local = state - base;
    switch (part.kind) {
      case 'literal':
        return byte === this.#bytes[p][local] ? state + 1 : DEAD;
      case 'score': {
        const next = scoreStep(local, byte);
        if (next !== DEAD) return base + next;
        return SCORE_ENDS.has(local) ? this.#transition(this.#offsets[p + 1], byte) : DEAD;
      }
      case 'text':
        return this.#textStep(p, part.maxBytes, local, byte);
      case 'until':
        return base + this.#untilStep(p, local, byte);
      case 'blanks': {
        const blank = byte === 0x20 || byte === 0x0a;
        if (blank && local < part.max) return state + 1;
        return this.#transition(this.#offsets[p + 1], byte);
      }
    }
  }

  #textStep(p: number, maxBytes: number, local: number, byte: number): number {
    const base = this.#offsets[p];
    const used = Math.floor(local / UTF8_STATES);
    const utf8 = local % UTF8_STATES;
    if (utf8 !== UTF8_DONE) {
      const [from, to, next] = CONTINUATION[utf8];
      if (byte < from || byte > to) return DEAD;
      return base + (used + 1) * UTF8_STATES + next;
    }
    if (byte === 0x22) return used > 0 ? this.#transition(this.#offsets[p + 1], byte) : DEAD;
    if (byte < 0x80) {
      const plain = byte >= 0x20 && byte !== 0x3c && byte !== 0x5c && byte !== 0x7f;
      if (!plain || used + 1 > maxBytes || (used === 0 && byte === 0x20)) return DEAD;
      return base + (used + 1) * UTF8_STATES;
    }
    const lead = utf8Lead(byte);
    if (lead === null || used + 1 + lead[1] > maxBytes) return DEAD;
    return base + (used + 1) * UTF8_STATES + lead[0];
  }

  /** Longest beginning of the tag that the text read so far ends with (Knuth, Morris, Pratt). */
  #untilStep(p: number, matched: number, byte: number): number {
    const tag = this.#bytes[p];
    for (let k = matched; ; k = borderOf(tag, k)) {
      if (tag[k] === byte) return k + 1;
      if (k === 0) return 0;
    }
  }
}

/** Length of the longest proper border of the first `length` bytes of a tag. */
function borderOf(tag: Uint8Array, length: number): number {
  for (let k = length - 1; k > 0; k -= 1) {
    let same = true;
    for (let i = 0; i < k && same; i += 1) same = tag[i] === tag[length - k + i];
    if (same) return k;
  }
  return 0;
}

function bytesOf(part: GrammarPart): Uint8Array {
  const text = part.kind === 'literal' ? part.text : part.kind === 'until' ? part.tag : '';
  return new TextEncoder().encode(text);
}

function stateCount(part: GrammarPart, bytes: Uint8Array): number {
  if (part.kind === 'score') return SCORE_STATES;
  if (part.kind === 'text') return (part.maxBytes + 1) * UTF8_STATES;
  if (part.kind === 'blanks') return part.max + 1;
  return bytes.length;
}

function shortestOf(part: GrammarPart, bytes: Uint8Array): Iterable<number> {
  if (part.kind === 'score') return [0x30];
  if (part.kind === 'text') return [0x2d];
  if (part.kind === 'blanks') return [];
  return bytes;
}

function checkPart(part: GrammarPart, bytes: Uint8Array, next: GrammarPart | undefined): void {
  const fail = (message: string): never => {
    throw new SrumError('ERR_GRAMMAR', message);
  };
  if ((part.kind === 'literal' || part.kind === 'until') && bytes.length === 0) {
    fail('a literal of a grammar is empty');
  }
  if (part.kind === 'text' && !(Number.isInteger(part.maxBytes) && part.maxBytes >= 1)) {
    fail('a text of a grammar needs room for one byte');
  }
  const first = next?.kind === 'literal' ? next.text[0] : '';
  if (part.kind === 'text' && first !== '"') fail('a text must be followed by a quote');
  if (part.kind === 'score' && (first === '' || /[\d.]/.test(first))) {
    fail('a score must be followed by a literal that is no digit');
  }
  if (part.kind === 'blanks' && (first === '' || /\s/.test(first))) {
    fail('blanks must be followed by a literal that does not begin with one');
  }
}
