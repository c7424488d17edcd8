import { handlers as extra } from './extra.js';
import type { Handler } from './handler.js';
import { handlers as inference } from './inference.js';
import { handlers as llm } from './llm.js';
import { handlers as packing } from './packing.js';
import { handlers as primitives } from './primitives.js';
import { handlers as reward } from './reward.js';
import { handlers as siglip } from './siglip.js';
import { handlers as train } from './train.js';
import { handlers as transforms } from './transforms.js';
import { handlers as vae } from './vae.js';

/** Handlers of every area; the first whose pattern matches a case runs it. */
export const handlers: Handler[] = [
  ...primitives,
  ...siglip,
  ...vae,
  ...llm,
  ...train,
  ...inference,
  ...reward,
  ...transforms,
  ...packing,
  ...extra,
];
