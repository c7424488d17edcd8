import { ConfigError } from '../util/errors.js';

/**
 * The byte strings of a tokenizer's vocabulary as a prefix tree, laid out depth first in typed
 * arrays: a walk is one forward pass that jumps over subtrees it cannot enter. Built once per
 * tokenizer; 150 000 tokens take a few hundred milliseconds and some 10 MB.
 */
export class TokenVocabulary {
  /** Number of token ids, those without bytes included. */
  readonly size: number;
  /** Length of the longest token in bytes. */
  readonly longest: number;
  /** Byte on the edge into each node. */
  readonly nodeByte: Uint8Array;
  /** Number of bytes from the root to each node, at least 1. */
  readonly nodeDepth: Uint16Array;
  /** First node after the subtree of each node. */
  readonly nodeEnd: Int32Array;
  /** Range of each node's tokens in `tokenOrder`: `[nodeTokens[n], nodeTokens[n + 1])`. */
  readonly nodeTokens: Int32Array;
  /** Token ids in the order of the tree. */
  readonly tokenOrder: Int32Array;
  /** Masks that do not depend on the rest of an answer; filled by `TokenConstraint`. */
  readonly masks = new Map<string, Uint8Array>();
  readonly #tokens: ReadonlyArray<Uint8Array | null>;

  /**
   * @param tokens bytes by token id; null or empty for special tokens and unused ids, which a
   *   constrained answer never contains.
   * @throws ConfigError when no token has bytes.
   */
  constructor(tokens: ReadonlyArray<Uint8Array | null>) {
    this.#tokens = tokens;
    this.size = tokens.length;
    const order: number[] = [];
    let longest = 0;
    let bytes = 0;
    for (let id = 0; id < tokens.length; id += 1) {
      const token = tokens[id];
      if (token === null || token.length === 0) continue;
      order.push(id);
      longest = Math.max(longest, token.length);
      bytes += token.length;
    }
    if (order.length === 0 || longest > 0xffff) {
      throw new ConfigError('ERR_VOCABULARY', 'the tokenizer has no usable vocabulary', {
        expected: 'tokens of 1 to 65535 bytes',
        found: order.length === 0 ? 'none with bytes' : `one of ${longest} bytes`,
      });
    }
    this.longest = longest;
    // One character per byte: comparing such strings is several times faster than comparing buffers.
    const keys = tokens.map((token) => Buffer.from(token ?? []).toString('latin1'));
    order.sort((a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : a - b));
    this.tokenOrder = Int32Array.from(order);
    const nodeByte = new Uint8Array(bytes);
    const nodeDepth = new Uint16Array(bytes);
    const nodeEnd = new Int32Array(bytes);
    const nodeTokens = new Int32Array(bytes + 1);
    const open: number[] = [];
    let nodes = 0;
    let previous: Uint8Array = new Uint8Array(0);
    order.forEach((id, rank) => {
      const token = tokens[id] as Uint8Array;
      const shared = sharedPrefix(previous, token);
      while (open.length > shared) nodeEnd[open.pop() as number] = nodes;
      for (let i = shared; i < token.length; i += 1) {
        nodeByte[nodes] = token[i];
        nodeDepth[nodes] = i + 1;
        nodeTokens[nodes] = rank;
        open.push(nodes);
        nodes += 1;
      }
      previous = token;
    });
    for (const node of open) nodeEnd[node] = nodes;
    nodeTokens[nodes] = order.length;
    this.nodeByte = nodeByte.slice(0, nodes);
    this.nodeDepth = nodeDepth.slice(0, nodes);
    this.nodeEnd = nodeEnd.slice(0, nodes);
    this.nodeTokens = nodeTokens.slice(0, nodes + 1);
  }

  /** Bytes of a token; null for special tokens, unused ids and ids out of range. */
  bytes(id: number): Uint8Array | null {
    const token = this.#tokens[id];
    return token === undefined || token === null || token.length === 0 ? null : token;
  }

  /** Whether tokens hold bytes of characters beyond ASCII. */
  get hasBytesAbove127(): boolean {
    return this.nodeByte.some((byte) => byte > 127);
  }

  /** The token of a single byte, or null. */
  singleByte(byte: number): number | null {
    for (let n = 0; n < this.nodeByte.length; n = this.nodeEnd[n]) {
      if (this.nodeByte[n] !== byte) continue;
      return this.nodeTokens[n] < this.nodeTokens[n + 1]
        ? this.tokenOrder[this.nodeTokens[n]]
        : null;
    }
    return null;
  }

  /** The bytes of a sequence of tokens; those without bytes are left out. */
  join(ids: Iterable<number>): Uint8Array {
    const parts: Uint8Array[] = [];
    for (const id of ids) {
      const token = this.bytes(id);
      if (token !== null) parts.push(token);
    }
    return Buffer.concat(parts);
  }

  /** Lengths of all tokens that stand at `position` of `text`. */
  lengthsAt(text: Uint8Array, position: number): number[] {
    const lengths: number[] = [];
    const nodes = this.nodeByte.length;
    let depth = 0;
    for (let n = 0; n < nodes && this.nodeDepth[n] > depth; ) {
      if (position + depth >= text.length) break;
      if (this.nodeByte[n] !== text[position + depth]) {
        n = this.nodeEnd[n];
        continue;
      }
      depth += 1;
      // A node's tokens are those up to the first token of its first child, which is next in line.
      if (this.nodeTokens[n] < this.nodeTokens[n + 1]) lengths.push(depth);
      n += 1;
    }
    return lengths;
  }
}

function sharedPrefix(a: Uint8Array, b: Uint8Array): number {
  const n = Math.min(a.length, b.length);
  let i = 0;
  while (i < n && a[i] === b[i]) i += 1;
  return i;
}
