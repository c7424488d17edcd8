import assert from 'node:assert/strict';
import { parseVitConfig } from '../../../lib/models/bagel/config.js';
import { MlpConnector, visionActivation } from '../../../lib/models/bagel/connector.js';
import { patchify } from '../../../lib/models/bagel/patchify.js';
import {
  patchEmbeddingToLinear,
  rope2dTables,
  SiglipVisionModel,
} from '../../../lib/models/bagel/siglip.js';
import { arange, Generator, noGrad, ops, randn, tensor, zeros } from '../../../lib/torch/index.js';
import { CheckpointError, ConfigError, DataError } from '../../../lib/util/errors.js';

const base = {
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  image_size: 56,
  patch_size: 14,
};

function difference(a: Float32Array, b: Float32Array): number {
  return a.reduce((worst, x, i) => Math.max(worst, Math.abs(x - b[i])), 0);
}

describe('vision tower', () => {
  for (const rope of [false, true]) {
    it(`keeps packed images apart (${rope ? 'rotary' : 'learned'} positions)`, () => {
      noGrad(() => {
        const model = new SiglipVisionModel(parseVitConfig({ ...base, rope }));
        model.initWeights(new Generator(1));
        const generator = new Generator(2);
        const patches = randn([7, 588], { generator });
        const ids = tensor([0, 1, 4, 5, 0, 1, 2], { dtype: 'int64' });
        const packed = model.forward(patches, ids, [4, 3]);
        const alone = model.forward(patches.narrow(0, 4, 3), ids.narrow(0, 4, 3), [3]);
        const second = packed.narrow(0, 4, 3).toFloat32Array();
        assert.ok(difference(second, alone.toFloat32Array()) < 1e-5);
        const joined = model.forward(patches, ids, [7]).narrow(0, 4, 3).toFloat32Array();
        assert.ok(difference(second, joined) > 1e-3);
      });
    });
  }

  it('has the checkpoint keys, with a position table only without rotation', () => {
    const keys = (rope: boolean) =>
      [...new SiglipVisionModel(parseVitConfig({ ...base, rope })).namedParameters()].map(
        ([k]) => k,
      );
    const learned = keys(false);
    assert.ok(learned.includes('vision_model.embeddings.patch_embedding.weight'));
    assert.ok(learned.includes('vision_model.encoder.layers.1.self_attn.out_proj.bias'));
    assert.ok(learned.includes('vision_model.post_layernorm.weight'));
    const table = 'vision_model.embeddings.position_embedding.weight';
    assert.ok(learned.includes(table));
    assert.deepEqual(
      keys(true),
      learned.filter((key) => key !== table),
    );
  });

  it('refuses lengths that do not add up', () => {
    const model = new SiglipVisionModel(parseVitConfig(base));
    model.initWeights(new Generator(1));
    const ids = tensor([0, 1], { dtype: 'int64' });
    assert.throws(() => model.forward(zeros([2, 588]), ids, [3]), DataError);
  });

  it('turns a convolution kernel into the same map on patches', () => {
    noGrad(() => {
      const generator = new Generator(4);
      const kernel = randn([5, 3, 14, 14], { generator });
      const image = randn([3, 28, 14], { generator });
      const weight = patchEmbeddingToLinear(kernel);
      assert.deepEqual(weight.shape, [5, 588]);
      const linear = ops.linear(patchify(image, 14), weight);
      const conv = ops.conv2d(image.unsqueeze(0), kernel, null, [14, 14]).reshape([5, 2]);
      const flipped = conv.transpose(0, 1).contiguous().toFloat32Array();
      assert.ok(difference(linear.toFloat32Array(), flipped) < 1e-3);
      assert.equal(patchEmbeddingToLinear(weight), weight);
      assert.throws(() => patchEmbeddingToLinear(arange(0, 5)), CheckpointError);
    });
  });

  it('turns rows and columns by their own angles', () => {
    const { cosH, sinH, cosW, sinW } = rope2dTables(4, 3, 3);
    const at = (t: typeof cosH, row: number) => [...t.select(0, row).toFloat32Array()];
    assert.deepEqual(at(cosH, 2), at(cosH, 0));
    assert.deepEqual(at(sinW, 7), at(sinW, 1));
    assert.ok(Math.abs(at(sinH, 3)[0] - Math.sin(1)) < 1e-6);
    assert.ok(Math.abs(at(cosW, 2)[1] - Math.cos(2 / 100)) < 1e-6);
    assert.throws(() => rope2dTables(3, 2, 2), ConfigError);
  });
});

describe('connector', () => {
  it('lifts features to the width of the language model', () => {
    const connector = new MlpConnector(6, 10);
    connector.initWeights(new Generator(1));
    assert.deepEqual(connector.forward(zeros([3, 6])).shape, [3, 10]);
    assert.deepEqual(
      [...connector.namedParameters()].map(([key]) => key),
      ['fc1.weight', 'fc1.bias', 'fc2.weight', 'fc2.bias'],
    );
  });

  it('refuses an unknown activation', () => {
    assert.throws(() => visionActivation('mish'), ConfigError);
  });
});
