import { type Cipher, createCipheriv } from 'node:crypto';
import { type KeyPart, keyedSeed } from './keyed-random.js';

/** A source of uniform numbers, for choices that are too many to be keyed one by one. */
export interface Random {
  /** The next number in [0, 1), with 53 bits. */
  uniform(): number;
  /** The next whole number in 0 .. n-1; `n` is at least 1. */
  below(n: number): number;
}

/** Bytes made at first, which is enough for most items, and then at a time. */
const FIRST_BYTES = 256;
const MORE_BYTES = 4096;
const ZEROS = Buffer.alloc(MORE_BYTES);

/**
 * A fast stream of random numbers that is a pure function of the key: AES-128 in counter mode, as
 * Node's crypto has it, under the key's `keyedSeed`. The numbers are the same on every machine.
 */
export function seededRandom(seed: number | bigint, ...key: KeyPart[]): Random {
  return new CounterRandom(keyedSeed(seed, ...key));
}

class CounterRandom implements Random {
  readonly #cipher: Cipher;
  #block: Buffer = Buffer.alloc(0);
  #used = 0;

  constructor(seed: bigint) {
    const key = Buffer.alloc(16);
    key.writeBigUInt64LE(seed);
    this.#cipher = createCipheriv('aes-128-ctr', key, ZEROS.subarray(0, 16));
  }

  uniform(): number {
    if (this.#used === this.#block.length) {
      const bytes = this.#used === 0 ? FIRST_BYTES : MORE_BYTES;
      this.#block = this.#cipher.update(ZEROS.subarray(0, bytes));
      this.#used = 0;
    }
    const high = this.#block.readUInt32LE(this.#used) >>> 5;
    const low = this.#block.readUInt32LE(this.#used + 4) >>> 6;
    this.#used += 8;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  below(n: number): number {
    return Math.floor(this.uniform() * n);
  }
}
