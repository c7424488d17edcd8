import { createHash } from 'node:crypto';

/**
 * Randomness that depends on nothing but a name: every draw of a run is a pure function of the run's
 * seed and of what it is for: (seed, stage, item, index). Nothing has to be saved to resume a run
 * exactly, and nothing shifts when an item is skipped, made elsewhere or made in another order.
 */
export type KeyPart = string | number | bigint;

/** Stored in checkpoints; a change of the derivation must change it. */
export const KEYED_SCHEME = 'sha256-v1';

/**
 * The one derivation of seeds: the first 8 bytes, little endian, of the SHA-256 of the key's text, with
 * the top bit cleared so that every interface can hold the seed as a signed 64-bit number. The text is
 * `<type><length>:<part>` for every part, joined by `/`; the type is `s` for texts and `n` for numbers.
 */
export function keyedSeed(...key: KeyPart[]): bigint {
  return digestOf(key).readBigUInt64LE(0) & 0x7fff_ffff_ffff_ffffn;
}

/** One uniform number in [0, 1) with 53 bits. */
export function keyedUniform(...key: KeyPart[]): number {
  return unit(digestOf(key), 0);
}

/** One standard normal number (Box-Muller on two uniforms), rounded to float32. */
export function keyedNormal(...key: KeyPart[]): number {
  const digest = digestOf(key);
  return Math.fround(boxMuller(unit(digest, 0), unit(digest, 8)));
}

/** A standard normal number from two independent uniform ones in [0, 1) (Box and Muller). */
export function boxMuller(u: number, v: number): number {
  return Math.sqrt(-2 * Math.log(1 - u)) * Math.cos(2 * Math.PI * v);
}

/** The numbers 0 .. n-1 in an order that is a pure function of the key. */
export function keyedShuffle(n: number, ...key: KeyPart[]): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  let block: Buffer = Buffer.alloc(0);
  let used = 0;
  let blocks = 0;
  for (let i = n - 1; i > 0; i--) {
    if (used + 8 > block.length) {
      block = digestOf([...key, 'block', blocks++]);
      used = 0;
    }
    const j = Math.floor(unit(block, used) * (i + 1));
    used += 8;
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

function digestOf(key: readonly KeyPart[]): Buffer {
  // The type letter keeps 1 and "1" apart, the length keeps ("ab", "c") and ("a", "bc") apart.
  const text = key.map((k) => `${typeof k === 'string' ? 's' : 'n'}${String(k).length}:${k}`);
  return createHash('sha256').update(text.join('/')).digest();
}

/** 53 bits of a digest as a number in [0, 1). */
function unit(digest: Buffer, offset: number): number {
  return Number(digest.readBigUInt64LE(offset) >> 11n) / 2 ** 53;
}
