export { GLOBAL_REWARD_NAME } from '../data/rewards.js';
export { BagelJudgeModel } from './bagel-judge-model.js';
export { type BlobsOptions, BlobsProposer } from './blobs.js';
export { ByteGrammar, type GrammarPart } from './byte-grammar.js';
export {
  type BatchQuestion,
  Judge,
  type JudgeBatch,
  type JudgeCase,
  type JudgeItem,
  type JudgeModel,
  type JudgeOptions,
  type JudgeQuestion,
  type JudgeReply,
  type JudgeSession,
  type RawLayout,
  type RawRegion,
  type RawRewardRecord,
  readTogether,
  type ScoreStatus,
} from './judge.js';
export {
  type CoordinateStyle,
  type JudgeWords,
  judgeSystemPrompt,
  judgeWords,
  layoutQuestion,
  promptVersion,
  regionQuestion,
} from './judge-prompts.js';
export { type GridSize, type LatentReduction, toLatentGrid } from './latent-grid.js';
export {
  type BoxesOptions,
  BoxesProposer,
  boxOverlap,
  type RegionProposal,
  type RegionProposer,
} from './propose.js';
export { createProposer, type ProposerOptions } from './proposers.js';
export {
  codeRewardMap,
  globalScoreOf,
  paperRewardMap,
  type RegionProblem,
  type RewardEntry,
  type RewardMap,
} from './reward-map.js';
export {
  type GrammarOptions,
  type LayoutVerdict,
  layoutGrammar,
  parseLayoutAnswer,
  parseRegionAnswer,
  type RegionVerdict,
  regionGrammar,
} from './score-grammar.js';
export { type AnswerBudget, type AnswerState, TokenConstraint } from './token-constraint.js';
export { TokenVocabulary } from './token-vocabulary.js';
export {
  type FormatOptions,
  type FormatResult,
  formatTrainingRecord,
  type RawInput,
  type TrainingRecord,
  type TrainingReward,
} from './training-record.js';
