import { type Command, Option } from 'commander';
import type { LoopReport } from '../app/stages/loop-stage.js';
import { readPrompts } from '../data/prompts.js';
import { type Progress, startProgress } from '../util/progress.js';
import {
  addModelOptions,
  addPromptOptions,
  addSamplerOptions,
  addTextOptions,
  type InferenceFlags,
  inferenceInput,
  type ModelFlags,
  type PromptFlags,
  setting,
  whole,
} from './options.js';
import { INTERRUPTED } from './output.js';
import { action, type CommandContext } from './run-command.js';
import { addJudgeOptions, type ScoreFlags, scoreSettings } from './score.js';
import { describeStage, itemProgress } from './stage-output.js';

interface Flags extends ModelFlags, InferenceFlags, PromptFlags, ScoreFlags {
  out: string;
  recipe: string;
  rounds: number;
  limit?: number;
  batch?: number;
  set?: Record<string, unknown>;
  weights: 'raw' | 'ema';
  exportDtype: 'bfloat16' | 'float32';
  finalImages: boolean;
  force?: boolean;
}

export function addLoop(program: Command): void {
  const command = program
    .command('loop')
    .summary('draw, score, train, export, and again')
    .description(
      'The whole job, round after round: <out>/round-N/{generate,score,train,export}; each round starts ' +
        'from the model the one before exported. May be stopped or killed anywhere: the same command ' +
        'goes on from there. Ask for more --rounds to prolong it. Options of the stages apply as in ' +
        '`srum generate` and `srum score`; the recipe and --set as in `srum train`.',
    )
    .requiredOption('--recipe <file>', 'training recipe; its data set must be named "rewards"')
    .requiredOption('--out <dir>', 'folder of all rounds')
    .option('--rounds <n>', 'rounds in all', whole(1), 1)
    .option('--limit <n>', 'only the first N prompts', whole(1))
    .option(
      '--batch <n>',
      'pictures drawn, and judged, at once (default: as in the two commands)',
      whole(1),
    )
    .option('--set <key=value>', 'change one option of the recipe; can be repeated', setting)
    .addOption(
      new Option('--weights <which>', 'what goes on to the next round')
        .choices(['raw', 'ema'])
        .default('raw'),
    )
    .addOption(
      new Option('--export-dtype <name>', 'precision of the stored weights')
        .choices(['bfloat16', 'float32'])
        .default('bfloat16'),
    )
    .option('--no-final-images', 'do not draw with the last model')
    .option('--force', 'take over folders that were made with other settings');
  addPromptOptions(command);
  addModelOptions(addJudgeOptions(addTextOptions(addSamplerOptions(command))))
    .addHelpText(
      'after',
      '\nExample:\n' +
        '  srum loop --model models/BAGEL-7B-MoT --prompts train_comp.json --think \\\n' +
        '    --recipe assets/recipes/srum-comp.yaml --rounds 2 --out out/loop',
    )
    .action(
      action<Flags>(async (context, flags) => {
        const prompts = readPrompts(flags.prompts).slice(0, flags.limit);
        const { loopStage } = await import('../app/stages/loop-stage.js');
        const progress = loopProgress(context);
        const report = await loopStage({
          ...flags,
          prompts,
          overrides: flags.set,
          inference: inferenceInput(flags),
          scoring: scoreSettings(flags),
          signal: context.signal,
          ...progress.hooks,
        }).finally(progress.stop);
        return { json: report, text: describeLoop(report), exitCode: loopExitCode(report) };
      }),
    );
}

/** Hooks of a loop that draw one bar per stage. */
export function loopProgress(context: CommandContext) {
  let items = itemProgress(context, '');
  let steps: Progress | null = null;
  let measured: Progress | null = null;
  const stop = (): void => {
    items.stop();
    steps?.stop();
    steps = null;
    measured?.stop();
    measured = null;
  };
  return {
    stop,
    /** One bar for what is drawn beside the loop, to be measured. */
    onMeasure(done: number, total: number): void {
      if (measured === null) stop();
      measured ??= startProgress('measuring', { stream: context.stream, unit: 'steps' });
      measured.update(done, total);
    },
    hooks: {
      onStage(round: number, stage: string): void {
        stop();
        context.note(`round ${round}: ${stage}`);
        items = itemProgress(context, `  ${stage}`);
      },
      onItem: (event: Parameters<typeof items.onItem>[0]) => items.onItem(event),
      onStep(metrics: { step: number }, total: number): void {
        steps ??= startProgress('  train', { stream: context.stream, unit: 'steps' });
        steps.update(metrics.step + 1, total);
      },
      onNote: context.note,
    },
  };
}

export function describeLoop(report: LoopReport): string {
  const lines: string[] = [];
  for (const { round, generate, score, train } of report.rounds) {
    lines.push(`round ${round}: ${describeStage(generate)}`);
    if (score !== null) lines.push(`round ${round}: ${describeStage(score)}`);
    if (train !== null) {
      const loss = train.last === null ? '' : `, loss ${train.last.loss.toPrecision(5)}`;
      lines.push(`round ${round}: train: step ${train.step} of ${train.total_steps}${loss}`);
    }
  }
  lines.push(`model: ${report.model}`);
  if (report.interrupted) lines.push('Stopped early; run the same command again to go on.');
  return lines.join('\n');
}

export function loopExitCode(report: LoopReport): number {
  if (report.interrupted) return INTERRUPTED;
  return report.failed > 0 ? 1 : 0;
}
