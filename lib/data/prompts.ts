import path from 'node:path';
import { DataError } from '../util/errors.js';
import { readTextFile } from '../util/files.js';
import { inspectJson } from '../util/json-values.js';
import { readJsonFile, readJsonl } from '../util/jsonl.js';

/** One entry of a prompt list, with the key names of the SRUM prompt files. */
export interface Prompt {
  Question: string;
  /** Empty when the list has no categories. */
  Category: string;
  /** Names the image file, so it is unique and free of path separators. */
  Question_id: number | string;
  /** 0-based position in the list. */
  original_index: number;
}

/** Bytes of an id in a file name; file systems end at 255, and endings and temporary names need some. */
const MAX_ID_BYTES = 200;
const ID_RULE = `a whole number from 0, or a text without path separators of at most ${MAX_ID_BYTES} bytes`;
/** A fault of a prompt list: where it is and what should be there. */
interface Fault {
  key: string;
  message: string;
  expected: string;
  found: string;
  line?: number;
}

function isUsableId(id: unknown): id is number | string {
  if (typeof id === 'number') return Number.isSafeInteger(id) && id >= 0;
  if (typeof id !== 'string' || id.trim() !== id || id.length === 0) return false;
  if (Buffer.byteLength(id, 'utf8') > MAX_ID_BYTES) return false;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  return id !== '.' && id !== '..' && !/[/\\\u0000-\u001f]/.test(id);
}

/** The first fault of an entry, or the prompt it holds. */
function checkEntry(value: unknown, index: number): Prompt | Fault {
  const at = (key: string): string => `[${index}].${key}`;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const expected = 'an object with Question, Category and Question_id';
    return {
      key: `[${index}]`,
      message: 'a prompt has the wrong form',
      expected,
      found: inspectJson(value),
    };
  }
  const { Question, Category = '', Question_id } = value as Record<string, unknown>;
  if (typeof Question !== 'string' || Question.trim() === '') {
    const message =
      typeof Question === 'string' ? 'a prompt is empty' : 'a prompt has the wrong type';
    return { key: at('Question'), message, expected: 'a text', found: inspectJson(Question) };
  }
  if (typeof Category !== 'string') {
    const message = 'a category has the wrong type';
    return { key: at('Category'), message, expected: 'a text', found: inspectJson(Category) };
  }
  if (!isUsableId(Question_id)) {
    const message = 'a prompt id cannot name a file';
    return { key: at('Question_id'), message, expected: ID_RULE, found: inspectJson(Question_id) };
  }
  return { Question, Category, Question_id, original_index: index };
}

/**
 * Validates the entries of a prompt list.
 *
 * @param lines line (1-based) of each entry, for line-oriented files.
 * @throws DataError naming file, index and key of the first fault and the number of faults.
 */
export function checkPrompts(values: unknown, file: string, lines?: number[]): Prompt[] {
  if (!Array.isArray(values)) {
    throw new DataError('ERR_PROMPTS', 'a prompt list must be an array', {
      file,
      expected: 'a JSON array of objects with Question, Category and Question_id',
      found: inspectJson(values),
    });
  }
  if (values.length === 0) {
    throw new DataError('ERR_NO_PROMPTS', 'the prompt list is empty', {
      file,
      expected: 'at least one prompt',
    });
  }
  const faults: Fault[] = [];
  const prompts: Prompt[] = [];
  const seen = new Map<string, number>();
  for (const [index, value] of values.entries()) {
    const entry = checkEntry(value, index);
    if ('message' in entry) {
      faults.push({ ...entry, line: lines?.[index] });
      continue;
    }
    // 7 and "7" would name the same file.
    const before = seen.get(String(entry.Question_id));
    if (before === undefined) {
      seen.set(String(entry.Question_id), index);
      prompts.push(entry);
      continue;
    }
    faults.push({
      key: `[${index}].Question_id`,
      message: 'two prompts have the same id',
      expected: 'an id used once',
      found: `${inspectJson(entry.Question_id)}, also at [${before}]`,
      line: lines?.[index],
    });
  }
  if (faults.length > 0) {
    const { message, ...details } = faults[0];
    const more = faults.length === 1 ? '' : ` (first of ${faults.length} faults)`;
    throw new DataError('ERR_PROMPTS', `${message}${more}`, { file, ...details });
  }
  return prompts;
}

function readJsonlPrompts(file: string): Prompt[] {
  const { records, problems } = readJsonl(file);
  if (problems.length > 0) {
    throw new DataError('ERR_PROMPTS', 'the prompt list has a malformed line', {
      file,
      line: problems[0].line,
      found: problems[0].reason,
      hint: problems.length > 1 ? `${problems.length} lines are malformed.` : undefined,
    });
  }
  return checkPrompts(
    records.map(({ value }) => value),
    file,
    records.map(({ line }) => line),
  );
}

/** A text file's prompts, one a line; blank lines do not count, ids are 1, 2, 3, ... */
function readTextPrompts(file: string): Prompt[] {
  const lines = readTextFile(file)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  return checkPrompts(
    lines.map((Question, i) => ({ Question, Category: '', Question_id: i + 1 })),
    file,
  );
}

/**
 * Reads a prompt list: the SRUM prompt metadata (`.json`, an array of objects with `Question`,
 * `Category`, `Question_id`), the same objects one a line (`.jsonl`), or one prompt a line (`.txt`).
 *
 * @throws FileError when the file cannot be read; DataError for empty lists, empty prompts, duplicate
 * ids, ids that cannot name a file, wrong types, and text that is not UTF-8.
 */
export function readPrompts(file: string): Prompt[] {
  switch (path.extname(file).toLowerCase()) {
    case '.jsonl':
    case '.ndjson':
      return readJsonlPrompts(file);
    case '.txt':
      return readTextPrompts(file);
    default:
      return checkPrompts(readJsonFile(file), file);
  }
}
