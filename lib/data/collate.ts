import { ImageError } from '../util/errors.js';
import type { ChwImage } from './transforms.js';

/** Images of different sizes in one block of floats. */
export interface PaddedImages {
  /** `[images, 3, height, width]`. */
  shape: [number, number, number, number];
  data: Float32Array;
}

/** Stacks images, zero padded at the right and the bottom to the largest height and width. */
export function padImages(images: readonly ChwImage[]): PaddedImages {
  const height = images.reduce((max, image) => Math.max(max, image.height), 0);
  const width = images.reduce((max, image) => Math.max(max, image.width), 0);
  const data = new Float32Array(images.length * 3 * height * width);
  for (const [n, image] of images.entries()) {
    for (let row = 0; row < 3 * image.height; row++) {
      const plane = Math.floor(row / image.height);
      const y = row % image.height;
      const from = row * image.width;
      const to = ((n * 3 + plane) * height + y) * width;
      data.set(image.data.subarray(from, from + image.width), to);
    }
  }
  return { shape: [images.length, 3, height, width], data };
}

/**
 * Cuts an image into square patches, row by row: `[patches, patch * patch * 3]`, inside a patch
 * row, column, channel (channel fastest), as BAGEL feeds its ViT.
 *
 * @throws ImageError when a side is no multiple of the patch.
 */
export function patchRows(image: ChwImage, patch: number): Float32Array {
  const { width, height, data } = image;
  if (width % patch !== 0 || height % patch !== 0) {
    throw new ImageError('ERR_IMAGE_SIZE', 'the image does not fit the patch grid', {
      expected: `sides that are multiples of ${patch}`,
      found: `${width}x${height}`,
    });
  }
  const out = new Float32Array(data.length);
  const plane = width * height;
  let o = 0;
  for (let top = 0; top < height; top += patch) {
    for (let left = 0; left < width; left += patch) {
      for (let y = top; y < top + patch; y++) {
        for (let x = left; x < left + patch; x++) {
          const at = y * width + x;
          out[o] = data[at];
          out[o + 1] = data[plane + at];
          out[o + 2] = data[2 * plane + at];
          o += 3;
        }
      }
    }
  }
  return out;
}

/** Patches of several images one after another: `[all patches, patch * patch * 3]`. */
export function packPatches(images: readonly ChwImage[], patch: number): Float32Array {
  const total = images.reduce((sum, image) => sum + image.data.length, 0);
  const out = new Float32Array(total);
  let at = 0;
  for (const image of images) {
    out.set(patchRows(image, patch), at);
    at += image.data.length;
  }
  return out;
}
