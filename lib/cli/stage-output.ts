import type { ItemEvent, StageReport } from '../app/stages/item-stage.js';
import { shardFromEnv } from '../app/stages/shard.js';
import { type Progress, startProgress } from '../util/progress.js';
import type { ItemFlags, ModelFlags } from './options.js';
import { INTERRUPTED } from './output.js';
import type { CommandContext } from './run-command.js';

/** A bar for a stage's items; failures are told as they happen. */
export function itemProgress(context: CommandContext, label: string) {
  let bar: Progress | null = null;
  return {
    onItem(event: ItemEvent): void {
      bar ??= startProgress(label, { stream: context.stream, unit: 'steps' });
      bar.update(event.settled, event.total);
      if (event.outcome === 'failed') context.note(`failed: ${event.key}: ${event.reason}`);
    },
    stop(): void {
      bar?.stop();
      bar = null;
    },
  };
}

/** What a command's flags and its surroundings say to any stage that works through items. */
export function itemRun(context: CommandContext, flags: ModelFlags & ItemFlags, label: string) {
  const { model, device, dtype, threads, seed, out, force, overwrite } = flags;
  const { onItem, stop } = itemProgress(context, label);
  const controls = { shard: shardFromEnv(process.env), signal: context.signal, onItem };
  const onLoad = () => context.note(`loading ${model}`);
  const place = { model, device, dtype, threads, seed, out, force, overwrite };
  return { stop, options: { ...place, ...controls, onLoad } };
}

/** One line of balance, and the failures with their reasons. */
export function describeStage(report: StageReport): string {
  const { inputs, done, skipped, failed, remaining } = report;
  const rest = remaining > 0 ? `, ${remaining} not reached` : '';
  const lines = [
    `${report.stage}: ${inputs} inputs = ${done} done + ${skipped} finished before + ${failed} failed${rest}`,
  ];
  for (const { item, reason } of report.failures.slice(0, 20)) lines.push(`  ${item}: ${reason}`);
  if (report.failures.length > 20) lines.push(`  and ${report.failures.length - 20} more`);
  if (report.interrupted) lines.push('Stopped early; run the same command again to go on.');
  return lines.join('\n');
}

/** 130 when stopped, 1 when an item failed, else 0. */
export function stageExitCode(report: StageReport): number {
  if (report.interrupted) return INTERRUPTED;
  return report.failed > 0 ? 1 : 0;
}
