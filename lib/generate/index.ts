export {
  emptyContext,
  type GenerationContext,
  type GenerationModel,
  latentGrid,
  patchGrid,
  prefillText,
  prefillVae,
  prefillVit,
} from './context.js';
export {
  checkGuidance,
  type GuidanceOptions,
  guide,
  parseRenormType,
  type RenormScope,
  type RenormType,
  renormTypes,
  type Velocities,
} from './guidance.js';
export {
  decodeLatent,
  type InferenceCall,
  type InferenceResult,
  type InferencerParts,
  InterleaveInferencer,
  type Piece,
  replyIds,
  type TextCodec,
} from './inferencer.js';
export {
  answerConstrained,
  type ConstrainedAnswer,
  type ConstrainedAnswering,
  type ConstrainedQuestion,
  type ImagePrefixes,
  readImages,
} from './judge-model.js';
export {
  editDefaults,
  type InferenceInput,
  type InferenceOptions,
  referenceDefaults,
  resolveOptions,
  textToImageDefaults,
} from './options.js';
export type { SpecialTokens } from './prepare.js';
export { generationSystemPrompt, splitThought, understandingSystemPrompt } from './prompts.js';
export {
  type GenerateImageRequest,
  generateImage,
  type SamplerOptions,
  type SamplerStep,
  samplerDefaults,
} from './sampler.js';
export {
  guidanceActive,
  type SamplerSchedule,
  type ScheduleCost,
  samplerSchedule,
  scheduleCost,
} from './schedule.js';
export { type RandomStream, streamGenerator, streamSeed } from './seeds.js';
export {
  type DecodingConstraint,
  type FinishReason,
  type GenerateTextRequest,
  type GenerateTextResult,
  generateText,
  sampleToken,
  type TextOptions,
  textDefaults,
} from './text.js';
