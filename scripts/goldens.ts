import { Command } from 'commander';
import { ConfigError, messageOf, SrumError } from '../lib/util/errors.js';
import type { CaseResult } from './goldens/runner.js';

interface Options {
  only?: string;
  json?: boolean;
  verbose?: boolean;
}

function pattern(text: string | undefined): RegExp | undefined {
  if (text === undefined) return undefined;
  try {
    return new RegExp(text);
  } catch (error) {
    throw new ConfigError('GOLDENS_PATTERN', messageOf(error), { key: '--only', found: text });
  }
}

function errorText(error: number): string {
  return Number.isFinite(error) ? error.toFixed(3) : 'inf';
}

function report(result: CaseResult, verbose: boolean): void {
  if (result.status === 'information') {
    console.log(`info  ${result.id} (not a test)`);
    return;
  }
  const mark = result.status === 'passed' ? 'ok   ' : 'FAIL ';
  const worst = result.worst === '' ? '' : ` (${result.worst})`;
  const time = verbose ? `, ${result.checks} checks, ${result.milliseconds.toFixed(0)} ms` : '';
  console.log(`${mark} ${result.id}  error/tolerance ${errorText(result.error)}${worst}${time}`);
  const shown = verbose ? result.failures : result.failures.slice(0, 5);
  for (const failure of shown) console.log(`      ${failure}`);
  if (shown.length < result.failures.length) {
    console.log(`      and ${result.failures.length - shown.length} more (--verbose shows all)`);
  }
}

/** JSON has no infinity: an error without a measure becomes null. */
function jsonResult(r: CaseResult): object {
  return { ...r, error: Number.isFinite(r.error) ? r.error : null };
}

async function main(dir: string, options: Options): Promise<number> {
  const only = pattern(options.only);
  // Imported here, so that a missing LibTorch is reported like any other error.
  const { GoldenRunner } = await import('./goldens/runner.js');
  const runner = new GoldenRunner(dir);
  const entries = runner.entries(only);
  if (entries.length === 0) {
    throw new ConfigError('GOLDENS_PATTERN', 'no case of the folder is selected', {
      key: '--only',
      found: options.only,
    });
  }
  const results: CaseResult[] = [];
  for (const entry of entries) {
    const result = await runner.run(entry);
    results.push(result);
    if (!options.json) report(result, options.verbose ?? false);
  }
  const passed = results.filter((r) => r.status === 'passed').length;
  const failed = results.filter((r) => r.status === 'failed').length;
  if (options.json)
    console.log(JSON.stringify({ dir, passed, failed, cases: results.map(jsonResult) }));
  else console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

const program = new Command('goldens')
  .description('Reproduce the cases of a golden folder and compare them with the reference values')
  .argument('<dir>', 'folder with cases.json')
  .option('--only <regex>', 'run only the cases whose id matches')
  .option('--json', 'print one JSON object instead of lines')
  .option('--verbose', 'show every failure, the number of checks and the time of each case')
  .action(async (dir: string, options: Options) => {
    try {
      process.exitCode = await main(dir, options);
    } catch (error) {
      if (!(error instanceof SrumError)) throw error;
      console.error(`${error.name} ${error.code}: ${error.message}`);
      process.exitCode = 1;
    }
  });

await program.parseAsync();
