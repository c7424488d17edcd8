import { DataError } from '../../util/errors.js';
import type { Random } from '../../util/seeded-random.js';

/** Kinds of objects of the world. */
export const SHAPES = ['circle', 'square', 'triangle', 'cross'] as const;
/**
 * Colours of objects. More of them than shapes: what a colour is must be learned apart from what has it,
 * else nothing new can be composed.
 */
export const COLOURS = ['red', 'green', 'blue', 'yellow', 'purple', 'cyan', 'black'] as const;
/** Surfaces of objects. */
export const TEXTURES = ['solid', 'striped'] as const;

export type Shape = (typeof SHAPES)[number];
export type Colour = (typeof COLOURS)[number];
export type Texture = (typeof TEXTURES)[number];

/** Side of the square picture, in pixels. */
export const IMAGE_SIDE = 32;
/** Side of one of its 2 x 2 cells, in pixels. */
export const CELL_SIDE = 16;
/** Number of cells, which is the largest number of objects. */
export const CELLS = 4;
/** Farthest an object's centre lies from its cell's centre along an axis, in pixels. */
export const MAX_JITTER = 1.5;

/** One object of a picture. */
export interface ShapeObject {
  shape: Shape;
  colour: Colour;
  texture: Texture;
  /** 0..3, row by row from the upper left. */
  cell: number;
  /** Distance of the centre from the cell's centre in pixels, to the right; -1.5 .. 1.5. */
  dx: number;
  /** The same, downwards. */
  dy: number;
}

/** What a picture shows: 0 to 4 objects, each in a cell of its own. */
export interface Scene {
  objects: ShapeObject[];
}

/** Width and height of each shape, in pixels. */
export const EXTENTS: Readonly<Record<Shape, readonly [width: number, height: number]>> = {
  circle: [12, 12],
  square: [12, 12],
  triangle: [12, 12],
  cross: [12, 12],
};

/**
 * Whether a pair is kept out of everything that is trained on, so that composing it anew can be
 * measured: the i-th shape in the i-th colour.
 */
export function isHeldOut(shape: Shape, colour: Colour): boolean {
  return (SHAPES as readonly string[]).indexOf(shape) === COLOURS.indexOf(colour);
}

/** Column (0 left, 1 right) of a cell. */
export function columnOf(cell: number): number {
  return cell % 2;
}

/** Row (0 top, 1 bottom) of a cell. */
export function rowOf(cell: number): number {
  return cell >> 1;
}

/** Where the middle of an object lies, in pixels from the upper left corner of the picture. */
export function objectCentre(o: Pick<ShapeObject, 'cell' | 'dx' | 'dy'>): [x: number, y: number] {
  return [
    CELL_SIDE * columnOf(o.cell) + CELL_SIDE / 2 + o.dx,
    CELL_SIDE * rowOf(o.cell) + CELL_SIDE / 2 + o.dy,
  ];
}

/**
 * The tight box of an object in whole pixels, `[x0, y0, x1, y1]` with exclusive ends: its outline's
 * extent rounded, so that a border column or row belongs to it when at least half of it does.
 */
export function objectBox(
  o: Pick<ShapeObject, 'shape' | 'cell' | 'dx' | 'dy'>,
): [x0: number, y0: number, x1: number, y1: number] {
  const [x, y] = objectCentre(o);
  const [width, height] = EXTENTS[o.shape];
  const left = Math.round(x - width / 2);
  const top = Math.round(y - height / 2);
  return [left, top, left + width, top + height];
}

/** The objects from the upper left cell to the lower right one. */
export function readingOrder<T extends { cell: number }>(objects: readonly T[]): T[] {
  return [...objects].sort((a, b) => a.cell - b.cell);
}

/**
 * Checks what the types cannot say.
 *
 * @throws DataError ERR_SCENE for an object of unknown kind, outside the cells or in another's cell,
 * or whose jitter leaves -1.5 .. 1.5.
 */
