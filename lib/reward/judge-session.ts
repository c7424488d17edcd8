import type { RgbImage } from '../data/images.js';
import { DataError } from '../util/errors.js';
import type { ByteGrammar } from './byte-grammar.js';

/** One question about an image. */
export interface JudgeQuestion {
  question: string;
  /** Form of the answer. A model that cannot be held to it may ignore it and risk a failed score. */
  grammar: ByteGrammar;
  /** Thoughts included. */
  maxTokens: number;
  maxThinkTokens?: number;
  seed: number | bigint;
}

/** What a judge wrote in answer to a question. */
export interface JudgeReply {
  /** Everything the model wrote, thoughts included. */
  text: string;
  tokens: number;
}

/** An image that has been read once and can be asked about several times. */
export interface JudgeSession {
  answer(question: JudgeQuestion): Promise<JudgeReply>;
  dispose(): void;
}

/** A question about one of several images. */
export interface BatchQuestion extends JudgeQuestion {
  /** Which image, in the order in which they were read. */
  image: number;
}

/** Images that have been read together and can be asked about together. */
export interface JudgeBatch {
  /**
   * Answers in the order of the questions.
   *
   * @param options.signal ends the answers that are on their way; its reason is thrown.
   */
  answerAll(
    questions: readonly BatchQuestion[],
    options?: { signal?: AbortSignal },
  ): Promise<JudgeReply[]>;
  dispose(): void;
}

/** Whatever sees images and answers questions: BAGEL's understanding side, a server, a recording. */
export interface JudgeModel {
  read(image: RgbImage, system: string): Promise<JudgeSession>;
  /** For models that can answer about several images at once. */
  readAll?(images: readonly RgbImage[], system: string): Promise<JudgeBatch>;
}

/**
 * Images for any number of questions: read together where the model can do that, else one by one,
 * each when the first question about it comes.
 */
export async function readTogether(
  model: JudgeModel,
  images: readonly RgbImage[],
  system: string,
): Promise<JudgeBatch> {
  return model.readAll?.(images, system) ?? new OneByOne(model, images, system);
}

/** Several images with a model that takes one at a time; the one asked about last stays open. */
class OneByOne implements JudgeBatch {
  readonly #model: JudgeModel;
  readonly #images: readonly RgbImage[];
  readonly #system: string;
  #open: { image: number; session: JudgeSession } | null = null;

  constructor(model: JudgeModel, images: readonly RgbImage[], system: string) {
    this.#model = model;
    this.#images = images;
    this.#system = system;
  }

  async answerAll(
    questions: readonly BatchQuestion[],
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<JudgeReply[]> {
    const replies: JudgeReply[] = [];
    for (const { image, ...question } of questions) {
      signal?.throwIfAborted();
      replies.push(await (await this.#session(image)).answer(question));
    }
    return replies;
  }

  dispose(): void {
    this.#open?.session.dispose();
    this.#open = null;
  }

  async #session(image: number): Promise<JudgeSession> {
    if (this.#open?.image === image) return this.#open.session;
    this.dispose();
    const picture = this.#images[image];
    if (picture === undefined) {
      throw new DataError('ERR_BATCH', 'a question is about an image that was not read', {
        expected: `0 to ${this.#images.length - 1}`,
        found: String(image),
      });
    }
    const session = await this.#model.read(picture, this.#system);
    this.#open = { image, session };
    return session;
  }
}
