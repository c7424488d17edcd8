import path from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { openModel } from '../../lib/app/stages/model-session.js';
import { assessShapes } from '../../lib/eval/shapes/assess.js';
import { pretrainShapes, SHAPES_PLAN } from '../../lib/eval/shapes/pretrain.js';
import { saveBagel } from '../../lib/models/bagel/save.js';
import { packageRoot } from '../../lib/native/paths.js';
import { getNumThreads, setNumThreads } from '../../lib/torch/index.js';
import { loadTrainerOptions } from '../../lib/train/recipe.js';
import { messageOf, SrumError } from '../../lib/util/errors.js';
import { writeFileAtomic } from '../../lib/util/files.js';
import { formatSeconds } from '../../lib/util/format.js';
import { writeJsonFile } from '../../lib/util/jsonl.js';
import { startProgress } from '../../lib/util/progress.js';
import { modelCard, summaryLines } from './model-card.js';

// Trains the model of the Shapes world from scratch, measures it and writes it as a model directory with its card.
// An interrupted run goes on where it was.

interface Options {
  out: string;
  recipe: string;
  steps?: number;
  seed: number;
  misread: number;
  threads?: number;
  prompts: number;
  pictures: number;
  model?: string;
}

function whole(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError('a whole number >= 0');
  return value;
}

function share(text: string): number {
  const value = Number(text);
  if (!(value >= 0 && value <= 1)) throw new InvalidArgumentError('a number from 0 to 1');
  return value;
}

async function main(o: Options): Promise<void> {
  if (o.threads !== undefined) setNumThreads(o.threads);
  const tokenizerDir = path.join(packageRoot(), 'assets', 'shapes');
  const model = o.model ?? path.join(o.out, 'model');
  const recipe = loadTrainerOptions(o.recipe, { results_dir: o.out, total_steps: o.steps });
  const plan = { ...SHAPES_PLAN, seed: o.seed, misreadShare: o.misread, tokenizerDir };
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  const started = performance.now();
  const training = startProgress('training', { unit: 'steps' });
  const { bagel, vae, summary } = await pretrainShapes(recipe, plan, {
    signal: stop.signal,
    onNote: (note) => console.error(`shapes: ${note}`),
    onStep: ({ step }, total) => training.update(step + 1, total),
  });
  training.stop();
  const seconds = (performance.now() - started) / 1000;
  if (summary.aborted) {
    console.error(
      `shapes: stopped after step ${summary.step}; the same command goes on from there`,
    );
    process.exitCode = 130;
    return;
  }
  console.error(`shapes: ${summary.step} steps, ${formatSeconds(seconds)} in this process`);
  if (o.misread > 0 && summary.samples <= plan.misreadFrom) {
    console.error(
      `shapes: no caption was misread: that begins after ${plan.misreadFrom} records, ` +
        `and ${summary.samples} were used`,
    );
  }
  saveBagel(model, { bagel, vae, tokenizerDir });
  bagel.dispose();
  vae.dispose();
  // What is measured is what was written.
  const session = openModel({ model, device: 'cpu' });
  let what = '';
  let bar: ReturnType<typeof startProgress> | undefined;
  const assessment = await assessShapes(
    { ...session.parts, tokenizer: session.tokenizer },
    {
      prompts: o.prompts,
      pictures: o.pictures,
      onProgress: (name, done, total) => {
        if (name !== what) {
          bar?.stop();
          bar = startProgress(name, { unit: 'steps' });
          what = name;
        }
        bar?.update(done, total);
      },
    },
  );
  bar?.stop();
  const run = {
    seed: o.seed,
    threads: getNumThreads(),
    misreadShare: o.misread,
    misreadFrom: plan.misreadFrom,
    samples: summary.samples,
    steps: summary.step,
    seconds,
    prompts: o.prompts,
  };
  writeJsonFile(path.join(model, 'figures.json'), { run, ...assessment });
  writeFileAtomic(path.join(model, 'README.md'), modelCard(session.parts.model, run, assessment));
  console.log(summaryLines(assessment).join('\n'));
  session.dispose();
  console.log(`written: ${model}`);
}

const program = new Command('shapes:pretrain')
  .description('train the Shapes model from scratch and measure it')
  .option('--out <dir>', 'folder of checkpoints and metrics', 'runs/shapes')
  .option('--model <dir>', 'model directory to write (default: <out>/model)')
  .option(
    '--recipe <file>',
    'options of the trainer',
    path.join(packageRoot(), 'assets', 'recipes', 'shapes-pretrain.yaml'),
  )
  .option('--steps <n>', 'optimiser steps instead of the recipe’s', whole)
  .option('--seed <n>', 'seed of weights and records', whole, SHAPES_PLAN.seed)
  .option('--misread <share>', 'share of misread captions', share, SHAPES_PLAN.misreadShare)
  .option('--threads <n>', 'threads of the CPU operators', whole)
  .option('--prompts <n>', 'prompts of each set to measure with', whole, 512)
  .option('--pictures <n>', 'pictures of each kind to ask about', whole, 200);

try {
  await main(program.parse().opts<Options>());
} catch (error) {
  if (!(error instanceof SrumError)) throw error;
  console.error(`shapes: ${messageOf(error)} [${error.code}]`);
  process.exitCode = 1;
}
