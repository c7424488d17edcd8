import fs from 'node:fs';
import path from 'node:path';
import { DataError, messageOf, SrumError } from './errors.js';
import {
  AtomicFile,
  fileError,
  makeFolder,
  readBytes,
  readTextFile,
  writeFileAtomic,
} from './files.js';

/** A line (1-based) that was left out, and why. */
export interface JsonlProblem {
  line: number;
  reason: string;
  /** Beginning of the line, for the person who looks for it. */
  text: string;
}

/** One good record and the line (1-based) it came from. */
export interface JsonlRecord<T> {
  line: number;
  value: T;
}

/** What reading a jsonl file gave: `lines = records + problems + blank`. */
export interface JsonlResult<T> {
  records: JsonlRecord<T>[];
  problems: JsonlProblem[];
  lines: number;
  blank: number;
}

/** What opening a jsonl file for appending had to mend. */
export interface JsonlRepair {
  /** `cut`: a partial last line was removed. `closed`: a whole last line lacked its line feed. */
  kind: 'cut' | 'closed';
  line: number;
  bytes: number;
  text: string;
}

const CHUNK = 1 << 20;
const LINE_FEED = 10;

/** A raw line: its bytes without the line feed, and whether it had one. */
interface RawLine {
  line: number;
  bytes: Buffer;
  terminated: boolean;
}

function* rawLines(file: string): Generator<RawLine> {
  let fd: number;
  try {
    fd = fs.openSync(file, 'r');
  } catch (error) {
    throw fileError('read the file', file, error);
  }
  try {
    let rest: Buffer[] = [];
    let line = 0;
    for (;;) {
      const chunk = Buffer.allocUnsafe(CHUNK);
      let n: number;
      try {
        n = fs.readSync(fd, chunk, 0, CHUNK, null);
      } catch (error) {
        throw fileError('read the file', file, error);
      }
      if (n === 0) break;
      let start = 0;
      for (;;) {
        const end = chunk.subarray(0, n).indexOf(LINE_FEED, start);
        if (end < 0) break;
        rest.push(chunk.subarray(start, end));
        line += 1;
        yield { line, bytes: rest.length === 1 ? rest[0] : Buffer.concat(rest), terminated: true };
        rest = [];
        start = end + 1;
      }
      if (start < n) rest.push(chunk.subarray(start, n));
    }
    if (rest.length > 0) yield { line: line + 1, bytes: Buffer.concat(rest), terminated: false };
  } finally {
    fs.closeSync(fd);
  }
}

function excerpt(text: string): string {
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}

/** Short reason from the JSON parser's message, without its copy of the text. */
function jsonReason(error: unknown, terminated: boolean): string {
  const reason = `not valid JSON (${messageOf(error).split('\n')[0]})`;
  return terminated ? reason : `${reason}; the file ends in the middle of this line`;
}

/**
 * Streams a jsonl file: yields every good record, hands every bad line to `onProblem` with its
 * reason. Blank lines are passed over. Memory is bounded by the longest line.
 *
 * @param check turns the parsed JSON into a record; what it throws becomes the line's reason.
 * @throws FileError when the file cannot be read.
 */
export function* streamJsonl<T = unknown>(
  file: string,
  onProblem: (problem: JsonlProblem) => void,
  check?: (value: unknown, line: number) => T,
  onBlank?: (line: number) => void,
): Generator<JsonlRecord<T>> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  for (const { line, bytes, terminated } of rawLines(file)) {
    let text: string;
    try {
      text = decoder.decode(bytes).trim();
    } catch {
      onProblem({ line, reason: 'not valid UTF-8', text: excerpt(bytes.toString('latin1')) });
      continue;
    }
    if (text === '') {
      onBlank?.(line);
      continue;
    }
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      onProblem({ line, reason: jsonReason(error, terminated), text: excerpt(text) });
      continue;
    }
    let record: T;
    try {
      record = check === undefined ? (value as T) : check(value, line);
    } catch (error) {
      if (!(error instanceof SrumError)) throw error;
      onProblem({ line, reason: error.message, text: excerpt(text) });
      continue;
    }
    yield { line, value: record };
  }
}

/**
 * Reads a whole jsonl file; bad lines are counted and reported in `problems`, never dropped silently.
 *
 * @throws FileError when the file cannot be read.
 */
export function readJsonl<T = unknown>(
  file: string,
  check?: (value: unknown, line: number) => T,
): JsonlResult<T> {
  const problems: JsonlProblem[] = [];
  let blank = 0;
  const records = [
    ...streamJsonl(
      file,
      (problem) => problems.push(problem),
      check,
      () => {
        blank += 1;
      },
    ),
  ];
  return { records, problems, lines: records.length + problems.length + blank, blank };
}

/**
 * One record as one line of JSON text (no line feed inside, non-ASCII written raw).
 *
 * @throws DataError for numbers JSON cannot hold (NaN, infinities), which would silently become null.
 */
export function jsonLine(record: unknown): string {
  const text = JSON.stringify(record, (key, value) => {
    if (typeof value === 'number' && !Number.isFinite(value)) {
      throw new DataError('ERR_NOT_FINITE', 'a record must hold finite numbers', {
        key,
        found: String(value),
      });
    }
    return value;
  });
  if (text === undefined) {
    throw new DataError('ERR_NOT_JSON', 'a record must be a JSON value', { found: typeof record });
  }
  return text;
}

