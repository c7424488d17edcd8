import { crc32, inflateSync } from 'node:zlib';
import { ImageError } from '../util/errors.js';

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

interface Chunk {
  type: string;
  offset: number;
  data: Buffer;
}

/** Whether the bytes begin like a PNG file. */
export function isPng(bytes: Uint8Array): boolean {
  return bytes.length >= 8 && SIGNATURE.equals(Buffer.from(bytes.buffer, bytes.byteOffset, 8));
}

function* chunks(png: Uint8Array): Generator<Chunk> {
  const bytes = Buffer.from(png.buffer, png.byteOffset, png.byteLength);
  let at = SIGNATURE.length;
  while (at + 12 <= bytes.length) {
    const length = bytes.readUInt32BE(at);
    if (at + 12 + length > bytes.length) return;
    const type = bytes.toString('latin1', at + 4, at + 8);
    yield { type, offset: at, data: bytes.subarray(at + 8, at + 8 + length) };
    at += 12 + length;
  }
}

/** What the header of a PNG declares about its pixels. */
export interface PngHeader {
  bitDepth: number;
  /** 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGBA. */
  colourType: number;
  /** Whether a tRNS chunk declares transparency. */
  transparency: boolean;
}

/** Reads a PNG's header, or null for other formats and headers too short to read. */
export function pngHeader(bytes: Uint8Array): PngHeader | null {
  if (!isPng(bytes)) return null;
  let header: PngHeader | null = null;
  for (const { type, data } of chunks(bytes)) {
    if (type === 'IHDR' && data.length >= 13) {
      header = { bitDepth: data[8], colourType: data[9], transparency: false };
    }
    if (type === 'tRNS' && header !== null) header.transparency = true;
    if (type === 'IDAT') break;
  }
  return header;
}

function makeChunk(type: string, data: Buffer): Buffer {
  const chunk = Buffer.alloc(12 + data.length);
  chunk.writeUInt32BE(data.length, 0);
  chunk.write(type, 4, 'latin1');
  data.copy(chunk, 8);
  chunk.writeUInt32BE(crc32(chunk.subarray(4, 8 + data.length)) >>> 0, 8 + data.length);
  return chunk;
}

/**
 * Adds text entries to a PNG file: plain `tEXt` where Latin-1 holds the text, UTF-8 `iTXt` elsewhere.
 *
 * @param text keyword (1-79 printable Latin-1 characters) to text.
 * @throws ImageError for bytes that are no PNG and for keywords the format does not allow.
 */
export function addPngText(png: Uint8Array, text: Record<string, string>): Buffer {
  if (!isPng(png)) throw new ImageError('ERR_NOT_PNG', 'text can be added to PNG files only');
  const bytes = Buffer.from(png.buffer, png.byteOffset, png.byteLength);
  const added = Object.entries(text).map(([key, value]) => {
    if (!/^[\x21-\x7e\xa1-\xff]([\x20-\x7e\xa1-\xff]{0,77}[\x21-\x7e\xa1-\xff])?$/.test(key)) {
      throw new ImageError('ERR_PNG_TEXT', 'this keyword is not allowed in a PNG file', { key });
    }
    const keyword = Buffer.from(`${key}\0`, 'latin1');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: Latin-1 is what tEXt may hold
    if (/^[\x09\x0a\x20-\x7e\xa1-\xff]*$/.test(value)) {
      return makeChunk('tEXt', Buffer.concat([keyword, Buffer.from(value, 'latin1')]));
    }
    // Not compressed, no language, no translated keyword.
    return makeChunk('iTXt', Buffer.concat([keyword, Buffer.alloc(4), Buffer.from(value, 'utf8')]));
  });
  const headerEnd = SIGNATURE.length + 12 + bytes.readUInt32BE(SIGNATURE.length);
  return Buffer.concat([bytes.subarray(0, headerEnd), ...added, bytes.subarray(headerEnd)]);
}

function decodeText(type: string, data: Buffer): [string, string] | null {
  const end = data.indexOf(0);
  if (end < 0) return null;
  const key = data.toString('latin1', 0, end);
  if (type === 'tEXt') return [key, data.toString('latin1', end + 1)];
  if (type === 'zTXt') return [key, inflateSync(data.subarray(end + 2)).toString('latin1')];
  const compressed = data[end + 1] === 1;
  const language = data.indexOf(0, end + 3);
  const translated = language < 0 ? -1 : data.indexOf(0, language + 1);
  if (translated < 0) return null;
  const body = data.subarray(translated + 1);
  return [key, (compressed ? inflateSync(body) : body).toString('utf8')];
}

/** Text entries of a PNG file; unreadable entries are left out. Empty for other formats. */
export function readPngText(png: Uint8Array): Record<string, string> {
  const out: Record<string, string> = {};
  if (!isPng(png)) return out;
  for (const { type, data } of chunks(png)) {
    if (type !== 'tEXt' && type !== 'iTXt' && type !== 'zTXt') continue;
    try {
      const entry = decodeText(type, data);
      if (entry !== null) out[entry[0]] = entry[1];
    } catch {
      // A damaged compressed text does not make the image unusable.
    }
  }
  return out;
}
