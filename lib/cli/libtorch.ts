import type { Command } from 'commander';
import { ensureAddon } from '../native/build-addon.js';
import { installLibTorch } from '../native/libtorch-install.js';
import { type LibTorch, locateLibTorch } from '../native/libtorch-locate.js';
import { describeCandidate, setupCommand } from '../native/load-addon.js';
import { NativeError } from '../util/errors.js';
import { addJsonOption } from './options.js';
import { action } from './run-command.js';

interface InstallFlags {
  json?: boolean;
  cpu?: boolean;
  cuda?: boolean;
  from?: string;
  torchVersion?: string;
  force?: boolean;
}

export function addLibtorch(program: Command): void {
  const libtorch = program
    .command('libtorch')
    .summary('fetch LibTorch, or say where it is')
    .description('LibTorch, the C++ library of PyTorch, which does the computing.');

  addJsonOption(libtorch.command('install'))
    .summary('put LibTorch into the cache')
    .description(
      'Puts LibTorch into the cache that all clones share: the official archive first, else the wheel ' +
        'through your own pip. --from takes a file that is already here, for machines without a network.',
    )
    .option('--cpu', 'the build for the CPU (default)')
    .option('--cuda', 'the build for NVIDIA GPUs')
    .option('--from <file>', 'an archive or wheel that is already here')
    .option('--torch-version <x.y.z>', 'another release than the default')
    .option('--force', 'install again even if it is there')
    .addHelpText('after', '\nExample:\n  srum libtorch install --cpu')
    .action(
      action<InstallFlags>(async (context, flags) => {
        const found = await installLibTorch({
          variant: flags.cuda ? 'cuda' : flags.cpu ? 'cpu' : undefined,
          from: flags.from,
          version: flags.torchVersion,
          force: flags.force,
          log: context.note,
          stream: context.stream,
        });
        return { json: found, text: `LibTorch ${found.version} is in ${found.root}` };
      }),
    );

  addJsonOption(libtorch.command('path'))
    .summary('print the folder of the LibTorch in use')
    .description('Prints the folder of the LibTorch that would be used.')
    .addHelpText('after', '\nExample:\n  cmake -DTORCH_ROOT="$(srum libtorch path)" ..')
    .action(
      action(async () => {
        const found = located();
        return { json: found, text: found.root };
      }),
    );

  addJsonOption(libtorch.command('build'))
    .summary('build the addon for the LibTorch in use')
    .description(
      'Builds the addon from the sources in this package; needs a C++ compiler and cmake.',
    )
    .option('--force', 'build even if it is up to date')
    .addHelpText('after', '\nExample:\n  srum libtorch build')
    .action(
      action<{ json?: boolean; force?: boolean }>(async (context, flags) => {
        const result = await ensureAddon({
          libtorch: located(true),
          force: flags.force,
          log: context.note,
          stream: context.stream,
        });
        return { json: result, text: `${result.file} (${result.did})` };
      }),
    );
}

function located(forBuild = false): LibTorch {
  const { found, candidates } = locateLibTorch({ forBuild });
  if (found !== null) return found;
  const list = candidates.map(describeCandidate).join('');
  throw new NativeError('ERR_LIBTORCH_MISSING', `LibTorch was not found; looked at:${list}\n`, {
    hint: `Run ${setupCommand('libtorch')}`,
  });
}
