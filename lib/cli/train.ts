import type { Command } from 'commander';
import type { TrainReport } from '../app/stages/train-stage.js';
import { startProgress } from '../util/progress.js';
import { addJsonOption, device, setting, whole } from './options.js';
import { columns, INTERRUPTED } from './output.js';
import { action } from './run-command.js';

interface Flags {
  model?: string;
  rewards?: string;
  images?: string;
  out?: string;
  device?: string;
  seed?: number;
  threads?: number;
  set?: Record<string, unknown>;
  json?: boolean;
}

/** What was altered inside of usable records. */
function describeRegions(data: TrainReport['data']): string[] {
  const { regions, regionsSkipped, regionsCut, scoresOutOfRange } = data;
  if (regionsSkipped + regionsCut + scoresOutOfRange === 0) return [];
  const seen = [...new Set(regions.map(({ id, reason }) => `  ${id}: ${reason}`))];
  return [
    `regions: ${regionsSkipped} passed over, ${regionsCut} cut at the border, ${scoresOutOfRange} scores brought into [-1, 1]`,
    ...seen.slice(0, 20),
  ];
}

export function addTrain(program: Command): void {
  const command = program
    .command('train')
    .argument('<recipe>', 'YAML file with the training options')
    .summary('train on regional rewards')
    .description(
      'Trains by a recipe: a YAML file with the options of the reference trainer. --set changes single ' +
        'options. Writes checkpoints, metrics.jsonl and the loss curve (loss.svg, loss.png) into the ' +
        'results folder. A run that was stopped or killed goes on from its newest checkpoint and ends ' +
        'with the same weights.',
    )
    .option(
      '--model <dir>',
      'wins over the recipe\'s model_path; "shapes" and "tiny" come with the package',
    )
    .option('--rewards <file>', 'a rewards.jsonl, used as the data set named "rewards"')
    .option('--images <dir>', 'folder of its pictures (default: that of the file)')
    .option('--out <dir>', "wins over the recipe's results_dir")
    .option('--device <name>', 'cpu, cuda or cuda:N', device)
    .option('--seed <n>', "wins over the recipe's global_seed and data_seed", whole(0))
    .option('--threads <n>', 'threads of the CPU operators', whole(1))
    .option('--set <key=value>', 'change one option of the recipe; can be repeated', setting);
  addJsonOption(command)
    .addHelpText(
      'after',
      '\nExample:\n' +
        '  srum train assets/recipes/srum-comp.yaml --model models/BAGEL-7B-MoT \\\n' +
        '    --rewards out/rewards-1/rewards.jsonl --images out/round-1 --out out/train-1 --set lr=1e-5',
    )
    .action(
      action<Flags>(async (context, flags, recipe) => {
        const { trainStage } = await import('../app/stages/train-stage.js');
        const bar = startProgress('train', { stream: context.stream, unit: 'steps' });
        const { seed } = flags;
        const report = await trainStage({
          recipe,
          overrides: {
            ...flags.set,
            ...(flags.out === undefined ? {} : { results_dir: flags.out }),
            ...(flags.device === undefined ? {} : { device: flags.device }),
            ...(seed === undefined ? {} : { global_seed: seed, data_seed: seed }),
          },
          model: flags.model,
          rewards: flags.rewards,
          images: flags.images,
          threads: flags.threads,
          signal: context.signal,
          onNote: context.note,
          onStep: (metrics, total) => bar.update(metrics.step + 1, total),
        }).finally(() => bar.stop());
        const { last, data } = report;
        const rows: Array<[string, string]> = [
          ['steps', `${report.step} of ${report.total_steps}`],
          ['loss', last === null ? 'unchanged' : last.loss.toPrecision(5)],
          ['records', `${data.usable} usable, ${data.problems.length} left out`],
          ['checkpoint', report.checkpoint ?? 'none'],
          ['loss curve', report.loss_curve ?? 'none'],
        ];
        const lines = [columns(rows)];
        for (const { id, reason } of data.problems.slice(0, 20)) lines.push(`  ${id}: ${reason}`);
        lines.push(...describeRegions(data));
        if (report.interrupted) lines.push('Stopped early; run the same command again to go on.');
        return {
          json: report,
          text: lines.join('\n'),
          exitCode: report.interrupted ? INTERRUPTED : 0,
        };
      }),
    );
}
