import { conditionText, plainItem, targetImage } from '../../data/sample.js';
import type { Tokenizer } from '../../data/tokenizer.js';
import { type ChwImage, normalise } from '../../data/transforms.js';
import type { DatasetReport, NamedSample, SampleSet } from '../../train/sample-set.js';
import { DataError } from '../../util/errors.js';
import { type Random, seededRandom } from '../../util/seeded-random.js';
import { sha256 } from '../../util/sha256.js';
import { blended, type PatchCoder, recoded, smudged } from './distortions.js';
import { nearMiss } from './near-miss.js';
import { drawPrompt, misread, type ShapesPrompt, sceneFor } from './prompts.js';
import {
  CAPTION_QUESTION,
  captionAnswer,
  layoutAnswer,
  layoutQuestion,
  regionsAnswer,
  regionsQuestion,
} from './questions.js';
import { renderScene } from './render.js';
import { layoutTruth, regionTruth } from './truth.js';
import { CELL_SIDE, IMAGE_SIDE, objectBox, randomScene, type Scene, shuffled } from './world.js';

/** Which lessons there are, and when. */
export interface ShapesLessons {
  seed: number;
  /** Share of the records that teach drawing; the others teach looking. */
  generationShare: number;
  /**
   * Share of the drawing records whose caption is a misread one (see `misread`). Looking records are
   * never touched: this is the gap that self-reward can close.
   */
  misreadShare: number;
  /** Records before this one are all read rightly: first draw, then err. */
  misreadFrom: number;
  /**
   * Before this one looking is mostly saying what is where: first see, then judge. With all questions from
   * the start the model learns to list a picture's things and not to tell their places apart.
   */
  judgeFrom: number;
}

/** What a Shapes model is trained on from scratch. */
export interface ShapesPretrainOptions extends ShapesLessons {
  tokenizer: Tokenizer;
  /** Records of an epoch. */
  size: number;
  /** The model's latent code: pictures to look at also pass through it, as drawn ones have. */
  code: PatchCoder;
}

/**
 * An endless supply of drawing and looking lessons about the Shapes world. A record is a pure
 * function of (seed, index), nothing is stored. No held-out pair of shape and colour is ever shown or
 * named.
 */
export class ShapesPretrainSet implements SampleSet {
  readonly fingerprint: string;
  readonly size: number;
  readonly #options: ShapesPretrainOptions;

  constructor(options: ShapesPretrainOptions) {
    const { tokenizer: _, code: __, ...records } = options;
    this.size = options.size;
    this.#options = options;
    this.fingerprint = sha256(JSON.stringify({ ...records, SEEING, JUDGING }));
  }

  /** Records are independent draws: their own order is as random as any. */
  order(): Uint32Array {
    return Uint32Array.from({ length: this.size }, (_, i) => i);
  }

  /** The name of a record. */
  idOf(index: number): string {
    return `shapes:${index + 1}`;
  }

  async load(index: number): Promise<NamedSample> {
    const random = seededRandom(this.#options.seed, 'shapes', index);
    const sample =
      random.uniform() < this.#options.generationShare
        ? this.#drawing(random, index)
        : this.#looking(random, index);
    return {
      ...sample,
      id: this.idOf(index),
      source: { dataset: 'shapes', row: index + 1 },
    };
  }

  /** @throws DataError always: a made record that does not fit the limits is a mistake in them. */
  reject(index: number, reason: string): void {
    throw new DataError('ERR_SHAPES_SAMPLE', 'a record of the Shapes world cannot be packed', {
      key: this.idOf(index),
      found: reason,
    });
  }

  report(): DatasetReport {
    const none = { regionsSkipped: 0, regionsCut: 0, scoresOutOfRange: 0, regions: [] };
    return { usable: this.size, problems: [], ...none };
  }

  nothingUsable(): DataError {
    return new DataError('ERR_NO_DATA', 'the set of Shapes records is empty');
  }

  #drawing(random: Random, index: number): Omit<NamedSample, 'id'> {
    const prompt = drawPrompt(random);
    const scene = sceneFor(prompt, random);
    const { misreadShare, misreadFrom } = this.#options;
    const errs = random.uniform() < misreadShare && index >= misreadFrom;
    const other = errs ? misread(prompt) : null;
    const ids = this.#options.tokenizer.encode((other ?? prompt).text);
    return {
      sequencePlan: [conditionText(), targetImage()],
      textIdsList: [ids],
      images: [normalise(renderScene(scene))],
      numTokens: ids.length + this.#imageTokens,
    };
  }

