import path from 'node:path';
import type { AdamW } from '../optim/adamw.js';
import { noGrad, openSafetensors, scope, type Tensor } from '../torch/index.js';
import { CheckpointError } from '../util/errors.js';
import { KEYED_SCHEME } from '../util/keyed-random.js';
import { CHECKPOINT_FILES, type WholeCheckpoint } from './checkpoint.js';
import type { Ema } from './ema.js';
import { computationOf, recipeHash, type TrainerOptions } from './recipe.js';

/**
 * Refuses to continue a run under other conditions than those it was started with.
 *
 * @throws CheckpointError naming every option that differs, or the data that changed.
 */
export function checkSameRun(
  whole: WholeCheckpoint,
  recipe: TrainerOptions,
  dataHash: string,
): void {
  const { manifest } = whole;
  if (manifest.recipe_hash !== recipeHash(recipe)) {
    const now = computationOf(recipe);
    const then = manifest.computation;
    const keys = [...new Set([...Object.keys(now), ...Object.keys(then)])].filter(
      (key) => JSON.stringify(now[key]) !== JSON.stringify(then[key]),
    );
    throw new CheckpointError('ERR_OTHER_RECIPE', 'the run was started with another recipe', {
      file: whole.path,
      key: keys.join(', '),
      expected: keys.map((key) => `${key} ${JSON.stringify(then[key])}`).join(', '),
      found: keys.map((key) => `${key} ${JSON.stringify(now[key])}`).join(', '),
      hint: 'Restore these options, or choose another checkpoint_dir for a new run.',
    });
  }
  if (manifest.data_hash !== dataHash) {
    throw new CheckpointError('ERR_OTHER_DATA', 'the run was started on other records', {
      file: whole.path,
      hint: 'Restore the data, or choose another checkpoint_dir for a new run.',
    });
  }
  if (manifest.rng.scheme !== KEYED_SCHEME) {
    throw new CheckpointError('ERR_OTHER_RNG', 'the run used another random number scheme', {
      file: whole.path,
      expected: KEYED_SCHEME,
      found: manifest.rng.scheme,
    });
  }
}

/**
 * Copies a checkpoint into parameters, optimiser and average.
 *
 * @throws CheckpointError when keys or shapes do not fit.
 */
export function loadTrainingState(
  whole: WholeCheckpoint,
  params: ReadonlyMap<string, Tensor>,
  optimizer: AdamW,
  ema: Ema | null,
): void {
  loadModelFrom(params, whole, false);
  scope(() => {
    const file = path.join(whole.path, CHECKPOINT_FILES.optimizer);
    optimizer.loadStateDict(openSafetensors(file).tensors());
  });
  if (ema === null) return;
  const saved = select(whole, CHECKPOINT_FILES.ema, params);
  scope(() => ema.loadStateDict(saved()));
}

/**
 * Copies only the trained weights of a checkpoint, raw or averaged, into parameters. Without an
 * average in the checkpoint the raw weights are taken.
 *
 * @throws CheckpointError when keys or shapes do not fit.
 */
export function loadModelFrom(
  params: ReadonlyMap<string, Tensor>,
  whole: WholeCheckpoint,
  average: boolean,
): void {
  const hasAverage = whole.manifest.files[CHECKPOINT_FILES.ema] !== undefined;
  const name = average && hasAverage ? CHECKPOINT_FILES.ema : CHECKPOINT_FILES.model;
  const saved = select(whole, name, params);
  noGrad(() =>
    scope(() => {
      const tensors = saved();
      for (const [key, param] of params) param.copy_(tensors.get(key) as Tensor);
    }),
  );
}

/** Checks that a file of the checkpoint has all wanted keys and returns a reader of them. */
function select(
  whole: WholeCheckpoint,
  name: string,
  wanted: ReadonlyMap<string, Tensor>,
): () => Map<string, Tensor> {
  const file = path.join(whole.path, name);
  const source = openSafetensors(file);
  const faults: string[] = [];
  for (const [key, tensor] of wanted) {
    if (!source.has(key)) faults.push(`${key}: missing`);
    else if (source.info(key).shape.join('x') !== tensor.shape.join('x')) {
      faults.push(`${key}: misshapen`);
    }
  }
  if (faults.length > 0) {
    throw new CheckpointError('ERR_CHECKPOINT_KEYS', 'the checkpoint does not fit the model', {
      file,
      found: faults.slice(0, 20).join(', '),
      hint: 'The model directory or a freeze option differs from the run that wrote it.',
    });
  }
  return () => new Map([...wanted.keys()].map((key) => [key, source.get(key)]));
}
