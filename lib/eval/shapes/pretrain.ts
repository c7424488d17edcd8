import { loadTokenizer } from '../../data/tokenizer.js';
import { normalise } from '../../data/transforms.js';
import type { Bagel } from '../../models/bagel/bagel.js';
import type { LatentAutoencoder } from '../../models/bagel/latent-autoencoder.js';
import { fitPatchCode } from '../../models/bagel/patch-code.js';
import { SHAPES_CONFIG, shapesModel } from '../../models/shapes/index.js';
import { verifyCheckpoint } from '../../train/checkpoint.js';
import type { TrainerOptions } from '../../train/recipe.js';
import { loadModelFrom } from '../../train/resume.js';
import { trainableParameters } from '../../train/trainable.js';
import { Trainer, type TrainerHooks, type TrainSummary } from '../../train/trainer.js';
import { seededRandom } from '../../util/seeded-random.js';
import { type ShapesLessons, ShapesPretrainSet } from './pretrain-set.js';
import { renderScene } from './render.js';
import { randomScene } from './world.js';

/** What a pretraining consists of besides the trainer's options; its seed is that of weights and records. */
export interface ShapesPretrainPlan extends ShapesLessons {
  /** Folder of the tokenizer's files. */
  tokenizerDir: string;
}

/** The plan of the shipped model. */
export const SHAPES_PLAN = {
  seed: 0,
  generationShare: 0.5,
  misreadShare: 0.2,
  misreadFrom: 250_000,
  judgeFrom: 90_000,
} as const;

/** Records of an epoch; more than a run needs, so that none comes twice. */
const RECORDS = 2 ** 21;
/** Pictures the latent code is fitted to. */
const CODE_PICTURES = 2048;

/** The latent code of the world's pictures; depends on the seed alone. */
export function shapesCode(seed: number): LatentAutoencoder {
  const { vae } = SHAPES_CONFIG;
  function* pictures() {
    for (let i = 0; i < CODE_PICTURES; i++)
      yield normalise(renderScene(randomScene(seededRandom(seed, 'code', i))));
  }
  return fitPatchCode(pictures(), { patch: vae.downsample, channels: vae.z_channels });
}

/** A trained model with averaged weights; the caller disposes of its parts. */
export interface PretrainedShapes {
  bagel: Bagel;
  vae: LatentAutoencoder;
  summary: TrainSummary;
}

/**
 * Trains a Shapes model from scratch, or goes on with a run that was interrupted. The weights
 * depend on plan and options alone (and on the number of threads, through rounding).
 */
export async function pretrainShapes(
  options: TrainerOptions,
  plan: ShapesPretrainPlan,
  hooks: TrainerHooks = {},
): Promise<PretrainedShapes> {
  const { tokenizerDir, ...lessons } = plan;
  const tokenizer = loadTokenizer(tokenizerDir);
  const { bagel, vae } = shapesModel(lessons.seed, shapesCode(lessons.seed));
  const dataset = new ShapesPretrainSet({ ...lessons, tokenizer, size: RECORDS, code: vae });
  const trainer = new Trainer(
    options,
    { model: bagel, vae, dataset, tokens: tokenizer.special },
    hooks,
  );
  try {
    const summary = await trainer.run();
    if (summary.checkpoint !== null) {
      const whole = await verifyCheckpoint(summary.checkpoint);
      loadModelFrom(trainableParameters(bagel), whole, true);
    }
    bagel.requiresGrad_(false);
    return { bagel, vae, summary };
  } finally {
    trainer.dispose();
  }
}
