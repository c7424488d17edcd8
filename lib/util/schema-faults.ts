import type { z } from 'zod';
import type { ErrorDetails } from './errors.js';
import { inspectJson } from './json-values.js';

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** One way in which a value does not fit its schema, in the words of this package's errors. */
export interface SchemaFault {
  /** Keys and indexes that lead to the place. */
  path: Path;
  /** The path as text, `a.b[0]`; undefined where the value as a whole is at fault. */
  key: string | undefined;
  expected: string;
  found: string;
  /** Nothing stands at the place. */
  missing: boolean;
  /** Name of a key the schema does not know; `path` ends with it. */
  unknownKey?: string;
}

const TYPES: Readonly<Record<string, string>> = {
  number: 'a number',
  int: 'a whole number',
  string: 'a text',
  boolean: 'true or false',
  array: 'a list',
  tuple: 'a list',
  object: 'an object',
  record: 'an object',
  undefined: 'nothing',
};

/** A path of keys and indexes as text: `a.b[0]`, empty for the root. */
export function keyText(path: Path): string {
  return path.reduce<string>((out, part) => {
    if (typeof part === 'number') return `${out}[${part}]`;
    return out === '' ? String(part) : `${out}.${String(part)}`;
  }, '');
}

/**
 * All faults a failed parse found, in its order; where several alternatives are allowed, those of
 * the one that fits best.
 *
 * @param value what was parsed.
 */
export function schemaFaults(error: z.ZodError, value: unknown): SchemaFault[] {
  return flatten(error.issues, value).flatMap((issue) => {
    if (issue.code !== 'unrecognized_keys') return [faultOf(issue, value)];
    return issue.keys.map((key) => {
      const path = [...issue.path, key];
      const expected = 'only known keys';
      const found = `the unknown key "${key}"`;
      return { path, key: keyText(path), expected, found, missing: false, unknownKey: key };
    });
  });
}

/** The part of a fault that an error's details hold. */
export function faultDetails({ key, expected, found }: SchemaFault): ErrorDetails {
  return { key, expected, found };
}

function faultOf(issue: Issue, value: unknown): SchemaFault {
  const { path } = issue;
  return {
    path,
    key: keyText(path) || undefined,
    expected: expectationOf(issue),
    found: inspectJson(value, path),
    missing: valueAt(value, path) === undefined,
  };
}

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (at, key) => (at as Record<PropertyKey, unknown> | null | undefined)?.[key],
    value,
  );
}

/** Issues with those of alternatives in place of "no alternative fits". */
function flatten(issues: readonly Issue[], value: unknown): Issue[] {
  return issues.flatMap((issue) => {
    if (issue.code !== 'invalid_union' || typeof valueAt(value, issue.path) !== 'object')
      return [issue];
    // The alternative of the right kind is the one that looked further inside.
    const inside = issue.errors.find((e) => e.some((i) => i.path.length > 0 || 'keys' in i));
    if (inside === undefined) return [issue];
    return flatten(
      inside.map((i) => ({ ...i, path: [...issue.path, ...i.path] })),
      value,
    );
  });
}

/** What should have stood there, e.g. `a number above 0`. */
function expectationOf(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type': {
      // NaN and infinities have the type, but not a value that counts.
      const received = 'received' in issue ? issue.received : undefined;
      if (received === 'NaN' || received === 'Infinity') return 'a finite number';
      return TYPES[issue.expected] ?? issue.expected;
    }
    case 'too_small':
      return sized(issue.origin, issue.inclusive ? 'of at least' : 'above', issue.minimum);
    case 'too_big':
      return sized(issue.origin, issue.inclusive ? 'of at most' : 'below', issue.maximum);
    case 'not_multiple_of':
      return `a multiple of ${issue.divisor}`;
    case 'invalid_value': {
      const values = issue.values.map((v) => (typeof v === 'string' ? JSON.stringify(v) : v));
      return values.length === 1 ? String(values[0]) : `one of ${values.map(String).join(', ')}`;
    }
    case 'invalid_format':
      return `a text of the form ${issue.pattern ?? issue.format}`;
    case 'invalid_union': {
      const all = issue.errors.flatMap((e) => (e.length === 0 ? [] : [expectationOf(e[0])]));
      return [...new Set(all)].join(' or ') || 'another value';
    }
    case 'invalid_key':
      return issue.issues.length === 0 ? 'another key' : `as key ${expectationOf(issue.issues[0])}`;
    // Messages of our own rules are written as expectations.
    case 'custom':
      return issue.message;
    default:
      return 'another value';
  }
}

function sized(origin: string, relation: string, limit: number | bigint): string {
  const unit = origin === 'string' ? 'character' : 'item';
  const things = `${relation} ${limit} ${unit}${Number(limit) === 1 ? '' : 's'}`;
  switch (origin) {
    case 'number':
      return `a number ${relation} ${limit}`;
    case 'int':
      return `a whole number ${relation} ${limit}`;
    case 'string':
      return relation === 'of at least' && Number(limit) === 1
        ? 'a text that is not empty'
        : `a text ${things}`;
    default:
      return `a list ${things}`;
  }
}
