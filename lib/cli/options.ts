import { type Command, InvalidArgumentError, Option } from 'commander';
import { parse as parseYaml } from 'yaml';

/** Options every command that runs a model takes. */
export interface ModelFlags {
  model: string;
  device?: string;
  dtype?: 'float32' | 'bfloat16' | 'float16';
  threads?: number;
  seed: number;
  json?: boolean;
}

/** A whole number from `least`. */
export function whole(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && Number.isSafeInteger(value) && value >= least) return value;
    throw new InvalidArgumentError(`Expected a whole number from ${least}.`);
  };
}

/** A finite number within bounds. */
export function real(least = Number.NEGATIVE_INFINITY, most = Number.POSITIVE_INFINITY) {
  return (text: string): number => {
    const value = Number(text);
    if (text.trim() !== '' && Number.isFinite(value) && value >= least && value <= most) {
      return value;
    }
    const from = least === Number.NEGATIVE_INFINITY ? '' : ` from ${least}`;
    const to = most === Number.POSITIVE_INFINITY ? '' : ` to ${most}`;
    throw new InvalidArgumentError(`Expected a number${from}${to}.`);
  };
}

/** A finite number above 0. */
export function positive(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('Expected a number above 0.');
}

/** Name of a device. */
export function device(text: string): string {
  if (/^(cpu|cuda(:\d+)?)$/.test(text)) return text;
  throw new InvalidArgumentError('Expected cpu, cuda or cuda:N.');
}

/** `HxW` as (height, width). */
export function imageSize(text: string): [number, number] {
  const match = /^(\d+)x(\d+)$/i.exec(text);
  const size = match ? [Number(match[1]), Number(match[2])] : [];
  if (size.length === 2 && size[0] > 0 && size[1] > 0) return [size[0], size[1]];
  throw new InvalidArgumentError('Expected HEIGHTxWIDTH in pixels, e.g. 768x1024.');
}

/** `LO,HI` as two numbers. */
export function interval(text: string): [number, number] {
  const words = text.split(',');
  const parts = words.map(Number);
  if (
    parts.length === 2 &&
    words.every((word) => word.trim() !== '') &&
    parts.every((n) => n >= 0 && n <= 1) &&
    parts[0] <= parts[1]
  ) {
    return [parts[0], parts[1]];
  }
  throw new InvalidArgumentError('Expected two numbers from 0 to 1, e.g. 0.4,1.0.');
}

const DTYPES: Record<string, ModelFlags['dtype']> = {
  float32: 'float32',
  fp32: 'float32',
  bfloat16: 'bfloat16',
  bf16: 'bfloat16',
  float16: 'float16',
  fp16: 'float16',
};

function dtype(text: string): ModelFlags['dtype'] {
  const found = DTYPES[text];
  if (found !== undefined) return found;
  throw new InvalidArgumentError('Expected fp32, bf16 or fp16.');
}

/** `key=value` pairs; values are read as YAML, so numbers, lists and null work. */
export function setting(
  text: string,
  before: Record<string, unknown> = {},
): Record<string, unknown> {
  const at = text.indexOf('=');
  if (at <= 0) throw new InvalidArgumentError('Expected KEY=VALUE.');
  try {
    return { ...before, [text.slice(0, at).replaceAll('-', '_')]: parseYaml(text.slice(at + 1)) };
  } catch {
    throw new InvalidArgumentError('The value is not valid YAML.');
  }
}

/** `--json`, which every command takes. */
export function addJsonOption(command: Command): Command {
  return command.option('--json', 'print one JSON object and nothing else');
}

/** `--model`, `--device`, `--dtype`, `--threads`, `--seed`, `--json`. */
export function addModelOptions(command: Command, defaultSeed = 42): Command {
  command
    .requiredOption(
      '--model <dir>',
      'model directory in the BAGEL layout; "shapes" is the small trained one that comes along, "tiny" an untrained one',
    )
    .option('--device <name>', 'cpu, cuda or cuda:N (default: cuda where there is one)', device)
    .option('--dtype <name>', 'fp32 or bf16 (default: fp32 on the CPU, else bf16)', dtype)
    .option('--threads <n>', 'threads of the CPU operators', whole(1))
    .option('--seed <n>', 'seed of everything random', whole(0), defaultSeed);
  return addJsonOption(command);
}

