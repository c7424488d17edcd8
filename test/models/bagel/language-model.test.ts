import assert from 'node:assert/strict';
import type { LlmConfig } from '../../../lib/models/bagel/config.js';
import { parseLlmConfig } from '../../../lib/models/bagel/config.js';
import { initMoe } from '../../../lib/models/bagel/init-moe.js';
import { KvCache } from '../../../lib/models/bagel/kv-cache.js';
import { LanguageModel } from '../../../lib/models/bagel/language-model.js';
import { applyRope, inverseFrequencies, ropeTable } from '../../../lib/models/bagel/rope.js';
import type { RMSNorm } from '../../../lib/nn/norm.js';
import { PackedLayout } from '../../../lib/nn/packed-layout.js';
import type { Tensor } from '../../../lib/torch/index.js';
import { Generator, liveTensors, noGrad, ops, randn, scope } from '../../../lib/torch/index.js';
import { DataError } from '../../../lib/util/errors.js';
import { assertClose, ids } from '../../support/tensors.js';
import { tinyConfig } from '../../support/tiny-model.js';

function model(change: object = {}, seed = 1): LanguageModel {
  const config: LlmConfig = parseLlmConfig({ ...tinyConfig().llm, ...change });
  const made = new LanguageModel(config).initWeights(new Generator(seed));
  // Small initial weights would hide mistakes behind the residual stream.
  noGrad(() => {
    for (const [key, p] of made.namedParameters()) {
      if (!key.includes('norm')) p.mul_(8);
      else p.add_(randn(p.shape, { generator: new Generator(seed + 1) }).mul_(0.2));
    }
  });
  return made;
}

/** Text of 4, an image of 4 latents with its frame, text of 3. */
const lens = [4, 6, 3];
const positions = ids([0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 5, 6, 7]);
const und = ids([0, 1, 2, 3, 4, 9, 10, 11, 12]);
const gen = ids([5, 6, 7, 8]);

const variants: Array<[string, object]> = [
  ['MoT', {}],
  ['MoT without head norms', { qk_norm: false }],
  ['MoE', { layer_module: 'Qwen2MoEDecoderLayer' }],
  ['dense', { layer_module: 'Qwen2DecoderLayer' }],
  ['one kv head', { num_key_value_heads: 1 }],
];

