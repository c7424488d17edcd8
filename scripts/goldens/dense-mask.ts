import type { AttentionCall, LayoutSpec } from '../../lib/nn/packed-layout.js';

/**
 * The attention predicate of a packed batch as a matrix, straight from its definition: the oracle that
 * plans are checked against. With `F` the split number of full and noise splits and `N` that of noise
 * splits, query q sees key k iff `(q >= k or F[q] = F[k]) and not (N[k] and N[q] != N[k])` in one sample.
 * @returns [T * T] row-major, 1 = may attend, row = query
 */
export function denseMask(spec: LayoutSpec): Uint8Array {
  const { sampleLens, splitLens, attnModes } = spec;
  const repeat = (lens: readonly number[], value: (i: number) => number) =>
    lens.flatMap((len, i) => new Array<number>(len).fill(value(i)));
  const sample = repeat(sampleLens, (i) => i);
  const full = repeat(splitLens, (i) => (attnModes[i] === 'causal' ? -1 : i));
  const noise = repeat(splitLens, (i) => (attnModes[i] === 'noise' ? i : -1));
  const total = sample.length;
  const mask = new Uint8Array(total * total);
  for (let q = 0; q < total; q++) {
    for (let k = 0; k < total; k++) {
      const reaches = q >= k || (full[q] === full[k] && full[q] >= 0);
      const hidden = noise[k] >= 0 && noise[q] !== noise[k];
      mask[q * total + k] = reaches && !hidden && sample[q] === sample[k] ? 1 : 0;
    }
  }
  return mask;
}

/**
 * What a plan makes of the same batch: how often each query row sees each key row. Anything above 1
 * would count a key twice in the softmax.
 */
export function planMask(calls: readonly AttentionCall[], total: number): Uint8Array {
  const mask = new Uint8Array(total * total);
  for (const { qStart, qEnd, kStart, kEnd, causal } of calls) {
    for (let q = qStart; q < qEnd; q++) {
      const end = causal ? kEnd - (qEnd - 1 - q) : kEnd;
      for (let k = kStart; k < end; k++) mask[q * total + k] += 1;
    }
  }
  return mask;
}
