import type { RgbImage } from '../data/images.js';
import type { JudgeWording } from '../models/bagel/judge-wording.js';
import { DataError, messageOf } from '../util/errors.js';
import type { ByteGrammar } from './byte-grammar.js';
import { type CoordinateStyle, type JudgeWords, judgeWords } from './judge-prompts.js';
import type { RegionProposal } from './propose.js';
import {
  layoutGrammar,
  parseLayoutAnswer,
  parseRegionAnswer,
  regionGrammar,
} from './score-grammar.js';

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

/** Whatever sees images and answers questions: BAGEL's understanding side, a server, a recording. */
export interface JudgeModel {
  read(image: RgbImage, system: string): Promise<JudgeSession>;
}

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

/**
 * Asks a model what it thinks of an image: one question about all regions, one about the layout.
 * The image is read once for both.
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
    const { width, height } = image;
    const seed = BigInt(item.seed ?? 0);
    const record: RawRewardRecord = {
      image_file: item.imageFile,
      prompt: item.prompt,
      width,
      height,
      vlm_rewards: [],
      global_layout_reward: null,
      vlm_raw_output: null,
      global_raw_output: null,
      status: 'failed',
      prompt_version: this.#words.version,
      seed: String(seed),
      tokens: 0,
    };
    const session = await this.#model.read(image, this.#words.system(this.#think));
    try {
      if (this.#options.regions !== false && item.regions.length > 0) {
        await this.#scoreRegions(session, item, seed, record);
      }
      if (this.#options.layout !== false) {
        await this.#scoreLayout(session, item, seed + 1n, record);
      }
    } finally {
      session.dispose();
    }
    record.status = statusOf(record);
    return record;
  }

  async #scoreRegions(
    session: JudgeSession,
    item: JudgeItem,
    seed: bigint,
    record: RawRewardRecord,
  ): Promise<void> {
    const { maxObjectBytes, coordinates = this.#words.coordinates } = this.#options;
    const ids = item.regions.map((_, i) => i + 1);
    const reply = await session.answer({
      question: this.#words.regions(item.prompt, item.regions, record, coordinates),
      grammar: regionGrammar(ids, { think: this.#think, maxObjectBytes }),
      maxTokens: this.#options.maxRegionTokens ?? 4096,
      maxThinkTokens: this.#options.maxThinkTokens,
      seed,
    });
    record.vlm_raw_output = reply.text;
    record.tokens += reply.tokens;
    const verdicts = attempt(() => parseRegionAnswer(reply.text, ids));
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
  }

  async #scoreLayout(
    session: JudgeSession,
    item: JudgeItem,
    seed: bigint,
    record: RawRewardRecord,
  ): Promise<void> {
    const { maxReasonBytes } = this.#options;
    const reply = await session.answer({
      question: this.#words.layout(item.prompt, record),
      grammar: layoutGrammar({ think: this.#think, maxReasonBytes }),
      maxTokens: this.#options.maxLayoutTokens ?? 1024,
      maxThinkTokens: this.#options.maxThinkTokens,
      seed,
    });
    record.global_raw_output = reply.text;
    record.tokens += reply.tokens;
    const verdict = attempt(() => parseLayoutAnswer(reply.text));
    const read = typeof verdict === 'string' ? null : verdict;
    record.global_layout_reward = {
      global_layout_score: read?.score ?? null,
      reason: read?.reason ?? null,
      bbox: [0, 0, record.width, record.height],
      area: record.width * record.height,
      ...outcome(read?.score ?? null, typeof verdict === 'string' ? verdict : undefined),
    };
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
