import type { RgbImage } from '../data/images.js';
import type { InferencerParts } from '../generate/inferencer.js';
import { answerConstrained, readImages } from '../generate/judge-model.js';
import type { TextOptions } from '../generate/text.js';
import type {
  JudgeBatch,
  JudgeModel,
  JudgeQuestion,
  JudgeReply,
  JudgeSession,
} from './judge-session.js';
import { TokenConstraint } from './token-constraint.js';
import type { TokenVocabulary } from './token-vocabulary.js';

/**
 * BAGEL's own understanding side as the judge. Every answer is decoded under its grammar, so it is
 * complete and readable whatever the weights are.
 */
export class BagelJudgeModel implements JudgeModel {
  readonly #parts: InferencerParts;
  readonly #vocabulary: TokenVocabulary;
  readonly #sampling: Partial<TextOptions>;

  /**
   * @param vocabulary byte strings of the tokenizer in `parts`; build it once.
   * @param sampling default: greedy, as in the reference.
   */
  constructor(
    parts: InferencerParts,
    vocabulary: TokenVocabulary,
    sampling: Partial<Pick<TextOptions, 'do_sample' | 'temperature' | 'top_k' | 'top_p'>> = {},
  ) {
    this.#parts = parts;
    this.#vocabulary = vocabulary;
    this.#sampling = sampling;
  }

  /** Puts system text and image into a context that all questions about the image share. */
  async read(image: RgbImage, system: string): Promise<JudgeSession> {
    const batch = await this.readAll([image], system);
    return {
      answer: async (question) => (await batch.answerAll([{ ...question, image: 0 }]))[0],
      dispose: () => batch.dispose(),
    };
  }

  /**
   * Puts system text and images into one context with a sequence per image. Questions that are asked
   * together are answered together; each answer is what it would be alone.
   */
  async readAll(images: readonly RgbImage[], system: string): Promise<JudgeBatch> {
    const prefixes = readImages(this.#parts, images, system);
    return {
      answerAll: async (questions, { signal } = {}): Promise<JudgeReply[]> => {
        const constraints = this.#constraints(questions);
        const answers = await answerConstrained(
          this.#parts,
          prefixes,
          questions.map((q, i) => ({ ...q, constraint: constraints[i].decoding(q) })),
          { sampling: this.#sampling, signal },
        );
        return answers.map(({ text, ids }) => ({ text, tokens: ids.length }));
      },
      dispose: () => prefixes.dispose(),
    };
  }

  /** One constraint per question; questions of one form share what is known about it. */
  #constraints(questions: readonly JudgeQuestion[]): TokenConstraint[] {
    const byForm = new Map<string, TokenConstraint>();
    return questions.map(({ grammar }) => {
      const form = JSON.stringify(grammar.parts);
      const constraint = byForm.get(form) ?? new TokenConstraint(grammar, this.#vocabulary);
      byForm.set(form, constraint);
      return constraint;
    });
  }
}
