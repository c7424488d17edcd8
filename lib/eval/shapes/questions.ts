import { SHAPES_CONFIG } from '../../models/shapes/index.js';
import type { ByteGrammar } from '../../reward/byte-grammar.js';
import { boardCell, judgeWords } from '../../reward/judge-prompts.js';
import { layoutGrammar, regionGrammar } from '../../reward/score-grammar.js';
import { type LayoutTruth, NOTHING, objectName, type PixelBox, type RegionTruth } from './truth.js';
import { IMAGE_SIDE, objectBox, readingOrder, type ShapeObject } from './world.js';

/** The words the Shapes model is trained in and asked in. */
const WORDS = judgeWords(SHAPES_CONFIG.judge);
const SIZE = { width: IMAGE_SIDE, height: IMAGE_SIDE };

const regionsOf = (boxes: readonly PixelBox[]) =>
  boxes.map((box) => ({ box: [...box] as [number, number, number, number] }));

const placesOf = (boxes: readonly PixelBox[]) =>
  WORDS.places(regionsOf(boxes), SIZE, WORDS.coordinates);

/** Asks for name and score of regions, which are numbered from 1. */
export function regionsQuestion(request: string, boxes: readonly PixelBox[]): string {
  return WORDS.regions(request, regionsOf(boxes), SIZE, WORDS.coordinates);
}

/** The form of the answers to {@link regionsQuestion}. */
export function regionsGrammar(boxes: readonly PixelBox[]): ByteGrammar {
  const ids = boxes.map((_, i) => i + 1);
  return regionGrammar(ids, { places: placesOf(boxes), counterpart: WORDS.counterpart });
}

/** The answer to {@link regionsQuestion}. */
export function regionsAnswer(boxes: readonly PixelBox[], truths: readonly RegionTruth[]): string {
  const at = placesOf(boxes);
  return JSON.stringify({
    regions: truths.map(({ object, counterpart, score }, i) => ({
      id: i + 1,
      at: at?.[i],
      object,
      for: WORDS.counterpart ? counterpart : undefined,
      score,
    })),
  });
}

/** Asks for the score of the arrangement. */
export function layoutQuestion(request: string): string {
  return WORDS.layout(request, SIZE);
}

/** The form of the answers to {@link layoutQuestion}. */
export function layoutsGrammar(): ByteGrammar {
  return layoutGrammar({ describe: WORDS.describe });
}

/** The answer to {@link layoutQuestion}; the description is in reading order. */
export function layoutAnswer(
  objects: readonly ShapeObject[],
  { score, reason }: LayoutTruth,
): string {
  const seen = WORDS.describe ? captionAnswer(readingOrder(objects)) : undefined;
  return JSON.stringify({ seen, global_layout_score: score, reason });
}

/** Asks for a description of the picture; {@link captionAnswer} is the answer. */
export const CAPTION_QUESTION = 'what is in the picture?';

/** Where what is, in the order given: "c2 solid red circle, f6 striped blue square", or "nothing". */
export function captionAnswer(objects: readonly ShapeObject[]): string {
  if (objects.length === 0) return NOTHING;
  return objects.map((o) => `${boardCell(objectBox(o), SIZE)} ${objectName(o)}`).join(', ');
}
