import { closeSync, openSync, writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { TorchError } from '../../lib/torch/errors.js';
import { native, type OverloadSchema } from '../../lib/torch/native.js';
import { Dice, mood, rightValue, Trap, wrongValue } from './fuzz-values.js';

// Calls operators with right and wrong arguments, straight at the addon, in a process that the caller watches:
//
//   node dist/test/support/fuzz-program.js --seed 1 --trials 4 [--every 7] [--seconds 20] [--match REGEXP] [--from N]
//
// Each call depends on nothing but seed, operator and trial, so one that kills the process can be repeated alone. The file
// named by --log always holds the call in progress. Prints one line of JSON when it gets to the end.

const { values: options } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    trials: { type: 'string', default: '4' },
    /** Take every n-th operator only. */
    every: { type: 'string', default: '1' },
    from: { type: 'string', default: '0' },
    seconds: { type: 'string', default: '1e9' },
    match: { type: 'string', default: '' },
    trial: { type: 'string' },
    log: { type: 'string' },
  },
});

interface Outcome {
  operators: number;
  calls: number;
  succeeded: number;
  refused: number;
  trapped: number;
  foreign: string[];
  finished: boolean;
  leaked: number;
}

const outcome: Outcome = {
  operators: 0,
  calls: 0,
  succeeded: 0,
  refused: 0,
  trapped: 0,
  foreign: [],
  finished: false,
  leaked: 0,
};

const log = options.log === undefined ? null : openSync(options.log, 'w');
const BLANK = 2000;
function note(text: string): void {
  if (log !== null) writeSync(log, text.slice(0, BLANK).padEnd(BLANK), 0);
}

const hot = Object.fromEntries(
  Object.entries(native.hotOperators()).map(([key, call]) => [
    `aten::${key}${key.includes('.') ? '' : '.'}`,
    call,
  ]),
);

/** Handles begin beyond the 26 bits of the slot number; what is below is a plain number. */
const isHandle = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 2 ** 26 && (value as number) < 2 ** 52;

function show(value: unknown): string {
  try {
    if (typeof value === 'bigint') return `${value}n`;
    if (isHandle(value) && native.isAlive(value)) {
      const [dtype, device, grad, ...shape] = native.tensorInfo(value);
      return `${dtype}[${shape}]${device === 'cpu' ? '' : device}${grad ? ' grad' : ''}`;
    }
    if (Array.isArray(value) && value.length < 20)
      return `[${Array.from({ length: value.length }, (_, i) => show(Object.getOwnPropertyDescriptor(value, i)?.value)).join(',')}]`;
    return String(value);
  } catch {
    return typeof value;
  }
}

function failed(where: string, error: unknown): void {
  if (error instanceof TorchError) outcome.refused++;
  else if (error instanceof Trap) outcome.trapped++;
  else if (outcome.foreign.length < 50) outcome.foreign.push(`${where}: ${String(error)}`);
}

/** Reads what a call gave, all of it: a broken result shows itself here. */
function read(result: unknown): void {
  if (Array.isArray(result)) {
    for (const item of result) read(item);
    return;
  }
  if (!isHandle(result) || !native.isAlive(result)) return;
  const [, , requiresGrad, ...shape] = native.tensorInfo(result);
  if (shape.reduce((product, extent) => product * extent, 1) < 1e6) native.toArrayBuffer(result);
  if (requiresGrad) {
    const ones = native.bindOperator('aten::ones_like', '')(result);
    native.backward([result], [ones], false, false);
  }
}

/** The result of an asynchronous call belongs to no scope. */
function release(result: unknown): void {
  if (Array.isArray(result)) for (const item of result) release(item);
  else if (isHandle(result)) native.dispose(result);
}

async function attempt(name: string, schema: OverloadSchema, trial: number): Promise<void> {
  const where = `${name}.${schema.overload} trial ${trial}`;
  const dice = new Dice(`${options.seed} ${where}`);
  const level = native.beginScope();
  let pending: Promise<unknown> | null = null;
  try {
    note(`${where} (making arguments)`);
    const m = mood(dice);
    const wrong = dice.chance(0.4) ? dice.below(schema.params.length) : -1;
    const args: unknown[] = [];
    for (const [i, param] of schema.params.entries())
      args.push(i === wrong ? wrongValue(dice, m, args) : rightValue(dice, param, m));
    if (dice.chance(0.03)) args.length = dice.below(args.length + 1);
    else if (dice.chance(0.02)) args.push(1);
    note(`${where} (${args.map(show).join(' ; ')})`);
    outcome.calls++;
    if (dice.chance(0.03)) {
      pending = native.bindAsync(name, schema.overload)(...args);
      // What the running call needs is disposed under its feet.
      for (const arg of args) if (isHandle(arg)) native.dispose(arg);
    } else {
      // Some operators have a second way in, without a schema.
      const direct = dice.chance(0.5) ? hot[`${name}.${schema.overload}`] : undefined;
      const result = (direct ?? native.bindOperator(name, schema.overload))(...args);
      read(schema.returnsFirstArgument ? args[0] : result);
      outcome.succeeded++;
    }
  } catch (error) {
    failed(where, error);
  } finally {
    native.endScope(level, []);
  }
  if (pending !== null) {
    let result: unknown;
    try {
      result = await pending;
    } catch (error) {
      failed(where, error);
    }
    const inner = native.beginScope();
    try {
      read(result);
      outcome.succeeded++;
    } catch (error) {
      failed(where, error);
    } finally {
      native.endScope(inner, []);
      release(result);
    }
  }
}

// Other libraries than these are refused as a whole.
const operators = native.listOperators().filter((name) => /^(aten|srum)::/.test(name));
const pattern = new RegExp(options.match);
const end = Date.now() + Number(options.seconds) * 1000;
const before = native.liveTensors();
let position = Number(options.from);
for (; position < operators.length && Date.now() < end; position += Number(options.every)) {
  const name = operators[position];
  if (!pattern.test(name)) continue;
  outcome.operators++;
  for (const schema of native.schemasOf(name)) {
    const only = options.trial === undefined ? null : Number(options.trial);
    for (
      let trial = only ?? 0;
      trial < (only === null ? Number(options.trials) : only + 1);
      trial++
    )
      await attempt(name, schema, trial);
  }
}
outcome.finished = position >= operators.length;
outcome.leaked = native.liveTensors() - before;
note('done');
if (log !== null) closeSync(log);
console.log(JSON.stringify(outcome));
