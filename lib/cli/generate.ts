import path from 'node:path';
import type { Command } from 'commander';
import { readPrompts } from '../data/prompts.js';
import {
  addItemOptions,
  addModelOptions,
  addPromptOptions,
  addSamplerOptions,
  addTextOptions,
  type InferenceFlags,
  type ItemFlags,
  inferenceInput,
  type ModelFlags,
  type PromptFlags,
  whole,
} from './options.js';
import { action } from './run-command.js';
import { describeStage, itemRun, stageExitCode } from './stage-output.js';

interface Flags extends ModelFlags, InferenceFlags, ItemFlags, PromptFlags {
  batch?: number;
}

export function addGenerate(program: Command): void {
  const command = program
    .command('generate')
    .summary('draw a picture for every prompt of a list')
    .description(
      'Draws a picture for every prompt of a list: <out>/<Question_id>.png and <out>/output.jsonl. ' +
        'The list is a JSON array of {Question, Category, Question_id}, the same as JSON lines, or a ' +
        'text file with one prompt a line. A run that was stopped goes on where it was; with the ' +
        'variables RANK and WORLD_SIZE (or those of Slurm and MPI) several processes share the work.',
    );
  // The list before the folder: what is missing is told in the order of the options.
  addPromptOptions(command)
    .requiredOption('--out <dir>', 'folder of the pictures')
    .option(
      '--batch <n>',
      'pictures drawn at once; memory grows with it, pictures change by rounding only (default: as ' +
        'many as take about 1 GiB: 64 with a small model, 1 with BAGEL-7B at 1024x1024)',
      whole(1),
    );
  addModelOptions(addItemOptions(addTextOptions(addSamplerOptions(command))))
    .addHelpText(
      'after',
      '\nExample:\n' +
        '  srum generate --model models/BAGEL-7B-MoT --prompts train_comp.json --out out/round-1 --think',
    )
    .action(
      action<Flags>(async (context, flags) => {
        const prompts = readPrompts(flags.prompts).slice(0, flags.limit);
        const { generateStage, OUTPUT_FILE } = await import('../app/stages/generate-stage.js');
        const run = itemRun(context, flags, 'generate');
        const report = await generateStage({
          ...run.options,
          prompts,
          numImages: flags.numImages,
          batch: flags.batch,
          inference: inferenceInput(flags),
        }).finally(run.stop);
        const output = path.join(flags.out, OUTPUT_FILE);
        return {
          json: { ...report, output },
          text: `${describeStage(report)}\n${output}`,
          exitCode: stageExitCode(report),
        };
      }),
    );
}
