import { DataError } from '../util/errors.js';

/** How a pixel map becomes one number per latent token. */
export type LatentReduction = 'bilinear' | 'area';

/** Geometry of a row-major map in and out. */
export interface GridSize {
  /** Rows and columns of the pixel map. */
  from: readonly [number, number];
  /** Rows and columns of the latent grid. */
  to: readonly [number, number];
}

/**
 * Reduces a map `[H, W]` to the latent grid `[h, w]` (row-major, one value per token).
 *
 * - `bilinear`: half-pixel centres, align_corners false, no antialiasing, as the released code does;
 *   with 16x16 cells a token reads only the four centre pixels of its cell.
 * - `area`: the exact mean over each cell, cells that cut through pixels included.
 *
 * @throws DataError when the sizes do not fit the data.
 */
export function toLatentGrid(
  map: Float32Array,
  size: GridSize,
  reduction: LatentReduction,
): Float32Array {
  const [rows, columns] = size.from;
  const [h, w] = size.to;
  const whole = [rows, columns, h, w].every((n) => Number.isInteger(n) && n > 0);
  if (!whole || rows * columns !== map.length) {
    throw new DataError('ERR_SIZE', 'the map does not have the size it is said to have', {
      expected: `${rows}x${columns} values, grid ${h}x${w}`,
      found: `${map.length} values`,
    });
  }
  const taps = reduction === 'bilinear' ? bilinearTaps : areaTaps;
  const across = taps(columns, w);
  const down = taps(rows, h);
  const out = new Float32Array(h * w);
  for (let y = 0; y < h; y += 1) {
    for (let x = 0; x < w; x += 1) {
      let sum = 0;
      for (const [row, wy] of down[y]) {
        let line = 0;
        for (const [column, wx] of across[x]) line += wx * map[row * columns + column];
        sum += wy * line;
      }
      out[y * w + x] = sum;
    }
  }
  return out;
}

/** For one output position: the input positions it reads and their weights. */
type Taps = Array<[number, number]>;

/**
 * Interpolation weights of one axis. Positions are rounded to float32 once, as ATen's kernels do on processors with a
 * fused multiply-add (and on CUDA): the product is exact in double precision. Rounding it too would move a position
 * just below a power of two by up to half a float32 step of that power.
 */
function bilinearTaps(from: number, to: number): Taps[] {
  const scale = Math.fround(from / to);
  return Array.from({ length: to }, (_, i) => {
    const centre = Math.max(0, Math.fround(scale * (i + 0.5) - 0.5));
    const first = Math.min(Math.floor(centre), from - 1);
    const second = Math.min(first + 1, from - 1);
    const weight = Math.fround(centre - first);
    return [
      [first, 1 - weight],
      [second, weight],
    ];
  });
}

/** Weights of the mean over `[i, i + 1) * from / to`; a pixel counts by its part inside the cell. */
function areaTaps(from: number, to: number): Taps[] {
  const cell = from / to;
  return Array.from({ length: to }, (_, i) => {
    const taps: Taps = [];
    const start = i * cell;
    const end = Math.min(from, start + cell);
    for (let p = Math.floor(start); p < end; p += 1) {
      const part = Math.min(end, p + 1) - Math.max(start, p);
      if (part > 1e-9) taps.push([p, part / cell]);
    }
    return taps;
  });
}
