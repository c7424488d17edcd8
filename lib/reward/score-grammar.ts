import { splitThought } from '../generate/prompts.js';
import { DataError } from '../util/errors.js';
import { isObject } from '../util/json-values.js';
import { ByteGrammar, type GrammarPart } from './byte-grammar.js';

/** Ends the judge's thoughts; the answer is what follows. */
const THINK_CLOSE = '</think>';

/** Form of an answer: with or without thoughts, and how long its texts may be. */
export interface GrammarOptions {
  /** Free text up to `</think>` comes before the answer. */
  think?: boolean;
  /** What is said again of each region, as `"at"` before its object; default: nothing. */
  places?: readonly string[];
  /** Each object is followed by what of the request it stands for, as `"for"`. */
  counterpart?: boolean;
  /** An answer about the layout begins with what is where, as `"seen"`. */
  describe?: boolean;
  /** Longest name of an object, in UTF-8 bytes; default 64. */
  maxObjectBytes?: number;
  /** Longest reason and longest description, in UTF-8 bytes; default 200. */
  maxReasonBytes?: number;
}

/** The judge's verdict on one region; null where the answer has none. */
export interface RegionVerdict {
  id: number;
  object: string | null;
  /** In [-1, 1]. */
  score: number | null;
  /** Why something is null. */
  problem?: string;
}

/** The judge's verdict on the layout. */
export interface LayoutVerdict {
  /** In [-1, 1]. */
  score: number;
  reason: string;
}

/**
 * Grammar of the answer about regions:
 * `{"regions":[{"id":1,"object":"...","score":-0.5},...]}` with exactly the given ids in order, and
 * `"at":"..."` after the id where there are places, `"for":"..."` after the object with counterparts.
 *
 * @throws DataError when there are no ids, or not as many places as ids.
 */
export function regionGrammar(ids: readonly number[], options: GrammarOptions = {}): ByteGrammar {
  if (ids.length === 0) {
    throw new DataError('ERR_NO_REGIONS', 'there is no region to ask about', {
      expected: 'at least one region',
    });
  }
  const { places } = options;
  if (places !== undefined && places.length !== ids.length) {
    throw new DataError('ERR_PLACES', 'each region needs a place', {
      key: 'places',
      expected: `${ids.length}`,
      found: `${places.length}`,
    });
  }
  const parts: GrammarPart[] = prelude(options);
  const text: GrammarPart = { kind: 'text', maxBytes: options.maxObjectBytes ?? 64 };
  const counterpart: GrammarPart[] = options.counterpart
    ? [{ kind: 'literal', text: '","for":"' }, text]
    : [];
  ids.forEach((id, i) => {
    const before = i === 0 ? '{"regions":[' : '},';
    const at = places === undefined ? '' : `"at":${JSON.stringify(places[i])},`;
    parts.push(
      { kind: 'literal', text: `${before}{"id":${id},${at}"object":"` },
      text,
      ...counterpart,
      { kind: 'literal', text: '","score":' },
      { kind: 'score' },
    );
  });
  parts.push({ kind: 'literal', text: '}]}' });
  return new ByteGrammar(parts);
}

/**
 * Grammar of the answer about the layout: `{"global_layout_score":0.8,"reason":"..."}`, and `"seen":"..."`
 * before the score with a description.
 */
export function layoutGrammar(options: GrammarOptions = {}): ByteGrammar {
  const text: GrammarPart = { kind: 'text', maxBytes: options.maxReasonBytes ?? 200 };
  const seen: GrammarPart[] = options.describe
    ? [{ kind: 'literal', text: '{"seen":"' }, text, { kind: 'literal', text: '",' }]
    : [{ kind: 'literal', text: '{' }];
  return new ByteGrammar([
    ...prelude(options),
    ...seen,
    { kind: 'literal', text: '"global_layout_score":' },
    { kind: 'score' },
    { kind: 'literal', text: ',"reason":"' },
    text,
    { kind: 'literal', text: '"}' },
  ]);
}

function prelude(options: GrammarOptions): GrammarPart[] {
  if (options.think !== true) return [];
  return [
    { kind: 'until', tag: THINK_CLOSE },
    { kind: 'blanks', max: 2 },
  ];
}

/**
 * Reads the answer about regions. Answers of a constrained decoding are always complete; for judges
 * that are not constrained, what is missing or out of range is null with the problem named.
 *
 * @param ids the regions asked about; the result has one verdict for each, in this order.
 * @throws DataError when the answer is not JSON of the agreed form.
 */
export function parseRegionAnswer(text: string, ids: readonly number[]): RegionVerdict[] {
  const { regions } = parseObject(text);
  if (!Array.isArray(regions)) throw unreadable('a list under "regions"', text);
  const found = new Map<number, Record<string, unknown>>();
  for (const region of regions) {
    if (typeof region !== 'object' || region === null)
      throw unreadable('objects in "regions"', text);
    if (typeof region.id === 'number') found.set(region.id, region);
  }
  return ids.map((id) => {
    const region = found.get(id);
    if (region === undefined) {
      return { id, object: null, score: null, problem: 'the answer leaves the region out' };
    }
    const name = typeof region.object === 'string' ? region.object.trim() : '';
    const object = name === '' ? null : name;
    const score = scoreOf(region.score);
    return typeof score === 'number'
      ? { id, object, score }
      : { id, object, score: null, problem: score };
  });
}

/**
 * Reads the answer about the layout.
 *
 * @throws DataError when the answer is not JSON of the agreed form or its score is out of range.
 */
export function parseLayoutAnswer(text: string): LayoutVerdict {
  const answer = parseObject(text);
  const score = scoreOf(answer.global_layout_score);
  if (typeof score === 'string') throw unreadable(`a "global_layout_score"; ${score}`, text);
  return { score, reason: typeof answer.reason === 'string' ? answer.reason.trim() : '' };
}

function parseObject(text: string): Record<string, unknown> {
  const { answer } = splitThought(text);
  try {
    const value: unknown = JSON.parse(answer);
    if (isObject(value)) return value;
  } catch {
    // Reported below with the text itself, which says more than the parser's message.
  }
  throw unreadable('one JSON object', text);
}

/** The score, or why it is none. */
function scoreOf(value: unknown): number | string {
  if (typeof value !== 'number') return 'the score is missing';
  if (Math.abs(value) > 1) return `the score ${value} is outside [-1, 1]`;
  return value === 0 ? 0 : value;
}

function unreadable(expected: string, text: string): DataError {
  const found = text.length > 120 ? `${text.slice(0, 120)}…` : text;
  return new DataError('ERR_ANSWER', "the judge's answer cannot be read", {
    expected,
    found: JSON.stringify(found),
  });
}
