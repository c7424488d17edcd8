import type { RgbImage } from '../../data/images.js';
import { noGrad, ops, scope, type Tensor, tensor } from '../../torch/index.js';
import { DataError, ImageError } from '../../util/errors.js';
import { FAMILIES, type Family, relationHolds, type ShapesPrompt, type Wanted } from './prompts.js';
import { BACKGROUND, renderScene } from './render.js';
import {
  CELL_SIDE,
  CELLS,
  COLOURS,
  IMAGE_SIDE,
  MAX_JITTER,
  SHAPES,
  type ShapeObject,
  TEXTURES,
} from './world.js';

/** An object found in a picture; `dx` and `dy` are those of the template that fits best. */
export interface RecognisedObject extends ShapeObject {
  /**
   * How much farther the cell is from the best template of any other kind, "nothing" included, than
   * from this one: a difference of squared distances, summed over pixels and channels in 0..1.
   */
  margin: number;
}

/** Jitter of the templates along each axis, in pixels. */
const JITTER_STEP = 0.5;
const JITTERS = Array.from(
  { length: (2 * MAX_JITTER) / JITTER_STEP + 1 },
  (_, i) => i * JITTER_STEP - MAX_JITTER,
);
const PLACES = JITTERS.length ** 2;
/** Values of one cell. */
const CELL_VALUES = CELL_SIDE * CELL_SIDE * 3;
/** Pictures compared at a time, which bounds the memory to a few megabytes. */
const BATCH = 64;

const KINDS = SHAPES.flatMap((shape) =>
  COLOURS.flatMap((colour) => TEXTURES.map((texture) => ({ shape, colour, texture }))),
);
const PIXEL_MEAN = BACKGROUND.map((value) => value / 255);

/**
 * Says what a picture of the world shows: in every cell the kind of the template that is nearest to
 * its pixels, among all kinds at all places half a pixel apart and "nothing". The templates are drawn
 * by `renderScene`. It has no threshold: something that looks like no object at all is still taken for
 * what it is nearest to.
 */
export class Oracle {
  /** Twice the templates [768, kinds * places], as differences from the background. */
  readonly #templates: Tensor;
  /** The templates' squared lengths [kinds * places]. */
  readonly #lengths: Tensor;

  constructor() {
    [this.#templates, this.#lengths] = noGrad(() =>
      scope((): [Tensor, Tensor] => {
        const pictures = KINDS.flatMap((kind) =>
          JITTERS.flatMap((dy) =>
            JITTERS.map((dx) => renderScene({ objects: [{ ...kind, cell: 0, dx, dy }] })),
          ),
        );
        // Stripes repeat every 4 rows and cells begin at multiples of 16: cell 0 stands for all.
        const templates = cellsOf(pictures).view([-1, CELLS, CELL_VALUES]).select(1, 0);
        return [templates.t().mul(2).contiguous(), templates.square().sum([1])];
      }),
    );
  }

  /**
   * The objects of each picture, in reading order.
   *
   * @throws ImageError ERR_IMAGE_SIZE for a picture that is not 32 x 32.
   */
  recognise(images: readonly RgbImage[]): RecognisedObject[][] {
    images.forEach(checkImage);
    const found: RecognisedObject[][] = [];
    for (let from = 0; from < images.length; from += BATCH) {
      found.push(...this.#recogniseBatch(images.slice(from, from + BATCH)));
    }
    return found;
  }

  #recogniseBatch(images: readonly RgbImage[]): RecognisedObject[][] {
    const [nearest, places, margins] = noGrad(() =>
      scope(() => {
        // |x - t|^2 less |x|^2, which is the same for all templates; "nothing" is then 0.
        const cells = cellsOf(images);
        const distances = this.#lengths.sub(cells.matmul(this.#templates));
        const [byKind, place] = distances.view([-1, KINDS.length, PLACES]).min(2);
        const all = ops.constantPadNd(byKind, [0, 1], 0);
        const [two, kinds] = all.topk(2, -1, false, true);
        const best = kinds.select(1, 0);
        const margin = two.select(1, 1).sub(two.select(1, 0));
        const bestPlace = ops
          .constantPadNd(place, [0, 1], 0)
          .gather(1, best.unsqueeze(1))
          .squeeze(1);
        return [best.toIntArray(), bestPlace.toIntArray(), margin.toFloat32Array()] as const;
      }),
    );
    return images.map((_, i) => {
      const objects: RecognisedObject[] = [];
      for (let cell = 0; cell < CELLS; cell++) {
        const at = i * CELLS + cell;
        if (nearest[at] === KINDS.length) continue;
        const dx = JITTERS[places[at] % JITTERS.length];
        const dy = JITTERS[Math.floor(places[at] / JITTERS.length)];
        objects.push({ ...KINDS[nearest[at]], cell, dx, dy, margin: margins[at] });
      }
      return objects;
    });
  }