/**
 * Mends the end of a jsonl file that a crash may have left: a last line without line feed is kept
 * (and closed) when it is whole JSON, else cut off.
 *
 * @returns what was done, or null when the file was fine or absent.
 * @throws FileError
 */
export function repairJsonl(file: string): JsonlRepair | null {
  if (fs.statSync(file, { throwIfNoEntry: false })?.isFile() !== true) return null;
  let last: RawLine | null = null;
  // Only the end matters, but counting lines makes the report useful; files here are megabytes.
  for (const line of rawLines(file)) last = line;
  if (last === null || last.terminated) return null;
  const text = last.bytes.toString('utf8');
  let whole = true;
  try {
    JSON.parse(text);
  } catch {
    whole = false;
  }
  try {
    if (whole) fs.appendFileSync(file, '\n', { flush: true });
    else fs.truncateSync(file, fs.statSync(file).size - last.bytes.length);
  } catch (error) {
    throw fileError('repair the file', file, error);
  }
  return {
    kind: whole ? 'closed' : 'cut',
    line: last.line,
    bytes: last.bytes.length,
    text: excerpt(text),
  };
}

/**
 * Appends records to a jsonl file, each whole and on the disk when `append` returns.
 * Opening mends what an earlier crash left (`repair`); a failed append is taken back.
 */
export class JsonlWriter {
  readonly path: string;
  /** What opening had to mend; report it to the user. */
  readonly repair: JsonlRepair | null;
  #fd: number | null;

  /** @throws FileError when the file cannot be opened for appending. */
  constructor(file: string) {
    this.path = file;
    makeFolder(path.dirname(file));
    this.repair = repairJsonl(file);
    try {
      this.#fd = fs.openSync(file, 'a');
    } catch (error) {
      throw fileError('append to the file', file, error);
    }
  }

  /** Appends one record. @throws FileError, DataError (not finite); the file then is as before. */
  append(record: unknown): void {
    if (this.#fd === null)
      throw new SrumError('ERR_CLOSED', 'the file was closed', { file: this.path });
    const bytes = Buffer.from(`${jsonLine(record)}\n`, 'utf8');
    const before = fs.fstatSync(this.#fd).size;
    try {
      let done = 0;
      while (done < bytes.length) done += fs.writeSync(this.#fd, bytes, done, bytes.length - done);
      if (fs.fstatSync(this.#fd).isFile()) fs.fsyncSync(this.#fd);
    } catch (error) {
      this.#takeBack(before);
      throw fileError('append to the file', this.path, error);
    }
  }

  #takeBack(size: number): void {
    try {
      if (this.#fd !== null) fs.ftruncateSync(this.#fd, size);
    } catch {
      // What remains is a partial last line, which the next opening cuts.
    }
  }

  close(): void {
    if (this.#fd === null) return;
    fs.closeSync(this.#fd);
    this.#fd = null;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Appends one record, mending the file's end first. @returns what had to be mended. */
export function appendJsonl(file: string, record: unknown): JsonlRepair | null {
  const writer = new JsonlWriter(file);
  try {
    writer.append(record);
  } finally {
    writer.close();
  }
  return writer.repair;
}

/** Writes a whole jsonl file atomically. @returns the number of records. */
export function writeJsonl(file: string, records: Iterable<unknown>): number {
  const target = new AtomicFile(file);
  let count = 0;
  try {
    for (const record of records) {
      target.write(`${jsonLine(record)}\n`);
      count += 1;
    }
  } catch (error) {
    target.abort();
    throw error;
  }
  target.commit();
  return count;
}

/** Reads one JSON file. @throws FileError, DataError (`ERR_NOT_JSON`) naming the file. */
export function readJsonFile(file: string): unknown {
  const text = readTextFile(file);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new DataError(
      'ERR_NOT_JSON',
      'the file is not valid JSON',
      { file, found: messageOf(error).split('\n')[0] },
      { cause: error },
    );
  }
}

/** Writes one JSON file atomically, indented. @throws FileError, DataError (not finite) */
export function writeJsonFile(file: string, value: unknown): void {
  writeFileAtomic(file, `${JSON.stringify(JSON.parse(jsonLine(value)), null, 2)}\n`);
}

/**
 * Rebuilds a jsonl file that is only a view of many one-record JSON files, in the order given.
 * Record files that cannot be read are reported, not dropped silently (`line` counts the inputs).
 */
export function rebuildJsonl<T>(
  view: string,
  recordFiles: Iterable<string>,
  check?: (value: unknown) => T,
): { records: number; problems: Array<JsonlProblem & { file: string }> } {
  const problems: Array<JsonlProblem & { file: string }> = [];
  const good: unknown[] = [];
  let line = 0;
  for (const file of recordFiles) {
    line += 1;
    try {
      const value = readJsonFile(file);
      good.push(check === undefined ? value : check(value));
    } catch (error) {
      if (!(error instanceof SrumError)) throw error;
      problems.push({ file, line, reason: error.message, text: excerpt(peek(file)) });
    }
  }
  return { records: writeJsonl(view, good), problems };
}

function peek(file: string): string {
  try {
    return readBytes(file).toString('utf8');
  } catch {
    return '';
  }
}
