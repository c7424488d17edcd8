import { setImmediate as macrotask } from 'node:timers/promises';
import type { RgbImage } from '../data/images.js';
import type { ChwImage, ImageTransform } from '../data/transforms.js';
import { toUint8 } from '../models/bagel/autoencoder.js';
import { latentDownsample } from '../models/bagel/config.js';
import type { PosteriorSource } from '../models/bagel/latent-autoencoder.js';
import { unpackLatent } from '../models/bagel/patchify.js';
import { type Generator, noGrad, scope, type Tensor, tensor } from '../torch/index.js';
import { ConfigError, DataError } from '../util/errors.js';
import {
  emptyContext,
  type GenerationContext,
  type GenerationModel,
  prefillText,
  prefillVae,
  prefillVit,
} from './context.js';
import { type InferenceInput, type InferenceOptions, resolveOptions } from './options.js';
import { generationSystemPrompt, splitThought, understandingSystemPrompt } from './prompts.js';
import { generateImage, type SamplerStep } from './sampler.js';
import { streamGenerator } from './seeds.js';
import { type FinishReason, generateText } from './text.js';

/** What generation asks of a tokenizer. */
export interface TextCodec {
  /** Ids of a text, without frame tokens; special-token strings inside it stay plain text. */
  encode(text: string): number[];
  decode(ids: number[]): string;
  /** Ids from 0 up to this number exist; rows of the vocabulary above are never chosen. */
  readonly vocabSize?: number;
}

/** Everything an inferencer works with. */
export interface InferencerParts extends GenerationModel {
  tokenizer: TextCodec;
  vaeTransform: ImageTransform;
  vitTransform: ImageTransform;
}

/** A piece of a request: text, or an image in pixels. */
export type Piece = string | RgbImage;

/** Per-call hooks and sources of randomness. */
export interface InferenceCall {
  /** Seed of each request, or of the only one; each draws from streams of its own. Default 0. */
  seeds?: ReadonlyArray<number | bigint>;
  /** Replaces the start noise: `[sum of cells, P]`. */
  initNoise?: Tensor;
  /** Replaces the posterior noise of the n-th image of a request: `[1, z, h, w]`. */
  posteriorNoise?: readonly Tensor[];
  onStep?: (step: SamplerStep) => void;
  onToken?: (token: number, request: number) => void;
  /** Sees the final latent tokens of each request; valid during the callback only. */
  onLatent?: (tokens: Tensor, request: number) => void;
  signal?: AbortSignal;
}

/** What one request gave. */
export interface InferenceResult {
  /** Decoded text as it came: the answer, or the thought that preceded the picture. */
  text?: string;
  /** Reasoning, where the text has some. */
  thought?: string;
  /** The answer without the reasoning (understanding only). */
  answer?: string;
  /** Whether the text ran into its limit. */
  truncated?: boolean;
  image?: RgbImage;
  /** The options that were really used; `image_shapes` is the size of the picture. */
  settings: InferenceOptions & { seed: string };
}

/** The three contexts of guided generation. */
interface Contexts {
  /** Everything. */
  main: GenerationContext;
  /** Everything before the last text. */
  withoutText: GenerationContext;
  /** All texts, no images, no thought. */
  withoutImage: GenerationContext;
}

/**
 * Turns interleaved texts and images into text, a picture, or a thought and a picture.
 *
 * Context rules are the BAGEL reference's: a text goes to the main and the image-free context, while the
 * text-free one becomes a snapshot from before it; an image goes to the main context (VAE and ViT view
 * for pictures, ViT view alone for answers) and the text-free one becomes a snapshot from after it; a thought
 * goes to the main context only.
 */
export class InterleaveInferencer {
  readonly parts: InferencerParts;

  constructor(parts: InferencerParts) {
    this.parts = parts;
  }

  /** One request; see {@link interleaveInferenceBatch}. */
  async interleaveInference(
    inputs: readonly Piece[],
    options: InferenceInput = {},
    call: InferenceCall = {},
  ): Promise<InferenceResult> {
    return (await this.interleaveInferenceBatch([inputs], options, call))[0];
  }

  /**
   * Several requests of the same form (texts and images in the same places) at once. Results do not
   * depend on what else is in the batch, apart from rounding.
   *
   * @throws ConfigError for bad options, DataError for requests of different form or sizes that do not
   *   fit, the signal's reason when aborted.
   */
  async interleaveInferenceBatch(
    requests: ReadonlyArray<readonly Piece[]>,
    input: InferenceInput = {},
    call: InferenceCall = {},
  ): Promise<InferenceResult[]> {
    const form = commonForm(requests);
    const options = resolveOptions(input, form.includes('image'));
    const seeds = seedsOf(requests.length, call);
    const run = new Run(this.parts, requests, options, seeds, call);
    try {
      await run.readInputs(form);
      return options.understanding_output ? await run.answer() : await run.draw();
    } finally {
      run.dispose();
    }
  }
}

