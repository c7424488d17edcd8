import { Generator } from '../torch/index.js';
import { keyedSeed } from '../util/keyed-random.js';

/** Independent random streams of one generated item. */
export type RandomStream = 'noise' | 'posterior' | 'tokens';

/**
 * Seed of a stream. The noise stream uses the item's seed as it is, so a text-to-image run starts from
 * the very numbers that `torch.manual_seed(seed); torch.randn(tokens, 64)` gives; the others hash it.
 */
export function streamSeed(seed: number | bigint, stream: RandomStream): bigint {
  if (stream === 'noise') return BigInt.asUintN(64, BigInt(seed));
  return keyedSeed(BigInt(seed), stream);
}

/** A fresh CPU generator for a stream; results do not depend on what other streams drew. */
export function streamGenerator(seed: number | bigint, stream: RandomStream): Generator {
  return new Generator(streamSeed(seed, stream));
}
