import type { Command } from 'commander';
import { runDoctor } from '../native/doctor.js';
import { addJsonOption } from './options.js';
import { action } from './run-command.js';

const SIGNS = { ok: 'ok  ', warn: 'note', fail: 'FAIL' } as const;

export function addDoctor(program: Command): void {
  addJsonOption(program.command('doctor'))
    .summary('look at Node, LibTorch, CUDA and the addon, and say what to do')
    .description(
      'Looks at everything srum needs: Node, LibTorch and its version, CUDA or why there is none, ' +
        'the addon, threads, cache. Says what to do about each missing thing. Changes nothing.',
    )
    .addHelpText('after', '\nExample:\n  srum doctor')
    .action(
      action(async () => {
        const report = runDoctor();
        const width = Math.max(...report.checks.map(({ label }) => label.length));
        const lines = report.checks.flatMap(({ label, status, found, advice }) => {
          const line = `${SIGNS[status]}  ${label.padEnd(width)}  ${found}`;
          return advice === undefined ? [line] : [line, `${' '.repeat(width + 8)}-> ${advice}`];
        });
        lines.push('', report.healthy ? 'srum is ready.' : 'srum cannot run yet.');
        return { json: report, text: lines.join('\n'), exitCode: report.healthy ? 0 : 1 };
      }),
    );
}
