import { createHash } from 'node:crypto';

/**
 * Seed of one item: a hash of the run's seed, the stage, the item's id and the sample index, so that
 * it does not depend on order, shards, resumption or what else is in the list.
 *
 * @returns a whole number below 2^53, which JSON and every other program can hold.
 */
export function itemSeed(runSeed: number, stage: string, id: string | number, sample = 0): number {
  const digest = createHash('sha256')
    .update(JSON.stringify([runSeed, stage, String(id), sample]))
    .digest();
  return Number(digest.readBigUInt64BE(0) >> 11n);
}
