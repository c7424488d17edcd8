import type { RgbImage } from '../data/images.js';
import type { JudgeWording } from '../models/bagel/judge-wording.js';
import { DataError, messageOf } from '../util/errors.js';
import { type CoordinateStyle, type JudgeWords, judgeWords } from './judge-prompts.js';
import {
  type BatchQuestion,
  type JudgeModel,
  type JudgeReply,
  readTogether,
} from './judge-session.js';
import type { RegionProposal } from './propose.js';
import {
  layoutGrammar,
  parseLayoutAnswer,
  parseRegionAnswer,
  regionGrammar,
} from './score-grammar.js';

export {
  type BatchQuestion,
  type JudgeBatch,
  type JudgeModel,
  type JudgeQuestion,
  type JudgeReply,
  type JudgeSession,
  readTogether,
} from './judge-session.js';

/** What is asked, and the limits of the answers. */
export interface JudgeOptions {
  /** Ask about the regions. Default true. */
  regions?: boolean;
  /** Ask about the layout. Default true. */
  layout?: boolean;
  /** The words the model wants to be asked in; default: the built-in ones. */
  wording?: JudgeWording;
  /** Reason before answering. Default: as the wording says; built-in true, as in the reference. */
  think?: boolean;
  /** Tokens of the answer about the regions, thoughts included. Default 4096. */
  maxRegionTokens?: number;
  /** Tokens of the answer about the layout, thoughts included. Default 1024. */
  maxLayoutTokens?: number;
  /** Of these, at most this many for thoughts. Default: no further limit. */
  maxThinkTokens?: number;
  /** Default: as the wording says; built-in `normalized`. */
  coordinates?: CoordinateStyle;
  /** Longest object name in bytes. Default 64. */
  maxObjectBytes?: number;
  /** Longest layout reason in bytes. Default 200. */
  maxReasonBytes?: number;
}

/** `ok`: all asked scores are there. `partial`: some. `failed`: none. */
export type ScoreStatus = 'ok' | 'partial' | 'failed';

/** A scored region of the raw record. */
export interface RawRegion {
  region_id: number;
  identified_object: string | null;
  /** In [-1, 1]; null when the judge gave none. Never 0 in place of a failure. */
  score: number | null;
  /** `[x0, y0, x1, y1]` in pixels of the image, ends exclusive. */
  bbox: [number, number, number, number];
  area: number;
  status: 'ok' | 'failed';
  problem?: string;
}

/** The layout score of the raw record. */
export interface RawLayout {
  /** In [-1, 1]; null when the judge gave none. */
  global_layout_score: number | null;
  reason: string | null;
  bbox: [number, number, number, number];
  area: number;
  status: 'ok' | 'failed';
  problem?: string;
}

/** What scoring one image gives; a superset of the reference's intermediate record. */
export interface RawRewardRecord {
  image_file: string;
  prompt: string;
  /** Frame the boxes refer to, in pixels. */
  width: number;
  height: number;
  vlm_rewards: RawRegion[];
  /** Null when the layout was not asked for. */
  global_layout_reward: RawLayout | null;
  /** Replies as they came; null when not asked. */
  vlm_raw_output: string | null;
  global_raw_output: string | null;
  status: ScoreStatus;
  prompt_version: string;
  seed: string;
  /** Tokens the judge wrote. */
  tokens: number;
}

/** What is scored. */
export interface JudgeItem {
  imageFile: string;
  prompt: string;
  regions: readonly RegionProposal[];
  /** Seed of this item; the questions draw from `seed` and `seed + 1`. Default 0. */
  seed?: number | bigint;
}

/** An image with what is to be scored in it. */
export interface JudgeCase {
  image: RgbImage;
  item: JudgeItem;
}

/** A question, and what its answer means for a record. */
interface Asked {
  question: BatchQuestion;
  note: (reply: JudgeReply) => void;
}

/**
 * Asks a model what it thinks of images: one question about all regions of each, one about its layout.
 * Each image is read once for both.
 */
export class Judge {
  readonly #model: JudgeModel;
  readonly #options: JudgeOptions;
  readonly #words: JudgeWords;
  readonly #think: boolean;

  constructor(model: JudgeModel, options: JudgeOptions = {}) {
    this.#model = model;
    this.#options = options;
    this.#words = judgeWords(options.wording);
    this.#think = options.think ?? this.#words.think;
  }

  /**
   * Scores one image. An answer that cannot be read makes its scores null and the record `partial`
   * or `failed`; everything else that goes wrong is thrown.
   */
  async score(image: RgbImage, item: JudgeItem): Promise<RawRewardRecord> {
    return (await this.scoreAll([{ image, item }]))[0];
  }

