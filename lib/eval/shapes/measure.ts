import type { RgbImage } from '../../data/images.js';
import { type InferencerParts, InterleaveInferencer } from '../../generate/inferencer.js';
import type { InferenceInput } from '../../generate/options.js';
import { type BatchQuestion, type JudgeModel, readTogether } from '../../reward/judge.js';
import { parseLayoutAnswer, parseRegionAnswer } from '../../reward/score-grammar.js';
import type { Random } from '../../util/seeded-random.js';
import { drawPrompt, type ShapesPrompt, swapped } from './prompts.js';
import { layoutQuestion, layoutsGrammar, regionsGrammar, regionsQuestion } from './questions.js';
import { layoutTruth, regionTruth } from './truth.js';
import { CELLS, IMAGE_SIDE, objectBox, objectCentre, type ShapeObject } from './world.js';

/** How pictures of the Shapes world are drawn when they are measured. */
export const SHAPES_SAMPLER: Readonly<InferenceInput> = Object.freeze({
  num_timesteps: 17,
  timestep_shift: 3,
  cfg_text_scale: 3,
  cfg_interval: [0, 1] as [number, number],
  image_shapes: [IMAGE_SIDE, IMAGE_SIDE] as [number, number],
});

/** Options of {@link drawPictures}. */
export interface DrawOptions {
  /** The picture of prompt i starts from noise of seed `seed + i`. Default 0. */
  seed?: number;
  /** Pictures at a time. Default 64. */
  batch?: number;
  sampler?: InferenceInput;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/** Draws one picture for each prompt. */
export async function drawPictures(
  parts: InferencerParts,
  prompts: ReadonlyArray<Pick<ShapesPrompt, 'text'>>,
  options: DrawOptions = {},
): Promise<RgbImage[]> {
  const { seed = 0, batch = 64, sampler = {}, signal } = options;
  const inferencer = new InterleaveInferencer(parts);
  const images: RgbImage[] = [];
  for (let from = 0; from < prompts.length; from += batch) {
    const some = prompts.slice(from, from + batch);
    const results = await inferencer.interleaveInferenceBatch(
      some.map(({ text }) => [text]),
      { ...SHAPES_SAMPLER, ...sampler },
      { seeds: some.map((_, i) => seed + from + i), signal },
    );
    for (const { image } of results) images.push(image as RgbImage);
    options.onProgress?.(images.length, prompts.length);
  }
  return images;
}

/** A picture whose objects are known. */
export interface KnownPicture {
  image: RgbImage;
  objects: readonly ShapeObject[];
  /** What it was drawn for, where it was; a prompt is drawn otherwise. */
  prompt?: ShapesPrompt;
}

/** Right answers out of all. */
export interface Hits {
  right: number;
  total: number;
}

/** What a model got right about pictures. */
export interface UnderstandingScore {
  /** "What is in this region?": the whole name, background included. */
  objects: Hits;
  /** "Does this region fit the request?": the exact score. */
  regions: Hits;
  /** "Is the layout right?": the exact score. */
  layouts: Hits;
  /** Some wrong answers, for a look: question, expected and found. */
  mistakes: Array<{ question: string; expected: string; found: string }>;
}

/** Share of right answers over all three kinds of questions. */
export function understandingShare(score: UnderstandingScore): number {
  const all = [score.objects, score.regions, score.layouts];
  const sum = (key: keyof Hits): number => all.reduce((n, hits) => n + hits[key], 0);
  return sum('right') / Math.max(1, sum('total'));
}

/** Pictures that are asked about at once. */
const TOGETHER = 32;

/** A picture, a request, and the regions that are asked about. */
interface Examined {
  picture: KnownPicture;
  request: ShapesPrompt;
  boxes: Box[];
  ids: number[];
}

/**
 * Asks a judge about each picture: all objects and one empty cell as regions, then the layout. A third of
 * the requests is the picture's own prompt, a third the same with exchanged attributes, the rest any.
 */
export async function measureUnderstanding(
  judge: JudgeModel,
  pictures: readonly KnownPicture[],
  random: Random,
  options: { system?: string; onProgress?: (done: number, total: number) => void } = {},
): Promise<UnderstandingScore> {
  const none = (): Hits => ({ right: 0, total: 0 });
  const score: UnderstandingScore = {
    objects: none(),
    regions: none(),
    layouts: none(),
    mistakes: [],
  };
  for (let from = 0; from < pictures.length; from += TOGETHER) {
    const some = pictures.slice(from, from + TOGETHER).map((p) => examine(p, random));
    const images = some.map(({ picture }) => picture.image);
    const batch = await readTogether(judge, images, options.system ?? '');
    try {
      const replies = await batch.answerAll(some.flatMap(questionsAbout));
      for (const [i, one] of some.entries()) {
        compare(score, one, replies[2 * i].text, replies[2 * i + 1].text);
        options.onProgress?.(from + i + 1, pictures.length);
      }
    } finally {
      batch.dispose();
    }
  }
  return score;
}

function examine(picture: KnownPicture, random: Random): Examined {
  const { objects, prompt } = picture;
  const request = requestFor(prompt ?? drawPrompt(random), random);
  const boxes = [...objects.map((object) => objectBox(object)), ...emptyBoxes(objects).slice(0, 1)];
  return { picture, request, boxes, ids: boxes.map((_, i) => i + 1) };
}

/** The question about the regions and the one about the layout. */
function questionsAbout({ request, boxes }: Examined, image: number): BatchQuestion[] {
  const regions = {
    question: regionsQuestion(request.text, boxes),
    grammar: regionsGrammar(boxes),
    maxTokens: 200,
  };
  const layout = {
    question: layoutQuestion(request.text),
    grammar: layoutsGrammar(),
    maxTokens: 100,
  };
  return [regions, layout].map((question) => ({ ...question, image, seed: 0 }));
}

/** Counts what is right in the answers. */
function compare(score: UnderstandingScore, one: Examined, regions: string, layout: string): void {
  const { picture, request, boxes, ids } = one;
  const note = (hits: Hits, question: string, expected: string | number, found: unknown): void => {
    hits.total += 1;
    if (found === expected) hits.right += 1;
    else if (score.mistakes.length < 40)
      score.mistakes.push({ question, expected: String(expected), found: String(found) });
  };
  for (const [i, verdict] of parseRegionAnswer(regions, ids).entries()) {
    const truth = regionTruth(request, picture.objects, boxes[i]);
    const question = `${request.text} | ${boxes[i].join(' ')}`;
    note(score.objects, question, truth.object, verdict.object);
    note(score.regions, question, truth.score, verdict.score);
  }
  const truth = layoutTruth(request, picture.objects);
  note(score.layouts, request.text, truth.score, parseLayoutAnswer(layout).score);
}

function requestFor(prompt: ShapesPrompt, random: Random): ShapesPrompt {
  const u = random.uniform();
  if (u < 1 / 3) return prompt;
  return u < 2 / 3 ? (swapped(prompt) ?? prompt) : drawPrompt(random);
}

type Box = [number, number, number, number];

/** Boxes in the middle of the cells without an object. */
function emptyBoxes(objects: readonly ShapeObject[]): Box[] {
  const boxes: Box[] = [];
  for (let cell = 0; cell < CELLS; cell++) {
    if (objects.some((o) => o.cell === cell)) continue;
    const [x, y] = objectCentre({ cell, dx: 0, dy: 0 });
    boxes.push([x - 5, y - 5, x + 5, y + 5]);
  }
  return boxes;
}
