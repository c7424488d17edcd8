export { type PaddedImages, packPatches, padImages, patchRows } from './collate.js';
export { type RowDraws, rowDraws } from './draws.js';
export { type EditRow, type EditTransforms, editSample } from './edit.js';
export {
  type GenerationRecord,
  parseGenerationRecord,
  readGenerationRecords,
} from './generation-record.js';
export {
  type DecodeOptions,
  decodeImage,
  type EncodeOptions,
  encodePng,
  readImage,
  writePng,
} from './images.js';
export {
  type BoundaryTokens,
  type LengthReduction,
  lengthToWeight,
  type PackConfig,
  type PackDraws,
  type PackedSequence,
  type PackedVaeImage,
  packSamples,
  SequencePacker,
} from './packing.js';
export {
  PackingLoop,
  type PackingOptions,
  type PackingState,
  type PackLimits,
  type PackMode,
  type PackReport,
  type PackSkip,
  type SampleGroup,
  sampleRows,
} from './packing-loop.js';
export { addPngText, readPngText } from './png-chunks.js';
export { checkPrompts, type Prompt, readPrompts } from './prompts.js';
export {
  BOX_FRAMES,
  type BoxFrame,
  type BuiltMap,
  type MapBuilder,
  RegionalRewardDataset,
  type RegionalRewardOptions,
  type RegionalRewardReport,
} from './regional-reward.js';
export { type Resampling, type RgbImage, resizeImage } from './resample.js';
export {
  type Box,
  checkRewardRecord,
  type FrameSize,
  frameOf,
  GLOBAL_REWARD_NAME,
  parseRewardRecord,
  type RewardProblem,
  type RewardRecord,
  type RewardRegion,
  readRewardRecords,
  scaleBox,
} from './rewards.js';
export type { PixelMap, PlanItem, Sample, SampleSource } from './sample.js';
export { type T2iRow, t2iSample } from './t2i.js';
export {
  BOUNDARY_TOKEN_NAMES,
  BpeTokenizer,
  ByteTokenizer,
  loadTokenizer,
  type Tokenizer,
} from './tokenizer.js';
export {
  type ChwImage,
  denormalise,
  ImageTransform,
  normalise,
  roundHalfEven,
  TRANSFORM_PRESETS,
  type TransformOptions,
  targetSize,
} from './transforms.js';
export { parseVlmRecord, type VlmRecord, vlmSample } from './vlm.js';
