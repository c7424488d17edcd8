#!/usr/bin/env node
import fs from 'node:fs';
import path from 'node:path';
import { Command, CommanderError } from 'commander';
import { packageRoot } from '../native/paths.js';
import { addAsk } from './ask.js';
import { addDemo } from './demo.js';
import { addDoctor } from './doctor.js';
import { addEdit } from './edit.js';
import { addExport } from './export.js';
import { addGenerate } from './generate.js';
import { addInspect } from './inspect.js';
import { addLibtorch } from './libtorch.js';
import { addLoop } from './loop.js';
import { usageError } from './output.js';
import { addScore } from './score.js';
import { addTrain } from './train.js';

function version(): string {
  const text = fs.readFileSync(path.join(packageRoot(), 'package.json'), 'utf8');
  return JSON.parse(text).version;
}

/** Whether the result is for a program, known before the options are understood. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return args.slice(0, end < 0 ? undefined : end).includes('--json');
}

/** The whole command line; each command's heavy parts are loaded when it runs. */
function buildProgram(json: boolean): Command {
  const program = new Command('srum')
    .description(
      'Post-trains a unified multimodal model with its own judgement: it draws, grades its own ' +
        'pictures region by region, and learns from the grades.',
    )
    .version(version())
    .configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, 'srum: ')),
      // With --json a mistake is told once, as JSON on standard output.
      ...(json ? { writeErr: () => {} } : {}),
    })
    .exitOverride()
    .showSuggestionAfterError()
    .addHelpText(
      'after',
      '\nStart with `srum demo`, or `srum doctor` when something does not work.\n' +
        'Every command explains itself: srum <command> --help',
    );
  for (const add of [
    addDemo,
    addDoctor,
    addLibtorch,
    addInspect,
    addGenerate,
    addScore,
    addTrain,
    addExport,
    addLoop,
    addAsk,
    addEdit,
  ]) {
    add(program);
  }
  return program;
}

// A closed or full pipe is told by the write that fails; without a listener it would end the process.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

const json = wantsJson(process.argv.slice(2));
try {
  await buildProgram(json).parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode;
  if (error.exitCode !== 0 && json) await usageError(error);
}
