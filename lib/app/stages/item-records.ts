import fs from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { DataError, SrumError } from '../../util/errors.js';
import { fileError, makeFolder, removeFile, writeFileAtomic } from '../../util/files.js';
import { jsonLine, readJsonFile, writeJsonl } from '../../util/jsonl.js';
import { sha256 } from '../../util/sha256.js';
import { RECORDS_FOLDER } from './run-folder.js';

/** A file that belongs to an item. */
export interface ItemFile {
  /** Name inside the stage's folder. */
  name: string;
  data: Uint8Array;
}

const storedSchema = z.object({
  key: z.string().min(1),
  /** Hash of the settings and of the item itself. */
  item_hash: z.string(),
  /** Place in the views, compared number by number. */
  order: z.array(z.number()),
  files: z.record(z.string(), z.object({ bytes: z.int().min(0), sha256: z.string() })),
  record: z.record(z.string(), z.unknown()),
});

/** What is kept of a finished item. */
export type StoredItem = z.output<typeof storedSchema>;

const failureSchema = z.object({ key: z.string(), code: z.string(), reason: z.string() });

/** Why an item could not be made. */
export type ItemFailure = z.output<typeof failureSchema>;

/**
 * The records of a stage's items, one small file each, written after the files they speak of. They
 * are the truth; line-oriented files are views that can be rebuilt from them at any time.
 */
export class ItemRecords {
  readonly folder: string;
  readonly #records: string;
  readonly #failures: string;

  constructor(folder: string) {
    this.folder = folder;
    this.#records = path.join(folder, RECORDS_FOLDER);
    this.#failures = path.join(folder, 'failures');
    makeFolder(this.#records);
  }

  /** Folders in which this class writes. */
  get folders(): string[] {
    return [this.folder, this.#records, this.#failures];
  }

  /** The stored item, if it was made from the same input and its files are there. */
  find(key: string, itemHash: string): StoredItem | null {
    const file = this.#file(this.#records, key);
    if (!fs.existsSync(file)) return null;
    const stored = this.#read(file);
    if (stored === null || stored.item_hash !== itemHash) return null;
    const whole = Object.entries(stored.files).every(([name, { bytes }]) => {
      const stat = fs.statSync(path.join(this.folder, name), { throwIfNoEntry: false });
      return stat?.isFile() === true && stat.size === bytes;
    });
    return whole ? stored : null;
  }

  /** Writes the item's files, then its record; takes back a failure of an earlier run. @throws FileError */
  store(item: Omit<StoredItem, 'files'>, files: readonly ItemFile[]): void {
    const known: StoredItem['files'] = {};
    for (const { name, data } of files) {
      writeFileAtomic(path.join(this.folder, name), data);
      known[name] = { bytes: data.byteLength, sha256: sha256(data) };
    }
    const { key, item_hash, order, record } = item;
    const text = jsonLine({ key, item_hash, order, files: known, record });
    writeFileAtomic(this.#file(this.#records, key), `${text}\n`);
    removeFile(this.#file(this.#failures, key));
  }

  /** Takes back the record of an item that has to be made again, lest a view shows the old one. */
  forget(key: string): void {
    removeFile(this.#file(this.#records, key));
  }

  /** Removes every record and failure with the files they speak of. @throws FileError */
  clear(): void {
    for (const { key, files } of this.all()) {
      for (const name of Object.keys(files)) removeFile(path.join(this.folder, name));
      this.forget(key);
    }
    for (const name of this.#names(this.#records)) removeFile(path.join(this.#records, name));
    for (const name of this.#names(this.#failures)) removeFile(path.join(this.#failures, name));
  }

  /** Notes why an item could not be made. @throws FileError */
  fail(failure: ItemFailure): void {
    makeFolder(this.#failures);
    writeFileAtomic(this.#file(this.#failures, failure.key), `${jsonLine(failure)}\n`);
  }

  /** All stored items in the order of the views. */
  all(): StoredItem[] {
    const items = this.#names(this.#records).map((name) =>
      this.#read(path.join(this.#records, name)),
    );
    return items
      .filter((item) => item !== null)
      .sort((a, b) => compareOrder(a.order, b.order) || (a.key < b.key ? -1 : 1));
  }

  /** Failures that no later run has mended. */
  failures(): ItemFailure[] {
    return this.#names(this.#failures).flatMap((name) => {
      const parsed = failureSchema.safeParse(readJsonFile(path.join(this.#failures, name)));
      return parsed.success ? [parsed.data] : [];
    });
  }

  /**
   * Writes the views. Several processes may do this at once: each looks again after writing, so the
   * last one to write has seen every record.
   */
  writeViews(views: (items: StoredItem[]) => Array<{ file: string; records: unknown[] }>): void {
    for (;;) {
      const before = this.#state();
      for (const { file, records } of views(this.all())) {
        writeJsonl(path.join(this.folder, file), records);
      }
      const failures = this.failures();
      const list = path.join(this.folder, 'failures.jsonl');
      if (failures.length > 0) writeJsonl(list, failures);
      else removeFile(list);
      if (this.#state() === before) return;
    }
  }

  #state(): string {
    return [this.#names(this.#records), this.#names(this.#failures)].join('/');
  }

  #file(folder: string, key: string): string {
    return path.join(folder, `${key}.json`);
  }

  #names(folder: string): string[] {
    try {
      const names = fs.readdirSync(folder);
      return names.filter((name) => name.endsWith('.json')).sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw fileError('list the folder', folder, error);
    }
  }

  /** A record file's content; null when another program has damaged it, so that the item is made again. */
  #read(file: string): StoredItem | null {
    try {
      const parsed = storedSchema.safeParse(readJsonFile(file));
      return parsed.success ? parsed.data : null;
    } catch (error) {
      if (error instanceof DataError) return null;
      if (error instanceof SrumError && error.code === 'ERR_NO_FILE') return null;
      throw error;
    }
  }
}

function compareOrder(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < Math.max(a.length, b.length); i += 1) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
