import type { RgbImage } from '../data/images.js';
import { emptyContext, type GenerationContext, prefillText, prefillVit } from './context.js';
import { type InferencerParts, replyIds, toTensor } from './inferencer.js';
import { understandingSystemPrompt } from './prompts.js';
import { streamGenerator } from './seeds.js';
import {
  type DecodingConstraint,
  type FinishReason,
  generateText,
  type TextOptions,
} from './text.js';

/** A system text and an image, read once; any number of questions can follow. */
export interface ImagePrefix {
  readonly context: GenerationContext;
  /** Frees the memory; answers given before stay valid. */
  dispose(): void;
}

/**
 * Reads system text and image the way understanding requests do: resized for the VAE branch first, then
 * for the vision tower.
 *
 * @param system text before the image; empty for none, default the built-in one of think mode.
 */
export function readImagePrefix(
  parts: InferencerParts,
  image: RgbImage,
  system: string = understandingSystemPrompt,
): ImagePrefix {
  const empty = emptyContext(parts);
  const before =
    system === '' ? empty : prefillText(parts, empty, [parts.tokenizer.encode(system)]);
  const pixels = toTensor(parts.vitTransform.apply(parts.vaeTransform.resize(image)));
  const context = prefillVit(parts, before, [pixels]);
  pixels.dispose();
  if (before !== empty) before.cache.dispose();
  return { context, dispose: () => context.cache.dispose() };
}

/** One question about an image that has been read. */
export interface ConstrainedQuestion {
  question: string;
  /** Form of the answer; decoding ends when it is complete. Without one, at the end token. */
  constraint?: DecodingConstraint;
  /** Most tokens of the answer. */
  maxTokens: number;
  /** Seed of the draw, when sampling. Default 0. */
  seed?: number | bigint;
  /** Default: greedy. */
  sampling?: Partial<Pick<TextOptions, 'do_sample' | 'temperature' | 'top_k' | 'top_p'>>;
  onToken?: (token: number) => void;
  signal?: AbortSignal;
}

/** What came of a question. */
export interface ConstrainedAnswer {
  text: string;
  /** Tokens of the answer. */
  ids: number[];
  /** `constraint`: complete; `length`: cut off. */
  finish: FinishReason;
}

/** Asks one question about an image that has been read; the prefix stays as it is for the next one. */
export async function answerConstrained(
  parts: InferencerParts,
  prefix: ImagePrefix,
  q: ConstrainedQuestion,
): Promise<ConstrainedAnswer> {
  const { tokenizer, special } = parts;
  const context = prefillText(parts, prefix.context, [tokenizer.encode(q.question)]);
  try {
    const { ids, finish } = await generateText(parts, {
      context,
      // The start token counts.
      options: { ...q.sampling, max_length: q.maxTokens + 1 },
      endTokenId: special.eos_token_id,
      vocabSize: tokenizer.vocabSize,
      generators: [streamGenerator(q.seed ?? 0, 'tokens')],
      constraints: [q.constraint ?? null],
      onToken: q.onToken && ((token) => q.onToken?.(token)),
      signal: q.signal,
    });
    const answer = replyIds(ids[0], special.bos_token_id);
    return { text: tokenizer.decode(answer), ids: answer, finish: finish[0] };
  } finally {
    context.cache.dispose();
  }
}
