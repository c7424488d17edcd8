import assert from 'node:assert/strict';
import { parseBagelConfig, parseLlmConfig } from '../../../lib/models/bagel/config.js';
import { ConfigError } from '../../../lib/util/errors.js';
import { tinyConfig } from '../../support/tiny-model.js';

function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.message;
  }
  throw new assert.AssertionError({ message: 'nothing was thrown' });
}

describe('parseBagelConfig', () => {
  const tiny = tinyConfig();

  it('fills in the defaults of the released model and ignores unknown keys', () => {
    const config = parseBagelConfig({
      llm: { ...tiny.llm, use_sliding_window: false, torch_dtype: 'bfloat16' },
      vit: tiny.vit,
    });
    assert.equal(config.bagel.max_latent_size, 64);
    assert.equal(config.bagel.vit_max_num_patch_per_side, 70);
    assert.equal(config.vae.scale_factor, 0.3611);
    assert.equal('torch_dtype' in config.llm, false);
  });

  it('names every wrong key at once', () => {
    const message = messageOf(() =>
      parseBagelConfig({
        ...tiny,
        llm: { ...tiny.llm, hidden_size: '32', num_hidden_layers: 0 },
        bagel: { max_latent_size: -1 },
      }),
    );
    for (const key of ['llm.hidden_size', 'llm.num_hidden_layers', 'bagel.max_latent_size']) {
      assert.ok(message.includes(key), message);
    }
  });

  it('refuses head counts and layers that do not exist', () => {
    const bad = [
      { num_attention_heads: 5 },
      { num_key_value_heads: 3 },
      { layer_module: 'Qwen3DecoderLayer' },
      { hidden_act: 'relu' },
      { rope_scaling: { type: 'yarn' } },
    ];
    for (const change of bad) {
      const [key] = Object.keys(change);
      assert.ok(messageOf(() => parseLlmConfig({ ...tiny.llm, ...change })).includes(key), key);
    }
  });

  it('says one fault in words, with the file it lies in', () => {
    const vit = { ...tiny.vit, intermediate_size: -1 };
    assert.throws(
      () => parseBagelConfig({ ...tiny, vit }, { llm: 'm/llm.json', vit: 'm/vit.json' }),
      (error) => {
        assert.ok(error instanceof ConfigError);
        assert.deepEqual(error.details, {
          file: 'm/vit.json',
          key: 'intermediate_size',
          expected: 'a number above 0',
          found: '-1',
        });
        return true;
      },
    );
    const message = messageOf(() => parseLlmConfig(null));
    assert.equal(message, 'the model configuration is wrong; expected an object; found null');
    const heads = messageOf(() => parseLlmConfig({ ...tiny.llm, num_key_value_heads: 3 }));
    assert.match(heads, /^the model.*key num_key_value_heads; expected a divisor of .*; found 3$/);
  });

  it('refuses what is no object', () => {
    messageOf(() => parseBagelConfig(null));
    messageOf(() => parseBagelConfig({ llm: [], vit: 3 }));
  });
});
