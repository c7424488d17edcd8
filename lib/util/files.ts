import { isUtf8 } from 'node:buffer';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { DataError, type ErrorDetails, SrumError } from './errors.js';
import { isRunning } from './processes.js';
import { sha256 } from './sha256.js';

/** Reading or writing a file failed for a reason that lies in the machine, not in the file's content. */
export class FileError extends SrumError {}

const REASONS: Record<string, { code: string; text: string; hint?: string }> = {
  ENOSPC: {
    code: 'ERR_DISK_FULL',
    text: 'no space left on the disk',
    hint: 'Free some space and run the same command again; finished items are kept.',
  },
  EDQUOT: {
    code: 'ERR_DISK_FULL',
    text: 'the disk quota is used up',
    hint: 'Free some space and run the same command again; finished items are kept.',
  },
  EROFS: {
    code: 'ERR_READ_ONLY',
    text: 'the file system is read-only',
    hint: 'Choose another output folder.',
  },
  EACCES: {
    code: 'ERR_NO_ACCESS',
    text: 'permission denied',
    hint: 'Check the owner and the permissions.',
  },
  EPERM: {
    code: 'ERR_NO_ACCESS',
    text: 'operation not permitted',
    hint: 'Check the owner and the permissions.',
  },
  ENOENT: { code: 'ERR_NO_FILE', text: 'no such file or folder' },
  ENOTDIR: { code: 'ERR_NOT_A_FOLDER', text: 'a part of the path is a file, not a folder' },
  EISDIR: { code: 'ERR_NOT_A_FILE', text: 'the path is a folder, not a file' },
  EFBIG: { code: 'ERR_FILE_TOO_LARGE', text: 'the file grew past the allowed size' },
  EMFILE: { code: 'ERR_TOO_MANY_FILES', text: 'too many files are open' },
  ENFILE: { code: 'ERR_TOO_MANY_FILES', text: 'too many files are open' },
  EIO: { code: 'ERR_IO', text: 'the disk reported an input/output error' },
};

/**
 * Turns what `node:fs` threw into a `FileError` that names the file.
 * Errors of this package and programming errors pass through unchanged.
 */
export function fileError(
  action: string,
  file: string,
  error: unknown,
  details: ErrorDetails = {},
): unknown {
  if (error instanceof SrumError || !(error instanceof Error)) return error;
  const errno = (error as NodeJS.ErrnoException).code;
  if (errno === undefined || typeof errno !== 'string' || !/^E[A-Z0-9]+$/.test(errno)) return error;
  const reason = REASONS[errno];
  return new FileError(
    reason?.code ?? 'ERR_FILE',
    `cannot ${action}: ${reason?.text ?? errno}`,
    { file, hint: reason?.hint, ...details },
    { cause: error },
  );
}

/** Names of temporary files: `.<target>.<host>-<pid>-<count>.srum-tmp`. */
const TEMP_NAME = /^\..+\.([0-9a-f]{8})-(\d+)-\d+\.srum-tmp$/;
const HOST = sha256(os.hostname()).slice(0, 8);
let tempCount = 0;

/** Writes all bytes, however many the system takes at a time. */
function writeAll(fd: number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length) done += fs.writeSync(fd, bytes, done, bytes.length - done, null);
}

function toBytes(data: string | Uint8Array): Uint8Array {
  return typeof data === 'string' ? Buffer.from(data, 'utf8') : data;
}

