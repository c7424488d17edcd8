import { fillTemplate, type JudgeWording } from '../models/bagel/judge-wording.js';
import type { RegionProposal } from './propose.js';

/** Version of the built-in wording; stored with every score, since other words give other scores. */
export const promptVersion = 'srum-judge-1';

/** How boxes are written: in pixels of the image, or in thousandths of its sides. */
export type CoordinateStyle = JudgeWording['coordinates'];

/** What the judge is told before it sees the image. */
export function judgeSystemPrompt(think: boolean): string {
  const role = [
    'You are a strict judge of generated pictures.',
    'You see one picture and the request it was made from, and you grade what is really there,',
    'not what was meant.',
  ].join(' ');
  if (!think) return role;
  return [
    role,
    'First look closely and reason step by step inside <think> </think> tags,',
    'then give the answer in the form that is asked for, and nothing else:',
    '<think> the reasoning </think> the answer.',
  ].join(' ');
}

/**
 * Asks for an object name and a score for every region, in one question.
 *
 * @param request the text the picture was made from.
 * @param size pixels of the picture the boxes refer to; the judge sees a resized copy, so it is told.
 */
export function regionQuestion(
  request: string,
  regions: ReadonlyArray<Pick<RegionProposal, 'box'>>,
  size: { width: number; height: number },
  style: CoordinateStyle = 'normalized',
): string {
  const unit =
    style === 'pixels'
      ? `in pixels of the picture, which is ${size.width} wide and ${size.height} high`
      : `in thousandths of the picture's width and height (it is ${size.width} x ${size.height} pixels)`;
  const lines = regions.map(({ box }, i) => `Region ${i + 1}: [${boxText(box, size, style)}]`);
  return [
    `The picture was requested with these words: ${quoted(request)}`,
    '',
    `Grade ${regions.length === 1 ? 'this region' : `these ${regions.length} regions`} of it.`,
    `Boxes are [left, top, right, bottom], ${unit}, counted from the upper left corner.`,
    ...lines,
    '',
    'For each region say in a few words what is inside the box, then give one score from -1 to 1',
    'that weighs both how well it serves the request and how well it is made. Be strict:',
    '1: exactly what was requested, without a flaw.',
    '0.5 to 0.9: clearly serves the request, with small flaws; or a secondary thing done well.',
    '-0.4 to 0.4: neutral or mixed, such as harmless background; 0 is perfectly neutral.',
    '-0.9 to -0.5: has no business here and distracts; or belongs here but is badly distorted.',
    '-1: contradicts the request.',
    '',
    'Answer with JSON, the regions in the order given:',
    '{"regions":[{"id":1,"object":"name of the thing","score":0.35}]}',
  ].join('\n');
}

/** Asks for one score of the arrangement as a whole. */
export function layoutQuestion(request: string): string {
  return [
    `The picture was requested with these words: ${quoted(request)}`,
    '',
    'Grade only the layout: where things are, how many, how they stand to each other in space.',
    'Leave beauty, colours and details aside. Give one score from -1 to 1:',
    '1: every place and relation is as requested.',
    '0.5 to 0.9: mostly as requested, with small slips.',
    '-0.4 to 0.4: neutral; also when the request says nothing about places.',
    '-0.9 to -0.5: wrong places, or relations against the request.',
    '-1: the very opposite of the request.',
    '',
    'Three cases. "a lamp left of a bed", and the lamp stands left of the bed: 0.9.',
    '"a lamp left of a bed", and the lamp stands right of it: -0.8.',
    '"a portrait of an old sailor", a single face in the middle: 0.',
    '',
    'Answer with JSON: {"global_layout_score":0.35,"reason":"one short sentence"}',
  ].join('\n');
}

