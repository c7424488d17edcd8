import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { openSafetensors, tensor } from '../../lib/torch/index.js';
import {
  type CheckpointManifest,
  listCheckpoints,
  newestCheckpoint,
  pruneCheckpoints,
  removeStaleCheckpoints,
  saveCheckpoint,
  verifyCheckpoint,
} from '../../lib/train/checkpoint.js';
import { CheckpointError } from '../../lib/util/errors.js';
import { FileError } from '../../lib/util/files.js';

const tensors = (value: number) => ({
  model: new Map([['w', tensor([value, 2, 3])]]),
  ema: new Map([['w', tensor([value, 2, 3])]]),
  optimizer: new Map([['w.step', tensor(BigInt64Array.of(4n), { shape: [] })]]),
});

const state = (step: number): Omit<CheckpointManifest, 'schema' | 'files'> => ({
  step,
  recipe_hash: 'r',
  computation: { lr: 1 },
  data_hash: 'd',
  rng: { scheme: 's', global_seed: 1, data_seed: 2 },
  data: { next: { epoch: 0, index: 3 }, buffer: [] },
  totals: { tokens: 10, samples: 2 },
});

describe('checkpoints', () => {
  let dir: string;
  beforeEach(() => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'srum-checkpoint-'));
  });
  afterEach(() => fs.rmSync(dir, { recursive: true, force: true }));

  it('are written whole under their number and read back', async () => {
    const folder = await saveCheckpoint(dir, tensors(1), state(12));
    assert.equal(path.basename(folder), '0000012');
    assert.deepEqual(fs.readdirSync(dir), ['0000012']);
    const { manifest } = await verifyCheckpoint(folder);
    assert.equal(manifest.step, 12);
    assert.deepEqual(manifest.data, { next: { epoch: 0, index: 3 }, buffer: [] });
    assert.deepEqual(Object.keys(manifest.files).sort(), [
      'ema.safetensors',
      'model.safetensors',
      'optimizer.safetensors',
    ]);
    const weights = openSafetensors(path.join(folder, 'model.safetensors'));
    assert.deepEqual([...weights.get('w').toFloat32Array()], [1, 2, 3]);
  });

  it('replace an older one of the same step', async () => {
    await saveCheckpoint(dir, tensors(1), state(3));
    const folder = await saveCheckpoint(dir, tensors(9), state(3));
    const weights = openSafetensors(path.join(folder, 'model.safetensors'));
    assert.equal(weights.get('w').toFloat32Array()[0], 9);
    assert.deepEqual(fs.readdirSync(dir), ['0000003']);
  });

  it('prefer the newest whole one and say why newer ones were passed over', async () => {
    for (const step of [5, 10, 15, 20]) await saveCheckpoint(dir, tensors(step), state(step));
    const file = (step: string, name: string) => path.join(dir, step, name);
    fs.truncateSync(file('0000020', 'model.safetensors'), 40);
    const bytes = fs.readFileSync(file('0000015', 'optimizer.safetensors'));
    bytes[bytes.length - 1] ^= 1;
    fs.writeFileSync(file('0000015', 'optimizer.safetensors'), bytes);
    fs.mkdirSync(path.join(dir, 'notes'));
    const newest = await newestCheckpoint(dir);
    assert.equal(newest?.manifest.step, 10);
    assert.equal(newest?.rejected.length, 2);
    assert.match(newest?.rejected[0].reason ?? '', /wrong length/);
    assert.match(newest?.rejected[1].reason ?? '', /content of a checkpoint file has changed/);
  });

  it('are refused when none is whole', async () => {
    assert.equal(await newestCheckpoint(dir), null);
    assert.equal(await newestCheckpoint(path.join(dir, 'absent')), null);
    fs.mkdirSync(path.join(dir, '0000007'));
    await assert.rejects(newestCheckpoint(dir), CheckpointError);
  });

  it('are refused for a missing file, a broken state and a wrong schema', async () => {
    const fresh = async () => saveCheckpoint(dir, tensors(1), state(1));
    let folder = await fresh();
    fs.rmSync(path.join(folder, 'ema.safetensors'));
    await assert.rejects(verifyCheckpoint(folder), /missing/);
    folder = await fresh();
    const file = path.join(folder, 'trainer.json');
    const text = fs.readFileSync(file, 'utf8');
    fs.writeFileSync(file, text.slice(0, 50));
    await assert.rejects(verifyCheckpoint(folder), CheckpointError);
    fs.writeFileSync(file, text.replace('"schema": 1', '"schema": 99'));
    await assert.rejects(verifyCheckpoint(folder), CheckpointError);
    fs.rmSync(file);
    await assert.rejects(verifyCheckpoint(folder), CheckpointError);
    await assert.rejects(verifyCheckpoint(path.join(dir, 'nowhere')), /no such checkpoint/);
  });

  it('never take a half-written folder of a killed process for one', async () => {
    // A process id that is certainly free: that of a child which has ended.
    const dead = spawnSync(process.execPath, ['-e', '']).pid;
    const partial = `.partial-9-${dead}-1`;
    fs.mkdirSync(path.join(dir, partial));
    fs.writeFileSync(path.join(dir, partial, 'model.safetensors'), 'x');
    assert.equal(await newestCheckpoint(dir), null);
    assert.deepEqual(await removeStaleCheckpoints(dir), [partial]);
    assert.deepEqual(fs.readdirSync(dir), []);
  });

  it('are kept as many as asked for', async () => {
    for (const step of [1, 2, 3, 4]) await saveCheckpoint(dir, tensors(step), state(step));
    assert.deepEqual(await pruneCheckpoints(dir, 0), []);
    await pruneCheckpoints(dir, 2);
    assert.deepEqual(
      (await listCheckpoints(dir)).map((c) => c.step),
      [4, 3],
    );
    assert.deepEqual(fs.readdirSync(dir).sort(), ['0000003', '0000004']);
  });

  it('leave nothing behind when the folder cannot be written', async () => {
    const blocked = path.join(dir, 'file');
    fs.writeFileSync(blocked, '');
    await assert.rejects(saveCheckpoint(blocked, tensors(1), state(1)), FileError);
    assert.deepEqual(fs.readdirSync(dir), ['file']);
  });

  it('say that a file system is read-only', async function () {
    const sealed = path.join(dir, 'sealed');
    fs.mkdirSync(sealed);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', sealed]).status === 0;
    // Only root may mount; elsewhere this cannot be tried.
    if (!mounted) this.skip();
    try {
      await assert.rejects(saveCheckpoint(sealed, tensors(1), state(1)), (error: unknown) => {
        assert.ok(error instanceof FileError, String(error));
        assert.equal(error.code, 'ERR_READ_ONLY');
        return true;
      });
    } finally {
      spawnSync('umount', [sealed]);
    }
  });

  it('leave nothing behind on a full disk', async function () {
    const small = path.join(dir, 'small');
    fs.mkdirSync(small);
    const arguments_ = ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', small];
    // Only root may mount; elsewhere this cannot be tried.
    if (spawnSync('mount', arguments_).status !== 0) this.skip();
    try {
      const large = { ...tensors(1), model: new Map([['w', tensor(new Float32Array(50_000))]]) };
      await assert.rejects(saveCheckpoint(small, large, state(1)), (error: unknown) => {
        assert.ok(error instanceof FileError, String(error));
        assert.equal(error.code, 'ERR_DISK_FULL');
        return true;
      });
      assert.deepEqual(fs.readdirSync(small), []);
    } finally {
      spawnSync('umount', [small]);
    }
  });
});
