import assert from 'node:assert/strict';
import type { TrainOutputs } from '../../../lib/models/bagel/bagel.js';
import { Bagel } from '../../../lib/models/bagel/bagel.js';
import type { Tensor } from '../../../lib/torch/index.js';
import { Generator, noGrad, ops, randn, zeros } from '../../../lib/torch/index.js';
import { DataError } from '../../../lib/util/errors.js';
import { assertClose, ids } from '../../support/tensors.js';
import { tinyBatch } from '../../support/tiny-batch.js';
import { tinyConfig } from '../../support/tiny-model.js';

function fresh(overrides = {}): Bagel {
  const bagel = new Bagel(tinyConfig(overrides)).initWeights(new Generator(1));
  noGrad(() => {
    bagel.llm2vae.weight.copy_(randn(bagel.llm2vae.weight.shape, { generator: new Generator(2) }));
  });
  return bagel;
}

function loss(out: TrainOutputs): Tensor {
  const target = (out.noise as Tensor).sub(out.clean as Tensor);
  const mse = (out.velocity as Tensor).sub(target).pow(2).mean();
  return out.cePerToken === null ? mse : mse.add(out.cePerToken.mean());
}

describe('Bagel', () => {
  it('has the checkpoint keys of the released model', () => {
    const keys = [...new Bagel(tinyConfig()).stateDict().keys()];
    for (const key of [
      'language_model.model.embed_tokens.weight',
      'language_model.model.layers.1.self_attn.q_norm_moe_gen.weight',
      'language_model.model.layers.0.mlp_moe_gen.gate_proj.weight',
      'language_model.model.norm_moe_gen.weight',
      'language_model.lm_head.weight',
      'time_embedder.mlp.0.weight',
      'time_embedder.mlp.2.bias',
      'vae2llm.weight',
      'llm2vae.bias',
      'latent_pos_embed.pos_embed',
      'connector.fc1.weight',
      'vit_pos_embed.pos_embed',
      'vit_model.vision_model.post_layernorm.bias',
    ]) {
      assert.ok(keys.includes(key), key);
    }
    assert.ok(!keys.some((key) => key.includes('mlp.1') || key.includes('self_attn.o_proj.bias')));
  });

  it('counts the 1223 tensors and 14,607,260,128 parameters of BAGEL-7B-MoT', () => {
    const config = tinyConfig({
      llm: {
        vocab_size: 152064,
        hidden_size: 3584,
        intermediate_size: 18944,
        num_hidden_layers: 28,
        num_attention_heads: 28,
        num_key_value_heads: 4,
      },
      vit: {
        hidden_size: 1152,
        intermediate_size: 4304,
        num_hidden_layers: 26,
        num_attention_heads: 16,
        image_size: 980,
      },
      bagel: { max_latent_size: 64, vit_max_num_patch_per_side: 70 },
    });
    config.vae.z_channels = 16;
    const parameters = new Bagel(config).parameters();
    assert.equal(parameters.length, 1223);
    assert.equal(
      parameters.reduce((sum, p) => sum + p.numel, 0),
      14_607_260_128,
    );
  });

  it('gives losses whose gradients reach every part of the model', () => {
    const bagel = fresh().requiresGrad_();
    const { batch, noise } = tinyBatch(bagel.config);
    const out = bagel.forwardTrain(batch, { noise });
    assert.deepEqual(out.cePerToken?.shape, [2]);
    assert.deepEqual(out.velocity?.shape, [4, 16]);
    assert.deepEqual(out.lossRows?.toIntArray(), [0, 1, 2, 3]);
    assert.equal(out.good, null);
    loss(out).backward();
    for (const [key, p] of bagel.namedParameters()) {
      const table = key.endsWith('pos_embed') && !key.includes('embeddings');
      assert.equal(p.grad !== null, !table, key);
    }
  });

  it('gives in steps what it gives at once', () => {
    const bagel = fresh();
    const { batch, noise } = tinyBatch(bagel.config);
    noGrad(() => {
      const whole = bagel.forwardTrain(batch, { noise });
      const start = bagel.startTrain(batch, { noise });
      const lm = bagel.languageModel;
      let streams = lm.startTrain(start.streams);
      for (const layer of lm.model.layers) streams = layer.forwardTrain(streams, start.context);
      const out = bagel.endTrain(batch, start, lm.endTrain(streams));
      assert.ok(ops.equal(out.velocity as Tensor, whole.velocity as Tensor));
      assert.ok(ops.equal(out.cePerToken as Tensor, whole.cePerToken as Tensor));
    });
  });

  it('learns only from images with noise and leaves clean ones out', () => {
    const bagel = fresh();
    const { batch, noise } = tinyBatch(bagel.config);
    const clean = { ...batch, packedTimesteps: ops.full([4], -Infinity), mseLossIndexes: ids([]) };
    const out = noGrad(() => bagel.forwardTrain(clean, { noise }));
    assert.equal(out.velocity, null);
    assert.deepEqual([...(out.timesteps as Tensor).toFloat32Array()], [0, 0, 0, 0]);
    assert.throws(
      () => bagel.forwardTrain({ ...clean, mseLossIndexes: ids([4]) }, { noise }),
      DataError,
    );
  });

  it('hands out the target latents of the loss tokens', () => {
    const bagel = fresh();
    const { batch, noise } = tinyBatch(bagel.config);
    const paddedLatentGt = zeros([1, 4, 4, 4]);
    const out = noGrad(() => bagel.forwardTrain({ ...batch, paddedLatentGt }, { noise }));
    assert.equal((out.good as Tensor).abs().max().item(), 0);
    const list = { ...batch, paddedLatent: [(batch.paddedLatent as Tensor).select(0, 0)] };
    const same = noGrad(() => bagel.forwardTrain(list, { noise }));
    assertClose(same.velocity as Tensor, out.velocity as Tensor, 0);
  });

  it('leaves a side out that is switched off', () => {
    const bagel = fresh({ bagel: { visual_und: false } });
    const { batch, noise } = tinyBatch(bagel.config);
    const text = {
      ...batch,
      sequenceLength: 9,
      sampleLens: [9],
      splitLens: [3, 6],
      attnModes: ['causal', 'noise'] as const,
      packedPositionIds: batch.packedPositionIds.narrow(0, 0, 9),
      packedTextIds: batch.packedTextIds.narrow(0, 0, 5),
      packedTextIndexes: batch.packedTextIndexes.narrow(0, 0, 5),
      ceLossIndexes: undefined,
    };
    const out = noGrad(() =>
      bagel.forwardTrain({ ...text, attnModes: [...text.attnModes] }, { noise }),
    );
    assert.equal(out.cePerToken, null);
    assert.deepEqual(out.velocity?.shape, [4, 16]);
  });

  it('names what is missing', () => {
    const bagel = fresh();
    const { batch, noise } = tinyBatch(bagel.config);
    const bad: Array<() => unknown> = [
      () => bagel.forwardTrain(batch),
      () => bagel.forwardTrain(batch, { noise: noise.narrow(0, 0, 2) }),
      () => bagel.forwardTrain({ ...batch, packedVitPositionIds: undefined }, { noise }),
      () => bagel.forwardTrain({ ...batch, packedVaeTokenIndexes: ids([4, 5]) }, { noise }),
      () =>
        bagel.forwardTrain(
          {
            ...batch,
            patchifiedVaeLatentShapes: [
              [2, 2],
              [1, 1],
            ],
          },
          { noise },
        ),
      () => new Bagel(tinyConfig(), { vision: false }).embedPatches(noise, ids([0]), [1]),
    ];
    for (const run of bad) assert.throws(run, DataError);
  });
});