/** All that depends on the words the judge is asked in. */
export interface JudgeWords {
  /** Stored with every score. */
  version: string;
  /** Whether to reason before the answer, unless the caller decides. */
  think: boolean;
  /** Whether answers say what of the request a region stands for. */
  counterpart: boolean;
  /** Whether answers about the layout say what is where. */
  describe: boolean;
  /** How boxes are written, unless the caller decides. */
  coordinates: CoordinateStyle;
  /** What comes before the picture; empty for nothing. */
  system(think: boolean): string;
  regions(
    request: string,
    regions: ReadonlyArray<Pick<RegionProposal, 'box'>>,
    size: { width: number; height: number },
    style: CoordinateStyle,
  ): string;
  /** What the answer repeats of each region before the object's name; undefined for nothing. */
  places(
    regions: ReadonlyArray<Pick<RegionProposal, 'box'>>,
    size: { width: number; height: number },
    style: CoordinateStyle,
  ): string[] | undefined;
  layout(request: string, size: { width: number; height: number }): string;
}

/** The built-in words, for models that follow instructions. */
const BUILT_IN: JudgeWords = {
  version: promptVersion,
  think: true,
  counterpart: false,
  describe: false,
  coordinates: 'normalized',
  system: judgeSystemPrompt,
  regions: regionQuestion,
  places: () => undefined,
  layout: layoutQuestion,
};

/**
 * The words a model is asked in: its own, or the built-in ones. In a model's own words the request is put
 * on one line.
 */
export function judgeWords(wording?: JudgeWording): JudgeWords {
  if (wording === undefined) return BUILT_IN;
  const { version, think, counterpart, describe, coordinates } = wording;
  const line = (text: string): string => text.trim().replace(/\s+/g, ' ');
  return {
    version,
    think,
    counterpart,
    describe,
    coordinates,
    system: () => wording.system,
    regions: (request, regions, { width, height }, style) => {
      const lines = regions.map(({ box }, i) =>
        fillTemplate(wording.region, { id: i + 1, ...boxValues(box, { width, height }, style) }),
      );
      const values = { request: line(request), regions: lines.join('\n'), width, height };
      return fillTemplate(wording.regions, values);
    },
    places: (regions, size, style) =>
      wording.place === ''
        ? undefined
        : regions.map(({ box }) => fillTemplate(wording.place, boxValues(box, size, style))),
    layout: (request, { width, height }) =>
      fillTemplate(wording.layout, { request: line(request), width, height }),
  };
}

/** What a wording's templates may say of a box. */
function boxValues(
  box: RegionProposal['box'],
  { width, height }: { width: number; height: number },
  style: CoordinateStyle,
) {
  const size = { width, height };
  const [x0, y0, x1, y1] = corners(box, size, style);
  const centre = { cx: (x0 + x1) >> 1, cy: (y0 + y1) >> 1, w: x1 - x0, h: y1 - y0 };
  return { x0, y0, x1, y1, ...centre, cell: boardCell(box, size), ...size };
}

/** The cell of a board of 8 x 8 laid over the picture that a box's centre lies in: "a1" is top left. */
export function boardCell(
  [x0, y0, x1, y1]: RegionProposal['box'],
  { width, height }: { width: number; height: number },
): string {
  const along = (centre: number, side: number): number =>
    Math.min(7, Math.max(0, Math.floor((8 * centre) / side)));
  return `${'abcdefgh'[along((x0 + x1) / 2, width)]}${along((y0 + y1) / 2, height) + 1}`;
}

function boxText(
  box: RegionProposal['box'],
  size: { width: number; height: number },
  style: CoordinateStyle,
): string {
  return corners(box, size, style).join(', ');
}

function corners(
  box: RegionProposal['box'],
  size: { width: number; height: number },
  style: CoordinateStyle,
): number[] {
  if (style === 'pixels') return box;
  return box.map((n, i) => Math.round((1000 * n) / (i % 2 === 0 ? size.width : size.height)));
}

/** The user's words as one quoted line, so that they cannot be mistaken for instructions' lines. */
function quoted(text: string): string {
  return JSON.stringify(text.trim());
}
