import assert from 'node:assert/strict';
import path from 'node:path';
import { Autoencoder } from '../../../lib/models/bagel/autoencoder.js';
import { Bagel } from '../../../lib/models/bagel/bagel.js';
import { buildAutoencoder } from '../../../lib/models/bagel/build-autoencoder.js';
import { parseBagelConfig } from '../../../lib/models/bagel/config.js';
import { loadAutoencoder, loadBagel, readModelConfig } from '../../../lib/models/bagel/load.js';
import { PatchAutoencoder } from '../../../lib/models/bagel/patch-autoencoder.js';
import { fitPatchCode, type PixelPlanes } from '../../../lib/models/bagel/patch-code.js';
import { saveBagel } from '../../../lib/models/bagel/save.js';
import { StateDictError } from '../../../lib/nn/key-report.js';
import {
  Generator,
  noGrad,
  ops,
  rand,
  tensor,
  writeSafetensors,
} from '../../../lib/torch/index.js';
import { ConfigError, DataError } from '../../../lib/util/errors.js';
import { temporaryFolder } from '../../support/temp.js';
import { tinyConfig } from '../../support/tiny-model.js';

const SIDE = 8;

/** Pictures of two flat halves: few directions tell their patches apart. */
function picture(seed: number): PixelPlanes {
  const colours = rand([6], { generator: new Generator(seed) }).toFloat32Array();
  const data = new Float32Array(3 * SIDE * SIDE);
  for (let i = 0; i < data.length; i += 1) {
    const half = i % SIDE < SIDE / 2 ? 0 : 3;
    data[i] = 2 * colours[half + Math.floor(i / (SIDE * SIDE))] - 1;
  }
  return { width: SIDE, height: SIDE, data };
}

const pictures = Array.from({ length: 20 }, (_, i) => picture(i));
const batch = tensor(Float32Array.from(pictures.flatMap(({ data }) => [...data])), {
  shape: [pictures.length, 3, SIDE, SIDE],
});

describe('fitPatchCode', () => {
  it('keeps what the pictures consist of, with latents of unit size', () => {
    const code = fitPatchCode(pictures, { patch: 4, channels: 3 });
    noGrad(() => {
      const z = code.encode(batch, { deterministic: true });
      assert.deepEqual(z.shape, [20, 3, 2, 2]);
      assert.ok(ops.allclose(code.decode(z), batch, 1e-4, 1e-4));
      const size = Math.sqrt(z.pow(2).mean().item());
      assert.ok(Math.abs(size - 1) < 1e-4, `${size}`);
      assert.ok(Math.abs(z.mean().item()) < 1e-4);
    });
  });

  it('has orthonormal components, strongest first, that do not depend on the run', () => {
    const code = fitPatchCode(pictures, { patch: 8, channels: 5 });
    const again = fitPatchCode(pictures, { patch: 8, channels: 5 });
    const { weight } = code.patch;
    noGrad(() => {
      assert.ok(ops.allclose(weight.matmul(weight.t()), ops.eye(5), 1e-5, 1e-5));
      assert.ok(ops.equal(weight, again.patch.weight));
      const z = code.encode(batch, { deterministic: true }).reshape([20, 5]);
      const spread = z.pow(2).mean([0]).toFloat32Array();
      assert.deepEqual(
        [...spread],
        [...spread].sort((a, b) => b - a),
      );
    });
  });

  it('loses the less the more channels there are', () => {
    const loss = (channels: number) =>
      noGrad(() => {
        const code = fitPatchCode(pictures, { patch: 8, channels });
        const back = code.decode(code.encode(batch, { deterministic: true }));
        return back.sub(batch).pow(2).mean().item();
      });
    const losses = [1, 3, 6].map(loss);
    assert.ok(losses[0] > losses[1] && losses[1] > losses[2], `${losses}`);
    assert.ok(losses[2] < 1e-8, `${losses}`);
  });

  it('refuses what it cannot be fitted to', () => {
    const flat = { width: 8, height: 8, data: new Float32Array(192) };
    assert.throws(() => fitPatchCode([], { patch: 8, channels: 1 }), DataError);
    assert.throws(() => fitPatchCode([flat], { patch: 8, channels: 1 }), DataError);
    assert.throws(() => fitPatchCode(pictures, { patch: 3, channels: 1 }), DataError);
    assert.throws(() => fitPatchCode(pictures, { patch: 8, channels: 193 }), DataError);
  });
});

