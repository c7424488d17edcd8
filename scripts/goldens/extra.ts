import { parseLlmConfig } from '../../lib/models/bagel/config.js';
import { KvCache } from '../../lib/models/bagel/kv-cache.js';
import { LanguageModel } from '../../lib/models/bagel/language-model.js';
import { patchify } from '../../lib/models/bagel/patchify.js';
import { patchEmbeddingToLinear } from '../../lib/models/bagel/siglip.js';
import { genFromUnd } from '../../lib/models/bagel/state-keys.js';
import { PackedLayout } from '../../lib/nn/packed-layout.js';
import type { Tensor } from '../../lib/torch/index.js';
import { arange, linspace, noGrad, ops, tensor } from '../../lib/torch/index.js';
import type { GoldenCase, Handler } from './handler.js';

function patchConvToLinear(c: GoldenCase): void {
  const weight = patchEmbeddingToLinear(c.input('conv_weight'));
  c.expect('linear_weight', weight);
  const patches = patchify(c.input('image'), c.params.patch);
  c.expect('y', ops.linear(patches, weight, c.input('bias')));
}

function initMoeMapping(c: GoldenCase): void {
  const model = new LanguageModel(parseLlmConfig({ ...c.config.llm, num_hidden_layers: 1 }));
  const mapping = genFromUnd([...model.namedParameters()].map(([key]) => key));
  c.expectParam('mapping', Object.fromEntries(mapping));
}

function indexes(start: number, end: number): Tensor {
  return arange(start, end, 1, { dtype: 'int64' });
}

function decoderLayer(c: GoldenCase): void {
  const model = new LanguageModel(parseLlmConfig(c.config.llm));
  model.loadStateDict(c.weightsFile());
  trainForward(c, model);
  noGrad(() => prefillAndGenerate(c, model));
}

function trainForward(c: GoldenCase, model: LanguageModel): void {
  const sequence = c.input('packed_sequence').requiresGrad_();
  const hidden = model.forwardTrain({
    sequence,
    layout: PackedLayout.plan({
      sampleLens: c.params.sample_lens,
      splitLens: c.params.split_lens,
      attnModes: c.params.attn_modes,
    }),
    positionIds: c.input('position_ids'),
    undIndexes: c.input('und_indexes'),
    genIndexes: c.input('gen_indexes'),
  });
  c.expect('last_hidden', hidden);
  const weight = linspace(-1, 1, hidden.numel).view(hidden.shape);
  hidden.mul(weight).sum().backward();
  c.expect('grad_input', sequence.grad as Tensor);
}

/** Prefills a text, then runs the sequence's noise split on top of it as one generation query. */
function prefillAndGenerate(c: GoldenCase, model: LanguageModel): void {
  const ids = c.input('prefill_ids');
  const past = ids.size(0);
  const prefill = model.forwardInference({
    query: model.embed(ids),
    queryLens: [past],
    positionIds: indexes(0, past),
    cache: KvCache.empty(model.depth, 1),
    causal: true,
    updateCache: true,
    mode: 'und',
  });
  c.expect('prefill_hidden', prefill.hidden);
  const lens: number[] = c.params.split_lens;
  const noise = c.params.attn_modes.indexOf('noise');
  const start = lens.slice(0, noise).reduce((sum, len) => sum + len, 0);
  const count = lens[noise];
  const { hidden } = model.forwardInference({
    query: c.input('packed_sequence').narrow(0, start, count),
    queryLens: [count],
    positionIds: indexes(past, past + 1).expand([count]),
    cache: prefill.cache,
    causal: false,
    updateCache: false,
    mode: 'gen',
    undIndexes: tensor([0, count - 1], { dtype: 'int64' }),
    genIndexes: indexes(1, count - 1),
  });
  c.expect('gen_hidden', hidden);
}

export const handlers: Handler[] = [
  [/^patch_conv_to_linear/, patchConvToLinear],
  [/^init_moe_mapping/, initMoeMapping],
  [/^llm_Qwen2/, decoderLayer],
];
