import { type Command, Option } from 'commander';
import { formatCount } from '../util/format.js';
import { startProgress } from '../util/progress.js';
import { addJsonOption } from './options.js';
import { columns } from './output.js';
import { action } from './run-command.js';

interface Flags {
  model: string;
  checkpoint: string;
  out: string;
  weights: 'raw' | 'ema';
  dtype: 'bfloat16' | 'float32';
  overwrite?: boolean;
  json?: boolean;
}

export function addExport(program: Command): void {
  const command = program
    .command('export')
    .summary('turn a checkpoint into a model directory')
    .description(
      'Turns a checkpoint into a model directory in the BAGEL layout, which every command here and the ' +
        'programs of the reference read. Parts that were not trained come from the base model. Every ' +
        'tensor is read back and compared before the directory gets its name.',
    )
    .requiredOption('--model <dir>', 'the model that training started from')
    .requiredOption('--checkpoint <dir>', 'a checkpoint, or the results folder of `srum train`')
    .requiredOption('--out <dir>', 'model directory to create')
    .addOption(
      new Option('--weights <which>', 'trained weights or their moving average')
        .choices(['raw', 'ema'])
        .default('raw'),
    )
    .addOption(
      new Option('--dtype <name>', 'precision of the stored weights')
        .choices(['bfloat16', 'float32'])
        .default('bfloat16'),
    )
    .option('--overwrite', 'replace a directory that is already there');
  addJsonOption(command)
    .addHelpText(
      'after',
      '\nExample:\n' +
        '  srum export --model models/BAGEL-7B-MoT --checkpoint out/train-1 --out models/SRUM-1',
    )
    .action(
      action<Flags>(async (context, flags) => {
        const { exportStage } = await import('../app/stages/export-stage.js');
        const bar = startProgress('check', { stream: context.stream, unit: 'steps' });
        const report = await exportStage({
          ...flags,
          signal: context.signal,
          onProgress: (done, total) => bar.update(done, total),
        }).finally(() => bar.stop());
        const text = columns([
          ['model', report.output],
          ['from', `${report.checkpoint} (${report.weights}, step ${report.step})`],
          ['tensors', `${formatCount(report.tensors)} in ${report.dtype}`],
          ['from base', `${report.from_base.length} tensors, ${report.copied.length} files`],
          ['sha256', report.sha256],
        ]);
        return { json: report, text };
      }),
    );
}