/** The state of one batch of requests. */
class Run {
  readonly #parts: InferencerParts;
  readonly #requests: ReadonlyArray<readonly Piece[]>;
  readonly #options: InferenceOptions;
  readonly #seeds: ReadonlyArray<number | bigint>;
  readonly #call: InferenceCall;
  readonly #made = new Set<GenerationContext>();
  readonly #posterior: Generator[];
  readonly #sizes: Array<[number, number]>;
  #contexts: Contexts;
  #imagesRead = 0;

  constructor(
    parts: InferencerParts,
    requests: ReadonlyArray<readonly Piece[]>,
    options: InferenceOptions,
    seeds: ReadonlyArray<number | bigint>,
    call: InferenceCall,
  ) {
    this.#parts = parts;
    this.#requests = requests;
    this.#options = options;
    this.#seeds = seeds;
    this.#call = call;
    this.#posterior = seeds.map((seed) => streamGenerator(seed, 'posterior'));
    this.#sizes = requests.map(() => [...options.image_shapes]);
    const empty = this.#keep(emptyContext(parts, requests.length));
    this.#contexts = { main: empty, withoutText: empty, withoutImage: empty };
  }

  /** Frees the memory of every context of the run. */
  dispose(): void {
    for (const context of this.#made) context.cache.dispose();
    this.#made.clear();
  }

  /** System text and inputs, in order. */
  async readInputs(form: ReadonlyArray<'text' | 'image'>): Promise<void> {
    const o = this.#options;
    if (o.think) {
      const own = o.understanding_output ? understandingSystemPrompt : generationSystemPrompt;
      const system = o.system_prompt ?? own;
      await this.#addText(
        this.#requests.map(() => system),
        false,
      );
    }
    for (const [i, kind] of form.entries()) {
      const pieces = this.#requests.map((request) => request[i]);
      if (kind === 'text') await this.#addText(pieces as string[], true);
      else await this.#addImages(pieces as RgbImage[]);
    }
  }

  /** Decodes an answer per request. */
  async answer(): Promise<InferenceResult[]> {
    const replies = await this.#decode();
    return replies.map(({ text, finish }, i) => {
      const { thought, answer } = splitThought(text);
      return { text, thought, answer, truncated: finish === 'length', settings: this.#settings(i) };
    });
  }

  /** Draws a picture per request, after a thought in think mode. */
  async draw(): Promise<InferenceResult[]> {
    const { vae, model, special } = this.#parts;
    if (!vae) {
      throw new ConfigError('ERR_NO_AUTOENCODER', 'drawing needs the autoencoder (ae.safetensors)');
    }
    const thoughts = this.#options.think ? await this.#think() : undefined;
    const latents = await generateImage(
      { model, vae, special },
      {
        context: this.#contexts.main,
        contextWithoutText: this.#contexts.withoutText,
        contextWithoutImage: this.#contexts.withoutImage,
        imageSizes: this.#sizes,
        noise: this.#call.initNoise ?? this.#seeds.map((seed) => streamGenerator(seed, 'noise')),
        options: this.#options,
        onStep: this.#call.onStep,
        signal: this.#call.signal,
      },
    );
    const results: InferenceResult[] = [];
    for (const [i, tokens] of latents.entries()) {
      this.#call.onLatent?.(tokens, i);
      results.push({
        ...(thoughts && describeThought(thoughts[i])),
        image: decodeLatent(this.#parts, tokens, this.#sizes[i]),
        settings: this.#settings(i),
      });
      tokens.dispose();
      await this.#turn();
    }
    return results;
  }

  #settings(i: number): InferenceResult['settings'] {
    return { ...this.#options, image_shapes: this.#sizes[i], seed: String(this.#seeds[i]) };
  }

  /** A text per request; `snapshot` makes the text-free context the one from before it. */
  async #addText(texts: readonly string[], snapshot: boolean): Promise<void> {
    const { main, withoutText, withoutImage } = this.#contexts;
    const ids = texts.map((text) => this.#parts.tokenizer.encode(text));
    const next = this.#keep(prefillText(this.#parts, main, ids));
    await this.#turn();
    let plain = next;
    if (withoutImage !== main) {
      plain = this.#needsImageFree()
        ? this.#keep(prefillText(this.#parts, withoutImage, ids))
        : withoutImage;
    }
    this.#contexts = {
      main: next,
      withoutText: snapshot ? main : withoutText,
      withoutImage: plain,
    };
    await this.#turn();
  }

  /** Whether the image branch of guidance will be evaluated at all. */
  #needsImageFree(): boolean {
    const { understanding_output, cfg_text_scale, cfg_img_scale } = this.#options;
    return !understanding_output && cfg_text_scale > 1 && cfg_img_scale > 1;
  }

