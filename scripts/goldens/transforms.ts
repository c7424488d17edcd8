import { readImage } from '../../lib/data/images.js';
import { ImageTransform, normalise, targetSize } from '../../lib/data/transforms.js';
import { type GoldenCase, type Handler, type Json, optional } from './handler.js';

function resizeRule(c: GoldenCase): void {
  const options = {
    max_image_size: c.params.max_size,
    min_image_size: c.params.min_size,
    image_stride: c.params.stride,
    max_pixels: optional(c.params, 'max_pixels'),
  };
  const sizes = c.input('sizes_wh').toIntArray();
  const out: number[] = [];
  for (let i = 0; i < sizes.length; i += 2) {
    const { width, height } = targetSize(
      sizes[i],
      sizes[i + 1],
      options,
      optional(c.params, 'img_num'),
    );
    out.push(width, height);
  }
  c.expect('sizes_wh', out, [sizes.length / 2, 2]);
}

/** The transform a case describes, whatever else stands in its parameters. */
export function transformOf(params: Json): ImageTransform {
  const { max_image_size, min_image_size, image_stride } = params;
  const max_pixels = optional(params, 'max_pixels');
  return new ImageTransform({ max_image_size, min_image_size, image_stride, max_pixels });
}

async function imageTransform(c: GoldenCase): Promise<void> {
  const transform = transformOf(c.params);
  const image = await readImage(c.path(c.params.png));
  if (c.hasOutput('rgb')) c.expect('rgb', image.data, [image.height, image.width, 3]);
  const resized = transform.resize(image);
  c.expect('resized', resized.data, [resized.height, resized.width, 3]);
  c.expect('tensor', normalise(resized).data, [3, resized.height, resized.width]);
}

/** Decoding, resize rule, resampling and normalisation of images. */
export const handlers: Handler[] = [
  [/^resize_rule/, resizeRule],
  [/^image_transform/, imageTransform],
];
