import path from 'node:path';
import { encodePng, readImage } from '../../data/images.js';
import { type InferenceResult, InterleaveInferencer } from '../../generate/inferencer.js';
import type { InferenceInput } from '../../generate/options.js';
import { readModelConfig } from '../../models/bagel/load.js';
import { ConfigError, DataError } from '../../util/errors.js';
import { AtomicFile, writeFileAtomic } from '../../util/files.js';
import { checkModelFiles, type ModelOptions, openModel, resolveModelDir } from './model-session.js';

export interface ImageRequestOptions extends ModelOptions {
  image: string;
  /** A question or an instruction. */
  text: string;
  seed: number;
  inference: InferenceInput;
  onLoad?: () => void;
  onToken?: () => void;
  onStep?: (step: number, steps: number) => void;
}

/** What the model says about a picture. */
export interface Answer {
  answer: string;
  thought: string | null;
  /** Whether the text ran into its limit. */
  truncated: boolean;
  settings: InferenceResult['settings'];
}

/** Asks about one picture. @throws ImageError, FileError, DataError */
export async function askImage(options: ImageRequestOptions): Promise<Answer> {
  const result = await request(options, true);
  return {
    answer: result.answer ?? '',
    thought: result.thought ?? null,
    truncated: result.truncated === true,
    settings: result.settings,
  };
}

/** A picture changed by an instruction. */
export interface Edit {
  image_file: string;
  width: number;
  height: number;
  think_output: string | null;
  settings: InferenceResult['settings'];
}

/** Changes one picture by an instruction and writes the result as PNG. */
export async function editImage(options: ImageRequestOptions & { out: string }): Promise<Edit> {
  checkOutput(options.out);
  const { image, text, settings } = await request(options, false);
  if (image === undefined) throw new DataError('ERR_NO_IMAGE', 'the model gave no picture');
  const { image_shapes, ...rest } = settings;
  const png = await encodePng(image, {
    text: { instruction: options.text, seed: settings.seed, settings: JSON.stringify(rest) },
  });
  writeFileAtomic(options.out, png);
  const { width, height } = image;
  return { image_file: options.out, width, height, think_output: text ?? null, settings };
}

/** Finds out before the work whether its result can be written. @throws ConfigError, FileError */
function checkOutput(out: string): void {
  if (path.extname(out).toLowerCase() !== '.png') {
    throw new ConfigError('ERR_OUTPUT_NAME', 'the result is a PNG file and should be named so', {
      key: 'out',
      expected: 'a name that ends in .png',
      found: out,
    });
  }
  new AtomicFile(out).abort();
}

async function request(
  options: ImageRequestOptions,
  understanding: boolean,
): Promise<InferenceResult> {
  if (options.text.trim() === '') {
    throw new DataError('ERR_EMPTY_TEXT', 'the text is empty', {
      expected: understanding ? 'a question' : 'an instruction',
    });
  }
  // A picture that cannot be read is found out before a model is loaded.
  const image = await readImage(options.image);
  const dir = resolveModelDir(options.model);
  readModelConfig(dir);
  checkModelFiles(dir, !understanding);
  options.onLoad?.();
  const session = openModel(options);
  try {
    return await new InterleaveInferencer(session.parts).interleaveInference(
      [image, options.text],
      { ...options.inference, understanding_output: understanding },
      {
        seeds: [options.seed],
        onToken: options.onToken && (() => options.onToken?.()),
        onStep: options.onStep && ((s) => options.onStep?.(s.step + 1, s.steps)),
      },
    );
  } finally {
    session.dispose();
  }
}
