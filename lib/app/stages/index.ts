export { type DemoOptions, type DemoReport, runDemo } from './demo-stage.js';
export { type ExportStageOptions, exportStage } from './export-stage.js';
export { type GenerateOptions, generateStage, OUTPUT_FILE } from './generate-stage.js';
export {
  type Answer,
  askImage,
  type Edit,
  editImage,
  type ImageRequestOptions,
} from './image-request.js';
export { inspectModel, type ModelReport, partOf } from './inspect-stage.js';
export { itemSeed } from './item-seed.js';
export {
  type ItemEvent,
  type ItemStageOptions,
  runItemStage,
  type StageItem,
  type StageReport,
} from './item-stage.js';
export { type LoopOptions, type LoopReport, loopStage, type RoundReport } from './loop-stage.js';
export {
  defaultImageSize,
  imageTransforms,
  type ModelOptions,
  ModelSession,
  modelFingerprint,
  openModel,
  resolveModelDir,
  TINY_MODEL,
} from './model-session.js';
export {
  RAW_REWARDS_FILE,
  REWARDS_FILE,
  type ScoreOptions,
  type ScoreReport,
  type ScoreSettings,
  scoreStage,
} from './score-stage.js';
export { type Shard, shardFromEnv } from './shard.js';
export { type TrainOptions, type TrainReport, trainStage } from './train-stage.js';