/** Options of the flow sampler and of think mode, under the reference's names with dashes. */
export interface InferenceFlags {
  cfgTextScale?: number;
  cfgImgScale?: number;
  /** The longer name of the same. */
  cfgImageScale?: number;
  cfgInterval?: [number, number];
  cfgRenormType?: 'global' | 'channel' | 'text_channel';
  cfgRenormMin?: number;
  timestepShift?: number;
  numTimesteps?: number;
  think?: boolean;
  maxThinkTokenN?: number;
  doSample?: boolean;
  textTemperature?: number;
  imageSize?: [number, number];
  systemPrompt?: string;
}

/** What is drawn. */
export interface PromptFlags {
  prompts: string;
  numImages: number;
  imageSize?: [number, number];
}

/** `--prompts`, `--num-images`, `--image-size`. */
export function addPromptOptions(command: Command): Command {
  return command
    .requiredOption('--prompts <file>', 'the prompt list (.json, .jsonl, .txt)')
    .option('--num-images <n>', 'pictures per prompt', whole(1), 1)
    .option(
      '--image-size <HxW>',
      'height and width (default: the largest square the model draws, at most 1024x1024)',
      imageSize,
    );
}

/** Options of text: thoughts and answers. */
export function addTextOptions(command: Command): Command {
  return command
    .option('--think', 'reason in words first')
    .option('--max-think-token-n <n>', 'limit of the text in tokens (default: 1024)', whole(1))
    .option('--do-sample', 'draw tokens instead of taking the likeliest')
    .option('--text-temperature <t>', 'with --do-sample (default: 0.3)', real(0))
    .option('--system-prompt <text>', 'replaces the built-in system text of --think');
}

/** Options of the sampler. Defaults in the help are those of text to image. */
export function addSamplerOptions(command: Command): Command {
  return command
    .option('--num-timesteps <n>', 'points of the time grid (default: 50)', whole(2))
    .option('--timestep-shift <s>', 'bends the grid towards noise (default: 3)', positive)
    .option('--cfg-text-scale <s>', 'text guidance; 1 is off (default: 4)', real())
    .option('--cfg-img-scale <s>', 'image guidance; 1 is off (default: 1, editing 2)', real())
    .addOption(new Option('--cfg-image-scale <s>').argParser(real()).hideHelp())
    .option('--cfg-interval <lo,hi>', 'times with guidance (default: 0.4,1)', interval)
    .option('--cfg-renorm-min <m>', 'least factor of the renormalisation (default: 0)', real(0, 1))
    .addOption(
      new Option('--cfg-renorm-type <type>', 'default: global, editing text_channel').choices([
        'global',
        'channel',
        'text_channel',
      ]),
    );
}

/** The flags as options of the inferencer; what was not given is left to its defaults. */
export function inferenceInput(flags: InferenceFlags) {
  return {
    cfg_text_scale: flags.cfgTextScale,
    cfg_img_scale: flags.cfgImgScale ?? flags.cfgImageScale,
    cfg_interval: flags.cfgInterval,
    cfg_renorm_type: flags.cfgRenormType,
    cfg_renorm_min: flags.cfgRenormMin,
    timestep_shift: flags.timestepShift,
    num_timesteps: flags.numTimesteps,
    think: flags.think,
    max_think_token_n: flags.maxThinkTokenN,
    do_sample: flags.doSample,
    text_temperature: flags.textTemperature,
    image_shapes: flags.imageSize,
    system_prompt: flags.systemPrompt,
  };
}

/** Options of stages that work through items. */
export interface ItemFlags {
  out: string;
  force?: boolean;
  overwrite?: boolean;
  limit?: number;
}

/** `--limit`, `--overwrite`, `--force`. */
export function addItemOptions(command: Command): Command {
  return command
    .option('--limit <n>', 'only the first N inputs', whole(1))
    .option('--overwrite', 'make finished items again')
    .option('--force', 'take over a folder that was made with other settings');
}
