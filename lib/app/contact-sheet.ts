import type { RgbImage } from '../data/images.js';
import { ConfigError } from '../util/errors.js';
import { fitText, wrapText } from './fonts.js';
import { compose, fitPicture, type Layer } from './picture.js';
import { round, svgText } from './svg.js';

/** One picture of the sheet; without an image its place stays marked as empty. */
export interface ContactCell {
  image?: RgbImage;
  /** Under the picture, in up to two lines. */
  label?: string;
  /** Under the label, in grey. */
  note?: string;
  /** A place that is left white, e.g. at the end of an incomplete row. */
  blank?: boolean;
}

export interface ContactSheetOptions {
  title?: string;
  subtitle?: string;
  /** Cells per row; default: a roughly square sheet. */
  columns?: number;
  /** Heading over each column. */
  headings?: readonly string[];
  /** Heading of each row, written upwards at its left. */
  rowHeadings?: readonly string[];
  /** Side of the square a picture is fitted into, in pixels. Default 224. */
  cellSize?: number;
}

const MARGIN = 28;
const GAP = 20;
/** Room for the headings of rows. */
const ROW_HEADING = 26;

/**
 * A grid of labelled pictures.
 *
 * @returns PNG bytes.
 * @throws ConfigError when there are no cells or the options are out of range.
 */
export async function contactSheet(
  cells: readonly ContactCell[],
  options: ContactSheetOptions = {},
): Promise<Buffer> {
  const cell = options.cellSize ?? 224;
  const columns = options.columns ?? Math.min(6, Math.ceil(Math.sqrt(cells.length)));
  if (cells.length === 0 || !(columns >= 1) || !(cell >= 16)) {
    throw new ConfigError('ERR_CONTACT_SHEET', 'a contact sheet needs cells, columns and a size', {
      expected: 'at least 1 cell, 1 column and 16 pixels',
      found: `${cells.length} cells, ${columns} columns, ${cell} pixels`,
    });
  }
  const rows = Math.ceil(cells.length / columns);
  const indent = MARGIN + (options.rowHeadings ? ROW_HEADING : 0);
  const width = indent + MARGIN + columns * cell + (columns - 1) * GAP;
  const room = width - 2 * MARGIN;
  const text: string[] = [];
  let y = MARGIN;
  if (options.title) {
    text.push(svgText(MARGIN, y + 18, fitText(options.title, 22, room), { size: 22, bold: true }));
    y += 34;
  }
  for (const line of wrapText(options.subtitle ?? '', 13, room, 2)) {
    text.push(svgText(MARGIN, y + 8, line, { size: 13, fill: '#5b6472' }));
    y += 19;
  }
  if (y > MARGIN) y += 12;
  if (options.headings) {
    options.headings.slice(0, columns).forEach((heading, i) => {
      const x = indent + i * (cell + GAP);
      const style = { size: 13, bold: true, fill: '#5b6472' };
      text.push(svgText(x, y + 10, fitText(heading, 13, cell), style));
    });
    y += 22;
  }
  const layers: Layer[] = [];
  for (let row = 0; row < rows; row += 1) {
    const ofRow = cells.slice(row * columns, (row + 1) * columns);
    // Rows of pictures that are all wide do not leave a square's worth of empty ground.
    const shapes = ofRow.map(({ image }) => (image ? image.height / image.width : 1));
    const pictureHeight = Math.round(cell * Math.min(1, Math.max(...shapes)));
    const heading = options.rowHeadings?.[row];
    if (heading) text.push(rowHeading(heading, y, pictureHeight));
    let captionHeight = 0;
    for (const [column, { image, label, note, blank }] of ofRow.entries()) {
      if (blank) continue;
      const left = indent + column * (cell + GAP);
      if (image) {
        const fitted = await fitPicture(image, { width: cell, height: pictureHeight });
        const x = left + Math.floor((cell - fitted.width) / 2);
        const top = y + Math.floor((pictureHeight - fitted.height) / 2);
        layers.push({ input: fitted.png, left: x, top });
        text.push(frame(x, top, fitted.width, fitted.height));
      } else {
        text.push(emptyPlace(left, y, cell, pictureHeight));
      }
      let line = y + pictureHeight + 20;
      for (const part of wrapText(label ?? '', 13, cell, 2)) {
        text.push(svgText(left, line, part, { size: 13 }));
        line += 17;
      }
      if (note) {
        text.push(svgText(left, line, fitText(note, 12, cell), { size: 12, fill: '#7a8392' }));
        line += 16;
      }
      captionHeight = Math.max(captionHeight, line - (y + pictureHeight + 20));
    }
    y += pictureHeight + (captionHeight > 0 ? captionHeight + 10 : 0) + GAP;
  }
  const height = y - GAP + MARGIN;
  return compose({ width, height }, '#ffffff', layers, text.join(''));
}

function rowHeading(heading: string, y: number, height: number): string {
  const [x, middle] = [MARGIN + 12, y + height / 2];
  const words = svgText(x, middle, fitText(heading, 13, height), {
    size: 13,
    bold: true,
    fill: '#5b6472',
    anchor: 'middle',
  });
  return `<g transform="rotate(-90 ${x} ${round(middle)})">${words}</g>`;
}

function frame(x: number, y: number, width: number, height: number): string {
  const place = `x="${round(x) - 0.5}" y="${round(y) - 0.5}"`;
  const size = `width="${width + 1}" height="${height + 1}"`;
  return `<rect ${place} ${size} fill="none" stroke="#1d2430" stroke-opacity="0.14"/>`;
}

function emptyPlace(x: number, y: number, width: number, height: number): string {
  const place = `x="${x + 0.5}" y="${y + 0.5}" width="${width - 1}" height="${height - 1}"`;
  return (
    `<rect ${place} fill="#f4f5f7" stroke="#c9ced6" stroke-dasharray="4 4"/>` +
    svgText(x + width / 2, y + height / 2 + 4, 'no picture', {
      size: 12,
      fill: '#7a8392',
      anchor: 'middle',
    })
  );
}
