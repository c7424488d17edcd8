import assert from 'node:assert/strict';
import { Autoencoder, toUint8 } from '../../../lib/models/bagel/autoencoder.js';
import { parse, vaeConfigSchema } from '../../../lib/models/bagel/config.js';
import { Generator, noGrad, randn, tensor, zeros } from '../../../lib/torch/index.js';
import { ConfigError, DataError } from '../../../lib/util/errors.js';

const flux = parse(vaeConfigSchema, {});
const tiny = parse(vaeConfigSchema, {
  ch: 32,
  ch_mult: [1, 2, 1, 1],
  num_res_blocks: 1,
  z_channels: 4,
});

describe('autoencoder', () => {
  const vae = new Autoencoder(tiny);
  vae.initWeights(new Generator(1));
  const image = noGrad(() => randn([1, 3, 32, 48], { generator: new Generator(2) }).clamp(-1, 1));

  it('has the keys, shapes and size of the FLUX autoencoder', () => {
    const shapes = new Map(
      [...new Autoencoder(flux).namedParameters()].map(([key, t]) => [key, t.shape]),
    );
    const size = (tree: string): number =>
      [...shapes].reduce(
        (sum, [key, shape]) => sum + (key.startsWith(tree) ? shape.reduce((a, b) => a * b, 1) : 0),
        0,
      );
    assert.equal(size('encoder.'), 34_274_208);
    assert.equal(size('decoder.'), 49_545_475);
    const expected: Array<[string, number[]]> = [
      ['encoder.conv_in.weight', [128, 3, 3, 3]],
      ['encoder.down.2.block.0.nin_shortcut.weight', [512, 256, 1, 1]],
      ['encoder.down.2.downsample.conv.weight', [512, 512, 3, 3]],
      ['encoder.mid.attn_1.proj_out.weight', [512, 512, 1, 1]],
      ['encoder.conv_out.weight', [32, 512, 3, 3]],
      ['decoder.conv_in.weight', [512, 16, 3, 3]],
      ['decoder.up.0.block.0.nin_shortcut.weight', [128, 256, 1, 1]],
      ['decoder.up.3.upsample.conv.weight', [512, 512, 3, 3]],
      ['decoder.conv_out.bias', [3]],
    ];
    for (const [key, shape] of expected) assert.deepEqual(shapes.get(key), shape, key);
    assert.equal(shapes.has('decoder.up.0.upsample.conv.weight'), false);
    assert.equal(shapes.has('encoder.down.3.downsample.conv.weight'), false);
  });

  it('halves three times on the way in and doubles on the way out', () => {
    noGrad(() => {
      const z = vae.encode(image, { deterministic: true });
      assert.deepEqual(z.shape, [1, 4, 4, 6]);
      assert.deepEqual(vae.decode(z).shape, [1, 3, 32, 48]);
    });
  });

  it('samples the posterior from the generator it is given', () => {
    noGrad(() => {
      const draw = (seed: number) =>
        vae.encode(image, { generator: new Generator(seed) }).toFloat32Array();
      assert.deepEqual(draw(3), draw(3));
      assert.notDeepEqual(draw(3), draw(4));
      const posteriorNoise = randn([1, 4, 4, 6], { generator: new Generator(3) });
      assert.deepEqual(vae.encode(image, { posteriorNoise }).toFloat32Array(), draw(3));
    });
  });

  it('refuses images and noise of a wrong shape', () => {
    const odd = zeros([1, 3, 30, 48]);
    assert.throws(() => vae.moments(odd), DataError);
    assert.throws(() => vae.moments(zeros([1, 4, 32, 32])), DataError);
    assert.throws(() => vae.encode(image, { posteriorNoise: zeros([1, 4, 4, 4]) }), DataError);
  });

  it('finds its parts by key and refuses keys it does not have', () => {
    assert.equal(vae.submodule('encoder.mid.attn_1'), vae.encoder.mid.attn_1);
    assert.equal(vae.submodule('decoder.up.1.upsample'), vae.decoder.up[1].upsample);
    assert.throws(() => vae.submodule('encoder.down.9'), ConfigError);
    assert.throws(() => vae.submodule('encoder.shape'), ConfigError);
  });

  it('refuses widths that the group norm cannot divide', () => {
    assert.throws(() => new Autoencoder({ ...tiny, ch: 48 }), ConfigError);
  });

  it('makes pixels by clamping and truncating', () => {
    const values = [-2, -1, 0, 0.999, 1, 3].flatMap((x) => [x, x, x]);
    const pixels = toUint8(tensor(values, { shape: [6, 1, 3] }).permute([2, 0, 1]));
    assert.deepEqual(pixels.shape, [6, 1, 3]);
    assert.equal(pixels.dtype, 'uint8');
    const expected = [0, 0, 127, 254, 255, 255].flatMap((x) => [x, x, x]);
    assert.deepEqual([...(pixels.toTypedArray() as Uint8Array)], expected);
  });
});
