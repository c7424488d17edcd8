import fs from 'node:fs';
import path from 'node:path';
import { type GenerationRecord, readGenerationRecords } from '../../data/generation-record.js';
import { imagePath } from '../../data/image-folder.js';
import { readImage } from '../../data/images.js';
import { GLOBAL_REWARD_NAME } from '../../data/rewards.js';
import type { ProposerName } from '../../models/bagel/config.js';
import { readModelConfig } from '../../models/bagel/load.js';
import { BagelJudgeModel } from '../../reward/bagel-judge-model.js';
import {
  Judge,
  type JudgeCase,
  type JudgeOptions,
  type RawRewardRecord,
} from '../../reward/judge.js';
import { judgeWords } from '../../reward/judge-prompts.js';
import type { RegionProposer } from '../../reward/propose.js';
import { createProposer } from '../../reward/proposers.js';
import { TokenVocabulary } from '../../reward/token-vocabulary.js';
import {
  formatTrainingRecord,
  type RawInput,
  type TrainingRecord,
} from '../../reward/training-record.js';
import { ConfigError, DataError } from '../../util/errors.js';
import { sha256 } from '../../util/sha256.js';
import { GroupWork, makeTogether, type Outcome, outcomeOf } from './group-work.js';
import type { StoredItem } from './item-records.js';
import { itemSeed } from './item-seed.js';
import type { RejectedInput, StageItem, StageReport } from './item-stage.js';
import { defaultJudgeBatch } from './judge-batch.js';
import { resolveModelDir, resolvePlace } from './model-session.js';
import { type ModelStageOptions, runModelStage } from './model-stage.js';

/** Everything the judge said, one record per picture. */
export const RAW_REWARDS_FILE = 'rewards_raw.jsonl';
/** The reward records training reads, in the reference's final format. */
export const REWARDS_FILE = 'rewards.jsonl';

/** How the judge is asked. */
export interface ScoreSettings
  extends Pick<
    JudgeOptions,
    | 'regions'
    | 'layout'
    | 'think'
    | 'maxRegionTokens'
    | 'maxLayoutTokens'
    | 'maxThinkTokens'
    | 'maxObjectBytes'
    | 'maxReasonBytes'
    | 'coordinates'
  > {
  /** What finds the regions; without one, the model directory's choice, else `boxes`. */
  proposer?: ProposerName;
  maxRegions: number;
  /** Draw answers instead of taking the likeliest. */
  doSample?: boolean;
  textTemperature?: number;
  /** Leave out records whose layout score is exactly 0, as the released formatter does. */
  dropZeroGlobal?: boolean;
}

/** What to score, and how. */
export interface ScoreOptions extends ModelStageOptions {
  /** The `output.jsonl` of a generation. */
  input: string;
  /** Folder of the pictures; default: that of `input`. */
  images?: string;
  /** Only so many pictures, from the first on. */
  limit?: number;
  /** Pictures that are judged at once; default: by the model's size, see `defaultJudgeBatch`. */
  batch?: number;
  settings: ScoreSettings;
}

/** A stage report with what became of the training records. */
export interface ScoreReport extends StageReport {
  /** Records in `rewards.jsonl`. */
  rewards: number;
  /** Scored pictures without a training record, and why. */
  unusable: Array<{ item: string; reason: string }>;
  /** Mean scores over all records; null without any. */
  mean_layout_score: number | null;
  mean_region_score: number | null;
}

interface Job {
  record: GenerationRecord;
  file: string;
  seed: number;
}

/** Scores every picture of a generation with the model's own understanding side. */
export async function scoreStage(options: ScoreOptions): Promise<ScoreReport> {
  const {
    proposer: chosen,
    maxRegions,
    doSample,
    textTemperature,
    dropZeroGlobal,
    ...given
  } = options.settings;
  if (given.regions === false && given.layout === false) {
    throw new ConfigError('ERR_NOTHING_ASKED', 'neither regions nor the layout shall be scored', {
      expected: 'at least one of the two',
    });
  }
  const { judge: wording, proposer: own } = readModelConfig(resolveModelDir(options.model));
  const words = judgeWords(wording);
  // Written down as it is in effect, so that a record tells how it was asked for.
  const asked = { ...given, think: given.think ?? words.think };
  const proposer = createProposer(chosen ?? own, { maxRegions });
  let scoring: GroupWork<StageItem<Job>, RawRewardRecord> | null = null;
  let stored: StoredItem[] = [];
  const report = await runModelStage<Job>(options, {
    stage: 'score',
    stage_version: 1,
    drawing: false,
    settings: {
      ...asked,
      proposer: proposer.name,
      max_regions: maxRegions,
      do_sample: doSample ?? false,
      text_temperature: doSample ? textTemperature : undefined,
      prompt_version: words.version,
    },
    inputs: () => readJobs(options),
    prepare: (session, items) => {
      const vocabulary = new TokenVocabulary(session.tokenizer.tokenBytes());
      const sampling = {
        do_sample: doSample ?? false,
        ...(textTemperature !== undefined && { temperature: textTemperature }),
      };
      const judge = new Judge(new BagelJudgeModel(session.parts, vocabulary, sampling), {
        ...asked,
        wording,
      });
      const { dtype } = resolvePlace(options);
      const size = options.batch ?? defaultJudgeBatch(session.config, dtype, asked);
      const propose = asked.regions === false ? async () => [] : proposer.propose.bind(proposer);
      scoring = new GroupWork(
        items,
        size,
        (group, signal) => scoreGroup(judge, propose, group, signal),
        options.signal,
      );
    },
    work: async (_, item) => {
      const raw = await (scoring as unknown as NonNullable<typeof scoring>).result(item);
      if (raw.status === 'failed') throw failedScore(raw);
      return { record: { ...raw }, files: [] };
    },
    views: (all) => {
      stored = all;
      return [
        { file: RAW_REWARDS_FILE, records: all.map((item) => item.record) },
        { file: REWARDS_FILE, records: format(all, dropZeroGlobal).records },
      ];
    },
  });
  return { ...report, ...summarise(format(stored, dropZeroGlobal)) };
}

