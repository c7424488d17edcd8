import { loadTokenizer, type Tokenizer } from '../data/tokenizer.js';
import { loadBagel } from '../models/bagel/load.js';
import { CheckpointError } from '../util/errors.js';
import { RewardDataset } from './dataset.js';
import { rewardSources } from './dataset-config.js';
import type { Recipe } from './recipe.js';
import { defaultRewardMap } from './reward-maps.js';
import { Trainer, type TrainerHooks, type TrainSummary } from './trainer.js';

/**
 * Runs a recipe from beginning to end: loads the model directory in float32, opens the data,
 * resumes or starts, trains, saves.
 *
 * @param openTokenizer opens the tokenizer of a model directory; default: the one of BAGEL.
 * @throws ConfigError, DataError, CheckpointError, NumericError, FileError; see `Trainer.run`.
 */
export async function runRecipe(
  recipe: Recipe,
  hooks: TrainerHooks = {},
  openTokenizer: (dir: string) => Tokenizer = loadTokenizer,
): Promise<TrainSummary> {
  for (const note of recipe.notes) hooks.onNote?.(note);
  const { group, sources } = rewardSources(recipe.dataset, recipe.dataset_info, recipe);
  const load = (parts: { vae: boolean }) =>
    loadBagel(recipe.model_path, {
      device: recipe.device,
      dtype: 'float32',
      vision: recipe.visual_und,
      ...parts,
      overrides: {
        llm: { freeze_und: recipe.freeze_und },
        bagel: {
          visual_und: recipe.visual_und,
          visual_gen: true,
          timestep_shift: recipe.timestep_shift,
          lambda_constraint: recipe.lambda_constraint,
        },
      },
    });
  const { bagel, vae, tokenizerDir } = load({ vae: true });
  if (vae === null || tokenizerDir === null) {
    throw new CheckpointError('ERR_NO_TOKENIZER', 'the model directory has no tokenizer', {
      file: recipe.model_path,
    });
  }
  // A second copy: the first one is changed from the first step on.
  const reference = recipe.objective === 'nft' ? load({ vae: false }).bagel : undefined;
  const tokenizer = openTokenizer(tokenizerDir);
  const dataset = new RewardDataset({
    sources,
    transform: group.image_transform_args,
    rewardMap: recipe.reward_map ?? defaultRewardMap(recipe.objective),
    boxFrame: recipe.reward_box_frame,
    tokenizer,
    tokenPixels: vae.downsample * bagel.config.bagel.latent_patch_size,
    seed: recipe.data_seed,
  });
  const trainer = new Trainer(
    recipe,
    { model: bagel, reference, vae, dataset, tokens: tokenizer.special },
    hooks,
  );
  try {
    return await trainer.run();
  } finally {
    trainer.dispose();
    bagel.dispose();
    reference?.dispose();
    vae.dispose();
  }
}
