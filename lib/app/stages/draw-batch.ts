import type { InferenceOptions } from '../../generate/options.js';
import { type Config, latentDownsample } from '../../models/bagel/config.js';
import type { DType } from '../../torch/index.js';
import { bytesOf, cacheBytesPerToken, fitting } from './memory-estimate.js';

/** The most pictures that are drawn at once unless told otherwise. */
export const MAX_DRAW_BATCH = 64;
/** Bytes that drawing the default number of pictures may take besides the weights. */
const MEMORY = 2 ** 30;
/** Tokens of a prompt and of the system text, generously. */
const PROMPT_TOKENS = 512;

/**
 * How many pictures are drawn at once unless told otherwise: as many as keep the contexts of all
 * guidance passes, the image tokens on their way through a layer and the latents within 1 GiB, from 1
 * (BAGEL-7B at 1024 x 1024) to 64 (small models). Pictures that are normalised together
 * (`cfg_renorm_scope: 'batch'`) would depend on their neighbours and are drawn alone.
 */
export function defaultDrawBatch(config: Config, dtype: DType, options: InferenceOptions): number {
  if (options.cfg_renorm_scope === 'batch') return 1;
  const { hidden_size, intermediate_size } = config.llm;
  const cell = latentDownsample(config);
  const [height, width] = options.image_shapes;
  // The frame of the picture is two tokens.
  const image = Math.ceil(height / cell) * Math.ceil(width / cell) + 2;
  const text = PROMPT_TOKENS + (options.think ? options.max_think_token_n : 0);
  // Without input images the image-free context is the main one and costs no pass of its own.
  const passes = options.cfg_text_scale > 1 ? 2 : 1;
  const cached = passes * (text + image) * cacheBytesPerToken(config, dtype);
  // Gate, input and product of the feed-forward part; input, residual, norm and output of a layer.
  const layer = 3 * intermediate_size + 4 * hidden_size;
  const active = image * (layer + passes * hidden_size) * bytesOf(dtype);
  return fitting(MEMORY, cached + active, MAX_DRAW_BATCH);
}
