import sharp from 'sharp';
import type { RgbImage } from '../data/images.js';
import { ensureFonts } from './fonts.js';
import { svgDocument } from './svg.js';

/** Sizes of a picture placed into a square of a given side. */
export interface FittedPicture {
  width: number;
  height: number;
  png: Buffer;
}

/**
 * An image resized to fit a rectangle. Small images are enlarged without smoothing by whole steps
 * first, so that the pixels of tiny models stay visible as they are.
 */
export async function fitPicture(
  image: RgbImage,
  room: { width: number; height: number },
): Promise<FittedPicture> {
  const factor = Math.min(room.width / image.width, room.height / image.height);
  const width = Math.max(1, Math.round(image.width * factor));
  const height = Math.max(1, Math.round(image.height * factor));
  const raw = { width: image.width, height: image.height, channels: 3 as const };
  const kernel = factor >= 1.5 ? 'nearest' : 'lanczos3';
  const png = await sharp(image.data, { raw })
    .resize(width, height, { fit: 'fill', kernel })
    .png()
    .toBuffer();
  return { width, height, png };
}

/** A picture placed at a point of a larger one. */
export interface Layer {
  input: Buffer;
  left: number;
  top: number;
}

/** Draws layers onto a plain ground, then an SVG body over all of it, and encodes the whole as PNG. */
export async function compose(
  size: { width: number; height: number },
  ground: string,
  layers: Layer[],
  overlay: string,
): Promise<Buffer> {
  await ensureFonts();
  const { width, height } = size;
  const svg = Buffer.from(svgDocument(width, height, overlay));
  return sharp({ create: { width, height, channels: 3, background: ground } })
    .composite([...layers, { input: svg, left: 0, top: 0 }])
    .png({ compressionLevel: 9 })
    .toBuffer();
}

/** An SVG document as PNG, at `scale` times its size. */
export async function rasterize(svg: string, scale = 2): Promise<Buffer> {
  await ensureFonts();
  return sharp(Buffer.from(svg), { density: 72 * scale })
    .flatten({ background: '#ffffff' })
    .png({ compressionLevel: 9 })
    .toBuffer();
}
