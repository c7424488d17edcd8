import { ImageError } from '../../util/errors.js';

/** Which flattened 2-D ids an image of `height` x `width` pixels uses. */
export interface FlatPositionSpec {
  height: number;
  width: number;
  /** Pixels per side of a token. */
  patch: number;
  /** Side of the table. */
  side: number;
  /** Spread the ids over the whole table instead of using its top left corner. */
  interpolate?: boolean;
}

/**
 * Flattened 2-D position ids `bucket(row) * side + bucket(col)` in row-major order.
 * `extrapolate` (default): bucket(i) = i. `interpolate`: bucket(i) = floor(i * side / count), in
 * integers (the reference's floating-point buckets are one lower for a few pairs, by rounding).
 * @throws ImageError when the image needs positions that the table does not have (the reference wraps
 *   around silently).
 */
export function flatPositionIds(spec: FlatPositionSpec): number[] {
  const { height, width, patch, side, interpolate = false } = spec;
  const rows = Math.floor(height / patch);
  const cols = Math.floor(width / patch);
  if (!interpolate && (rows > side || cols > side)) {
    throw new ImageError('ERR_IMAGE_SIZE', 'The image has more tokens per side than positions', {
      expected: `at most ${side * patch}x${side * patch} pixels`,
      found: `${width}x${height}`,
      hint: 'Resize the image, or use a model with a larger position table.',
    });
  }
  const bucket = (i: number, n: number) => (interpolate ? Math.floor((i * side) / n) : i);
  const ids: number[] = [];
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) ids.push(bucket(row, rows) * side + bucket(col, cols));
  }
  return ids;
}
