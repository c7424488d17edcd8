import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { CheckpointError, messageOf } from '../util/errors.js';
import { AtomicFile, fileError } from '../util/files.js';
import { isObject } from '../util/json-values.js';
import { type DType, elementSize } from './dtype.js';
import { keep, scope } from './memory.js';
import { ops } from './operators-install.js';
import type { Tensor } from './tensor.js';

// Format: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, then the data.

const names: Record<string, DType> = {
  F64: 'float64',
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I64: 'int64',
  I32: 'int32',
  I16: 'int16',
  I8: 'int8',
  U8: 'uint8',
  BOOL: 'bool',
};
const codes = new Map(Object.entries(names).map(([code, dtype]) => [dtype, code]));
const MAX_HEADER = 100 * 1024 * 1024;

/** What the header of a safetensors file says about a tensor. */
export interface TensorInfo {
  dtype: DType;
  shape: number[];
}

interface Entry extends TensorInfo {
  /** Bytes from the start of the file. */
  begin: number;
  bytes: number;
}

/** A safetensors file, memory mapped: a tensor's bytes are read from disk only when they are used. */
export class SafetensorsFile {
  /** The file, as it was named when opened. */
  readonly path: string;
  /** The `__metadata__` strings of the header. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #entries: Map<string, Entry>;
  readonly #size: number;
  #mapped: Tensor | null = null;

  /** @internal Use {@link openSafetensors}. */
  constructor(
    path: string,
    entries: Map<string, Entry>,
    metadata: Record<string, string>,
    size: number,
  ) {
    this.path = path;
    this.metadata = metadata;
    this.#entries = entries;
    this.#size = size;
  }

  /** Names of all tensors. */
  keys(): string[] {
    return [...this.#entries.keys()];
  }

  /** Whether the file holds a tensor of this name. */
  has(name: string): boolean {
    return this.#entries.has(name);
  }

  /** @throws {CheckpointError} ERR_KEY_MISSING */
  info(name: string): TensorInfo {
    const { dtype, shape } = this.#entry(name);
    return { dtype, shape };
  }

  /**
   * The tensor, sharing the mapped memory (copied only where the file misaligns it). Writing to it never reaches the file.
   *
   * @throws {CheckpointError} ERR_KEY_MISSING
   */
  get(name: string): Tensor {
    const entry = this.#entry(name);
    if (entry.bytes === 0) return ops.empty(entry.shape, { dtype: entry.dtype });
    const mapped = this.#map();
    return scope(() => {
      const bytes = mapped.narrow(0, entry.begin, entry.bytes);
      const aligned = entry.begin % elementSize(entry.dtype) === 0 ? bytes : bytes.clone();
      return aligned.view(entry.dtype).view(entry.shape);
    });
  }

  /** All tensors by name. */
  tensors(): Map<string, Tensor> {
    return new Map(this.keys().map((name) => [name, this.get(name)]));
  }

  /** Lets go of the mapping; tensors already taken keep it alive. */
  close(): void {
    this.#mapped?.dispose();
    this.#mapped = null;
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined)
      throw new CheckpointError('ERR_KEY_MISSING', 'no such tensor', {
        file: this.path,
        key: name,
        expected: 'a tensor of this name',
        found: `${this.#entries.size} others`,
      });
    return entry;
  }

  #map(): Tensor {
    if (this.#mapped === null || this.#mapped.isDisposed) {
      // Private copy-on-write mapping; kept outside of any open scope because the file object outlives it.
      this.#mapped = keep(ops.fromFile(this.path, false, this.#size, { dtype: 'uint8' }));
    }
    return this.#mapped;
  }
}

/**
 * Opens a safetensors file after checking its header against the file.
 *
 * @throws {CheckpointError} ERR_SAFETENSORS naming what is wrong: truncated file, header that is no JSON, unknown dtype,
 *   offsets that overlap, leave gaps, leave the file or contradict the shape.
 */
export function openSafetensors(path: string): SafetensorsFile {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw fileError('open the weights', path, error);
  }
  try {
    const size = fstatSync(fd).size;
    const text = readHeader(fd, size, path);
    const { entries, metadata } = parseHeader(text, size, path);
    return new SafetensorsFile(path, entries, metadata, size);
  } finally {
    closeSync(fd);
  }
}

const bad = (
  file: string,
  message: string,
  details: { key?: string; expected?: string; found?: string } = {},
) => new CheckpointError('ERR_SAFETENSORS', message, { file, ...details });

function readExactly(fd: number, length: number, position: number): Buffer {
  const buffer = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const count = readSync(fd, buffer, done, length - done, position + done);
    if (count === 0) break;
    done += count;
  }
  return buffer.subarray(0, done);
}

function readHeader(fd: number, size: number, path: string): string {
  if (size < 8)
    throw bad(path, 'the file is too short to be safetensors', {
      expected: 'at least 8 bytes',
      found: `${size} bytes`,
    });
  const length = readExactly(fd, 8, 0).readBigUInt64LE();
  if (length > BigInt(MAX_HEADER) || Number(length) > size - 8)
    throw bad(path, 'the header claims more bytes than there are', {
      expected: `at most ${Math.min(MAX_HEADER, size - 8)}`,
      found: `${length}`,
    });
  const buffer = readExactly(fd, Number(length), 8);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(buffer);
  } catch {
    throw bad(path, 'the header is no UTF-8 text');
  }
}

