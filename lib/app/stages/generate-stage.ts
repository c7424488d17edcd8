import { encodePng } from '../../data/images.js';
import type { Prompt } from '../../data/prompts.js';
import { type InferenceResult, InterleaveInferencer } from '../../generate/inferencer.js';
import { type InferenceInput, resolveOptions } from '../../generate/options.js';
import { type Config, latentDownsample } from '../../models/bagel/config.js';
import { readModelConfig } from '../../models/bagel/load.js';
import { ConfigError, DataError } from '../../util/errors.js';
import { defaultDrawBatch } from './draw-batch.js';
import { GroupWork, makeTogether } from './group-work.js';
import { itemSeed } from './item-seed.js';
import type { StageItem, StageReport } from './item-stage.js';
import { defaultImageSize, resolveModelDir, resolvePlace } from './model-session.js';
import { type ModelStageOptions, runModelStage } from './model-stage.js';

/** The file later stages read. */
export const OUTPUT_FILE = 'output.jsonl';

/** What to draw, and how. */
export interface GenerateOptions extends ModelStageOptions {
  prompts: readonly Prompt[];
  /** Pictures per prompt. */
  numImages: number;
  /** Pictures that are drawn at once; default: by their and the model's size, see `defaultDrawBatch`. */
  batch?: number;
  /** Sampler and text options under the reference's names. */
  inference: InferenceInput;
}

interface Job {
  prompt: Prompt;
  sample: number;
  seed: number;
  file: string;
}

/**
 * One picture (or several) per prompt, with a record each, in the folder `out`:
 * `<Question_id>.png` (`<Question_id>.s1.png` for the second sample) and `output.jsonl`.
 */
export async function generateStage(options: GenerateOptions): Promise<StageReport> {
  const config = readModelConfig(resolveModelDir(options.model));
  const image_shapes = options.inference.image_shapes ?? defaultImageSize(config);
  const inference: InferenceInput = { ...options.inference, image_shapes };
  const settings = resolveOptions({ ...inference, understanding_output: false }, false);
  checkImageSize(settings.image_shapes, config);
  const batch = options.batch ?? defaultDrawBatch(config, resolvePlace(options).dtype, settings);
  let drawing: GroupWork<StageItem<Job>, InferenceResult> | null = null;
  return runModelStage<Job>(options, {
    stage: 'generate',
    stage_version: 1,
    drawing: true,
    // How many are drawn at once decides about rounding, and so about bytes.
    settings: { ...settings, batch: batch === 1 ? undefined : batch },
    inputs: () => ({ items: jobs(options) }),
    prepare: (session, items) => {
      const inferencer = new InterleaveInferencer(session.parts);
      const draw = (some: ReadonlyArray<StageItem<Job>>, signal: AbortSignal | undefined) =>
        inferencer.interleaveInferenceBatch(
          some.map(({ value }) => [value.prompt.Question]),
          inference,
          { seeds: some.map(({ value }) => value.seed), signal },
        );
      drawing = new GroupWork(
        items,
        batch,
        (group, signal) => makeTogether(group, (some) => draw(some, signal), signal),
        options.signal,
      );
    },
    work: async (_, item) => {
      const drawn = await (drawing as unknown as NonNullable<typeof drawing>).result(item);
      return describe(item.value, drawn);
    },
    views: (items) => [{ file: OUTPUT_FILE, records: items.map((item) => item.record) }],
  });
}

function jobs(options: GenerateOptions): Array<StageItem<Job>> {
  return options.prompts.flatMap((prompt) =>
    Array.from({ length: options.numImages }, (_, sample) => {
      const key = sample === 0 ? `${prompt.Question_id}` : `${prompt.Question_id}.s${sample}`;
      const seed = itemSeed(options.seed, 'generate', prompt.Question_id, sample);
      return {
        key,
        order: [prompt.original_index, sample],
        identity: () => ({ prompt: prompt.Question, category: prompt.Category, sample, seed }),
        value: { prompt, sample, seed, file: `${key}.png` },
      };
    }),
  );
}

/** The record and the file of a picture. */
async function describe(job: Job, result: InferenceResult) {
  const { prompt, seed, sample, file } = job;
  const { image, text, truncated } = result;
  if (image === undefined) {
    throw new DataError('ERR_NO_IMAGE', 'the model gave no picture', { key: file });
  }
  const { seed: _, understanding_output: __, image_shapes, ...settings } = result.settings;
  const detailed = text === undefined ? null : detailedPrompt(text);
  const record: Record<string, unknown> = {
    prompt_id: prompt.Question_id,
    image_file: file,
    original_prompt: prompt.Question,
    ...(detailed === null ? {} : { detailed_prompt: detailed }),
    ...(text === undefined ? {} : { think_output: text, think_truncated: truncated === true }),
    category: prompt.Category,
    sample_index: sample,
    seed,
    width: image_shapes[1],
    height: image_shapes[0],
    settings,
  };
  const data = await encodePng(image, {
    text: { prompt: prompt.Question, seed: String(seed), settings: JSON.stringify(settings) },
  });
  return { record, files: [{ name: file, data }] };
}

/**
 * What a thought says after the words `detailed prompt:`, up to the first blank line.
 *
 * @returns null when it says no such thing; never a sentence in place of it.
 */
export function detailedPrompt(thought: string): string | null {
  const match = /detailed prompt:(.*?)(?:\n\s*\n|<\/think>|$)/is.exec(thought);
  const text = match?.[1].trim() ?? '';
  return text === '' ? null : text;
}

/** @throws ConfigError for a size the model cannot draw, before anything is loaded. */
function checkImageSize([height, width]: readonly [number, number], config: Config): void {
  const cell = latentDownsample(config);
  const most = cell * config.bagel.max_latent_size;
  const fits = (side: number) => side % cell === 0 && side <= most;
  if (fits(height) && fits(width)) return;
  throw new ConfigError('ERR_IMAGE_SIZE', 'the model cannot draw pictures of this size', {
    key: 'image_size',
    expected: `multiples of ${cell} up to ${most}`,
    found: `${height}x${width}`,
  });
}
