import { keyedSeed } from '../../util/keyed-random.js';

/**
 * Seed of one item, from the run's seed, the stage, the item's id and the sample index, so that it does
 * not depend on order, shards, resumption or what else is in the list.
 *
 * @returns a whole number below 2^53, which JSON and every other program can hold.
 */
export function itemSeed(runSeed: number, stage: string, id: string | number, sample = 0): number {
  return Number(keyedSeed(runSeed, stage, String(id), sample) >> 10n);
}
