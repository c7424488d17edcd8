import type { Tokenizer } from '../../data/tokenizer.js';
import type { InferencerParts } from '../../generate/inferencer.js';
import { BagelJudgeModel } from '../../reward/bagel-judge-model.js';
import { TokenVocabulary } from '../../reward/token-vocabulary.js';
import { seededRandom } from '../../util/seeded-random.js';
import {
  drawPictures,
  type KnownPicture,
  measureUnderstanding,
  type UnderstandingScore,
  understandingShare,
} from './measure.js';
import { type Exactness, exactness, Oracle } from './oracle.js';
import { drawPrompt, type ShapesPrompt, sceneFor } from './prompts.js';
import { renderScene } from './render.js';
import { randomScene } from './world.js';

/** How much is measured. */
export interface AssessOptions {
  /** Prompts of each set. Default 512. */
  prompts?: number;
  /** Pictures of each kind the model is asked about. Default 200. */
  pictures?: number;
  /** Default 77. */
  seed?: number;
  onProgress?: (what: string, done: number, total: number) => void;
}

/** What a model of the Shapes world can do. */
export interface ShapesAssessment {
  /** Drawing, judged by the oracle. */
  generation: { seen: Exactness; heldOut: Exactness };
  /** Looking: rendered pictures, rendered ones with held-out pairs, and the model's own. */
  understanding: Record<'rendered' | 'heldOut' | 'own', UnderstandingScore & { share: number }>;
}

/** Prompts of a set that depend on the seed alone. */
export function probePrompts(seed: number, count: number, heldOut: boolean): ShapesPrompt[] {
  const random = seededRandom(seed, 'prompts', heldOut ? 'held out' : 'seen');
  return Array.from({ length: count }, () => drawPrompt(random, { heldOut }));
}

/**
 * Measures a model: exactness of the pictures it draws, then what it says about pictures that it
 * has not seen. The truth about its own pictures is the oracle's.
 */
export async function assessShapes(
  parts: InferencerParts & { tokenizer: Tokenizer },
  options: AssessOptions = {},
): Promise<ShapesAssessment> {
  const { prompts: count = 512, pictures = 200, seed = 77, onProgress = () => {} } = options;
  const oracle = new Oracle();
  try {
    const draw = async (heldOut: boolean) => {
      const prompts = probePrompts(seed, count, heldOut);
      const name = heldOut ? 'drawing held-out prompts' : 'drawing seen prompts';
      const images = await drawPictures(parts, prompts, {
        seed,
        onProgress: (done, total) => onProgress(name, done, total),
      });
      return { prompts, images, exact: exactness(oracle, prompts, images) };
    };
    const seen = await draw(false);
    const heldOut = await draw(true);
    const objects = oracle.recognise(seen.images.slice(0, pictures));
    const own = objects.map((found, i) => ({
      image: seen.images[i],
      objects: found,
      prompt: seen.prompts[i],
    }));
    const judge = new BagelJudgeModel(parts, new TokenVocabulary(parts.tokenizer.tokenBytes()));
    const ask = async (name: string, known: readonly KnownPicture[]) => {
      const score = await measureUnderstanding(judge, known, seededRandom(seed, 'requests', name), {
        onProgress: (done, total) => onProgress(`looking at ${name} pictures`, done, total),
      });
      return { ...score, share: understandingShare(score) };
    };
    return {
      generation: { seen: seen.exact, heldOut: heldOut.exact },
      understanding: {
        rendered: await ask('rendered', renderedPictures(seed, pictures, false)),
        heldOut: await ask('held-out', renderedPictures(seed, pictures, true)),
        own: await ask('own', own),
      },
    };
  } finally {
    oracle.dispose();
  }
}

/** Rendered pictures, every second one of no prompt in particular; held-out ones are all of prompts. */
export function renderedPictures(seed: number, count: number, heldOut: boolean): KnownPicture[] {
  const random = seededRandom(seed, 'pictures', heldOut ? 'held out' : 'seen');
  return Array.from({ length: count }, (_, i) => {
    const prompt = drawPrompt(random, { heldOut });
    const scene = heldOut || i % 2 === 0 ? sceneFor(prompt, random) : randomScene(random);
    return { image: renderScene(scene), objects: scene.objects, prompt };
  });
}