  /** An image per request: first to the VAE branch's size, and from there to each branch's own. */
  async #addImages(images: readonly RgbImage[]): Promise<void> {
    const { vaeTransform, vitTransform } = this.#parts;
    const resized = images.map((image) => vaeTransform.resize(image));
    let context = this.#contexts.main;
    if (!this.#options.understanding_output) {
      const pixels = resized.map((image) => toTensor(vaeTransform.apply(image)));
      context = this.#keep(prefillVae(this.#parts, context, pixels, this.#posteriorSources()));
      for (const t of pixels) t.dispose();
      await this.#turn();
    }
    const pixels = resized.map((image) => toTensor(vitTransform.apply(image)));
    context = this.#keep(prefillVit(this.#parts, context, pixels));
    for (const t of pixels) t.dispose();
    resized.forEach((image, i) => {
      this.#sizes[i] = [image.height, image.width];
    });
    this.#imagesRead += 1;
    this.#contexts = { ...this.#contexts, main: context, withoutText: context };
    await this.#turn();
  }

  #posteriorSources(): PosteriorSource[] {
    const given = this.#call.posteriorNoise?.[this.#imagesRead];
    return this.#posterior.map((generator) => (given ? { posteriorNoise: given } : { generator }));
  }

  /** Writes a thought and reads it back into the main context, as text. */
  async #think(): Promise<Array<{ text: string; finish: FinishReason }>> {
    const thoughts = await this.#decode();
    const ids = thoughts.map(({ text }) => this.#parts.tokenizer.encode(text));
    const main = this.#keep(prefillText(this.#parts, this.#contexts.main, ids));
    this.#contexts = { ...this.#contexts, main };
    return thoughts;
  }

  /** Text after the main context; what was decoded is not added to it. */
  async #decode(): Promise<Array<{ text: string; finish: FinishReason }>> {
    const { tokenizer, special } = this.#parts;
    const o = this.#options;
    const { ids, finish } = await generateText(this.#parts, {
      context: this.#contexts.main,
      options: {
        max_length: o.max_think_token_n,
        do_sample: o.do_sample,
        temperature: o.text_temperature,
        top_k: o.top_k,
        top_p: o.top_p,
      },
      endTokenId: special.eos_token_id,
      vocabSize: tokenizer.vocabSize,
      generators: this.#seeds.map((seed) => streamGenerator(seed, 'tokens')),
      onToken: this.#call.onToken,
      signal: this.#call.signal,
    });
    return ids.map((sequence, i) => ({
      text: tokenizer.decode(replyIds(sequence, special.bos_token_id)),
      finish: finish[i],
    }));
  }

  #keep(context: GenerationContext): GenerationContext {
    this.#made.add(context);
    return context;
  }

  /** Lets other work on the event loop proceed, and ends the run when asked to. */
  async #turn(): Promise<void> {
    await macrotask();
    this.#call.signal?.throwIfAborted();
  }
}

/** What follows the start token, up to a second one (at which the reference cuts as well). */
export function replyIds(ids: readonly number[], startToken: number): number[] {
  const rest = ids[0] === startToken ? ids.slice(1) : [...ids];
  const again = rest.indexOf(startToken);
  return again < 0 ? rest : rest.slice(0, again);
}

/**
 * Latent tokens of one image as pixels.
 *
 * @param tokens `[cells, P]`.
 * @param size (height, width) in pixels.
 */
export function decodeLatent(
  g: GenerationModel,
  tokens: Tensor,
  [height, width]: readonly [number, number],
): RgbImage {
  const { vae, model } = g;
  if (!vae) {
    throw new ConfigError('ERR_NO_AUTOENCODER', 'this needs the autoencoder (ae.safetensors)');
  }
  const cell = latentDownsample(model.config);
  const data = noGrad(() =>
    scope(() => {
      const { latent_patch_size } = model.config.bagel;
      const z = unpackLatent(tokens, height / cell, width / cell, latent_patch_size);
      return toUint8(vae.decode(z.unsqueeze(0)).select(0, 0)).toTypedArray() as Uint8Array;
    }),
  );
  return { width, height, data };
}

/** A normalised image as a `[3, H, W]` float32 tensor. */
export function toTensor(image: ChwImage): Tensor {
  return tensor(image.data, { shape: [3, image.height, image.width] });
}

function describeThought(reply: { text: string; finish: FinishReason }): Partial<InferenceResult> {
  const { thought, answer } = splitThought(reply.text);
  return { text: reply.text, thought: thought ?? answer, truncated: reply.finish === 'length' };
}

/** The sequence of texts and images that all requests share. */
function commonForm(requests: ReadonlyArray<readonly Piece[]>): Array<'text' | 'image'> {
  const forms = requests.map((pieces) =>
    pieces.map((piece) => (typeof piece === 'string' ? 'text' : 'image')),
  );
  if (forms.length === 0 || forms[0].length === 0) {
    throw new DataError('ERR_EMPTY_REQUEST', 'a request needs a text or an image');
  }
  const other = forms.find((form) => form.join() !== forms[0].join());
  if (other) {
    throw new DataError('ERR_MIXED_BATCH', 'requests of a batch must have the same form', {
      expected: forms[0].join(', '),
      found: other.join(', '),
    });
  }
  return forms[0];
}

function seedsOf(count: number, call: InferenceCall): ReadonlyArray<number | bigint> {
  const seeds = call.seeds ?? new Array<number>(count).fill(0);
  if (seeds.length === count) return seeds;
  throw new DataError('ERR_SEEDS', 'one seed per request is needed', {
    expected: String(count),
    found: String(seeds.length),
  });
}