describe('LanguageModel', () => {
  for (const [name, change] of variants) {
    it(`gives the same numbers in three cached calls as in one training pass: ${name}`, () => {
      const lm = model(change);
      const sequence = randn([13, 32], { generator: new Generator(5) });
      noGrad(() => {
        const want = lm.forwardTrain({
          sequence,
          layout: PackedLayout.plan({
            sampleLens: [13],
            splitLens: lens,
            attnModes: ['causal', 'full', 'causal'],
          }),
          positionIds: positions,
          undIndexes: und,
          genIndexes: gen,
        });
        let cache = KvCache.empty(lm.depth, 1);
        let start = 0;
        for (const [call, len] of lens.entries()) {
          const step = lm.forwardInference({
            query: sequence.narrow(0, start, len),
            queryLens: [len],
            positionIds: positions.narrow(0, start, len),
            cache,
            causal: call !== 1,
            updateCache: true,
            mode: call === 1 ? 'gen' : 'und',
            ...(call === 1 ? { undIndexes: ids([0, 5]), genIndexes: ids([1, 2, 3, 4]) } : {}),
          });
          assertClose(step.hidden, want.narrow(0, start, len), 2e-5, `call ${call}`);
          cache = step.cache;
          start += len;
        }
        assert.deepEqual(cache.lens, [13]);
      });
    });
  }

  it('gives each sample of a ragged batch what it gets alone', () => {
    const lm = model();
    const prompts = [ids([5, 6, 7]), ids([8, 9, 10, 11, 12]), ids([13])];
    const run = (parts: Tensor[], caches: KvCache | null, offset: number[]) =>
      lm.forwardInference({
        query: lm.embed(ops.cat(parts, 0)),
        queryLens: parts.map((p) => p.size(0)),
        positionIds: ops.cat(
          parts.map((p, i) => ops.arange(offset[i], offset[i] + p.size(0), { dtype: 'int64' })),
          0,
        ),
        cache: caches ?? KvCache.empty(lm.depth, parts.length),
        causal: true,
        updateCache: true,
        mode: 'und',
      });
    const next = [ids([20]), ids([21, 22]), ids([23])];
    const together = run(prompts, null, [0, 0, 0]);
    const after = run(next, together.cache, [3, 5, 1]);
    assert.deepEqual(after.cache.lens, [4, 7, 2]);
    let row = 0;
    let keyRow = 0;
    for (const [i, prompt] of prompts.entries()) {
      const alone = run([prompt], null, [0]);
      const then = run([next[i]], alone.cache, [prompt.size(0)]);
      assertClose(after.hidden.narrow(0, row, next[i].size(0)), then.hidden, 1e-5, `sample ${i}`);
      const key = then.cache.key(1) as Tensor;
      const merged = (after.cache.key(1) as Tensor).narrow(0, keyRow, key.size(0));
      assertClose(merged, key, 1e-5, `keys of sample ${i}`);
      row += next[i].size(0);
      keyRow += key.size(0);
    }
  });

  it('hides a noise split from everything behind it', () => {
    const lm = model();
    const run = (change: number) => {
      const sequence = randn([13, 32], { generator: new Generator(5) });
      sequence.narrow(0, 5, 4).add_(change);
      return noGrad(() =>
        lm.forwardTrain({
          sequence,
          layout: PackedLayout.plan({
            sampleLens: [13],
            splitLens: lens,
            attnModes: ['causal', 'noise', 'causal'],
          }),
          positionIds: positions,
          undIndexes: und,
          genIndexes: gen,
        }),
      );
    };
    const [a, b] = [run(0), run(1)];
    assert.ok(ops.equal(a.narrow(0, 10, 3), b.narrow(0, 10, 3)));
    assert.ok(!ops.equal(a.narrow(0, 4, 6), b.narrow(0, 4, 6)));
  });

  it('freezes the understanding expert when asked, without changing values', () => {
    const sequence = randn([13, 32], { generator: new Generator(5) });
    const run = (freeze_und: boolean) => {
      const lm = model({ freeze_und }).requiresGrad_();
      const hidden = lm.forwardTrain({
        sequence,
        layout: PackedLayout.plan({
          sampleLens: [13],
          splitLens: lens,
          attnModes: ['causal', 'full', 'causal'],
        }),
        positionIds: positions,
        undIndexes: und,
        genIndexes: gen,
      });
      hidden.pow(2).sum().backward();
      return { lm, hidden };
    };
    const [free, frozen] = [run(false), run(true)];
    assertClose(frozen.hidden.detach(), free.hidden.detach(), 0, 'hidden');
    for (const [key, p] of frozen.lm.namedParameters()) {
      assert.equal(p.grad !== null, key.includes('_moe_gen'), key);
    }
    // Keys that no loss reaches even in the free model: the table was bypassed, the head unused.
    for (const [key, p] of free.lm.namedParameters()) {
      const unused = key === 'lm_head.weight' || key === 'model.embed_tokens.weight';
      assert.equal(p.grad !== null, !unused, key);
    }
  });

  it('prefill fills the cache exactly as a full pass does', () => {
    const lm = model();
    const inputs = {
      query: lm.embed(ids([5, 6, 7])),
      queryLens: [3],
      positionIds: ids([0, 1, 2]),
      cache: KvCache.empty(lm.depth, 1),
      causal: true,
      mode: 'und' as const,
    };
    const full = lm.forwardInference({ ...inputs, updateCache: true }).cache;
    const short = lm.prefill(inputs);
    for (let layer = 0; layer < lm.depth; layer++) {
      assert.ok(ops.equal(short.key(layer) as Tensor, full.key(layer) as Tensor));
      assert.ok(ops.equal(short.value(layer) as Tensor, full.value(layer) as Tensor));
    }
  });

  it('rounds q and k in bfloat16 once in mode gen, at every step in mode und', () => {
    const lm = model().to({ dtype: 'bfloat16' });
    const x = lm.embed(ids([5, 6, 7, 8]));
    const places = ids([3, 4, 5, 6]);
    const keys = (mode: 'und' | 'gen') =>
      lm
        .forwardInference({
          query: x,
          queryLens: [4],
          positionIds: places,
          cache: KvCache.empty(lm.depth, 1),
          causal: false,
          updateCache: true,
          mode,
          ...(mode === 'gen' ? { undIndexes: ids([0, 1, 2, 3]) } : {}),
        })
        .cache.key(0) as Tensor;
    const { inputNorm, kProj, kNorm } = lm.model.layers[0].expert('und');
    const table = ropeTable(places, inverseFrequencies(8, 1e6), 'bfloat16');
    const raw = kProj.forward(inputNorm.forward(x)).view([4, 2, 8]);
    const wide = applyRope((kNorm as RMSNorm).forward(raw.to('float32')), table);
    const narrow = applyRope((kNorm as RMSNorm).forward(raw), table);
    assert.equal(wide.dtype, 'float32');
    assert.ok(ops.equal(keys('gen'), wide.to('bfloat16')));
    assert.ok(ops.equal(keys('und'), narrow));
    assert.ok(!ops.equal(narrow, wide.to('bfloat16')), 'the inputs cannot tell the modes apart');
  });

  it('uses the embedding table as head when tied', () => {
    const lm = model({ tie_word_embeddings: true });
    assert.ok(![...lm.stateDict().keys()].includes('lm_head.weight'));
    const hidden = randn([2, 32], { generator: new Generator(3) });
    assertClose(lm.logits(hidden), hidden.matmul(lm.model.embedTokens.weight.t()), 1e-4);
  });

  it('starts the generation expert as a copy of the understanding expert', () => {
    const lm = model();
    assert.ok(initMoe(lm) > 0);
    const state = lm.stateDict();
    const genKeys = [...state.keys()].filter((key) => key.includes('_moe_gen'));
    assert.equal(genKeys.length, 2 * 14 + 1);
    for (const key of genKeys) {
      const twin = state.get(key.replace('_moe_gen', '')) as Tensor;
      assert.ok(ops.equal(state.get(key) as Tensor, twin), key);
      assert.notEqual(state.get(key), twin);
    }
  });

  it('leaves no tensors behind', () => {
    const lm = model();
    const parameters = [...lm.namedParameters()].length;
    const step = () =>
      scope(() => {
        const sequence = randn([13, 32], { generator: new Generator(5) });
        lm.forwardTrain({
          sequence,
          layout: PackedLayout.plan({
            sampleLens: [13],
            splitLens: lens,
            attnModes: ['causal', 'full', 'causal'],
          }),
          positionIds: positions,
          undIndexes: und,
          genIndexes: gen,
        });
        const first = lm.forwardInference({
          query: sequence.narrow(0, 0, 4),
          queryLens: [4],
          positionIds: positions.narrow(0, 0, 4),
          cache: KvCache.empty(lm.depth, 1),
          causal: true,
          updateCache: true,
          mode: 'und',
        });
        first.cache.dispose();
      });
    step();
    const before = liveTensors();
    for (let i = 0; i < 5; i++) step();
    // The garbage collector may free what earlier tests left, never add.
    assert.ok(liveTensors() <= before, `${liveTensors() - before} tensors more than before`);
    // With the table of rotary frequencies, which is no parameter.
    const last = liveTensors();
    lm.dispose();
    assert.ok(last - liveTensors() > parameters, `${last - liveTensors()} of ${parameters} freed`);
  });

  it('refuses rows without an expert and queries that contradict their lengths', () => {
    const lm = model();
    const query = lm.embed(ids([5, 6, 7]));
    const cache = KvCache.empty(lm.depth, 1);
    const inputs = { query, positionIds: ids([0, 1, 2]), cache, causal: true, updateCache: false };
    assert.throws(() => lm.forwardInference({ ...inputs, queryLens: [2], mode: 'und' }), DataError);
    assert.throws(
      () => lm.forwardInference({ ...inputs, queryLens: [1, 2], mode: 'und' }),
      DataError,
    );
    assert.throws(
      () =>
        lm.forwardInference({ ...inputs, queryLens: [3], mode: 'gen', genIndexes: ids([1, 2]) }),
      DataError,
    );
  });
});
