import { GLOBAL_REWARD_NAME } from '../../../lib/data/rewards.js';
import { shuffled } from '../../../lib/eval/shapes/world.js';
import type { TrainingRecord, TrainingReward } from '../../../lib/reward/training-record.js';
import type { Random } from '../../../lib/util/seeded-random.js';

/** A picture of the pool with what the model and what the oracle thinks of it. */
export interface PoolRecord {
  /** The model's own scores. */
  own: TrainingRecord;
  /** The true scores of the same regions. */
  truth: TrainingRecord;
  /** Whether the picture is exactly what was asked for. */
  exact: boolean;
}

/** One way of learning from the pool. */
export interface Arm {
  name: string;
  /** What it does, for the table. */
  about: string;
  /** Options of the recipe. */
  recipe: Readonly<Record<string, unknown>>;
  /** The reward records it trains on. */
  records: (pool: readonly PoolRecord[], random: Random) => TrainingRecord[];
  /** Passes through the model in a step, for curves at equal compute: 3 are forward and backward. */
  passes: number;
}

/** A step of plain training is a forward pass and a backward pass of twice its work. */
const PLAIN = 3;
/** The base model's forward pass comes on top. */
const COMPARED = 4;

const own = (pool: readonly PoolRecord[]): TrainingRecord[] => pool.map((p) => p.own);

/** The record with every score changed; `layout` tells the whole-picture entry. */
function rescored(
  record: TrainingRecord,
  change: (reward: TrainingReward, layout: boolean) => number | null,
): TrainingRecord {
  const rewards = record.vlm_rewards.flatMap((reward) => {
    const score = change(reward, reward.object === GLOBAL_REWARD_NAME);
    return score === null ? [] : [{ ...reward, score }];
  });
  return { ...record, vlm_rewards: rewards };
}

/** Whether the judge finds nothing wrong. */
export function isAccepted(record: TrainingRecord): boolean {
  return record.vlm_rewards.every(({ object, score }) =>
    object === GLOBAL_REWARD_NAME ? score >= 1 : score >= 1 || score === 0,
  );
}

const withoutLayout = (record: TrainingRecord): TrainingRecord =>
  rescored(record, ({ score }, layout) => (layout ? 1 : score));

/** The arms of the experiment, apart from the base model itself. */
export const ARMS: readonly Arm[] = [
  {
    name: 'sft',
    about: 'fine-tuning on all own pictures',
    recipe: { objective: 'sft' },
    records: own,
    passes: PLAIN,
  },
  {
    name: 'code',
    about: 'SRUM as released: weights of 0.5 to 1.5',
    recipe: { objective: 'code' },
    records: own,
    passes: PLAIN,
  },
  {
    name: 'paper',
    about: 'SRUM as written: alpha R + 0.5',
    recipe: { objective: 'paper' },
    records: own,
    passes: PLAIN,
  },
  {
    name: 'signed',
    about: 'paper without the layout factor: R + 0.5',
    recipe: { objective: 'paper' },
    records: (pool) => own(pool).map(withoutLayout),
    passes: PLAIN,
  },
  {
    name: 'no-global',
    about: 'code without the layout score',
    recipe: { objective: 'code' },
    records: (pool) => own(pool).map(withoutLayout),
    passes: PLAIN,
  },
  {
    name: 'no-local',
    about: 'code without regions',
    recipe: { objective: 'code' },
    records: (pool) => own(pool).map((r) => rescored(r, (e, layout) => (layout ? e.score : null))),
    passes: PLAIN,
  },
  {
    name: 'no-reference',
    about: 'code without the constraint term (lambda 0)',
    recipe: { objective: 'code', lambda_constraint: 0 },
    records: own,
    passes: PLAIN,
  },
  {
    name: 'zero-one',
    about: 'code with scores rounded to right or wrong',
    recipe: { objective: 'code' },
    records: (pool) => own(pool).map((r) => rescored(r, ({ score }) => (score > 0 ? 1 : -1))),
    passes: PLAIN,
  },
  {
    name: 'rejection',
    about: 'fine-tuning on the pictures the judge finds nothing wrong with',
    recipe: { objective: 'sft' },
    records: (pool) => own(pool).filter(isAccepted),
    passes: PLAIN,
  },
  {
    name: 'random',
    about: 'code with the scores of other pictures',
    recipe: { objective: 'code' },
    records: (pool, random) => {
      const others = shuffled(random, own(pool));
      return own(pool).map((r, i) => ({ ...r, vlm_rewards: others[i].vlm_rewards }));
    },
    passes: PLAIN,
  },
  {
    name: 'oracle',
    about: 'paper with true scores',
    recipe: { objective: 'paper' },
    records: (pool) => pool.map((p) => p.truth),
    passes: PLAIN,
  },
  {
    name: 'nft',
    about: 'ours: drawn to good regions, pushed from bad ones, held to the base elsewhere',
    recipe: { objective: 'nft' },
    records: own,
    passes: COMPARED,
  },
  {
    name: 'nft-whole',
    about: 'ours without regions: a picture is right or wrong as a whole',
    recipe: { objective: 'nft' },
    records: (pool) =>
      own(pool).map((r) => {
        const whole = isAccepted(r) ? 1 : -1;
        return rescored(r, (_, layout) => (layout ? whole : null));
      }),
    passes: COMPARED,
  },
  {
    name: 'nft-oracle',
    about: 'ours with true scores',
    recipe: { objective: 'nft' },
    records: (pool) => pool.map((p) => p.truth),
    passes: COMPARED,
  },
];
