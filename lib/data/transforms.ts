import { ConfigError, ImageError } from '../util/errors.js';
import { type RgbImage, resizeImage } from './resample.js';

export type { RgbImage } from './resample.js';

/** A float image: `data` holds 3 planes of `height` rows of `width` values in [-1, 1] (CHW). */
export interface ChwImage {
  width: number;
  height: number;
  data: Float32Array;
}

/** Options of the resize rule, with the names of the dataset YAML. */
export interface TransformOptions {
  /** Longest side allowed, in pixels. */
  max_image_size: number;
  /** Shortest side wanted; gives way to `max_image_size` for elongated images. */
  min_image_size: number;
  /** Both sides become multiples of this. */
  image_stride: number;
  /** Pixel budget, shared by the images of a sample. */
  max_pixels?: number;
}

/** Default pixel budget: 9 * 1024 patches of 14 x 14. */
export const DEFAULT_MAX_PIXELS = 14 * 14 * 9 * 1024;

/** The transforms of the reference's programs, by use. */
export const TRANSFORM_PRESETS = {
  /** VAE branch of generation and editing. */
  vae: { max_image_size: 1024, min_image_size: 512, image_stride: 16 },
  /** ViT branch of generation, editing and understanding. */
  vit: { max_image_size: 980, min_image_size: 224, image_stride: 14 },
  /** ViT branch of the understanding benchmarks. */
  vlm: { max_image_size: 980, min_image_size: 378, image_stride: 14, max_pixels: 2_007_040 },
  /** ViT view of editing data in training. */
  vit_edit: { max_image_size: 518, min_image_size: 224, image_stride: 14 },
  /** Both images of SRUM's regional-reward training. */
  srum: { max_image_size: 1024, min_image_size: 512, image_stride: 256 },
} as const satisfies Record<string, TransformOptions>;

/** Rounds to the nearest whole number, halves to the even one (as Python's `round`). */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest < 0.5) return floor;
  if (rest > 0.5) return floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

function scaleSides(width: number, height: number, scale: number, stride: number) {
  const side = (value: number): number =>
    Math.max(stride, roundHalfEven(roundHalfEven(value * scale) / stride) * stride);
  return { width: side(width), height: side(height) };
}

/**
 * Size an image is resized to (BAGEL's rule): the short side is raised to the minimum, the long
 * side limited to the maximum, both rounded to the stride, and the pixel budget kept. The budget
 * step uses the ratio of areas as a ratio of lengths, as the reference does, so it shrinks more than needed.
 *
 * @param imageCount images sharing the pixel budget.
 */
export function targetSize(
  width: number,
  height: number,
  options: TransformOptions,
  imageCount = 1,
): { width: number; height: number } {
  const { max_image_size: max, min_image_size: min, image_stride: stride } = options;
  const budget = (options.max_pixels ?? DEFAULT_MAX_PIXELS) / imageCount;
  let scale = Math.min(max / Math.max(width, height), 1);
  scale = Math.max(scale, min / Math.min(width, height));
  let size = scaleSides(width, height, scale, stride);
  if (size.width * size.height > budget) {
    size = scaleSides(size.width, size.height, budget / (size.width * size.height), stride);
  }
  if (Math.max(size.width, size.height) > max) {
    size = scaleSides(size.width, size.height, max / Math.max(size.width, size.height), stride);
  }
  return size;
}

/** float32 value of each byte after (v/255 - 0.5) / 0.5, every step rounded to float32. */
const NORMALISED = Float32Array.from({ length: 256 }, (_, v) =>
  Math.fround(Math.fround(Math.fround(v / 255) - 0.5) / 0.5),
);

/** RGB bytes (HWC) to planes of floats in [-1, 1] (CHW). */
export function normalise(image: RgbImage): ChwImage {
  const { width, height, data } = image;
  const plane = width * height;
  const out = new Float32Array(3 * plane);
  for (let i = 0, p = 0; i < plane; i++, p += 3) {
    out[i] = NORMALISED[data[p]];
    out[plane + i] = NORMALISED[data[p + 1]];
    out[2 * plane + i] = NORMALISED[data[p + 2]];
  }
  return { width, height, data: out };
}

/** Planes of floats in [-1, 1] back to RGB bytes: clamp, scale to 0..255, truncate (as the reference). */
export function denormalise(image: ChwImage): RgbImage {
  const { width, height, data } = image;
  const plane = width * height;
  const out = new Uint8Array(3 * plane);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < plane; i++) {
      const unit = Math.fround(Math.fround(data[c * plane + i] * 0.5) + 0.5);
      const clamped = unit > 0 ? Math.min(unit, 1) : 0;
      out[i * 3 + c] = Math.trunc(Math.fround(clamped * 255));
    }
  }
  return { width, height, data: out };
}

function positiveInteger(options: TransformOptions, key: keyof TransformOptions): void {
  const value = options[key];
  if (value === undefined || (Number.isInteger(value) && value > 0)) return;
  throw new ConfigError('ERR_TRANSFORM', 'an image transform option is out of range', {
    key,
    expected: 'a positive whole number',
    found: String(value),
  });
}

/**
 * The image transform of one branch: resize by the rule, then floats in [-1, 1].
 *
 * @throws ConfigError for options that are no positive whole numbers or a minimum above the maximum.
 */
export class ImageTransform {
  /** The options as given. */
  readonly options: TransformOptions;
  /** Both sides of a transformed image are multiples of this many pixels. */
  readonly stride: number;

  constructor(options: TransformOptions) {
    const keys = ['max_image_size', 'min_image_size', 'image_stride', 'max_pixels'] as const;
    for (const key of keys) positiveInteger(options, key);
    if (options.min_image_size > options.max_image_size) {
      throw new ConfigError('ERR_TRANSFORM', 'the smallest image size is above the largest', {
        key: 'min_image_size',
        expected: `at most ${options.max_image_size}`,
        found: String(options.min_image_size),
      });
    }
    this.options = options;
    this.stride = options.image_stride;
  }

  /** Resizes to the size the rule gives. @throws ImageError for an image without pixels. */
  resize(image: RgbImage, imageCount = 1): RgbImage {
    if (!(image.width > 0 && image.height > 0)) {
      throw new ImageError('ERR_IMAGE_SIZE', 'the image has no pixels');
    }
    const size = targetSize(image.width, image.height, this.options, imageCount);
    return resizeImage(image, size.width, size.height, 'bicubic');
  }

  /** Resizes and normalises. @param imageCount images of the sample, which share `max_pixels`. */
  apply(image: RgbImage, imageCount = 1): ChwImage {
    return normalise(this.resize(image, imageCount));
  }
}
