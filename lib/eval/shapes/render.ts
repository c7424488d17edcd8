import type { RgbImage } from '../../data/images.js';
import {
  type Colour,
  checkScene,
  EXTENTS,
  IMAGE_SIDE,
  objectCentre,
  type Scene,
  type Shape,
  type ShapeObject,
} from './world.js';

export { IMAGE_SIDE } from './world.js';

type Rgb = readonly [red: number, green: number, blue: number];

/** The background of every picture. */
export const BACKGROUND: Rgb = [240, 240, 240];

/** A picture of nothing. */
const EMPTY = new Uint8Array(IMAGE_SIDE * IMAGE_SIDE * 3).map((_, i) => BACKGROUND[i % 3]);

/** The full tone of each colour. */
const TONES: Readonly<Record<Colour, Rgb>> = {
  red: [220, 40, 40],
  green: [30, 160, 70],
  blue: [40, 80, 220],
  yellow: [245, 195, 20],
  purple: [150, 60, 190],
  cyan: [40, 190, 215],
  black: [45, 45, 50],
};

/** Rows of the picture after which stripes repeat; the first half of them has the full tone. */
const STRIPE_PERIOD = 4;
/** Share of the full tone in the light stripes; the rest is background. */
const TINT = 0.3;
/** Half the width of the arms of a cross, in pixels. */
const ARM = 2;

/**
 * Share of the pixel whose centre is (x, y), counted from the shape's centre, that the shape covers.
 * Only products, sums and square roots are used, which every machine rounds alike.
 */
type Coverage = (x: number, y: number) => number;

function clamp01(value: number): number {
  return value < 0 ? 0 : value > 1 ? 1 : value;
}

/** Length of the part of [x - 1/2, x + 1/2] that lies within [-half, half]. */
function overlap(x: number, half: number): number {
  return clamp01(Math.min(x + 0.5, half) - Math.max(x - 0.5, -half));
}

function circle(): Coverage {
  const radius = EXTENTS.circle[0] / 2;
  return (x, y) => clamp01(radius + 0.5 - Math.sqrt(x * x + y * y));
}

function square(): Coverage {
  const half = EXTENTS.square[0] / 2;
  return (x, y) => overlap(x, half) * overlap(y, half);
}

/** Apex at the top. The flanks are edges of half planes, softened over one pixel's width. */
function triangle(): Coverage {
  const [width, height] = EXTENTS.triangle;
  const slope = width / 2 / height;
  const length = Math.sqrt(1 + slope * slope);
  return (x, y) => {
    const flank = clamp01(((y + height / 2) * slope - Math.abs(x)) / length + 0.5);
    return flank * overlap(y, height / 2);
  };
}

function cross(): Coverage {
  const half = EXTENTS.cross[0] / 2;
  return (x, y) => {
    const armX = overlap(x, ARM);
    const armY = overlap(y, ARM);
    return overlap(x, half) * armY + armX * overlap(y, half) - armX * armY;
  };
}

const COVERAGE: Readonly<Record<Shape, Coverage>> = {
  circle: circle(),
  square: square(),
  triangle: triangle(),
  cross: cross(),
};

/** The tone of an object in a row of the picture. */
function toneAt(o: ShapeObject, row: number): Rgb {
  const full = TONES[o.colour];
  if (o.texture === 'solid' || row % STRIPE_PERIOD < STRIPE_PERIOD / 2) return full;
  const tint = (c: 0 | 1 | 2) => BACKGROUND[c] + (full[c] - BACKGROUND[c]) * TINT;
  return [tint(0), tint(1), tint(2)];
}

function drawObject(data: Uint8Array, o: ShapeObject): void {
  const [cx, cy] = objectCentre(o);
  const [width, height] = EXTENTS[o.shape];
  const coverage = COVERAGE[o.shape];
  const left = Math.floor(cx - width / 2);
  const right = Math.ceil(cx + width / 2);
  const bottom = Math.ceil(cy + height / 2);
  for (let row = Math.floor(cy - height / 2); row < bottom; row++) {
    const tone = toneAt(o, row);
    for (let column = left; column < right; column++) {
      const share = coverage(column + 0.5 - cx, row + 0.5 - cy);
      if (share === 0) continue;
      const at = (row * IMAGE_SIDE + column) * 3;
      // Objects stay inside their cells, so what is underneath is always the background.
      for (let c = 0; c < 3; c++) {
        // Half up; truncation on storing does the rest.
        data[at + c] = BACKGROUND[c] + (tone[c] - BACKGROUND[c]) * share + 0.5;
      }
    }
  }
}

/**
 * Draws a scene as a picture of 32 x 32 pixels, with smooth edges. The same scene gives the same bytes
 * on every machine.
 *
 * @throws DataError ERR_SCENE when the scene cannot be drawn.
 */
export function renderScene(scene: Scene): RgbImage {
  checkScene(scene);
  const data = EMPTY.slice();
  for (const o of scene.objects) drawObject(data, o);
  return { width: IMAGE_SIDE, height: IMAGE_SIDE, data };
}
