import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import type { Tensor } from '../../lib/torch/index.js';
import { openSafetensors, writeSafetensors } from '../../lib/torch/index.js';
import { SrumError } from '../../lib/util/errors.js';
import { writeFileAtomic } from '../../lib/util/files.js';
import type { CaseEntry, GoldenIndex } from './index-file.js';
import { isInformation, readIndex } from './index-file.js';

/**
 * Cases left out of the copy in `test/goldens/data`: the optimiser case whose references are whole checkpoints
 * (its twin with another eps stays), and large cases that differ from a kept one in a single switch or size.
 */
const dropped =
  /^(adamw_3steps|train_plain|train_plain_gt|train_reward_no_gt|train_reward_shift3)$/;

/** The number a file name begins with, `05` of `05_train.safetensors`; images of an area share it. */
function areaOf(name: string): string {
  return /^\d+_/.exec(name)?.[0] ?? name;
}

/** Safetensors files the chosen cases take weights from. */
function weightFiles(cases: readonly CaseEntry[], index: GoldenIndex): Set<string> {
  const files = new Set<string>();
  for (const c of cases) {
    if (c.weights_file !== undefined) files.add(c.weights_file);
    for (const set of c.weights?.split('+') ?? []) files.add(index.weights[set]);
  }
  return files;
}

/** Copies the chosen cases' tensors of one file. */
async function copyTensors(from: string, to: string, cases: readonly CaseEntry[]): Promise<void> {
  const ids = new Set(cases.map((c) => c.id));
  const source = openSafetensors(from);
  const keys = [...source.keys()].filter((key) => ids.has(key.split('/')[0]));
  const entries: Array<[string, Tensor]> = keys.map((key) => [key, source.get(key)]);
  if (entries.length > 0) await writeSafetensors(to, entries);
}

async function select(from: string, to: string, drop: RegExp): Promise<void> {
  const index = readIndex(from);
  const cases = index.cases.filter((c) => !drop.test(c.id) && !isInformation(c));
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to, { recursive: true });
  const files = new Set(cases.flatMap((c) => (c.file ? [c.file] : [])));
  for (const file of files) {
    const here = cases.filter((c) => c.file === file);
    await copyTensors(join(from, file), join(to, file), here);
  }
  for (const file of weightFiles(cases, index)) cpSync(join(from, file), join(to, file));
  const areas = new Set([...files].map(areaOf));
  for (const name of readdirSync(from)) {
    const other = /\.(png|jsonl)$/.test(name) && areas.has(areaOf(name));
    if (other) cpSync(join(from, name), join(to, name));
  }
  // One case a line: small, and a change of the selection shows as whole lines.
  const { cases: _, ...head } = index;
  const lines = cases.map((c) => JSON.stringify(c)).join(',\n');
  const text = `${JSON.stringify(head).slice(0, -1)},\n"cases": [\n${lines}\n]}\n`;
  await writeFileAtomic(join(to, 'cases.json'), text);
  if (existsSync(join(from, 'README.md'))) cpSync(join(from, 'README.md'), join(to, 'README.md'));
  console.log(`${cases.length} of ${index.cases.length} cases copied to ${to}`);
}

await new Command('select')
  .description('Copy a golden folder without the cases that match, e.g. as test fixtures')
  .argument('<from>', 'golden folder')
  .argument('<to>', 'folder to write; what is in it is replaced')
  .option('--drop <regex>', 'ids to leave out', (text) => new RegExp(text), dropped)
  .action(async (from: string, to: string, options: { drop: RegExp }) => {
    try {
      await select(from, to, options.drop);
    } catch (error) {
      if (!(error instanceof SrumError)) throw error;
      console.error(`${error.name} ${error.code}: ${error.message}`);
      process.exitCode = 1;
    }
  })
  .parseAsync();