  /** Frees the templates; the oracle cannot be used afterwards. */
  dispose(): void {
    this.#templates.dispose();
    this.#lengths.dispose();
  }

  /** As {@link dispose}. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Pictures as cells [pictures * 4, 768] of float32, as differences from the background in 0..1. */
function cellsOf(images: readonly RgbImage[]): Tensor {
  const bytes = new Uint8Array(images.length * CELLS * CELL_VALUES);
  images.forEach((image, i) => {
    bytes.set(image.data, i * CELLS * CELL_VALUES);
  });
  const side = IMAGE_SIDE / CELL_SIDE;
  return tensor(bytes)
    .to('float32')
    .view([images.length, side, CELL_SIDE, side, CELL_SIDE, 3])
    .div(255)
    .sub(tensor(PIXEL_MEAN))
    .permute([0, 1, 3, 2, 4, 5])
    .reshape([-1, CELL_VALUES]);
}

function checkImage(image: RgbImage, index: number): void {
  const { width, height, data } = image;
  if (width !== IMAGE_SIDE || height !== IMAGE_SIDE) {
    throw new ImageError('ERR_IMAGE_SIZE', `picture ${index + 1} is no picture of the world`, {
      expected: `${IMAGE_SIDE}x${IMAGE_SIDE} pixels`,
      found: `${width}x${height}`,
    });
  }
  if (data.length !== CELLS * CELL_VALUES) {
    throw new ImageError('ERR_IMAGE_SIZE', `the pixel data of picture ${index + 1} do not fit it`, {
      expected: `${CELLS * CELL_VALUES} bytes`,
      found: `${data.length} bytes`,
    });
  }
}

/** Whether an object is what is wanted in every attribute that is named. */
export function agrees(
  wanted: Wanted,
  o: Pick<ShapeObject, 'shape' | 'colour' | 'texture'>,
): boolean {
  return (
    wanted.shape === o.shape &&
    (wanted.colour === null || wanted.colour === o.colour) &&
    (wanted.texture === null || wanted.texture === o.texture)
  );
}

/**
 * Whether the objects are exactly what the prompt asks for: each stands for one requested object
 * with which it agrees in every named attribute, none is missing, none is left over, and the relation,
 * if there is one, holds between the two.
 */
export function isExact(prompt: ShapesPrompt, objects: readonly ShapeObject[]): boolean {
  if (objects.length !== prompt.objects.length) return false;
  return assignable(prompt, objects, []);
}

/** Whether the objects assigned to the first requests can be completed; at most 4 of each. */
function assignable(
  prompt: ShapesPrompt,
  objects: readonly ShapeObject[],
  assigned: readonly ShapeObject[],
): boolean {
  if (assigned.length === prompt.objects.length) {
    const [first, second] = assigned;
    return prompt.relation === null || relationHolds(prompt.relation, first.cell, second.cell);
  }
  const wanted = prompt.objects[assigned.length];
  return objects.some(
    (o) =>
      !assigned.includes(o) && agrees(wanted, o) && assignable(prompt, objects, [...assigned, o]),
  );
}

/** Pictures looked at and pictures exactly as requested. */
export interface ExactCount {
  total: number;
  exact: number;
}

/** How many pictures are exact, in all and for each family of prompts. */
export interface Exactness extends ExactCount {
  byFamily: Record<Family, ExactCount>;
}

/**
 * Counts the pictures that show exactly what their prompts ask for.
 *
 * @param images one for each prompt, in their order.
 * @throws DataError ERR_LENGTH when the numbers of prompts and pictures differ; what
 * {@link Oracle.recognise} throws.
 */
export function exactness(
  oracle: Oracle,
  prompts: readonly ShapesPrompt[],
  images: readonly RgbImage[],
): Exactness {
  if (prompts.length !== images.length) {
    throw new DataError('ERR_LENGTH', 'every prompt needs one picture', {
      expected: `${prompts.length} pictures`,
      found: `${images.length} pictures`,
    });
  }
  const byFamily = Object.fromEntries(
    FAMILIES.map((family) => [family, { total: 0, exact: 0 }]),
  ) as Record<Family, ExactCount>;
  const sum: ExactCount = { total: 0, exact: 0 };
  oracle.recognise(images).forEach((objects, i) => {
    const exact = isExact(prompts[i], objects) ? 1 : 0;
    for (const count of [sum, byFamily[prompts[i].family]]) {
      count.total += 1;
      count.exact += exact;
    }
  });
  return { ...sum, byFamily };
}
