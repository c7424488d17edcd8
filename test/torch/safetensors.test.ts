import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'mocha';
import {
  type DType,
  liveTensors,
  openSafetensors,
  type SafetensorsEntry,
  type Tensor,
  tensor,
  writeSafetensors,
  zeros,
} from '../../lib/torch/index.js';
import { CheckpointError } from '../../lib/util/errors.js';

describe('safetensors', () => {
  let dir: string;
  beforeEach(() => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'srum-safetensors-'));
  });
  afterEach(() => fs.rmSync(dir, { recursive: true }));

  /** A file with the given header and as many data bytes. */
  const craft = (header: unknown, dataBytes: number, length?: bigint): string => {
    const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(length ?? BigInt(text.length));
    const file = path.join(dir, 'crafted.safetensors');
    fs.writeFileSync(file, Buffer.concat([size, text, Buffer.alloc(dataBytes)]));
    return file;
  };

  it('round-trips every dtype, scalars and empty tensors included', () => {
    const file = path.join(dir, 'all.safetensors');
    const dtypes: DType[] = [
      'float64',
      'float32',
      'bfloat16',
      'float16',
      'int64',
      'int32',
      'int16',
      'int8',
      'uint8',
    ];
    const written = new Map<string, Tensor>(
      dtypes.map((dtype) => [`t.${dtype}`, tensor([[1, 2, 3]], { dtype })]),
    );
    written.set('flag', tensor([true, false, true]));
    written.set('scalar', tensor(2.5));
    written.set('empty', zeros([0, 4]));
    writeSafetensors(file, written, { format: 'pt', note: 'ü' });
    const read = openSafetensors(file);
    assert.equal(read.metadata.note, 'ü');
    assert.deepEqual(read.keys().sort(), [...written.keys()].sort());
    for (const [name, want] of written) {
      const got = read.get(name);
      assert.equal(got.dtype, want.dtype, name);
      assert.deepEqual(got.shape, want.shape, name);
      assert.deepEqual(got.toArray(), want.toArray(), name);
    }
  });

  it('never writes through to the file', () => {
    const file = path.join(dir, 'x.safetensors');
    writeSafetensors(file, [['x', zeros([4])]]);
    const bytes = fs.readFileSync(file);
    const opened = openSafetensors(file);
    opened.get('x').add_(1);
    opened.close();
    assert.deepEqual(fs.readFileSync(file), bytes);
    assert.deepEqual(openSafetensors(file).get('x').toArray(), [0, 0, 0, 0]);
  });

  it('reads data the file does not align', () => {
    const header = {
      a: { dtype: 'U8', shape: [1], data_offsets: [0, 1] },
      b: { dtype: 'F32', shape: [2], data_offsets: [1, 9] },
    };
    const file = craft(header, 9);
    const bytes = fs.readFileSync(file);
    bytes.writeFloatLE(1.5, bytes.length - 8);
    bytes.writeFloatLE(-2, bytes.length - 4);
    fs.writeFileSync(file, bytes);
    assert.deepEqual(openSafetensors(file).get('b').toArray(), [1.5, -2]);
  });

  const f32 = (shape: unknown, offsets: unknown) => ({
    x: { dtype: 'F32', shape, data_offsets: offsets },
  });
  const lies: [string, () => string, RegExp][] = [
    ['a file of 3 bytes', () => cut(craft('{}', 0), 3), /too short/],
    ['a header longer than the file', () => craft('{}', 0, 1n << 40n), /claims more bytes/],
    ['a header that is no JSON', () => craft('{"x":', 0), /no JSON/],
    ['a header that is a list', () => craft([], 0), /no JSON object/],
    ['truncated data', () => craft(f32([4], [0, 16]), 8), /truncated/],
    ['bytes after the data', () => craft(f32([2], [0, 8]), 12), /bytes follow/],
    ['a shape that contradicts the range', () => craft(f32([3], [0, 8]), 8), /disagree/],
    [
      'an unknown dtype',
      () => craft({ x: { dtype: 'F7', shape: [1], data_offsets: [0, 4] } }, 4),
      /unknown dtype/,
    ],
    ['a negative extent', () => craft(f32([-1], [0, 4]), 4), /bad shape/],
    ['a shape that overflows', () => craft(f32([2 ** 40, 2 ** 40], [0, 4]), 4), /disagree/],
    ['offsets that are text', () => craft(f32([1], ['0', '4']), 4), /bad data_offsets/],
    ['reversed offsets', () => craft(f32([1], [4, 0]), 4), /bad data_offsets/],
    [
      'a gap',
      () =>
        craft(
          {
            a: { dtype: 'F32', shape: [1], data_offsets: [0, 4] },
            b: { dtype: 'F32', shape: [1], data_offsets: [8, 12] },
          },
          12,
        ),
      /gap/,
    ],
    [
      'an overlap',
      () =>
        craft(
          {
            a: { dtype: 'F32', shape: [2], data_offsets: [0, 8] },
            b: { dtype: 'F32', shape: [2], data_offsets: [4, 12] },
          },
          12,
        ),
      /overlap/,
    ],
    ['an entry that is null', () => craft({ x: null }, 0), /unknown dtype/],
  ];
  const cut = (file: string, bytes: number): string => {
    fs.truncateSync(file, bytes);
    return file;
  };
  for (const [name, make, message] of lies) {
    it(`refuses ${name}`, () => {
      assert.throws(
        () => openSafetensors(make()),
        (error: unknown) => {
          assert.ok(error instanceof CheckpointError, `${error}`);
          assert.match(error.message, message);
          assert.match(error.message, /crafted\.safetensors/);
          return true;
        },
      );
    });
  }

  it('names a missing file and a missing key', () => {
    assert.throws(() => openSafetensors(path.join(dir, 'none.safetensors')), /none\.safetensors/);
    const file = path.join(dir, 'x.safetensors');
    writeSafetensors(file, [['x', zeros([1])]]);
    assert.throws(() => openSafetensors(file).get('y'), /key y/);
  });

  it('makes announced tensors one at a time and frees each when it is written', () => {
    const source = tensor([1, 2, 3, 4], { shape: [2, 2] });
    const before = liveTensors();
    const alive: number[] = [];
    const entries = Array.from(
      { length: 8 },
      (_, i): SafetensorsEntry => [
        `t${i}`,
        { dtype: 'bfloat16', shape: [2, 2] },
        () => {
          alive.push(liveTensors() - before);
          return source.mul(i).to('bfloat16');
        },
      ],
    );
    const file = path.join(dir, 'lazy.safetensors');
    writeSafetensors(file, entries);
    assert.deepEqual(alive, new Array(8).fill(0));
    assert.equal(liveTensors(), before);
    const read = openSafetensors(file).get('t3');
    assert.equal(read.dtype, 'bfloat16');
    assert.deepEqual(read.toArray(), [
      [3, 6],
      [9, 12],
    ]);
  });

  it('refuses a tensor that is not what was announced, and leaves no file', () => {
    for (const made of [zeros([3]), zeros([2], { dtype: 'float64' })]) {
      const file = path.join(dir, 'other.safetensors');
      const entry = ['x', { dtype: 'float32', shape: [2] }, () => made] as const;
      assert.throws(() => writeSafetensors(file, [entry]), /key x; expected float32\[2\]/);
    }
    assert.deepEqual(fs.readdirSync(dir), []);
  });

  it('leaves nothing behind when the disk is full or the folder is no folder', () => {
    assert.throws(() => writeSafetensors('/dev/full/x.safetensors', [['x', zeros([1])]]), {
      code: /ERR_/,
    });
    const file = path.join(dir, 'twice.safetensors');
    assert.throws(
      () =>
        writeSafetensors(file, [
          ['x', zeros([1])],
          ['x', zeros([1])],
        ]),
      /two tensors/,
    );
    assert.deepEqual(fs.readdirSync(dir), []);
  });
});
