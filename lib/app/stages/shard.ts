import { ConfigError } from '../../util/errors.js';

/** Which part of a stage's items this process works on: those at positions `rank`, `rank + world`, ... */
export interface Shard {
  rank: number;
  world: number;
}

/** Variables of torchrun, Open MPI, MPICH/Intel MPI and Slurm, in this order. */
const VARIABLES: ReadonlyArray<readonly [rank: string, world: string]> = [
  ['RANK', 'WORLD_SIZE'],
  ['OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'],
  ['PMI_RANK', 'PMI_SIZE'],
  ['SLURM_PROCID', 'SLURM_NTASKS'],
];

/**
 * The shard a launcher assigned to this process; the whole job where there is no launcher.
 *
 * @throws ConfigError for numbers that make no sense.
 */
export function shardFromEnv(env: Readonly<Record<string, string | undefined>>): Shard {
  for (const [rankName, worldName] of VARIABLES) {
    const rank = env[rankName];
    const world = env[worldName];
    if (rank === undefined || world === undefined || rank === '' || world === '') continue;
    const shard = { rank: Number(rank), world: Number(world) };
    const whole = Number.isInteger(shard.rank) && Number.isInteger(shard.world);
    if (whole && shard.rank >= 0 && shard.rank < shard.world) return shard;
    throw new ConfigError('ERR_SHARD', 'the launcher gave this process an impossible place', {
      key: `${rankName}, ${worldName}`,
      expected: `0 <= ${rankName} < ${worldName}`,
      found: `${rank} of ${world}`,
    });
  }
  return { rank: 0, world: 1 };
}

/** The items of a process. */
export function shardOf<T>(
  items: readonly T[],
  { rank, world }: Shard = { rank: 0, world: 1 },
): T[] {
  return items.filter((_, i) => i % world === rank);
}
