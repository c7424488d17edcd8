import fs from 'node:fs';
import path from 'node:path';
import { modelFingerprint } from '../../../lib/app/stages/model-session.js';
import { recipeOf } from '../../../lib/app/stages/train-stage.js';
import { recipeHash } from '../../../lib/train/recipe.js';
import { ConfigError } from '../../../lib/util/errors.js';
import { readJsonFile, writeJsonFile } from '../../../lib/util/jsonl.js';
import type { Experiment } from './experiment.js';
import { ARM_RECIPE } from './train-arm.js';

/** File of the folder that says what its figures were made with. */
const FILE = 'experiment.json';

type Settings = Record<string, unknown>;

/** Everything that changes a figure, apart from what tells the figures apart (seed and arm). */
function settingsOf(x: Experiment, threads: number): Settings {
  const overrides = { device: 'cpu' };
  return {
    model: modelFingerprint(x.model),
    recipe: recipeHash(recipeOf({ recipe: ARM_RECIPE, rewards: 'rewards.jsonl', overrides })),
    ...x.settings,
    pool: x.pool,
    threads,
    ...(x.rounds > 0 && { rounds: x.rounds, roundsArm: x.roundsArm.name }),
  };
}

/**
 * Writes down what the folder's figures are made with, or sees that it is the same as before: finished parts are
 * not done again, and those of another experiment would be mixed with this one's. Seeds, arms and rounds can be added.
 *
 * @throws ConfigError ERR_OTHER_SETTINGS naming every setting that differs.
 */
export function holdSettings(x: Experiment, threads: number): void {
  const file = path.join(x.out, FILE);
  const now = settingsOf(x, threads);
  const then = fs.existsSync(file) ? (readJsonFile(file) as Settings) : {};
  const text = (settings: Settings, key: string): string => JSON.stringify(settings[key]);
  const keys = Object.keys(now).filter((key) => key in then && text(now, key) !== text(then, key));
  if (keys.length > 0) {
    const list = (of: Settings) => keys.map((key) => `${key} ${text(of, key)}`).join(', ');
    throw new ConfigError('ERR_OTHER_SETTINGS', 'the folder holds another experiment', {
      file,
      key: keys.join(', '),
      expected: list(then),
      found: list(now),
      hint: 'Choose another --out.',
    });
  }
  writeJsonFile(file, { ...then, ...now });
}