  /**
   * Scores several images, all questions at once where the model can do that. Each record is that of
   * {@link score}; what is thrown for one image is thrown for all.
   *
   * @param options.signal ends the work; its reason is thrown.
   */
  async scoreAll(
    cases: readonly JudgeCase[],
    options: { signal?: AbortSignal } = {},
  ): Promise<RawRewardRecord[]> {
    options.signal?.throwIfAborted();
    if (cases.length === 0) return [];
    const records = cases.map((c) => this.#emptyRecord(c));
    const asked = cases.flatMap((c, i) => this.#questions(c.item, i, records[i]));
    const images = cases.map(({ image }) => image);
    const batch = await readTogether(this.#model, images, this.#words.system(this.#think));
    try {
      const questions = asked.map(({ question }) => question);
      const replies = await batch.answerAll(questions, options);
      for (const [i, { note }] of asked.entries()) note(replies[i]);
    } finally {
      batch.dispose();
    }
    for (const record of records) record.status = statusOf(record);
    return records;
  }

  #emptyRecord({ image, item }: JudgeCase): RawRewardRecord {
    return {
      image_file: item.imageFile,
      prompt: item.prompt,
      width: image.width,
      height: image.height,
      vlm_rewards: [],
      global_layout_reward: null,
      vlm_raw_output: null,
      global_raw_output: null,
      status: 'failed',
      prompt_version: this.#words.version,
      seed: String(BigInt(item.seed ?? 0)),
      tokens: 0,
    };
  }

  #questions(item: JudgeItem, image: number, record: RawRewardRecord): Asked[] {
    const { regions = true, layout = true } = this.#options;
    const seed = BigInt(item.seed ?? 0);
    const asked: Asked[] = [];
    if (regions && item.regions.length > 0) {
      asked.push(this.#aboutRegions(item, { image, seed }, record));
    }
    if (layout) asked.push(this.#aboutLayout(item, { image, seed: seed + 1n }, record));
    return asked;
  }

  #aboutRegions(
    item: JudgeItem,
    place: Pick<BatchQuestion, 'image' | 'seed'>,
    record: RawRewardRecord,
  ): Asked {
    const { maxObjectBytes, coordinates = this.#words.coordinates } = this.#options;
    const ids = item.regions.map((_, i) => i + 1);
    const question = {
      ...place,
      question: this.#words.regions(item.prompt, item.regions, record, coordinates),
      grammar: regionGrammar(ids, {
        think: this.#think,
        maxObjectBytes,
        counterpart: this.#words.counterpart,
        places: this.#words.places(item.regions, record, coordinates),
      }),
      maxTokens: this.#options.maxRegionTokens ?? 4096,
      maxThinkTokens: this.#options.maxThinkTokens,
    };
    const note = ({ text, tokens }: JudgeReply): void => {
      record.vlm_raw_output = text;
      record.tokens += tokens;
      const verdicts = attempt(() => parseRegionAnswer(text, ids));
      record.vlm_rewards = item.regions.map((region, i) => {
        const verdict =
          typeof verdicts === 'string'
            ? { object: null, score: null, problem: verdicts }
            : verdicts[i];
        return {
          region_id: ids[i],
          identified_object: verdict.object,
          score: verdict.score,
          bbox: [...region.box],
          area: region.area,
          ...outcome(verdict.score, verdict.problem),
        };
      });
    };
    return { question, note };
  }

  #aboutLayout(
    item: JudgeItem,
    place: Pick<BatchQuestion, 'image' | 'seed'>,
    record: RawRewardRecord,
  ): Asked {
    const { maxReasonBytes } = this.#options;
    const { width, height } = record;
    const question = {
      ...place,
      question: this.#words.layout(item.prompt, record),
      grammar: layoutGrammar({
        think: this.#think,
        maxReasonBytes,
        describe: this.#words.describe,
      }),
      maxTokens: this.#options.maxLayoutTokens ?? 1024,
      maxThinkTokens: this.#options.maxThinkTokens,
    };
    const note = ({ text, tokens }: JudgeReply): void => {
      record.global_raw_output = text;
      record.tokens += tokens;
      const verdict = attempt(() => parseLayoutAnswer(text));
      const read = typeof verdict === 'string' ? null : verdict;
      record.global_layout_reward = {
        global_layout_score: read?.score ?? null,
        reason: read?.reason ?? null,
        bbox: [0, 0, width, height],
        area: width * height,
        ...outcome(read?.score ?? null, typeof verdict === 'string' ? verdict : undefined),
      };
    };
    return { question, note };
  }
}

/** The value, or the message of the data error that reading it gave. */
function attempt<T extends object>(read: () => T): T | string {
  try {
    return read();
  } catch (error) {
    if (error instanceof DataError) return messageOf(error);
    throw error;
  }
}

function outcome(
  score: number | null,
  problem?: string,
): { status: 'ok' | 'failed'; problem?: string } {
  return score === null ? { status: 'failed', problem } : { status: 'ok' };
}

function statusOf(record: RawRewardRecord): ScoreStatus {
  const asked = [...record.vlm_rewards, record.global_layout_reward].filter((r) => r !== null);
  const given = asked.filter((r) => r.status === 'ok').length;
  if (given === 0) return 'failed';
  return given === asked.length ? 'ok' : 'partial';
}
