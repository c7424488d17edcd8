import type { Config } from '../../models/bagel/config.js';
import type { JudgeOptions } from '../../reward/judge.js';
import type { DType } from '../../torch/index.js';
import { cacheBytesPerToken, fitting } from './memory-estimate.js';

/** The most pictures that are judged at once unless told otherwise. */
export const MAX_JUDGE_BATCH = 32;
/** Bytes of keys and values that the default number of pictures may take at the very most. */
const MEMORY = 2 * 2 ** 30;
/** Tokens of both questions with their lists of boxes, generously. */
const QUESTION_TOKENS = 1024;

/**
 * How many pictures are judged at once unless told otherwise: as many as keep their keys and values
 * within 2 GiB if every picture is as large and every answer as long as it may be, from 1 (BAGEL-7B) to
 * 32 (small models).
 */
export function defaultJudgeBatch(
  config: Config,
  dtype: DType,
  limits: Pick<JudgeOptions, 'maxRegionTokens' | 'maxLayoutTokens'>,
): number {
  // A picture is held once for itself and once for each of the two questions about it.
  const picture = 3 * (config.bagel.vit_max_num_patch_per_side ** 2 + 2);
  const { maxRegionTokens = 4096, maxLayoutTokens = 1024 } = limits;
  const tokens = picture + QUESTION_TOKENS + maxRegionTokens + maxLayoutTokens;
  return fitting(MEMORY, tokens * cacheBytesPerToken(config, dtype), MAX_JUDGE_BATCH);
}
