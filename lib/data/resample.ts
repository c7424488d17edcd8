import { ImageError } from '../util/errors.js';

/** An 8-bit RGB image: `data` holds `height` rows of `width` pixels of 3 bytes. */
export interface RgbImage {
  width: number;
  height: number;
  data: Uint8Array;
}

/** Interpolation kernels of the resampler, named as in Pillow. */
export type Resampling = 'bicubic' | 'bilinear';

interface Kernel {
  support: number;
  weight(x: number): number;
}

/** Keys' cubic with a = -0.5 and the tent function; the same closed forms as Pillow's. */
const KERNELS: Record<Resampling, Kernel> = {
  bicubic: {
    support: 2,
    weight(t) {
      const a = -0.5;
      const x = Math.abs(t);
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
      if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
      return 0;
    },
  },
  bilinear: {
    support: 1,
    weight(t) {
      const x = Math.abs(t);
      return x < 1 ? 1 - x : 0;
    },
  },
};

/** Fixed-point fraction bits: 32 less 8 for the pixel and 2 for overshoot, as in Pillow. */
const PRECISION_BITS = 22;
const HALF = 1 << (PRECISION_BITS - 1);

/** For every output position: first input position, number of taps, and the taps themselves. */
interface Taps {
  size: number;
  first: Int32Array;
  count: Int32Array;
  weights: Int32Array;
}

/**
 * Tap weights of one axis. When shrinking, the kernel is widened by the scale (antialiasing);
 * weights are normalised in double precision, then rounded to 22-bit fixed point.
 */
function computeTaps(inSize: number, outSize: number, kernel: Kernel): Taps {
  const scale = inSize / outSize;
  const filterScale = Math.max(scale, 1);
  const support = kernel.support * filterScale;
  const size = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(outSize);
  const count = new Int32Array(outSize);
  const weights = new Int32Array(outSize * size);
  const row = new Float64Array(size);
  const inverse = 1 / filterScale;
  for (let i = 0; i < outSize; i++) {
    const center = (i + 0.5) * scale;
    const from = Math.max(0, Math.trunc(center - support + 0.5));
    const to = Math.min(inSize, Math.trunc(center + support + 0.5));
    let total = 0;
    for (let j = from; j < to; j++) {
      const w = kernel.weight((j - center + 0.5) * inverse);
      row[j - from] = w;
      total += w;
    }
    for (let j = 0; j < to - from; j++) {
      const w = (total === 0 ? row[j] : row[j] / total) * (1 << PRECISION_BITS);
      weights[i * size + j] = Math.trunc(w < 0 ? w - 0.5 : w + 0.5);
    }
    first[i] = from;
    count[i] = to - from;
  }
  return { size, first, count, weights };
}

/** Resamples every row of `src` (`rows` x `inWidth` x 3) to `outWidth`. */
function horizontalPass(
  src: Uint8Array,
  rows: number,
  inWidth: number,
  outWidth: number,
  kernel: Kernel,
): Uint8Array {
  const { size, first, count, weights } = computeTaps(inWidth, outWidth, kernel);
  // Clamped storage does the limiting to 0..255.
  const out = new Uint8ClampedArray(rows * outWidth * 3);
  let o = 0;
  for (let y = 0; y < rows; y++) {
    const base = y * inWidth * 3;
    for (let x = 0; x < outWidth; x++) {
      let p = base + first[x] * 3;
      let r = HALF;
      let g = HALF;
      let b = HALF;
      const end = x * size + count[x];
      for (let k = x * size; k < end; k++) {
        const w = weights[k];
        r = (r + Math.imul(src[p], w)) | 0;
        g = (g + Math.imul(src[p + 1], w)) | 0;
        b = (b + Math.imul(src[p + 2], w)) | 0;
        p += 3;
      }
      out[o] = r >> PRECISION_BITS;
      out[o + 1] = g >> PRECISION_BITS;
      out[o + 2] = b >> PRECISION_BITS;
      o += 3;
    }
  }
  return new Uint8Array(out.buffer);
}

/** Resamples every column of `src` (`inHeight` x `stride` bytes) to `outHeight` rows. */
function verticalPass(
  src: Uint8Array,
  stride: number,
  inHeight: number,
  outHeight: number,
  kernel: Kernel,
): Uint8Array {
  const { size, first, count, weights } = computeTaps(inHeight, outHeight, kernel);
  const out = new Uint8ClampedArray(outHeight * stride);
  const sums = new Int32Array(stride);
  for (let y = 0; y < outHeight; y++) {
    sums.fill(HALF);
    for (let k = 0; k < count[y]; k++) {
      const w = weights[y * size + k];
      const row = (first[y] + k) * stride;
      for (let i = 0; i < stride; i++) sums[i] += Math.imul(src[row + i], w);
    }
    const o = y * stride;
    for (let i = 0; i < stride; i++) out[o + i] = sums[i] >> PRECISION_BITS;
  }
  return new Uint8Array(out.buffer);
}

function checkSize(width: number, height: number): void {
  if (!Number.isInteger(width) || !Number.isInteger(height) || width < 1 || height < 1) {
    throw new ImageError('ERR_IMAGE_SIZE', 'an image side must be a positive whole number', {
      found: `${width}x${height}`,
    });
  }
}

/**
 * Resizes an RGB image with antialiasing, equal to Pillow's `Image.resize` to the last bit:
 * separable, horizontal pass first, 22-bit fixed-point weights, 8-bit intermediate, and no pass
 * along an axis whose size stays the same. Returns the image itself when nothing changes.
 *
 * @throws ImageError for sides that are not positive whole numbers or data of the wrong length.
 */
export function resizeImage(
  image: RgbImage,
  width: number,
  height: number,
  resampling: Resampling = 'bicubic',
): RgbImage {
  checkSize(width, height);
  checkSize(image.width, image.height);
  if (image.data.length !== image.width * image.height * 3) {
    throw new ImageError('ERR_IMAGE_SIZE', 'the pixel data does not fit the image size', {
      expected: `${image.width * image.height * 3} bytes`,
      found: `${image.data.length} bytes`,
    });
  }
  if (width === image.width && height === image.height) return image;
  const kernel = KERNELS[resampling];
  let data = image.data;
  if (width !== image.width) data = horizontalPass(data, image.height, image.width, width, kernel);
  if (height !== image.height) data = verticalPass(data, width * 3, image.height, height, kernel);
  return { width, height, data };
}
