export { packedAttention } from './attention.js';
export { Conv2d, type Conv2dOptions } from './conv.js';
export { Embedding } from './embedding.js';
export {
  constantInit,
  fanInInit,
  normalInit,
  onesInit,
  uniformInit,
  xavierInit,
  zerosInit,
} from './init.js';
export {
  compareKeys,
  formatKeyReport,
  type KeyReport,
  type KeyRules,
  type MisshapenKey,
  requireFit,
  StateDictError,
} from './key-report.js';
export { Linear } from './linear.js';
export { type LoadOptions, Module, parameter, setParameter, toSnakeCase } from './module.js';
export { GroupNorm, LayerNorm, RMSNorm } from './norm.js';
export {
  type AttentionCall,
  type AttnMode,
  type InferencePlanSpec,
  inferencePlan,
  type LayoutSpec,
  PackedLayout,
  segmentPlan,
} from './packed-layout.js';
