import type { Random } from '../../util/seeded-random.js';
import {
  CELLS,
  choose,
  isHeldOut,
  placed,
  randomObject,
  readingOrder,
  type Scene,
  SHAPES,
  type ShapeObject,
  seenColour,
  TEXTURES,
} from './world.js';

/**
 * The scene with one fault of the kinds that drawn pictures have: a thing has another shape (often that of
 * another thing there), is elsewhere, is exchanged with another, is too many, too few, or looks otherwise.
 * In reading order, without held-out pairs if the scene has none; an empty scene gets a thing.
 */
export function nearMiss(scene: Scene, random: Random): Scene {
  const { objects } = scene;
  const fault = objects.length === 0 ? added : choose(random, FAULTS);
  return { objects: readingOrder(fault(objects, random)) };
}

type Fault = (objects: readonly ShapeObject[], random: Random) => ShapeObject[];

/** Faults that concern the layout come more often than one that does not. */
const FAULTS: readonly Fault[] = [
  reshaped,
  reshaped,
  moved,
  moved,
  exchanged,
  recounted,
  repainted,
];

function reshaped(objects: readonly ShapeObject[], random: Random): ShapeObject[] {
  const at = random.below(objects.length);
  const { shape, colour } = objects[at];
  const there = objects.map((o) => o.shape).filter((other) => other !== shape);
  const others = there.length > 0 && random.uniform() < 0.5 ? there : SHAPES;
  const now = choose(
    random,
    others.filter((other) => other !== shape),
  );
  const painted = isHeldOut(now, colour) ? seenColour(random, now) : colour;
  return replaced(objects, at, { ...objects[at], shape: now, colour: painted });
}

function moved(objects: readonly ShapeObject[], random: Random): ShapeObject[] {
  const free = freeCells(objects);
  if (free.length === 0) return exchanged(objects, random);
  const at = random.below(objects.length);
  return replaced(objects, at, placed(random, objects[at], choose(random, free)));
}

function exchanged(objects: readonly ShapeObject[], random: Random): ShapeObject[] {
  if (objects.length < 2) return moved(objects, random);
  const a = random.below(objects.length);
  const b = (a + 1 + random.below(objects.length - 1)) % objects.length;
  const { cell } = objects[a];
  return replaced(replaced(objects, a, { ...objects[a], cell: objects[b].cell }), b, {
    ...objects[b],
    cell,
  });
}

function recounted(objects: readonly ShapeObject[], random: Random): ShapeObject[] {
  const fewer = objects.length === CELLS || (objects.length > 1 && random.uniform() < 0.5);
  if (!fewer) return added(objects, random);
  const gone = random.below(objects.length);
  return objects.filter((_, i) => i !== gone);
}

/** With one more: like another of the things, or any. */
function added(objects: readonly ShapeObject[], random: Random): ShapeObject[] {
  const cell = choose(random, freeCells(objects));
  const like = objects.length > 0 && random.uniform() < 0.5;
  return [
    ...objects,
    like ? placed(random, choose(random, objects), cell) : randomObject(random, cell),
  ];
}

function repainted(objects: readonly ShapeObject[], random: Random): ShapeObject[] {
  const at = random.below(objects.length);
  const { shape } = objects[at];
  const paint = { colour: seenColour(random, shape), texture: choose(random, TEXTURES) };
  return replaced(objects, at, { ...objects[at], ...paint });
}

function replaced(objects: readonly ShapeObject[], at: number, by: ShapeObject): ShapeObject[] {
  return objects.map((o, i) => (i === at ? by : o));
}

function freeCells(objects: readonly ShapeObject[]): number[] {
  return Array.from({ length: CELLS }, (_, cell) => cell).filter(
    (cell) => !objects.some((o) => o.cell === cell),
  );
}
