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

/** A system text and images, each read once after it; any number of questions can follow. */
export interface ImagePrefixes {
  /** One sequence per image. */
  readonly context: GenerationContext;
  /** Frees the memory; answers given before stay valid. */
  dispose(): void;
}

/**
 * Reads system text and images the way understanding requests do: resized for the VAE branch first,
 * then for the vision tower.
 *
 * @param images at least one, of any sizes.
 * @param system text before each image; empty for none, default the built-in one of think mode.
 */
export function readImages(
  parts: InferencerParts,
  images: readonly RgbImage[],
  system: string = understandingSystemPrompt,
): ImagePrefixes {
  const before = systemContext(parts, system, images.length);
  const pixels = images.map((image) =>
    toTensor(parts.vitTransform.apply(parts.vaeTransform.resize(image))),
  );
  try {
    const context = prefillVit(parts, before, pixels);
    return { context, dispose: () => context.cache.dispose() };
  } finally {
    for (const tensor of pixels) tensor.dispose();
    before.cache.dispose();
  }
}

/** A system text, read once, at the beginning of `batch` sequences. */
function systemContext(parts: InferencerParts, system: string, batch: number): GenerationContext {
  if (system === '') return emptyContext(parts, batch);
  const empty = emptyContext(parts);
  const once = prefillText(parts, empty, [parts.tokenizer.encode(system)]);
  empty.cache.dispose();
  if (batch === 1) return once;
  const all = selectSequences(once, new Array<number>(batch).fill(0));
  once.cache.dispose();
  return all;
}

/** Sequences of a context, any of them any number of times, as a context of its own. */
function selectSequences(
  context: GenerationContext,
  sequences: readonly number[],
): GenerationContext {
  return {
    cache: context.cache.select(sequences),
    kvLens: sequences.map((s) => context.kvLens[s]),
    ropes: sequences.map((s) => context.ropes[s]),
  };
}

/** One question about an image that has been read. */
export interface ConstrainedQuestion {
  /** Which of the images, in the order they were read. */
  image: number;
  question: string;
  /** Form of the answer; decoding ends when it is complete. Without one, at the end token. */
  constraint?: DecodingConstraint;
  /** Most tokens of the answer. */
  maxTokens: number;
  /** Seed of the draw, when sampling. Default 0. */
  seed?: number | bigint;
}

/** How questions are answered. */
export interface ConstrainedAnswering {
  /** Default: greedy. */
  sampling?: Partial<Pick<TextOptions, 'do_sample' | 'temperature' | 'top_k' | 'top_p'>>;
  /** Sees each token and the position of its question. */
  onToken?: (token: number, question: number) => void;
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

/**
 * Asks questions about images that have been read, all at once and each for itself: an answer does not
 * depend on the other questions, and one that is finished takes no further part. The images stay as
 * they are for the next questions.
 *
 * @returns the answers in the order of the questions.
 * @throws what `generateText` throws; the signal's reason when aborted.
 */
export async function answerConstrained(
  parts: InferencerParts,
  prefixes: ImagePrefixes,
  questions: readonly ConstrainedQuestion[],
  { sampling, onToken, signal }: ConstrainedAnswering = {},
): Promise<ConstrainedAnswer[]> {
  if (questions.length === 0) return [];
  signal?.throwIfAborted();
  const { tokenizer, special } = parts;
  const context = askAll(parts, prefixes.context, questions);
  try {
    const { ids, finish } = await generateText(parts, {
      context,
      options: { ...sampling },
      // The start token counts.
      maxLengths: questions.map((q) => q.maxTokens + 1),
      endTokenId: special.eos_token_id,
      vocabSize: tokenizer.vocabSize,
      generators: questions.map((q) => streamGenerator(q.seed ?? 0, 'tokens')),
      constraints: questions.map((q) => q.constraint ?? null),
      onToken,
      signal,
    });
    return ids.map((all, i) => {
      const answer = replyIds(all, special.bos_token_id);
      return { text: tokenizer.decode(answer), ids: answer, finish: finish[i] };
    });
  } finally {
    context.cache.dispose();
  }
}

/** Each question behind its image; one sequence per question. */
function askAll(
  parts: InferencerParts,
  images: GenerationContext,
  questions: readonly ConstrainedQuestion[],
): GenerationContext {
  const texts = questions.map((q) => parts.tokenizer.encode(q.question));
  const inOrder =
    questions.length === images.kvLens.length && questions.every((q, i) => q.image === i);
  if (inOrder) return prefillText(parts, images, texts);
  const chosen = selectSequences(
    images,
    questions.map((q) => q.image),
  );
  try {
    return prefillText(parts, chosen, texts);
  } finally {
    chosen.cache.dispose();
  }
}
