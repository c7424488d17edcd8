import { signed } from './palette.js';
import { REPORT_STYLE } from './report-style.js';
import { escapeMarkup } from './svg.js';

/** A picture to embed: PNG or JPEG bytes, or an SVG document. */
export interface ReportImage {
  data: Uint8Array | string;
  /** Says what is to be seen, for those who do not see it. */
  alt: string;
  caption?: string;
  /** Small pictures of pixel art size are enlarged without smoothing. */
  pixelated?: boolean;
}

/** A row of the before/after comparison. */
export interface ReportComparison {
  prompt: string;
  images: ReportImage[];
  note?: string;
}

/** A table; numbers are set right. `score: true` columns show signs and a small bar. */
export interface ReportTable {
  caption?: string;
  columns: ReadonlyArray<string | { title: string; score?: boolean }>;
  rows: ReadonlyArray<ReadonlyArray<string | number | null>>;
}

/** What a section of the report shows, in the order given. */
export type ReportBlock =
  | { kind: 'text'; text: string }
  | { kind: 'images'; images: ReportImage[] }
  | { kind: 'comparison'; headings: string[]; rows: ReportComparison[] }
  | { kind: 'table'; table: ReportTable }
  | { kind: 'settings'; settings: Record<string, unknown> };

export interface ReportSection {
  title: string;
  blocks: ReportBlock[];
}

export interface Report {
  title: string;
  subtitle?: string;
  /** Shown prominently under the title, e.g. that the model is untrained. */
  warnings?: readonly string[];
  /** Key figures, shown as tiles. */
  facts?: ReadonlyArray<{ label: string; value: string }>;
  sections: ReportSection[];
  footer?: string;
}

/**
 * One self-contained HTML page: no scripts, no other files, light or dark as the reader's system.
 * All texts are escaped; whatever a model wrote is shown, never interpreted.
 */
export function renderReport(report: Report): string {
  const ids = report.sections.map((_, i) => `s${i + 1}`);
  const contents = report.sections
    .map(({ title }, i) => `<a href="#${ids[i]}">${escapeMarkup(title)}</a>`)
    .join('');
  const parts = [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    `<title>${escapeMarkup(report.title)}</title>`,
    `<style>${REPORT_STYLE}</style></head><body>`,
    `<header><h1>${escapeMarkup(report.title)}</h1>`,
    report.subtitle ? `<p class="lead">${escapeMarkup(report.subtitle)}</p>` : '',
    ...(report.warnings ?? []).map(warning),
    facts(report.facts ?? []),
    report.sections.length > 2 ? `<nav aria-label="Contents">${contents}</nav>` : '',
    '</header><main>',
    ...report.sections.map((section, i) => sectionHtml(section, ids[i])),
    '</main>',
    report.footer ? `<footer>${escapeMarkup(report.footer)}</footer>` : '',
    '</body></html>\n',
  ];
  return parts.filter((part) => part !== '').join('\n');
}

function warning(text: string): string {
  return `<p class="warning" role="note"><strong>Please note.</strong> ${escapeMarkup(text)}</p>`;
}

function facts(list: NonNullable<Report['facts']>): string {
  if (list.length === 0) return '';
  const tiles = list.map(
    ({ label, value }) =>
      `<div><dt>${escapeMarkup(label)}</dt><dd>${escapeMarkup(value)}</dd></div>`,
  );
  return `<dl class="facts">${tiles.join('')}</dl>`;
}

function sectionHtml(section: ReportSection, id: string): string {
  const blocks = section.blocks.map(block).join('\n');
  return `<section id="${id}"><h2>${escapeMarkup(section.title)}</h2>\n${blocks}\n</section>`;
}

function block(b: ReportBlock): string {
  switch (b.kind) {
    case 'text':
      return b.text
        .split(/\n{2,}/)
        .map((p) => `<p>${escapeMarkup(p)}</p>`)
        .join('\n');
    case 'images':
      return `<div class="images">${b.images.map(figure).join('\n')}</div>`;
    case 'comparison':
      return comparison(b.headings, b.rows);
    case 'table':
      return table(b.table);
    case 'settings':
      return settings(b.settings);
  }
}

