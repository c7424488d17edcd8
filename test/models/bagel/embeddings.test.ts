import assert from 'node:assert/strict';
import { sincosTable, timestepFeatures } from '../../../lib/models/bagel/embeddings.js';
import { packLatent, patchify, unpackLatent } from '../../../lib/models/bagel/patchify.js';
import { flatPositionIds } from '../../../lib/models/bagel/position-ids.js';
import { applyRope, inverseFrequencies, ropeTable } from '../../../lib/models/bagel/rope.js';
import { shiftTimesteps, trainingTimesteps } from '../../../lib/models/bagel/timesteps.js';
import { arange, Generator, ops, randn, tensor } from '../../../lib/torch/index.js';
import { ConfigError, ImageError } from '../../../lib/util/errors.js';
import { assertClose, ids } from '../../support/tensors.js';

describe('timestepFeatures', () => {
  it('is cosines then sines, and a zero column for odd widths', () => {
    const features = timestepFeatures(tensor([0, 1]), 5).toArray() as number[][];
    assert.deepEqual(features[0], [1, 1, 0, 0, 0]);
    assert.ok(Math.abs(features[1][0] - Math.cos(1)) < 1e-6);
    assert.ok(Math.abs(features[1][3] - Math.sin(0.01)) < 1e-6);
  });
});

describe('sincosTable', () => {
  it('puts the column before the row and sines before cosines', () => {
    const row = (sincosTable(8, 3).toArray() as number[][])[1 * 3 + 2];
    const encode = (x: number) => [Math.sin(x), Math.sin(x / 100), Math.cos(x), Math.cos(x / 100)];
    for (const [i, want] of [...encode(2), ...encode(1)].entries()) {
      assert.ok(Math.abs(row[i] - want) < 1e-7, `column ${i}`);
    }
  });

  it('needs a width of four parts', () => {
    assert.throws(() => sincosTable(6, 3), ConfigError);
  });
});

describe('flatPositionIds', () => {
  const spec = { height: 28, width: 42, patch: 14, side: 8 };

  it('takes the top left corner, or spreads over the table', () => {
    assert.deepEqual(flatPositionIds(spec), [0, 1, 2, 8, 9, 10]);
    const spread = flatPositionIds({ ...spec, interpolate: true });
    assert.deepEqual(spread, [0, 2, 5, 32, 34, 37]);
  });

  it('refuses an image beyond the table instead of wrapping around', () => {
    assert.throws(() => flatPositionIds({ ...spec, width: 9 * 14 }), ImageError);
    assert.throws(() => flatPositionIds({ ...spec, height: 9 * 14 }), ImageError);
    const wide = flatPositionIds({ ...spec, height: 14, width: 9 * 14, interpolate: true });
    assert.equal(wide.length, 9);
  });
});

describe('patchify', () => {
  it('orders patches by row and values by row, column, channel', () => {
    const image = arange(0, 2 * 4 * 6).view([2, 4, 6]);
    const tokens = patchify(image, 2).toArray() as number[][];
    assert.deepEqual(tokens[4], [14, 38, 15, 39, 20, 44, 21, 45]);
    assert.equal(tokens.length, 6);
  });

  it('is undone by unpackLatent, and crops padding away', () => {
    const latent = randn([4, 6, 8], { generator: new Generator(1) });
    const tokens = packLatent(latent, 2, 3, 2);
    const back = unpackLatent(tokens, 2, 3, 2);
    assert.ok(ops.equal(back, latent.narrow(1, 0, 4).narrow(2, 0, 6)));
  });

  it('refuses sizes that do not fit', () => {
    const latent = randn([4, 6, 8], { generator: new Generator(1) });
    assert.throws(() => patchify(latent, 4), ImageError);
    assert.throws(() => packLatent(latent, 4, 4, 2), ImageError);
    assert.throws(() => unpackLatent(patchify(latent, 2), 2, 3, 2), ImageError);
  });
});

describe('applyRope', () => {
  const inverse = inverseFrequencies(8, 1e4);

  it('is the identity at position 0 and rotates halves against each other', () => {
    const x = randn([2, 3, 8], { generator: new Generator(1) });
    const got = applyRope(x, ropeTable(ids([0, 3]), inverse, 'float32'));
    assertClose(got.narrow(0, 0, 1), x.narrow(0, 0, 1), 0);
    const [a, b] = [x, got].map((t) => (t.toArray() as number[][][])[1][2]);
    assert.ok(Math.abs(b[0] - (a[0] * Math.cos(3) - a[4] * Math.sin(3))) < 1e-5);
    assert.ok(Math.abs(b[4] - (a[4] * Math.cos(3) + a[0] * Math.sin(3))) < 1e-5);
  });

  it('rounds three times in bfloat16 and stays in float32 for float32 inputs', () => {
    const table = ropeTable(ids([5, 11]), inverse, 'bfloat16');
    const x = randn([2, 3, 8], { generator: new Generator(1) });
    assert.equal(applyRope(x, table).dtype, 'float32');
    const half = x.to('bfloat16');
    const got = applyRope(half, table);
    const first = half.mul(table.cos);
    const second = half.roll([4], [2]).mul(table.signedSin);
    assert.ok(ops.equal(got, first.add(second)));
    assert.equal(got.dtype, 'bfloat16');
  });
});

describe('timesteps', () => {
  it('shifts towards noise and keeps the ends', () => {
    const got = [...shiftTimesteps(tensor([0, 0.5, 1]), 3).toFloat32Array()];
    assert.deepEqual(got, [0, 0.75, 1]);
  });

  it('maps clean images to 0', () => {
    const got = [...trainingTimesteps(tensor([-Infinity, 0]), 1).toFloat32Array()];
    assert.deepEqual(got, [0, 0.5]);
  });
});
