import { z } from 'zod';

/** Placeholders a template may have, and those of them it must have. */
interface Slots {
  allowed: readonly string[];
  needed: readonly string[];
}

/** `{name}` is a placeholder; braces around anything but one word are text. */
const PLACEHOLDER = /\{(\w+)\}/g;

const SIZE = ['width', 'height'];
/** What is known of a region's box. */
const BOX = ['x0', 'y0', 'x1', 'y1', 'cx', 'cy', 'w', 'h', 'cell', ...SIZE];
const REQUEST = { allowed: ['request', ...SIZE], needed: ['request'] };

function template({ allowed, needed }: Slots) {
  return z.string().superRefine((text, ctx) => {
    const names = new Set([...text.matchAll(PLACEHOLDER)].map(([, name]) => name));
    const wrong = (message: string) => ctx.addIssue({ code: 'custom', message });
    const unknown = [...names].filter((name) => !allowed.includes(name));
    const list = (words: readonly string[]) => words.map((word) => `{${word}}`).join(', ');
    if (unknown.length > 0) {
      const choice = allowed.length === 0 ? 'a text without placeholders' : `only ${list(allowed)}`;
      wrong(`${choice} (not ${list(unknown)})`);
    }
    const lacking = needed.filter((name) => !names.has(name));
    if (lacking.length > 0) wrong(`a text with ${list(lacking)}`);
  });
}

/**
 * How a model wants to be asked about pictures, for models that were trained on questions of their
 * own. Stands under `judge` in `srum.json`. The form of the answers is the same for all.
 */
export const judgeWordingSchema = z.strictObject({
  /** Stored with every score, since other words give other scores. */
  version: z.string().min(1),
  /** Comes before the picture; empty for none. */
  system: template({ allowed: [], needed: [] }),
  /** The question about all regions; `{regions}` are their lines. */
  regions: template({ allowed: [...REQUEST.allowed, 'regions'], needed: ['request', 'regions'] }),
  /**
   * The line of one region: its number from 1 and its box, by corners, by centre and sides, or by the
   * cell of a board of 8 x 8 that the centre lies in (a to h from the left, 1 to 8 from the top).
   */
  region: template({ allowed: ['id', ...BOX], needed: ['id'] }),
  /**
   * What an answer says again of a region before it names the object, as `"at"`; empty for nothing. A
   * model that has just read where it looks need not search for it.
   */
  place: template({ allowed: BOX, needed: [] }).default(''),
  /**
   * Whether an answer says what of the request a region stands for, as `"for"`, before it scores the
   * region. A score then compares two names that stand side by side.
   */
  counterpart: z.boolean().default(false),
  /** The question about the layout. */
  layout: template(REQUEST),
  /** Whether an answer about the layout says what is where, as `"seen"`, before its score. */
  describe: z.boolean().default(false),
  /** How boxes are written: in pixels of the picture, or in thousandths of its sides. */
  coordinates: z.enum(['pixels', 'normalized']),
  /** Whether it has learned to reason before it answers. */
  think: z.boolean(),
});

/** A wording of the judge's questions; see {@link judgeWordingSchema}. */
export type JudgeWording = z.output<typeof judgeWordingSchema>;

/** A template with values in place of its placeholders; what looks like one in a value stays as it is. */
export function fillTemplate(
  text: string,
  values: Readonly<Record<string, string | number>>,
): string {
  return text.replace(PLACEHOLDER, (whole, name: string) => String(values[name] ?? whole));
}