function figure(image: ReportImage): string {
  const caption = image.caption ? `<figcaption>${escapeMarkup(image.caption)}</figcaption>` : '';
  return `<figure>${img(image)}${caption}</figure>`;
}

function img(image: ReportImage): string {
  const style = image.pixelated ? ' class="pixelated"' : '';
  return `<img${style} src="${dataUri(image.data)}" alt="${escapeMarkup(image.alt)}" loading="lazy">`;
}

function dataUri(data: Uint8Array | string): string {
  const bytes = typeof data === 'string' ? Buffer.from(data, 'utf8') : Buffer.from(data);
  const type =
    typeof data === 'string'
      ? 'image/svg+xml'
      : bytes[0] === 0xff && bytes[1] === 0xd8
        ? 'image/jpeg'
        : 'image/png';
  return `data:${type};base64,${bytes.toString('base64')}`;
}

function comparison(headings: readonly string[], rows: readonly ReportComparison[]): string {
  const body = rows.map(({ prompt, images, note }) => {
    const cells = images.map((image, i) => {
      const caption = image.caption ?? headings[i] ?? '';
      return figure({ ...image, caption });
    });
    const extra = note ? `<p class="note">${escapeMarkup(note)}</p>` : '';
    return `<article><h3>${escapeMarkup(prompt)}</h3>${extra}<div class="pair">${cells.join('')}</div></article>`;
  });
  return `<div class="comparison">${body.join('\n')}</div>`;
}

function table(t: ReportTable): string {
  const columns = t.columns.map((c) => (typeof c === 'string' ? { title: c, score: false } : c));
  const numeric = columns.map((_, i) =>
    t.rows.every((row) => row[i] === null || row[i] === undefined || typeof row[i] === 'number'),
  );
  const head = columns.map(
    (c, i) => `<th scope="col"${numeric[i] ? ' class="n"' : ''}>${escapeMarkup(c.title)}</th>`,
  );
  const body = t.rows.map((row) => {
    const cells = columns.map((c, i) => cell(row[i] ?? null, c.score === true, numeric[i]));
    return `<tr>${cells.join('')}</tr>`;
  });
  const caption = t.caption ? `<caption>${escapeMarkup(t.caption)}</caption>` : '';
  return `<div class="scroll"><table>${caption}<thead><tr>${head.join('')}</tr></thead><tbody>${body.join('\n')}</tbody></table></div>`;
}

function cell(value: string | number | null, score: boolean, numeric: boolean): string {
  const kind = numeric ? ' class="n"' : '';
  if (value === null) return `<td${kind}><span class="none">none</span></td>`;
  if (typeof value === 'string') return `<td${kind}>${escapeMarkup(value)}</td>`;
  if (!score) return `<td${kind}>${escapeMarkup(plainNumber(value))}</td>`;
  return `<td${kind}><span class="score">${signed(value)}${bar(value)}</span></td>`;
}

/** A bar from the middle: right and blue above zero, left and red below. */
function bar(value: number): string {
  const length = Math.round(20 * Math.min(1, Math.abs(value)) * 10) / 10;
  const x = value < 0 ? 20 - length : 20;
  return (
    '<svg width="40" height="8" viewBox="0 0 40 8" aria-hidden="true">' +
    '<rect class="track" width="40" height="8" rx="1"/>' +
    `<rect class="${value < 0 ? 'minus' : 'plus'}" x="${x}" width="${length}" height="8"/></svg>`
  );
}

function plainNumber(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

function settings(values: Record<string, unknown>): string {
  const rows = Object.entries(values).map(([key, value]) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    return `<div><dt>${escapeMarkup(key)}</dt><dd>${escapeMarkup(text ?? 'not set')}</dd></div>`;
  });
  return `<dl class="settings">${rows.join('')}</dl>`;
}
