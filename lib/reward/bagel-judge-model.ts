import type { RgbImage } from '../data/images.js';
import type { InferencerParts } from '../generate/inferencer.js';
import { answerConstrained, readImagePrefix } from '../generate/judge-model.js';
import type { TextOptions } from '../generate/text.js';
import type { JudgeModel, JudgeQuestion, JudgeReply, JudgeSession } from './judge.js';
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
    const prefix = readImagePrefix(this.#parts, image, system);
    return {
      answer: async (q: JudgeQuestion): Promise<JudgeReply> => {
        const constraint = new TokenConstraint(q.grammar, this.#vocabulary).decoding(q);
        const { text, ids } = await answerConstrained(this.#parts, prefix, {
          question: q.question,
          constraint,
          maxTokens: q.maxTokens,
          seed: q.seed,
          sampling: this.#sampling,
        });
        return { text, tokens: ids.length };
      },
      dispose: () => prefix.dispose(),
    };
  }
}
