import { agrees } from './oracle.js';
import { relationHolds, type ShapesPrompt, wantedName } from './prompts.js';
import { objectBox, readingOrder, type Shape, type ShapeObject } from './world.js';

/** A box of whole pixels: left, top, right, bottom, with exclusive ends. */
export type PixelBox = readonly [x0: number, y0: number, x1: number, y1: number];

/** What a faultless judge says about one region. */
export interface RegionTruth {
  /** Name of the object, or "nothing". */
  object: string;
  /** What of the request it stands for, well or badly, in the request's words; or "nothing". */
  counterpart: string;
  /** 1, 0, -0.5 or -1. */
  score: number;
}

/** What a faultless judge says about the arrangement. */
export interface LayoutTruth {
  /** 1, -0.5 or -1. */
  score: number;
  reason: 'as requested' | 'wrong number' | 'something is missing' | 'wrong places';
}

/** Name of what is no object. */
export const NOTHING = 'nothing';
/** Least share of the smaller of box and object that they have in common when the box is about it. */
const LEAST_SHARE = 0.3;

/** What an object is called: "striped red circle". */
export function objectName(o: Pick<ShapeObject, 'shape' | 'colour' | 'texture'>): string {
  return `${o.texture} ${o.colour} ${o.shape}`;
}

function area([x0, y0, x1, y1]: PixelBox): number {
  return Math.max(0, x1 - x0) * Math.max(0, y1 - y0);
}

function common(a: PixelBox, b: PixelBox): number {
  return area([
    Math.max(a[0], b[0]),
    Math.max(a[1], b[1]),
    Math.min(a[2], b[2]),
    Math.min(a[3], b[3]),
  ]);
}

/**
 * The object a box is about: the one whose tight box it has most in common with (the first in reading
 * order of several), if that is at least 30 % of the smaller of the two; else null, for background.
 */
export function objectInBox<T extends ShapeObject>(objects: readonly T[], box: PixelBox): T | null {
  let best: T | null = null;
  let most = 0;
  for (const o of readingOrder(objects)) {
    const shared = common(box, objectBox(o));
    if (shared > most) {
      best = o;
      most = shared;
    }
  }
  if (best === null) return null;
  return most >= LEAST_SHARE * Math.min(area(box), area(objectBox(best))) ? best : null;
}

/**
 * The truth about a region of a picture with these objects. Background scores 0, an object that agrees with a
 * requested one in all named attributes 1, one that shares only the shape or else the named colour of
 * a requested one -0.5, any other -1. How many there should be is a matter of the layout.
 *
 * @param box in pixels of the picture.
 */
export function regionTruth(
  prompt: ShapesPrompt,
  objects: readonly ShapeObject[],
  box: PixelBox,
): RegionTruth {
  const o = objectInBox(objects, box);
  if (o === null) return { object: NOTHING, counterpart: NOTHING, score: 0 };
  const object = objectName(o);
  const { objects: wanted } = prompt;
  const fitting = wanted.find((w) => agrees(w, o));
  if (fitting !== undefined) return { object, counterpart: wantedName(fitting), score: 1 };
  const akin = wanted.find((w) => w.shape === o.shape) ?? wanted.find((w) => w.colour === o.colour);
  return akin === undefined
    ? { object, counterpart: NOTHING, score: -1 }
    : { object, counterpart: wantedName(akin), score: -0.5 };
}

/**
 * The truth about the arrangement, whatever the colours and textures: the number of objects comes
 * first, then whether all shapes are there, then whether the relation holds.
 */
export function layoutTruth(prompt: ShapesPrompt, objects: readonly ShapeObject[]): LayoutTruth {
  const { objects: wanted, relation } = prompt;
  if (objects.length !== wanted.length) return { score: -0.5, reason: 'wrong number' };
  const shapes = (of: ReadonlyArray<{ shape: Shape }>) => of.map(({ shape }) => shape).sort();
  if (shapes(objects).join() !== shapes(wanted).join()) {
    return { score: -0.5, reason: 'something is missing' };
  }
  if (relation === null) return { score: 1, reason: 'as requested' };
  // Two objects with different shapes are requested and there.
  const [first, second] = wanted.map((w) => objects.find((o) => o.shape === w.shape));
  return relationHolds(relation, (first as ShapeObject).cell, (second as ShapeObject).cell)
    ? { score: 1, reason: 'as requested' }
    : { score: -1, reason: 'wrong places' };
}