  #looking(random: Random, index: number): Omit<NamedSample, 'id'> {
    const prompt = drawPrompt(random);
    const scene = sceneToLookAt(prompt, random);
    const request = this.#requestFor(prompt, random);
    const [question, answer] = lesson(
      request,
      scene,
      random,
      index < this.#options.judgeFrom ? SEEING : JUDGING,
    );
    const { tokenizer } = this.#options;
    const texts = [tokenizer.encode(question), tokenizer.encode(answer)];
    return {
      sequencePlan: [plainItem('vit_image', 0), plainItem('text', 0), plainItem('text', 1)],
      textIdsList: texts,
      images: [this.#view(scene, random)],
      numTokens: texts[0].length + texts[1].length + this.#imageTokens,
    };
  }

  /** A request that fits the prompt's scene, one that almost does, or any. */
  #requestFor(prompt: ShapesPrompt, random: Random): ShapesPrompt {
    const u = random.uniform();
    if (u < 0.6) return prompt;
    if (u < 0.8) return misread(prompt) ?? prompt;
    return drawPrompt(random, { family: u < 0.9 ? prompt.family : undefined });
  }

  /** The picture as rendered, or with the faults that drawn pictures have. */
  #view(scene: Scene, random: Random): ChwImage {
    const { code } = this.#options;
    const clean = normalise(renderScene(scene));
    const u = random.uniform();
    if (u < 0.2) return clean;
    if (u < 0.5) return recoded(clean, code, 0.3 * random.uniform(), random);
    if (u < 0.75) {
      const ghost = normalise(renderScene(randomScene(random)));
      return recoded(
        blended(clean, ghost, 0.35 * random.uniform()),
        code,
        0.15 * random.uniform(),
        random,
      );
    }
    return smudged(recoded(clean, code, 0, random), 0.3 * random.uniform(), random);
  }

  get #imageTokens(): number {
    return (IMAGE_SIDE / this.#options.code.downsample) ** 2;
  }
}

/**
 * What the prompt asks for, almost that, or anything. The second matters: in most random scenes already the
 * number is wrong, and a judge of those alone overlooks a thing that is there twice and one across a corner.
 */
function sceneToLookAt(prompt: ShapesPrompt, random: Random): Scene {
  const u = random.uniform();
  if (u >= 0.75) return randomScene(random);
  const scene = sceneFor(prompt, random);
  return u < 0.35 ? scene : nearMiss(scene, random);
}

/** Shares of the kinds of questions; the rest asks for a description. */
interface Curriculum {
  regions: number;
  layouts: number;
}

const SEEING: Curriculum = { regions: 0.1, layouts: 0.1 };
const JUDGING: Curriculum = { regions: 0.45, layouts: 0.45 };

/** A question about a picture and its true answer. */
function lesson(
  request: ShapesPrompt,
  scene: Scene,
  random: Random,
  { regions, layouts }: Curriculum,
): [string, string] {
  const u = random.uniform();
  if (u < regions) {
    const boxes = someBoxes(scene, random);
    const truths = boxes.map((box) => regionTruth(request, scene.objects, box));
    return [regionsQuestion(request.text, boxes), regionsAnswer(boxes, truths)];
  }
  if (u < regions + layouts) {
    const truth = layoutTruth(request, scene.objects);
    return [layoutQuestion(request.text), layoutAnswer(scene.objects, truth)];
  }
  // In any order, so that the place said before a thing is what tells which one is meant.
  return [CAPTION_QUESTION, captionAnswer(shuffled(random, scene.objects))];
}

type Box = [number, number, number, number];

/** One to five boxes as a proposer gives them: around objects, loosely, or in any cell, in any order. */
function someBoxes(scene: Scene, random: Random): Box[] {
  const boxes = scene.objects.map((object) => loosened(objectBox(object), random));
  const surplus = random.below(boxes.length === 0 ? 2 : 3) + (boxes.length === 0 ? 1 : 0);
  for (let i = 0; i < surplus && boxes.length < 5; i++) boxes.push(inSomeCell(random));
  return shuffled(random, boxes).slice(0, 1 + random.below(boxes.length));
}

/** The box with each side moved by up to two pixels. */
function loosened(box: readonly number[], random: Random): Box {
  return box.map((n) => {
    const by = random.uniform() < 0.5 ? 0 : random.below(5) - 2;
    return Math.min(IMAGE_SIDE, Math.max(0, n + by));
  }) as Box;
}

/** A box of half a cell's width or more, so that a thing in its cell is in it. */
function inSomeCell(random: Random): Box {
  const side = () => {
    const length = CELL_SIDE / 2 + random.below(CELL_SIDE / 2 + 1);
    const from = CELL_SIDE * random.below(2) + random.below(CELL_SIDE - length + 1);
    return [from, from + length];
  };
  const [x0, x1] = side();
  const [y0, y1] = side();
  return [x0, y0, x1, y1];
}
