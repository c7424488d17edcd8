import type { FrameSize } from '../data/rewards.js';
import {
  codeRewardMap,
  globalScoreOf,
  paperRewardMap,
  type RewardMap,
  strictRewardMap,
} from '../reward/reward-map.js';
import type { Objective } from './objectives.js';

/** The ways the scores of a record become a dense reward. */
export const REWARD_MAPS = ['code', 'paper', 'strict'] as const;
/** One of {@link REWARD_MAPS}. */
export type RewardMapKind = (typeof REWARD_MAPS)[number];

/** The reward map an objective is made for; `sft` looks at none. */
export function defaultRewardMap(objective: Objective): RewardMapKind {
  if (objective === 'paper') return 'paper';
  return objective === 'nft' ? 'strict' : 'code';
}

/**
 * The dense reward of a record's `vlm_rewards`.
 *
 * @param size of the map; `frame`: of the image the boxes refer to, where it is another.
 * @throws DataError for scores and entries that cannot be read; see the maps themselves.
 */
export function buildRewardMap(
  kind: RewardMapKind,
  rewards: unknown,
  size: FrameSize,
  frame?: FrameSize,
): RewardMap {
  const global = globalScoreOf(rewards);
  if (kind === 'paper') return paperRewardMap(rewards, size, global, frame);
  if (kind === 'strict') return strictRewardMap(rewards, size, global, frame);
  return codeRewardMap(rewards, size, global ?? 0, frame);
}
