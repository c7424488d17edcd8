import sharp from 'sharp';
import { ImageError, messageOf, SrumError } from '../util/errors.js';
import { readBytes, writeFileAtomic } from '../util/files.js';
import { addPngText, type PngHeader, pngHeader } from './png-chunks.js';
import type { RgbImage } from './resample.js';

export type { RgbImage } from './resample.js';

/** Undecoded pixels: `channels` samples a pixel, 8 or 16 bits each. */
interface RawPixels {
  width: number;
  height: number;
  channels: number;
  data: Uint8Array | Uint16Array;
}

/** round(a * b / 255) in the integer form Pillow uses everywhere. */
function div255(product: number): number {
  const t = product + 128;
  return ((t >> 8) + t) >> 8;
}

/** Pillow's paste with an alpha mask over white. */
function overWhite(value: number, alpha: number): number {
  return div255(255 * (255 - alpha) + value * alpha);
}

/** Grey to RGB. Pillow clips 16-bit grey at 255 instead of scaling it; so does this. */
function greyToRgb(raw: RawPixels): Uint8Array {
  const out = new Uint8Array(raw.width * raw.height * 3);
  for (let o = 0, p = 0; o < out.length; o += 3, p += raw.channels) {
    out.fill(Math.min(raw.data[p], 255), o, o + 3);
  }
  return out;
}

/** CMYK to RGB as Pillow does it, without a colour profile. */
function cmykToRgb(data: Uint8Array): Uint8Array {
  const out = new Uint8Array((data.length / 4) * 3);
  for (let p = 0, o = 0; p < data.length; p += 4, o += 3) {
    const light = 255 - data[p + 3];
    for (let c = 0; c < 3; c++) out[o + c] = Math.max(0, light - div255(data[p + c] * light));
  }
  return out;
}

/** High byte of 16-bit colour samples, as Pillow reads them. */
function to8Bits(data: Uint8Array | Uint16Array): Uint8Array {
  return data instanceof Uint16Array ? Uint8Array.from(data, (v) => v >> 8) : data;
}

/** RGB out of interleaved grey, RGB or RGBA samples; RGBA is put over white. */
function toRgb(raw: RawPixels): Uint8Array {
  if (raw.channels < 3) return greyToRgb(raw);
  const data = to8Bits(raw.data);
  if (raw.channels === 3) return data;
  const out = new Uint8Array(raw.width * raw.height * 3);
  for (let p = 0, o = 0; o < out.length; p += 4, o += 3) {
    for (let c = 0; c < 3; c++) out[o + c] = overWhite(data[p + c], data[p + 3]);
  }
  return out;
}

function failure(name: string, error: unknown): ImageError {
  const reason = messageOf(error).split('\n')[0];
  const large = /exceeds pixel limit/i.test(reason);
  return new ImageError(
    large ? 'ERR_IMAGE_TOO_LARGE' : 'ERR_IMAGE_UNREADABLE',
    large ? 'the image has too many pixels' : 'the image cannot be decoded',
    { file: name, found: reason },
    { cause: error },
  );
}

/** Names libvips gives to grey images of 8 and 16 bits. */
const GREY_SPACES = new Set(['b-w', 'grey16']);

/** Formats of pixels, under sharp's names; AVIF is `heif` there. Drawings have no pixels of their own. */
const RASTER_FORMATS: ReadonlySet<string> = new Set(['png', 'jpeg', 'webp', 'gif', 'tiff', 'heif']);

/** Options of `decodeImage`. */
export interface DecodeOptions {
  /** Name used in errors; the path, where there is one. */
  name?: string;
  /** Images with more pixels are refused. Default 268 million (0x3FFF squared). */
  maxPixels?: number;
}

/** Whether Pillow would open this PNG as grey with alpha, whose alpha its RGB conversion drops. */
function losesAlpha(png: PngHeader | null, channels: number): boolean {
  if (png === null) return channels === 2;
  return png.colourType === 4 && png.bitDepth <= 8;
}