/** Makes a rename or unlink in `folder` last; file systems that cannot do that are let be. */
export function syncFolder(folder: string): void {
  let fd: number | undefined;
  try {
    fd = fs.openSync(folder, 'r');
    fs.fsyncSync(fd);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EIO' || code === 'ENOSPC') throw error;
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

/** Whether a path is neither a file nor a folder: a device, a pipe, a socket. */
function isSpecial(file: string): boolean {
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  return stat !== undefined && !stat.isFile() && !stat.isDirectory();
}

/** The file a write to `target` should replace: a link's own target, so that links survive. */
function resolveLink(target: string): string {
  try {
    return fs.realpathSync(target);
  } catch {
    return path.resolve(target);
  }
}

/**
 * A file that appears under its final name complete or not at all.
 *
 * Bytes go to a temporary file in the same folder; `commit` flushes it to the disk and renames it,
 * `abort` removes it. Writers that need a path (native code) may write to `tempPath` themselves.
 */
export class AtomicFile {
  readonly path: string;
  readonly tempPath: string;
  readonly #target: string;
  #fd: number | null;

  /**
   * @param file final path; its folder is created when missing.
   * @throws FileError when the folder cannot be written.
   */
  constructor(file: string) {
    this.path = file;
    this.#target = resolveLink(file);
    const folder = path.dirname(this.#target);
    tempCount += 1;
    const name = `.${path.basename(this.#target)}.${HOST}-${process.pid}-${tempCount}.srum-tmp`;
    this.tempPath = path.join(folder, name);
    try {
      // Replacing a folder would only fail at the rename, after all the work.
      if (fs.statSync(this.#target, { throwIfNoEntry: false })?.isDirectory()) {
        throw Object.assign(new Error('is a directory'), { code: 'EISDIR' });
      }
      // The rename would put a file in place of the device, for everybody on the machine.
      if (isSpecial(this.#target)) {
        throw new FileError(
          'ERR_NOT_A_FILE',
          'cannot write the file: a device or pipe has this name',
          {
            file,
          },
        );
      }
      makeFolder(folder);
      this.#fd = fs.openSync(this.tempPath, 'wx', this.#mode());
    } catch (error) {
      throw fileError('write the file', file, error);
    }
  }

  #mode(): number {
    const old = fs.statSync(this.#target, { throwIfNoEntry: false });
    return old === undefined ? 0o666 : old.mode & 0o777;
  }

  /** File descriptor of the temporary file, for writers that position themselves. */
  get fd(): number {
    if (this.#fd === null)
      throw new FileError('ERR_CLOSED', 'the file was already closed', { file: this.path });
    return this.#fd;
  }

  /** Appends bytes (or UTF-8 text). On failure the temporary file is removed before throwing. */
  write(data: string | Uint8Array): void {
    const fd = this.fd;
    try {
      writeAll(fd, toBytes(data));
    } catch (error) {
      this.abort();
      throw fileError('write the file', this.path, error);
    }
  }

  /** Flushes to the disk and gives the file its final name. */
  commit(): void {
    const fd = this.fd;
    try {
      fs.fsyncSync(fd);
      fs.closeSync(fd);
      this.#fd = null;
      fs.renameSync(this.tempPath, this.#target);
      syncFolder(path.dirname(this.#target));
    } catch (error) {
      this.abort();
      throw fileError('write the file', this.path, error);
    }
  }

  /** Gives up: removes the temporary file and leaves any older file under the final name alone. */
  abort(): void {
    if (this.#fd !== null) {
      try {
        fs.closeSync(this.#fd);
      } catch {
        // The descriptor is gone either way; the cause of the abort matters more.
      }
      this.#fd = null;
    }
    fs.rmSync(this.tempPath, { force: true });
  }
}

/**
 * Writes a whole file so that a crash at any moment leaves either the old or the new content.
 * Missing folders are created. Synchronous: when it returns, the bytes are on the disk.
 *
 * @throws FileError (`ERR_DISK_FULL`, `ERR_READ_ONLY`, `ERR_NO_ACCESS`, ...) naming the file.
 */
export function writeFileAtomic(file: string, data: string | Uint8Array): void {
  const target = new AtomicFile(file);
  target.write(data);
  target.commit();
}

/**
 * Like `writeFileAtomic` for content produced piece by piece. If `writer` throws, nothing is left
 * behind and its error is passed on.
 */
export async function writeStreamAtomic(
  file: string,
  writer: (write: (chunk: string | Uint8Array) => void) => void | Promise<void>,
): Promise<void> {
  const target = new AtomicFile(file);
  try {
    await writer((chunk) => target.write(chunk));
  } catch (error) {
    target.abort();
    throw error;
  }
  target.commit();
}

/** Reads a UTF-8 text file; a byte order mark is dropped. @throws FileError */
export function readTextFile(file: string): string {
  const bytes = readBytes(file);
  if (!isUtf8(bytes)) {
    throw new DataError('ERR_NOT_UTF8', 'the file is not valid UTF-8', {
      file,
      line: firstForeignLine(bytes),
      hint: 'Save it as UTF-8.',
    });
  }
  const text = bytes.toString('utf8');
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
}

/** The first line (1-based) that is not UTF-8; line feeds are never part of a longer character. */
function firstForeignLine(bytes: Buffer): number {
  let line = 1;
  for (let start = 0; ; line++) {
    const end = bytes.indexOf(0x0a, start);
    if (end < 0 || !isUtf8(bytes.subarray(start, end))) return line;
    start = end + 1;
  }
}

/** Reads a file's bytes. @throws FileError */
export function readBytes(file: string): Buffer {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    throw fileError('read the file', file, error);
  }
}

/** Creates a folder with its parents. @throws FileError */
export function makeFolder(folder: string): void {
  try {
    fs.mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw fileError('create the folder', folder, mkdirCause(folder, error));
  }
}

/** Why a folder cannot be made, where the recursive form of mkdir answers something else. */
function mkdirCause(folder: string, error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  // EEXIST: the name is taken by a file.
  if (code === 'EEXIST') return Object.assign(new Error('a file'), { code: 'ENOTDIR' });
  // ENOENT is also the answer on read-only file systems; making the first missing folder tells.
  if (code !== 'ENOENT') return error;
  let first = path.resolve(folder);
  while (!fs.existsSync(path.dirname(first))) first = path.dirname(first);
  try {
    fs.mkdirSync(first);
    fs.rmdirSync(first);
    return error;
  } catch (cause) {
    return cause;
  }
}

/** Removes a file if it is there. @throws FileError */
export function removeFile(file: string): void {
  try {
    fs.rmSync(file, { force: true });
  } catch (error) {
    throw fileError('remove the file', file, error);
  }
}

/**
 * Removes temporary files that killed processes left in `folder` (not in its sub-folders).
 * Files of living processes stay; files of other machines are removed after a day.
 *
 * @returns the names removed.
 */
export function removeStaleTempFiles(folder: string): string[] {
  let names: string[];
  try {
    names = fs.readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw fileError('list the folder', folder, error);
  }
  const removed: string[] = [];
  for (const name of names) {
    const match = TEMP_NAME.exec(name);
    if (match === null) continue;
    const file = path.join(folder, name);
    const age = Date.now() - (fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0);
    const stale = match[1] === HOST ? !isRunning(Number(match[2])) : age > 24 * 3600 * 1000;
    if (!stale) continue;
    removeFile(file);
    removed.push(name);
  }
  return removed;
}
