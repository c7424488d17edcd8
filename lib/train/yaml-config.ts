import {
  type Document,
  isCollection,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  visit,
} from 'yaml';
import type { z } from 'zod';
import { ConfigError, type ErrorDetails, messageOf } from '../util/errors.js';
import { readTextFile } from '../util/files.js';
import { keyText, type SchemaFault, schemaFaults } from '../util/schema-faults.js';

/** Where a value came from: a YAML file, or options given on top of it (no lines). */
export interface ConfigSource {
  /** File name, or what stands for it in messages. */
  file: string;
  /** The document as plain JavaScript values, not yet validated. */
  value: unknown;
  /** 1-based line of the value at a path of keys and indexes; undefined where unknown. */
  lineOf(path: readonly PropertyKey[]): number | undefined;
}

type Path = readonly PropertyKey[];

/**
 * Reads a YAML (or JSON) file.
 *
 * @throws FileError when it cannot be read, ConfigError with the line for a syntax error, a repeated
 * key, an alias to nothing or to what contains it, or a document that is not a mapping.
 */
export function readYaml(file: string): ConfigSource {
  return parseYamlText(readTextFile(file), file);
}

/** As `readYaml` for text already in memory; `file` is the name used in messages. */
export function parseYamlText(text: string, file: string): ConfigSource {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const fault = document.errors[0];
  if (fault !== undefined) {
    throw new ConfigError('ERR_YAML', `not valid YAML: ${fault.message.split('\n')[0]}`, {
      file,
      line: lines.linePos(fault.pos[0]).line,
    });
  }
  if (!isMap(document.contents)) {
    throw new ConfigError('ERR_YAML', 'the file must hold a mapping of keys to values', {
      file,
      line: 1,
    });
  }
  const root = document.contents;
  const lineOf = (path: Path) => {
    const offset = offsetOf(root as unknown as Node, path);
    return offset === undefined ? undefined : lines.linePos(offset).line;
  };
  checkAliases(document, file, lines);
  try {
    return { file, value: document.toJS(), lineOf };
  } catch (error) {
    const reason = messageOf(error).split('\n')[0];
    throw new ConfigError(
      'ERR_YAML',
      'the aliases of the file cannot be resolved',
      { file, found: reason },
      { cause: error },
    );
  }
}

/** Refuses aliases without an anchor before them and aliases inside what they stand for. */
function checkAliases(document: Document, file: string, lines: LineCounter): void {
  visit(document, {
    Alias(_, alias, ancestors) {
      const target = alias.resolve(document);
      if (target !== undefined && !ancestors.includes(target)) return;
      const message =
        target === undefined ? 'an alias has no anchor before it' : 'an alias contains itself';
      throw new ConfigError('ERR_YAML', message, {
        file,
        line: alias.range ? lines.linePos(alias.range[0]).line : undefined,
        key: keyText(pathThrough([...ancestors, alias])) || undefined,
        found: `*${alias.source}`,
      });
    },
  });
}

/** Keys and indexes along a chain of nested nodes. */
function pathThrough(chain: readonly unknown[]): PropertyKey[] {
  return chain.flatMap((node, i): PropertyKey[] => {
    if (isPair(node)) return [isScalar(node.key) ? String(node.key.value) : String(node.key)];
    return isSeq(node) && i + 1 < chain.length ? [node.items.indexOf(chain[i + 1])] : [];
  });
}

/** Character offset of the key (in a mapping) or item (in a list) a path ends at. */
function offsetOf(root: Node, path: Path): number | undefined {
  let node: Node | null | undefined = root;
  let offset = root.range?.[0];
  for (const step of path) {
    if (!isCollection(node)) return offset;
    const item: unknown = isMap(node)
      ? node.items.find((p) => isScalar(p.key) && String(p.key.value) === String(step))
      : node.items[Number(step)];
    if (item === undefined) return offset;
    if (isPair(item)) {
      offset = (item.key as Node | null)?.range?.[0] ?? offset;
      node = item.value as Node | null;
    } else {
      node = item as Node;
      offset = node.range?.[0] ?? offset;
    }
  }
  return offset;
}

/**
 * Validates a source against a zod schema and returns the parsed value with defaults filled in.
 *
 * @throws ConfigError for the first fault: file, line, key, what was expected and found; for an
 * unknown key the nearest known one as a hint.
 */
export function validate<S extends z.ZodType>(schema: S, source: ConfigSource): z.output<S> {
  const result = schema.safeParse(source.value);
  if (result.success) return result.data;
  const faults = schemaFaults(result.error, source.value);
  // A misspelt key is also a missing one; the misspelling is what helps.
  throw faultError(faults.find((f) => f.unknownKey !== undefined) ?? faults[0], source, schema);
}

function faultError(fault: SchemaFault, source: ConfigSource, schema: z.ZodType): ConfigError {
  const { path, key, expected, found, missing, unknownKey } = fault;
  const place: ErrorDetails = { file: source.file, line: source.lineOf(path), key };
  if (unknownKey !== undefined) {
    const known = keysAt(schema, path.slice(0, -1));
    const near = nearest(unknownKey, known);
    return new ConfigError('ERR_UNKNOWN_KEY', `unknown key "${unknownKey}"`, {
      ...place,
      expected: near === undefined && known.length > 0 ? `one of ${known.join(', ')}` : undefined,
      hint: near === undefined ? undefined : `Did you mean "${near}"?`,
    });
  }
  return new ConfigError(
    missing ? 'ERR_MISSING_KEY' : 'ERR_BAD_VALUE',
    missing ? 'a required key is missing' : 'a value does not fit its key',
    { ...place, expected, found: missing ? undefined : found },
  );
}

/** Keys the schema knows at a path, as far as it is made of objects, records and wrappers. */
function keysAt(schema: z.ZodType, path: Path): string[] {
  let here: unknown = unwrap(schema);
  for (const step of path) {
    const def = definition(here);
    if (def.shape !== undefined) here = unwrap(def.shape[String(step)]);
    else if (def.options !== undefined) {
      here = unwrap(def.options.find((o) => definition(unwrap(o)).shape !== undefined));
      const shape = definition(here).shape;
      if (shape !== undefined) here = unwrap(shape[String(step)]);
    } else if (def.valueType !== undefined) here = unwrap(def.valueType);
    else if (def.element !== undefined) here = unwrap(def.element);
    else return [];
  }
  const { options } = definition(here);
  if (options !== undefined) {
    here = unwrap(options.find((o) => definition(unwrap(o)).shape !== undefined));
  }
  return Object.keys(definition(here).shape ?? {});
}

interface Definition {
  shape?: Record<string, unknown>;
  valueType?: unknown;
  element?: unknown;
  options?: unknown[];
  innerType?: unknown;
  in?: unknown;
}

function definition(schema: unknown): Definition {
  return ((schema as { def?: Definition } | undefined)?.def ?? {}) as Definition;
}

function unwrap(schema: unknown): unknown {
  let here = schema;
  for (;;) {
    const def = definition(here);
    const inner = def.innerType ?? def.in;
    if (inner === undefined) return here;
    here = inner;
  }
}

/** The known word closest to `word`, if it is close enough to be a slip of the keyboard. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const plain = (s: string) => s.toLowerCase().replaceAll('-', '_');
  let best: string | undefined;
  let least = Math.max(2, Math.ceil(word.length / 3)) + 1;
  for (const candidate of known) {
    const d = editDistance(plain(word), plain(candidate));
    if (d < least) {
      least = d;
      best = candidate;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, row[j] + 1, next[j - 1] + 1));
    }
    row = next;
  }
  return row[b.length];
}
