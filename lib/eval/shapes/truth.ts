import { agrees } from './oracle.js';
import { relationHolds, type ShapesPrompt, type Wanted } from './prompts.js';
import { objectBox, readingOrder, type ShapeObject } from './world.js';

/** A box of whole pixels: left, top, right, bottom, with exclusive ends. */
export type PixelBox = readonly [x0: number, y0: number, x1: number, y1: number];

/** What a faultless judge says about one region. */
export interface RegionTruth {
  /** Name of the object, or "nothing". */
  object: string;
  /** In [-1, 1], with at most one decimal. */
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

/** One decimal, half away from zero, never -0. */
function oneDecimal(value: number): number {
  const tenths = Math.round(Math.abs(value) * 10);
  return tenths === 0 ? 0 : (Math.sign(value) * tenths) / 10;
}

/** Score of an object for one kind of requested object. */
function scoreFor(
  wanted: Wanted,
  requested: number,
  o: ShapeObject,
  objects: readonly ShapeObject[],
): number {
  if (agrees(wanted, o)) {
    const present = objects.filter((other) => agrees(wanted, other)).length;
    return present <= requested ? 1 : oneDecimal((2 * requested) / present - 1);
  }
  return wanted.shape === o.shape || wanted.colour === o.colour ? -0.5 : -1;
}

/**
 * The truth about a region of a picture with these objects. Background scores 0. An object that agrees
 * with a requested one in all named attributes scores 1, or, when `p` such objects are present and only
 * `q` are requested, 2q/p - 1 rounded to one decimal; one that shares only the shape or the named
 * colour of a requested object -0.5; any other -1. The best of several requested kinds counts.
 *
 * @param box in pixels of the picture.
 */
export function regionTruth(
  prompt: ShapesPrompt,
  objects: readonly ShapeObject[],
  box: PixelBox,
): RegionTruth {
  const o = objectInBox(objects, box);
  if (o === null) return { object: NOTHING, score: 0 };
  const kinds = new Map<string, { wanted: Wanted; requested: number }>();
  for (const wanted of prompt.objects) {
    const key = `${wanted.texture} ${wanted.colour} ${wanted.shape}`;
    const requested = (kinds.get(key)?.requested ?? 0) + 1;
    kinds.set(key, { wanted, requested });
  }
  const scores = [...kinds.values()].map((k) => scoreFor(k.wanted, k.requested, o, objects));
  return { object: objectName(o), score: Math.max(...scores) };
}

/**
 * The truth about the arrangement, whatever the colours and textures: the number of objects comes
 * first, then whether both shapes of a relation are there, then whether it holds.
 */
export function layoutTruth(prompt: ShapesPrompt, objects: readonly ShapeObject[]): LayoutTruth {
  if (objects.length !== prompt.objects.length) return { score: -0.5, reason: 'wrong number' };
  if (prompt.relation === null) return { score: 1, reason: 'as requested' };
  // Two objects are requested and two are there: none missing means each exactly once.
  const [first, second] = prompt.objects.map((w) => objects.find((o) => o.shape === w.shape));
  if (first === undefined || second === undefined) {
    return { score: -0.5, reason: 'something is missing' };
  }
  return relationHolds(prompt.relation, first.cell, second.cell)
    ? { score: 1, reason: 'as requested' }
    : { score: -1, reason: 'wrong places' };
}