/** Scores those pictures of a group that can be read. */
async function scoreGroup(
  judge: Judge,
  propose: RegionProposer['propose'],
  group: ReadonlyArray<StageItem<Job>>,
  signal: AbortSignal | undefined,
): Promise<Array<Outcome<RawRewardRecord>>> {
  const read = await Promise.all(
    group.map(({ value }) => outcomeOf(async () => caseOf(value, propose))),
  );
  const cases = read.flatMap((one) => ('value' in one ? [one.value] : []));
  const scored = await makeTogether(cases, (some) => judge.scoreAll(some, { signal }), signal);
  let next = 0;
  return read.map((one) => ('value' in one ? scored[next++] : one));
}

async function caseOf(job: Job, propose: RegionProposer['propose']): Promise<JudgeCase> {
  const image = await readImage(job.file);
  const regions = await propose(image);
  const { image_file: imageFile, original_prompt: prompt } = job.record;
  return { image, item: { imageFile, prompt, regions, seed: job.seed } };
}

/** The pictures to score, and the inputs that are none. */
function readJobs(options: ScoreOptions): {
  items: Array<StageItem<Job>>;
  rejected: RejectedInput[];
} {
  const { records, problems } = readGenerationRecords(options.input);
  if (records.length === 0 && problems.length === 0) {
    throw new DataError('ERR_NO_RECORDS', 'the generation has no records', {
      file: options.input,
      expected: 'at least one line',
    });
  }
  const rejected = problems.map(({ line, reason }) => ({ key: `line ${line}`, reason }));
  const folder = options.images ?? path.dirname(options.input);
  const seen = new Map<string, number>();
  const items: Array<StageItem<Job>> = [];
  for (const [index, { line, value }] of records.entries()) {
    if (options.limit !== undefined && items.length >= options.limit) break;
    const name = value.image_file;
    const before = seen.get(name);
    if (before !== undefined) {
      const reason = `the picture ${name} was already in line ${before}`;
      rejected.push({ key: `line ${line}`, reason });
      continue;
    }
    seen.set(name, line);
    // Pictures may lie in sub-folders; their records do not.
    const key = name.replace(/[/\\]/g, '__');
    let file: string;
    try {
      file = imagePath(folder, name);
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      rejected.push({ key: `line ${line}`, reason: error.message });
      continue;
    }
    const seed = itemSeed(options.seed, 'score', name);
    items.push({
      key,
      order: [index],
      identity: () => ({
        image_file: name,
        prompt: value.original_prompt,
        seed,
        sha256: contentHash(file),
      }),
      value: { record: value, file, seed },
    });
  }
  return { items, rejected };
}

/** Hash of a picture's file, so that one that was drawn again is scored again; null when it is missing. */
function contentHash(file: string): string | null {
  try {
    return sha256(fs.readFileSync(file));
  } catch {
    // Why it cannot be read is told when the item is worked on.
    return null;
  }
}

function failedScore(raw: RawRewardRecord): DataError {
  const problems = [raw.global_layout_reward?.problem, ...raw.vlm_rewards.map((r) => r.problem)];
  return new DataError('ERR_NO_SCORE', 'the judge gave no score', {
    key: raw.image_file,
    found: problems.find((problem) => problem !== undefined) ?? 'nothing was asked',
  });
}

interface Formatted {
  records: TrainingRecord[];
  unusable: Array<{ item: string; reason: string }>;
}

function format(stored: readonly StoredItem[], dropZeroGlobal = false): Formatted {
  const out: Formatted = { records: [], unusable: [] };
  for (const { key, record } of stored) {
    const result = formatTrainingRecord(record as unknown as RawInput, {
      drop_zero_global: dropZeroGlobal,
    });
    if (result.record === null) out.unusable.push({ item: key, reason: result.reason });
    else out.records.push(result.record);
  }
  return out;
}

function summarise({ records, unusable }: Formatted) {
  const rewards = records.flatMap((record) => record.vlm_rewards);
  const mean = (layout: boolean): number | null => {
    const scores = rewards
      .filter((reward) => (reward.object === GLOBAL_REWARD_NAME) === layout)
      .map((reward) => reward.score);
    return scores.length === 0 ? null : scores.reduce((a, b) => a + b, 0) / scores.length;
  };
  return {
    rewards: records.length,
    unusable,
    mean_layout_score: mean(true),
    mean_region_score: mean(false),
  };
}
