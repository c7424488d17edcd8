import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';

/** Font family of all text in pictures. */
export const FONT_FAMILY = "Inter, 'DejaVu Sans', 'Noto Sans', 'Noto Sans CJK SC', sans-serif";

/** Widths in thousandths of the font size, by groups of characters of Inter. */
const WIDTHS: Array<[RegExp, number]> = [
  [/[ilj.,:;'|!\s]/, 265],
  [/[ft()[\]{}rI"`/\\-]/, 370],
  [/[mw]/, 850],
  [/[MW@%—…]/, 900],
  [/[A-Z]/, 690],
  [/[0-9]/, 630],
  [/[\u1100-\uffff]|[\ud800-\udbff][\udc00-\udfff]/, 1000],
];

let ready: Promise<void> | undefined;

/**
 * Makes our own font known to the picture library of this process. Bare machines have no fonts at
 * all, and pictures should look the same everywhere. Call before drawing text; costs nothing after
 * the first time.
 */
export function ensureFonts(): Promise<void> {
  ready ??= register();
  return ready;
}

async function register(): Promise<void> {
  const folder = new URL('../../../assets/fonts/', import.meta.url);
  // Without any configuration on the machine the font library complains on every start.
  if (process.env.FONTCONFIG_FILE === undefined && !fs.existsSync('/etc/fonts/fonts.conf')) {
    process.env.FONTCONFIG_FILE = fileURLToPath(new URL('fonts.conf', folder));
  }
  for (const name of ['inter-regular.ttf', 'inter-semibold.ttf']) {
    const fontfile = fileURLToPath(new URL(name, folder));
    // Drawing a letter is how the library is given a font file.
    await sharp({ text: { text: 'x', font: 'Inter', fontfile } })
      .raw()
      .toBuffer();
  }
}

/** Approximate width of a text in pixels. */
export function textWidth(text: string, size: number): number {
  let width = 0;
  for (const character of text) {
    width += WIDTHS.find(([group]) => group.test(character))?.[1] ?? 570;
  }
  return (width * size) / 1000;
}

/** The text, or its beginning with an ellipsis, so that it fits into `room` pixels. */
export function fitText(text: string, size: number, room: number): string {
  const line = text.replace(/\s+/g, ' ').trim();
  if (textWidth(line, size) <= room) return line;
  const characters = [...line];
  while (characters.length > 0 && textWidth(`${characters.join('')}…`, size) > room) {
    characters.pop();
  }
  return `${characters.join('').trimEnd()}…`;
}

/** The text in at most `lines` lines of `room` pixels, broken between words; the last one is cut. */
export function wrapText(text: string, size: number, room: number, lines: number): string[] {
  const words = text.replace(/\s+/g, ' ').trim().split(' ');
  const out: string[] = [];
  while (words.length > 0 && out.length < lines) {
    if (out.length === lines - 1) {
      out.push(fitText(words.join(' '), size, room));
      break;
    }
    let line = words.shift() as string;
    while (words.length > 0 && textWidth(`${line} ${words[0]}`, size) <= room) {
      line += ` ${words.shift()}`;
    }
    out.push(fitText(line, size, room));
  }
  return out.filter((line) => line !== '');
}
