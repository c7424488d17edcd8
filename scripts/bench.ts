import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import { ConfigError, SrumError } from '../lib/util/errors.js';
import { table } from './bench/harness/table.js';
import type { Bench, RunOptions } from './bench/harness/types.js';

const folder = new URL('./bench/', import.meta.url);
/** Peer scripts are not compiled, so they stay in the source tree beside the bench files. */
const sources = new URL('../../scripts/bench/', import.meta.url);

interface Options {
  json?: boolean;
  rounds: number;
  iterations?: number;
  threads?: number;
  only?: RegExp;
  peer: boolean;
}

function names(): string[] {
  return readdirSync(folder)
    .filter((f) => f.endsWith('.js'))
    .map((f) => f.slice(0, -3))
    .sort();
}

async function load(name: string): Promise<Bench> {
  const known = names();
  if (!known.includes(name)) {
    throw new ConfigError('BENCH_NAME', 'there is no such bench', {
      found: name,
      expected: known.join(', '),
    });
  }
  return ((await import(new URL(`${name}.js`, folder).href)) as { bench: Bench }).bench;
}

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number >= 1');
  return value;
}

function regex(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch {
    throw new InvalidArgumentError('not a regular expression');
  }
}

async function main(name: string, options: Options): Promise<void> {
  const bench = await load(name);
  const script = fileURLToPath(new URL(`${name}.peer.py`, sources));
  const { runBench } = await import('./bench/harness/run.js');
  const { json, ...rest } = options;
  const settings: RunOptions = rest;
  const report = await runBench(name, bench, existsSync(script) ? script : null, settings);
  console.log(json ? JSON.stringify(report) : table(report, bench.about));
}

const program = new Command('bench')
  .description('Time our work beside PyTorch, by turns in one run (A B A B)')
  .argument('<name>', `one of: ${names().join(', ')}`)
  .option(
    '--json',
    'print one JSON object: {name, machine, rows: [{case, ours, peer, ratio, unit}]}',
  )
  .option('--rounds <n>', 'timed rounds; medians are over them', count, 7)
  .option('--iterations <n>', 'operations per timing instead of the number of each case', count)
  .option('--threads <n>', 'threads on both sides', count)
  .option('--only <regex>', 'only the cases whose name matches', regex)
  .option('--no-peer', 'do not look for Python torch (SRUM_PYTHON, else python3)')
  .action(async (name: string, options: Options) => {
    try {
      await main(name, options);
    } catch (error) {
      if (!(error instanceof SrumError)) throw error;
      console.error(`${error.name} ${error.code}: ${error.message}`);
      process.exitCode = 1;
    }
  });

await program.parseAsync();