/**
 * Decodes an encoded image to RGB exactly as the reference does with Pillow: images with an alpha
 * channel (grey with alpha excepted: its alpha is dropped) or declared transparency are put over
 * white; no EXIF rotation; no colour management; the first frame of animations.
 *
 * @throws ImageError naming the image when it is truncated, damaged, of an unknown format or of
 * one that holds no raster picture (SVG).
 */
export async function decodeImage(
  bytes: Uint8Array,
  options: DecodeOptions = {},
): Promise<RgbImage> {
  const name = options.name ?? '(image bytes)';
  if (bytes.length === 0) {
    throw new ImageError('ERR_IMAGE_UNREADABLE', 'the image is empty', { file: name });
  }
  try {
    const open = () =>
      sharp(bytes, {
        failOn: 'error',
        ignoreIcc: true,
        limitInputPixels: options.maxPixels ?? 0x3fff * 0x3fff,
      });
    const meta = await open().metadata();
    if (!RASTER_FORMATS.has(meta.format ?? '')) {
      throw new ImageError('ERR_IMAGE_FORMAT', 'the file is no raster picture', {
        file: name,
        expected: 'PNG, JPEG, WebP, GIF, TIFF or AVIF',
        found: meta.format,
      });
    }
    if (meta.space === 'cmyk') {
      const cmyk = await open()
        .pipelineColourspace('cmyk')
        .toColourspace('cmyk')
        .raw()
        .toBuffer({ resolveWithObject: true });
      if (cmyk.info.channels === 4) {
        return { width: cmyk.info.width, height: cmyk.info.height, data: cmykToRgb(cmyk.data) };
      }
    }
    const wide = meta.depth === 'ushort';
    const dropAlpha = losesAlpha(pngHeader(bytes), meta.channels);
    const oneChannel = GREY_SPACES.has(meta.space ?? '') && (dropAlpha || !meta.hasAlpha);
    let pipeline = open();
    if (oneChannel) pipeline = pipeline.toColourspace(wide ? 'grey16' : 'b-w');
    else if (wide) pipeline = pipeline.toColourspace('rgb16');
    const { data, info } = await pipeline
      .raw({ depth: wide ? 'ushort' : 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const samples = wide ? new Uint16Array(new Uint8Array(data).buffer) : new Uint8Array(data);
    const raw = { width: info.width, height: info.height, channels: info.channels, data: samples };
    return { width: info.width, height: info.height, data: toRgb(raw) };
  } catch (error) {
    if (error instanceof SrumError) throw error;
    throw failure(name, error);
  }
}

/** Reads and decodes an image file; see `decodeImage`. @throws FileError, ImageError */
export function readImage(file: string, options: DecodeOptions = {}): Promise<RgbImage> {
  return Promise.resolve().then(() => decodeImage(readBytes(file), { name: file, ...options }));
}

/** Options of `encodePng`. */
export interface EncodeOptions {
  /** Text entries stored in the file, e.g. seed and sampler settings. */
  text?: Record<string, string>;
  /** zlib level 0-9. Default 6. */
  compressionLevel?: number;
}

/** Encodes an RGB image as a PNG file. @throws ImageError when data and size disagree. */
export async function encodePng(image: RgbImage, options: EncodeOptions = {}): Promise<Buffer> {
  const { width, height, data } = image;
  if (data.length !== width * height * 3) {
    throw new ImageError('ERR_IMAGE_SIZE', 'the pixel data does not fit the image size', {
      expected: `${width * height * 3} bytes`,
      found: `${data.length} bytes`,
    });
  }
  const png = await sharp(data, { raw: { width, height, channels: 3 }, limitInputPixels: false })
    .png({ compressionLevel: options.compressionLevel ?? 6 })
    .toBuffer();
  return options.text === undefined ? png : addPngText(png, options.text);
}

/** Writes an RGB image as a PNG file, atomically. @throws FileError, ImageError */
export async function writePng(
  file: string,
  image: RgbImage,
  options: EncodeOptions = {},
): Promise<void> {
  writeFileAtomic(file, await encodePng(image, options));
}
