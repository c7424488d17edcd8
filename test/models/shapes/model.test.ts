import assert from 'node:assert/strict';
import path from 'node:path';
import { loadTokenizer } from '../../../lib/data/tokenizer.js';
import { SHAPES_CONFIG } from '../../../lib/models/shapes/config.js';
import { shapesModel } from '../../../lib/models/shapes/model.js';
import { packageRoot } from '../../../lib/native/paths.js';
import { noGrad, ops, type Tensor, tensor } from '../../../lib/torch/index.js';

const deviation = (t: Tensor) => noGrad(() => Math.sqrt(t.pow(2).mean().item()));

describe('shapes model', () => {
  it('has a row for every id of its tokenizer', () => {
    const tokenizer = loadTokenizer(path.join(packageRoot(), 'assets', 'shapes'));
    assert.equal(tokenizer.vocabSize, SHAPES_CONFIG.llm.vocab_size);
  });

  it('depends on its seed alone', () => {
    const [a, b, c] = [3, 3, 4].map((seed) => shapesModel(seed).bagel.stateDict());
    for (const [key, t] of a) assert.ok(ops.equal(t, b.get(key) as Tensor), key);
    const key = 'language_model.model.embed_tokens.weight';
    assert.equal(ops.equal(a.get(key) as Tensor, c.get(key) as Tensor), false);
  });

  it('keeps the size of what passes through it', () => {
    const { bagel } = shapesModel(1);
    const state = bagel.stateDict();
    const of = (key: string) => deviation(state.get(key) as Tensor);
    const near = (key: string, expected: number) => {
      assert.ok(Math.abs(of(key) / expected - 1) < 0.1, `${key}: ${of(key)}, not ${expected}`);
    };
    const layer = 'language_model.model.layers.2';
    near(`${layer}.self_attn.q_proj_moe_gen.weight`, 1 / Math.sqrt(128));
    near(`${layer}.self_attn.o_proj_moe_gen.weight`, 1 / Math.sqrt(128 * 12));
    near(`${layer}.mlp_moe_gen.down_proj.weight`, 1 / Math.sqrt(352 * 12));
    near('vit_model.vision_model.encoder.layers.1.mlp.fc2.weight', 1 / Math.sqrt(192 * 6));
    near('vit_model.vision_model.encoder.layers.1.self_attn.v_proj.weight', 1 / Math.sqrt(96));
    near('connector.fc2.weight', 1 / Math.sqrt(128));
    near('language_model.model.embed_tokens.weight', 1);
    assert.equal(of('llm2vae.weight'), 0);
    assert.equal(of(`${layer}.self_attn.q_proj.bias`), 0);
    assert.equal(of('language_model.model.norm.weight'), 1);
    noGrad(() => {
      const hidden = ops.rmsNorm(
        bagel.languageModel.embed(tensor([20, 30], { dtype: 'int64' })),
        [128],
      );
      assert.ok(deviation(bagel.languageModel.logits(hidden)) < 0.5);
    });
  });
});
