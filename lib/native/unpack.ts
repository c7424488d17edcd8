import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { Transform } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import zlib from 'node:zlib';
import yauzl from 'yauzl';
import { messageOf, NativeError } from '../util/errors.js';

/** A zip archive (wheels are zip archives too) with its directory read. */
export interface Archive {
  file: string;
  entries: ReadonlyMap<string, yauzl.Entry>;
  /** The whole content of one small entry. */
  read(name: string): Promise<Buffer>;
  stream(entry: yauzl.Entry): Promise<NodeJS.ReadableStream>;
  close(): void;
}

function broken(file: string, error: unknown): NativeError {
  return new NativeError(
    'ERR_ARCHIVE',
    `the archive is damaged or incomplete: ${messageOf(error)}`,
    { file, hint: 'Delete the file and fetch it again.' },
    { cause: error },
  );
}

/**
 * Opens an archive and reads its directory.
 *
 * @throws NativeError ERR_ARCHIVE for a truncated file, one that is no zip, or names that lead out of the folder.
 */
export async function openArchive(file: string): Promise<Archive> {
  const zip = await new Promise<yauzl.ZipFile>((resolve, reject) => {
    yauzl.open(file, { lazyEntries: true, autoClose: false }, (error, opened) => {
      if (error) reject(broken(file, error));
      else resolve(opened);
    });
  });
  const entries = new Map<string, yauzl.Entry>();
  try {
    await new Promise<void>((resolve, reject) => {
      zip.on('entry', (entry: yauzl.Entry) => {
        if (!entry.fileName.endsWith('/')) entries.set(entry.fileName, entry);
        zip.readEntry();
      });
      zip.once('end', resolve);
      zip.once('error', (error) => reject(broken(file, error)));
      zip.readEntry();
    });
  } catch (error) {
    zip.close();
    throw error;
  }
  const stream = (entry: yauzl.Entry): Promise<NodeJS.ReadableStream> =>
    new Promise((resolve, reject) => {
      zip.openReadStream(entry, (error, opened) => {
        if (error) reject(broken(file, error));
        else resolve(opened);
      });
    });
  return {
    file,
    entries,
    stream,
    async read(name) {
      const entry = entries.get(name);
      if (!entry) throw broken(file, new Error(`no entry ${name}`));
      try {
        const data = await buffer(await stream(entry));
        if (zlib.crc32(data) !== entry.crc32) throw new Error(`wrong check value in ${name}`);
        return data;
      } catch (error) {
        throw error instanceof NativeError ? error : broken(file, error);
      }
    },
    close: () => zip.close(),
  };
}

export interface ExtractOptions {
  /** Expected SHA-256 (base64url, as wheels write it) per entry name; an entry not in the map fails. */
  hashes?: ReadonlyMap<string, string>;
  onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/** Entries below this size are held in memory; there are thousands of them. */
const SMALL = 1 << 20;
/** Decompression runs on the thread pool, so a few at a time keep both cores busy. */
const PARALLEL = 8;

/**
 * Writes entries below `folder`. Each is checked against its CRC-32 and, when given, its SHA-256.
 *
 * @param targets entry name to path relative to `folder`.
 * @throws NativeError ERR_ARCHIVE when content does not match, ERR_DISK_FULL when there is no room for it.
 */
export async function extract(
  archive: Archive,
  folder: string,
  targets: ReadonlyMap<string, string>,
  options: ExtractOptions = {},
): Promise<void> {
  let total = 0;
  for (const name of targets.keys()) total += archive.entries.get(name)?.uncompressedSize ?? 0;
  fs.mkdirSync(folder, { recursive: true });
  requireSpace(folder, total);
  let done = 0;
  const made = new Set<string>();
  const queue = [...targets];
  // The largest first, so that the small ones fill the time it takes.
  const size = (name: string): number => archive.entries.get(name)?.uncompressedSize ?? 0;
  queue.sort((a, b) => size(a[0]) - size(b[0]));
  let failed: unknown;

  const one = async (name: string, relative: string): Promise<void> => {
    const entry = archive.entries.get(name);
    if (!entry) throw broken(archive.file, new Error(`no entry ${name}`));
    const expected = options.hashes?.get(name);
    if (options.hashes && expected === undefined) {
      throw broken(archive.file, new Error(`${name} is not in the wheel's list of hashes`));
    }
    const target = path.join(folder, relative);
    const parent = path.dirname(target);
    if (!made.has(parent)) {
      fs.mkdirSync(parent, { recursive: true });
      made.add(parent);
    }
    const source = await archive.stream(entry);
    let crc = 0;
    const sha = expected === undefined ? null : createHash('sha256');
    const look = (chunk: Buffer): void => {
      crc = zlib.crc32(chunk, crc);
      sha?.update(chunk);
    };
    if (entry.uncompressedSize < SMALL) {
      const data = await buffer(source);
      look(data);
      fs.writeFileSync(target, data);
    } else {
      const check = new Transform({
        transform(chunk: Buffer, _encoding, next) {
          look(chunk);
          done += chunk.length;
          options.onProgress?.(done, total);
          next(null, chunk);
        },
      });
      await pipeline(source, check, fs.createWriteStream(target, { flush: true }));
    }
    if (crc !== entry.crc32 || (sha && sha.digest('base64url') !== expected)) {
      throw broken(archive.file, new Error(`wrong check value in ${name}`));
    }
    if (entry.uncompressedSize < SMALL) done += entry.uncompressedSize;
    options.onProgress?.(done, total);
  };
  const worker = async (): Promise<void> => {
    for (;;) {
      const next = queue.pop();
      if (next === undefined || failed !== undefined) return;
      try {
        await one(next[0], next[1]);
      } catch (error) {
        failed ??= error;
      }
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  if (failed === undefined) return;
  if (failed instanceof NativeError) throw failed;
  const code = (failed as NodeJS.ErrnoException).code;
  if (code === 'ENOSPC' || code === 'EDQUOT') throw diskFull(folder, total, undefined, failed);
  throw broken(archive.file, failed);
}

/** Throws ERR_DISK_FULL unless `bytes` fit into the file system of `folder`. */
export function requireSpace(folder: string, bytes: number): void {
  const stat = fs.statfsSync(folder);
  const free = stat.bavail * stat.bsize;
  if (free < bytes) throw diskFull(folder, bytes, free);
}

function diskFull(folder: string, bytes: number, free?: number, cause?: unknown): NativeError {
  const mb = (n: number): string => `${Math.ceil(n / 1e6)} MB`;
  return new NativeError(
    'ERR_DISK_FULL',
    'not enough space on the disk for LibTorch',
    {
      file: folder,
      expected: mb(bytes),
      found: free === undefined ? undefined : `${mb(free)} free`,
      hint: 'Free some space, or set SRUM_CACHE to a folder on another disk, and run the command again.',
    },
    { cause },
  );
}
