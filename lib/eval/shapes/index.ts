export {
  type AssessOptions,
  assessShapes,
  probePrompts,
  renderedPictures,
  type ShapesAssessment,
} from './assess.js';
export type { PatchCoder } from './distortions.js';
export * from './measure.js';
export {
  agrees,
  type ExactCount,
  type Exactness,
  exactness,
  isExact,
  Oracle,
  type RecognisedObject,
} from './oracle.js';
export * from './pretrain.js';
export { type ShapesPretrainOptions, ShapesPretrainSet } from './pretrain-set.js';
export {
  allPrompts,
  drawPrompt,
  FAMILIES,
  type Family,
  misread,
  namesHeldOut,
  type PromptOptions,
  parsePrompt,
  RELATIONS,
  type Relation,
  relationHolds,
  type SceneForOptions,
  type ShapesPrompt,
  sceneFor,
  swapped,
  type Wanted,
} from './prompts.js';
export {
  CAPTION_QUESTION,
  captionAnswer,
  layoutAnswer,
  layoutQuestion,
  layoutsGrammar,
  regionsAnswer,
  regionsGrammar,
  regionsQuestion,
} from './questions.js';
export { BACKGROUND, renderScene } from './render.js';
export {
  type LayoutTruth,
  layoutTruth,
  objectInBox,
  objectName,
  type PixelBox,
  type RegionTruth,
  regionTruth,
} from './truth.js';
export {
  CELL_SIDE,
  CELLS,
  COLOURS,
  type Colour,
  checkScene,
  IMAGE_SIDE,
  isHeldOut,
  MAX_JITTER,
  objectBox,
  randomScene,
  readingOrder,
  type Scene,
  type SceneOptions,
  SHAPES,
  type Shape,
  type ShapeObject,
  TEXTURES,
  type Texture,
} from './world.js';