describe('patch autoencoder', () => {
  const folder = temporaryFolder();
  const vae = fitPatchCode(pictures, { patch: 8, channels: 6 });
  const model = () => {
    const config = tinyConfig();
    return new Bagel({ ...config, vae: vae.config }).initWeights(new Generator(1));
  };

  it('adds nothing when its posterior is sampled', () => {
    noGrad(() => {
      const mean = vae.encode(batch, { deterministic: true });
      for (const seed of [1, 2]) {
        assert.ok(ops.equal(vae.encode(batch, { generator: new Generator(seed) }), mean));
      }
    });
  });

  it('codes every patch by itself', () => {
    const big = new PatchAutoencoder(vae.config);
    big.loadStateDict(vae.stateDict());
    noGrad(() => {
      const [a, b] = batch.narrow(0, 0, 2).split(1, 0);
      const wide = big.encode(ops.cat([a, b], 3), { deterministic: true });
      assert.deepEqual(wide.shape, [1, 6, 1, 2]);
      const each = ops.cat(
        [a, b].map((x) => big.encode(x, { deterministic: true })),
        3,
      );
      assert.ok(ops.allclose(wide, each, 1e-5, 1e-6));
      assert.ok(ops.allclose(big.decode(wide), ops.cat([a, b], 3), 1e-4, 1e-4));
    });
  });

  it('is orthonormal with random values, too', () => {
    const random = new PatchAutoencoder(vae.config).initWeights(new Generator(3));
    const { weight } = random.patch;
    noGrad(() => assert.ok(ops.allclose(weight.matmul(weight.t()), ops.eye(6), 1e-5, 1e-5)));
  });

  it('is what a directory that says so is loaded with', () => {
    saveBagel(folder(), { bagel: model(), vae });
    const loaded = loadBagel(folder());
    assert.ok(loaded.vae instanceof PatchAutoencoder);
    assert.deepEqual([...loaded.vae.stateDict().keys()], ['patch.weight', 'patch.mean']);
    assert.deepEqual(loaded.vae.config, vae.config);
    assert.deepEqual(readModelConfig(folder()).vae, vae.config);
    assert.ok(ops.equal(loaded.vae.patch.weight, vae.patch.weight));
    assert.ok(buildAutoencoder(tinyConfig().vae) instanceof Autoencoder);
  });

  it('reports keys that are missing, unexpected or misshapen', () => {
    saveBagel(folder(), { bagel: model(), vae });
    const file = path.join(folder(), 'ae.safetensors');
    const config = readModelConfig(folder());
    writeSafetensors(file, [
      ['patch.weight', vae.patch.weight.narrow(0, 0, 2).contiguous()],
      ['encoder.conv_in.bias', vae.patch.mean],
    ]);
    assert.throws(
      () => loadAutoencoder(folder(), config),
      (error: Error) => {
        assert.ok(error instanceof StateDictError);
        for (const key of ['patch.mean', 'encoder.conv_in.bias', 'patch.weight']) {
          assert.match(error.message, new RegExp(key.replaceAll('.', '\\.')));
        }
        return true;
      },
    );
  });

  it('refuses a picture that does not fit and a code longer than its patch', () => {
    assert.throws(() => vae.moments(rand([1, 3, 12, 8])), DataError);
    const config = tinyConfig();
    const wrong = { ...config, vae: { type: 'patch', downsample: 2, z_channels: 13 } };
    assert.throws(() => parseBagelConfig(wrong), ConfigError);
  });
});
