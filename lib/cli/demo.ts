import type { Command } from 'commander';
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
  seed: number;
  threads?: number;
  force?: boolean;
  json?: boolean;
}

export function addDemo(program: Command): void {
  const command = program
    .command('demo')
    .summary('the whole job on an embedded tiny model, in a few minutes')
    .description(
      'Runs the whole job - draw, score, train, export, draw again - on a tiny model that comes with ' +
        'srum, on any CPU, and leaves pictures, reward heat maps, the loss curve and report.html in a ' +
        'folder. The model is untrained: its pictures are texture, not objects. What is real is every ' +
        'step, exactly as a large model takes them.',
    )
    .option('--out <dir>', 'folder of the results', 'srum-demo')
    .option('--rounds <n>', 'rounds of the loop', whole(1), 1)
    .option('--prompts <file>', 'your own prompts (.json, .jsonl, .txt)')
    .option('--limit <n>', 'only the first N prompts', whole(1))
    .option('--steps <n>', 'training steps per round', whole(1))
    .option('--seed <n>', 'seed of everything random', whole(0), 42)
    .option('--threads <n>', 'threads of the CPU operators (default: 1)', whole(1))
    .option('--force', 'take over a folder that was made with other settings');
  addJsonOption(command)
    .addHelpText('after', '\nExample:\n  srum demo && xdg-open srum-demo/report.html')
    .action(
      action<Flags>(async (context, flags) => {
        const started = Date.now();
        context.note('The embedded model is untrained: its pictures will be texture, not objects.');
        const { runDemo } = await import('../app/stages/demo-stage.js');
        const progress = loopProgress(context);
        const report = await runDemo({
          ...flags,
          signal: context.signal,
          hooks: progress.hooks,
        }).finally(progress.stop);
        if (report.interrupted) {
          const text = 'Stopped early; run the same command again to go on.';
          return { json: report, text, exitCode: INTERRUPTED };
        }
        const text = [
          `Done in ${formatSeconds((Date.now() - started) / 1000)}.`,
          `Report:  ${report.report}`,
          'The model is untrained, so look at the steps, not at the art.',
        ].join('\n');
        return { json: report, text, exitCode: report.loop.failed > 0 ? 1 : 0 };
      }),
    );
}
