import { BYTE_CHARACTERS } from '../../lib/data/byte-level.js';

/** Pairs to merge, best first. */
export type Merges = Array<[string, string]>;

/** A word in the byte alphabet, one character per byte. */
export function spell(word: string): string[] {
  return [...Buffer.from(word, 'utf8')].map((byte) => BYTE_CHARACTERS[byte]);
}

/**
 * Byte pair encoding trained until each of the words is a single token: again and again the pair that
 * is next to each other in most words becomes one token, the alphabetically first of equals. Because
 * an encoder repeats these merges in the same order, it gives every word its single token.
 */
export function trainMerges(words: readonly string[]): Merges {
  const spelled = [...new Set(words)].map(spell);
  const merges: Merges = [];
  for (;;) {
    const counts = new Map<string, number>();
    for (const parts of spelled) {
      for (let i = 1; i < parts.length; i += 1) {
        const pair = `${parts[i - 1]} ${parts[i]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    if (counts.size === 0) return merges;
    const [best] = [...counts].reduce((a, b) =>
      b[1] > a[1] || (b[1] === a[1] && b[0] < a[0]) ? b : a,
    );
    const pair = best.split(' ') as [string, string];
    merges.push(pair);
    for (const parts of spelled) {
      for (let i = 1; i < parts.length; i += 1) {
        if (parts[i - 1] === pair[0] && parts[i] === pair[1]) {
          parts.splice(i - 1, 2, pair.join(''));
        }
      }
    }
  }
}