export function checkScene(scene: Scene): void {
  let taken = 0;
  for (const o of scene.objects) {
    if (!SHAPES.includes(o.shape)) throw badScene('shape', SHAPES.join(', '), o.shape);
    if (!COLOURS.includes(o.colour)) throw badScene('colour', COLOURS.join(', '), o.colour);
    if (!TEXTURES.includes(o.texture)) throw badScene('texture', TEXTURES.join(', '), o.texture);
    if (!(Number.isInteger(o.cell) && o.cell >= 0 && o.cell < CELLS)) {
      throw badScene('cell', 'a whole number from 0 to 3', String(o.cell));
    }
    if ((taken & (1 << o.cell)) !== 0) {
      throw badScene('cell', 'one object a cell', `two in cell ${o.cell}`);
    }
    taken |= 1 << o.cell;
    if (!(Math.abs(o.dx) <= MAX_JITTER && Math.abs(o.dy) <= MAX_JITTER)) {
      throw badScene('dx, dy', 'numbers from -1.5 to 1.5', `${o.dx}, ${o.dy}`);
    }
  }
}

function badScene(key: string, expected: string, found: string): DataError {
  return new DataError('ERR_SCENE', 'the scene cannot be drawn', { key, expected, found });
}

/** One of some equally likely values. */
export function choose<T>(random: Random, values: readonly T[]): T {
  return values[random.below(values.length)];
}

/** The values in random order. */
export function shuffled<T>(random: Random, values: readonly T[]): T[] {
  const order = [...values];
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** Puts an object into a cell with random jitter. */
export function placed(
  random: Random,
  kind: Pick<ShapeObject, 'shape' | 'colour' | 'texture'>,
  cell: number,
): ShapeObject {
  const jitter = () => (2 * random.uniform() - 1) * MAX_JITTER;
  const { shape, colour, texture } = kind;
  return { shape, colour, texture, cell, dx: jitter(), dy: jitter() };
}

/** A colour for a shape, equally likely among those that make no held-out pair. */
export function seenColour(random: Random, shape: Shape): Colour {
  return choose(
    random,
    COLOURS.filter((colour) => !isHeldOut(shape, colour)),
  );
}

/** Any object that is no held-out pair, in a cell. */
export function randomObject(random: Random, cell: number): ShapeObject {
  const shape = choose(random, SHAPES);
  const texture = choose(random, TEXTURES);
  return placed(random, { shape, texture, colour: seenColour(random, shape) }, cell);
}

/** Options of {@link randomScene}. */
export interface SceneOptions {
  /** Number of objects, 1 to 4; each number is equally likely by default. */
  count?: number;
  /** True: at least one object is a held-out pair. False, the default: none is. */
  heldOut?: boolean;
}

/**
 * Any objects anywhere, in reading order: shapes, colours, textures and cells are equally likely.
 *
 * @throws DataError ERR_SCENE when `count` is no whole number from 1 to 4.
 */
export function randomScene(random: Random, options: SceneOptions = {}): Scene {
  const count = options.count ?? 1 + random.below(CELLS);
  if (!(Number.isInteger(count) && count >= 1 && count <= CELLS)) {
    throw badScene('count', 'a whole number from 1 to 4', String(count));
  }
  const heldOut = options.heldOut ?? false;
  const cells = shuffled(random, [0, 1, 2, 3]).slice(0, count);
  const objects = cells.map((cell, i) => {
    const shape = choose(random, SHAPES);
    const texture = choose(random, TEXTURES);
    let colour = heldOut ? choose(random, COLOURS) : seenColour(random, shape);
    // The cells are in random order, so which object is the sure one is random too.
    if (heldOut && i === 0) colour = COLOURS[SHAPES.indexOf(shape)];
    return placed(random, { shape, colour, texture }, cell);
  });
  return { objects: readingOrder(objects) };
}
