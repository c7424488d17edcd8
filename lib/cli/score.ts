import path from 'node:path';
import { type Command, Option } from 'commander';
import { PROPOSERS, type ProposerName } from '../models/bagel/config.js';
import {
  addItemOptions,
  addModelOptions,
  type ItemFlags,
  type ModelFlags,
  real,
  whole,
} from './options.js';
import { action } from './run-command.js';
import { describeStage, itemRun, stageExitCode } from './stage-output.js';

/** Options of the judge. */
export interface ScoreFlags {
  proposer?: ProposerName;
  maxRegions: number;
  regions: boolean;
  layout: boolean;
  judgeThink?: boolean;
  maxRegionTokens?: number;
  maxLayoutTokens?: number;
  maxThinkTokens?: number;
  maxObjectBytes?: number;
  maxReasonBytes?: number;
  coordinates?: 'pixels' | 'normalized';
  dropZeroGlobal?: boolean;
  judgeSample?: boolean;
  judgeTemperature?: number;
}

interface Flags extends ModelFlags, ItemFlags, ScoreFlags {
  input: string;
  images?: string;
  batch?: number;
}

export function addJudgeOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--proposer <name>',
        'what finds the regions: boxes for any picture, blobs for separate things on a plain ' +
          "background (default: the model's, else boxes)",
      ).choices(PROPOSERS),
    )
    .option('--max-regions <n>', 'regions per picture', whole(1), 10)
    .option('--no-regions', 'do not ask about regions')
    .option('--no-layout', 'do not ask about the layout')
    .option('--judge-think', "reason before answering (default: the model's choice, else on)")
    .option('--no-judge-think', 'answer without reasoning first')
    .option('--max-region-tokens <n>', 'limit of that answer (default: 4096)', whole(1))
    .option('--max-layout-tokens <n>', 'limit of that answer (default: 1024)', whole(1))
    .option('--max-think-tokens <n>', 'of these, at most so many for reasoning', whole(0))
    .option('--max-object-bytes <n>', 'longest name of a thing (default: 64)', whole(1))
    .option('--max-reason-bytes <n>', 'longest reason (default: 200)', whole(1))
    .addOption(
      new Option(
        '--coordinates <style>',
        "how boxes are written (default: the model's, else normalized)",
      ).choices(['pixels', 'normalized']),
    )
    .option('--judge-sample', 'draw answers instead of taking the likeliest')
    .option('--judge-temperature <t>', 'with --judge-sample (default: 0.3)', real(0))
    .option('--drop-zero-global', 'leave out layout scores of exactly 0, as the reference does');
}

/** The flags as settings of the stage. */
export function scoreSettings(flags: ScoreFlags) {
  return {
    proposer: flags.proposer,
    maxRegions: flags.maxRegions,
    regions: flags.regions,
    layout: flags.layout,
    think: flags.judgeThink,
    maxRegionTokens: flags.maxRegionTokens,
    maxLayoutTokens: flags.maxLayoutTokens,
    maxThinkTokens: flags.maxThinkTokens,
    maxObjectBytes: flags.maxObjectBytes,
    maxReasonBytes: flags.maxReasonBytes,
    coordinates: flags.coordinates,
    dropZeroGlobal: flags.dropZeroGlobal,
    doSample: flags.judgeSample,
    textTemperature: flags.judgeTemperature ?? 0.3,
  };
}

export function addScore(program: Command): void {
  const command = program
    .command('score')
    .summary('let the model grade its own pictures, region by region')
    .description(
      "Lets the model's understanding side grade pictures: one score in [-1, 1] for each proposed " +
        'region and one for the layout. Writes <out>/rewards.jsonl, which `srum train` reads, and ' +
        '<out>/rewards_raw.jsonl with everything the model said. Answers are decoded under a grammar, ' +
        'so they can always be read. Resumes and shares work like `srum generate`.',
    )
    .requiredOption('--input <file>', "a generation's output.jsonl")
    .requiredOption('--out <dir>', 'folder of the rewards')
    .option('--images <dir>', "folder of the pictures (default: the input's)")
    .option(
      '--batch <n>',
      'pictures judged at once; memory grows with it, scores do not change (default: as many as keep ' +
        'keys and values within 2 GiB at worst: 32 with a small model, 1 with BAGEL-7B)',
      whole(1),
    );
  addModelOptions(addItemOptions(addJudgeOptions(command)))
    .addHelpText(
      'after',
      '\nExample:\n' +
        '  srum score --model models/BAGEL-7B-MoT --input out/round-1/output.jsonl --out out/rewards-1',
    )
    .action(
      action<Flags>(async (context, flags) => {
        const { scoreStage, REWARDS_FILE } = await import('../app/stages/score-stage.js');
        const run = itemRun(context, flags, 'score');
        const report = await scoreStage({
          ...run.options,
          input: flags.input,
          images: flags.images,
          limit: flags.limit,
          batch: flags.batch,
          settings: scoreSettings(flags),
        }).finally(run.stop);
        const rewards = path.join(flags.out, REWARDS_FILE);
        const lines = [describeStage(report), `${report.rewards} training records in ${rewards}`];
        for (const { item, reason } of report.unusable) {
          lines.push(`  no training record for ${item}: ${reason}`);
        }
        return {
          json: { ...report, rewards_file: rewards },
          text: lines.join('\n'),
          exitCode: stageExitCode(report),
        };
      }),
    );
}
