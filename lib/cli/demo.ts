import type { Command } from 'commander';
import type { DemoFigures } from '../app/stages/demo-figures.js';
import { formatSeconds } from '../util/format.js';
import { loopProgress } from './loop.js';
import { addJsonOption, whole } from './options.js';
import { INTERRUPTED } from './output.js';
import { action } from './run-command.js';

interface Flags {
  out: string;
  rounds: number;
  prompts?: string;
  limit?: number;
  steps?: number;
  fresh: number;
  seed: number;
  threads?: number;
  force?: boolean;
  json?: boolean;
}

export function addDemo(program: Command): void {
  const command = program
    .command('demo')
    .summary('the whole job on a small trained model, in a few minutes')
    .description(
      'Runs the whole job - draw, score, train, export, draw again - on a small model that comes with ' +
        'srum, on any CPU, and leaves pictures, reward heat maps, the loss curve and report.html in a ' +
        'folder. The model draws simple shapes and judges them itself; an exact oracle counts what the ' +
        'training has changed.',
    )
    .option('--out <dir>', 'folder of the results', 'srum-demo')
    .option('--rounds <n>', 'rounds of the loop', whole(1), 1)
    .option('--prompts <file>', 'your own prompts (.json, .jsonl, .txt)')
    .option('--limit <n>', 'only the first N prompts', whole(1))
    .option('--steps <n>', 'training steps per round', whole(1))
    .option('--fresh <n>', 'other prompts the oracle judges before and after', whole(1), 256)
    .option('--seed <n>', 'seed of everything random', whole(0), 42)
    .option('--threads <n>', 'threads of the CPU operators (default: 1)', whole(1))
    .option('--force', 'take over a folder that was made with other settings');
  addJsonOption(command)
    .addHelpText('after', '\nExample:\n  srum demo && xdg-open srum-demo/report.html')
    .action(
      action<Flags>(async (context, flags) => {
        const started = Date.now();
        const { runDemo } = await import('../app/stages/demo-stage.js');
        const progress = loopProgress(context);
        const report = await runDemo({
          ...flags,
          signal: context.signal,
          hooks: { ...progress.hooks, onMeasure: progress.onMeasure },
        }).finally(progress.stop);
        if (report.interrupted) {
          const text = 'Stopped early; run the same command again to go on.';
          return { json: report, text, exitCode: INTERRUPTED };
        }
        const text = [
          `Done in ${formatSeconds((Date.now() - started) / 1000)}.`,
          `Report:  ${report.report}`,
          ...figureLines(report.figures as DemoFigures),
        ].join('\n');
        return { json: report, text, exitCode: report.loop.failed > 0 ? 1 : 0 };
      }),
    );
}

/** What the oracle counted, a line for each set of prompts. */
function figureLines({ loop, fresh }: DemoFigures): string[] {
  const share = ({ exact, total }: { exact: number; total: number }): string =>
    `${((100 * exact) / total).toFixed(1)} %`;
  const line = (name: string, { before, after }: DemoFigures['fresh']): string =>
    `Exact, ${name}: ${share(before)} before, ${share(after)} after.`;
  return [
    ...(loop === null ? [] : [line('prompts of the loop', loop)]),
    line('other prompts', fresh),
  ];
}
