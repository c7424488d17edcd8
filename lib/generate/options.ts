import { ConfigError } from '../util/errors.js';
import type { RenormScope, RenormType } from './guidance.js';
import { type SamplerOptions, samplerDefaults } from './sampler.js';

/** Options of one interleaved request, under the reference's names. */
export interface InferenceOptions extends SamplerOptions {
  /** Reason in words first. */
  think: boolean;
  /** Answer in text instead of drawing. */
  understanding_output: boolean;
  /** Limit of the thought or the answer, start token counted. */
  max_think_token_n: number;
  /** Draw tokens from the distribution instead of taking the likeliest. */
  do_sample: boolean;
  text_temperature: number;
  /** 0 for no limit. */
  top_k: number;
  /** 1 for no limit. */
  top_p: number;
  /** (height, width) of the picture; an input image's resized size takes its place. */
  image_shapes: [number, number];
  /** Replaces the built-in system text of think mode. */
  system_prompt?: string;
}

/** What a caller may give: any option, `cfg_image_scale` being a second name of `cfg_img_scale`. */
export type InferenceInput = Partial<InferenceOptions> & { cfg_image_scale?: number };

const textOptions = {
  think: false,
  understanding_output: false,
  max_think_token_n: 1024,
  do_sample: false,
  text_temperature: 0.3,
  top_k: 0,
  top_p: 1,
  image_shapes: [1024, 1024] as [number, number],
};

/**
 * Text to image. The image scale is 1: without an input image that branch only costs a third pass and
 * doubles as text guidance, which the reference's app applies by oversight.
 */
export const textToImageDefaults: Readonly<InferenceOptions> = Object.freeze({
  ...samplerDefaults,
  ...textOptions,
});

/** Editing, with the values of the reference's app. */
export const editDefaults: Readonly<InferenceOptions> = Object.freeze({
  ...samplerDefaults,
  ...textOptions,
  cfg_img_scale: 2,
  cfg_interval: [0, 1] as [number, number],
  cfg_renorm_type: 'text_channel' as RenormType,
});

/** The values that the reference's `interleave_inference` has in its signature. */
export const referenceDefaults: Readonly<InferenceOptions> = Object.freeze({
  ...samplerDefaults,
  ...textOptions,
  cfg_text_scale: 3,
  cfg_img_scale: 1.5,
  max_think_token_n: 1000,
  cfg_renorm_scope: 'batch' as RenormScope,
});

const known = new Set([...Object.keys(textToImageDefaults), 'system_prompt']);

/**
 * Fills in defaults: those of editing when there is an input image and a picture is wanted, else those of
 * text to image.
 *
 * @throws ConfigError for an unknown option or an image size that is not two positive integers.
 */
export function resolveOptions(input: InferenceInput, hasImage: boolean): InferenceOptions {
  const { cfg_image_scale, ...rest } = input;
  const given: Record<string, unknown> = { ...rest };
  if (cfg_image_scale !== undefined) given.cfg_img_scale ??= cfg_image_scale;
  for (const key of Object.keys(given)) {
    if (given[key] === undefined) delete given[key];
    else if (!known.has(key)) {
      throw new ConfigError('ERR_UNKNOWN_OPTION', 'unknown generation option', {
        key,
        expected: [...known].join(', '),
      });
    }
  }
  const base = hasImage && !input.understanding_output ? editDefaults : textToImageDefaults;
  const options = { ...base, ...given } as InferenceOptions;
  const [height, width] = options.image_shapes;
  if (
    options.image_shapes.length !== 2 ||
    ![height, width].every((n) => Number.isInteger(n) && n > 0)
  ) {
    throw new ConfigError('ERR_IMAGE_SHAPES', 'an image size is (height, width) in pixels', {
      key: 'image_shapes',
      expected: 'two positive whole numbers',
      found: JSON.stringify(options.image_shapes),
    });
  }
  return options;
}