function parseHeader(
  text: string,
  size: number,
  path: string,
): { entries: Map<string, Entry>; metadata: Record<string, string> } {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (error) {
    throw bad(path, `the header is no JSON (${messageOf(error)})`);
  }
  if (!isObject(header)) throw bad(path, 'the header is no JSON object');
  const start = 8 + Buffer.byteLength(text);
  const entries = new Map<string, Entry>();
  let metadata: Record<string, string> = {};
  for (const [key, value] of Object.entries(header)) {
    if (key === '__metadata__') metadata = value as Record<string, string>;
    else entries.set(key, parseEntry(key, value, start, size, path));
  }
  let end = start;
  for (const [key, entry] of [...entries].sort(
    ([, a], [, b]) => a.begin - b.begin || a.bytes - b.bytes,
  )) {
    if (entry.begin !== end)
      throw bad(path, 'data ranges overlap or leave a gap', {
        key,
        expected: `offset ${end - start}`,
        found: `${entry.begin - start}`,
      });
    end = entry.begin + entry.bytes;
  }
  if (end !== size)
    throw bad(path, end > size ? 'the file is truncated' : 'bytes follow the last tensor', {
      expected: `${end} bytes`,
      found: `${size}`,
    });
  return { entries, metadata };
}

function parseEntry(key: string, value: unknown, start: number, size: number, path: string): Entry {
  const entry = value as { dtype?: unknown; shape?: unknown; data_offsets?: unknown } | null;
  const dtype = names[String(entry?.dtype)];
  if (dtype === undefined)
    throw bad(path, 'unknown dtype', {
      key,
      expected: Object.keys(names).join(', '),
      found: String(entry?.dtype),
    });
  const { shape, data_offsets: offsets } = entry as { shape?: unknown; data_offsets?: unknown };
  const isExtent = (extent: unknown): extent is number =>
    Number.isSafeInteger(extent) && (extent as number) >= 0;
  if (!Array.isArray(shape) || !shape.every(isExtent))
    throw bad(path, 'bad shape', { key, found: JSON.stringify(shape) });
  if (
    !Array.isArray(offsets) ||
    offsets.length !== 2 ||
    !offsets.every(isExtent) ||
    offsets[0] > offsets[1]
  )
    throw bad(path, 'bad data_offsets', { key, found: JSON.stringify(offsets) });
  const [from, to] = offsets as [number, number];
  if (start + to > size)
    throw bad(path, 'the file is truncated', {
      key,
      expected: `${start + to} bytes`,
      found: `${size}`,
    });
  const bytes = byteCount(shape as number[], dtype);
  if (bytes !== to - from)
    throw bad(path, 'shape and data range disagree', {
      key,
      expected: `${bytes} bytes for ${dtype}[${shape}]`,
      found: `${to - from}`,
    });
  return { dtype, shape: shape as number[], begin: start + from, bytes };
}

/**
 * A tensor to be written, or what it will be and a function that makes it when it is its turn; what the function makes is
 * freed as soon as it is written.
 */
export type SafetensorsEntry =
  | readonly [name: string, tensor: Tensor]
  | readonly [
      name: string,
      info: { readonly dtype: DType; readonly shape: readonly number[] },
      make: () => Tensor,
    ];

/**
 * Writes tensors one after the other, so that only one is held in host memory beside the model, and renames the finished
 * file into place.
 *
 * @throws {CheckpointError} ERR_SAFETENSORS for dtypes the format lacks, two tensors of one name, and a tensor that was
 *   made otherwise than announced.
 * @throws {SrumError} naming the file when it cannot be written; nothing is left under the final name then.
 */
export function writeSafetensors(
  path: string,
  entries: Iterable<SafetensorsEntry>,
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): void {
  // Widest elements first keeps every tensor aligned to its own size.
  const list = [...entries].sort(
    ([a, x], [b, y]) => elementSize(y.dtype) - elementSize(x.dtype) || (a < b ? -1 : a > b ? 1 : 0),
  );
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const [name, { dtype, shape }] of list) {
    const code = codes.get(dtype);
    if (code === undefined)
      throw bad(path, 'safetensors has no such dtype', { key: name, found: dtype });
    if (Object.hasOwn(header, name)) throw bad(path, 'two tensors of one name', { key: name });
    const end = offset + byteCount(shape, dtype);
    header[name] = { dtype: code, shape, data_offsets: [offset, end] };
    offset = end;
  }
  const text = JSON.stringify(header);
  const padding = (8 - (Buffer.byteLength(text) % 8)) % 8;
  const head = Buffer.from(text + ' '.repeat(padding));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(head.length));
  const file = new AtomicFile(path);
  try {
    file.write(length);
    file.write(head);
    for (const entry of list) scope(() => file.write(bytesOf(entry, path)));
    file.commit();
  } catch (error) {
    file.abort();
    throw error;
  }
}

/** The bytes of an entry's tensor; belongs in a scope. */
function bytesOf(entry: SafetensorsEntry, path: string): Uint8Array {
  const [key, info] = entry;
  const tensor = entry.length === 2 ? entry[1] : entry[2]();
  if (tensor.dtype !== info.dtype || tensor.shape.join() !== info.shape.join())
    throw bad(path, 'a tensor is not what was announced', {
      key,
      expected: `${info.dtype}[${info.shape}]`,
      found: `${tensor.dtype}[${tensor.shape}]`,
    });
  const data = tensor.toTypedArray();
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function byteCount(shape: readonly number[], dtype: DType): number {
  return shape.reduce((product, extent) => product * extent, elementSize(dtype));
}
