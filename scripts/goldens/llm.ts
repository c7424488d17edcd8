import type { LayoutSpec } from '../../lib/nn/packed-layout.js';
import { PackedLayout } from '../../lib/nn/packed-layout.js';
import { arange, noGrad } from '../../lib/torch/index.js';
import { planMask } from './dense-mask.js';
import { type GoldenCase, type Handler, type Json, optional } from './handler.js';

function layoutSpec(params: Json): LayoutSpec {
  return {
    sampleLens: optional(params, 'sample_lens') ?? params.document_lens,
    splitLens: params.split_lens,
    attnModes: params.attn_modes,
  };
}

/** Compares the matrix that a plan stands for, each pair seen once or not at all. */
function expectMask(c: GoldenCase, name: string, spec: LayoutSpec): void {
  const { calls, length } = PackedLayout.plan(spec);
  c.expect(name, planMask(calls, length), [length, length]);
}

function trainForward(c: GoldenCase): void {
  const spec = layoutSpec(c.params);
  const pad = c.params.pad_len;
  const padded: LayoutSpec = {
    sampleLens: [...spec.sampleLens, pad],
    splitLens: [...spec.splitLens, pad],
    attnModes: [...spec.attnModes, 'causal'],
  };
  expectMask(c, 'mask', spec);
  expectMask(c, 'mask_with_padding_sample', padded);
  const model = c.bagel().languageModel;
  const undIndexes = c.input('und_indexes');
  noGrad(() => {
    const hidden = model.forwardTrain({
      sequence: c.input('packed_sequence'),
      // The padding behind the last token must not change anything.
      layout: PackedLayout.plan(padded),
      positionIds: c.input('position_ids'),
      undIndexes,
      genIndexes: c.input('gen_indexes'),
      hiddenHook: (layer, x) => c.expect(`layer_${layer}`, x),
    });
    c.expect('last_hidden', hidden);
    c.expect('und_logits', model.logits(hidden.indexSelect(0, undIndexes)));
  });
}

function textOnly(c: GoldenCase): void {
  const sequence = c.input('packed_sequence');
  const hidden = noGrad(() =>
    c.bagel().languageModel.forwardTrain({
      sequence,
      layout: PackedLayout.plan(layoutSpec(c.params)),
      positionIds: c.input('position_ids'),
      undIndexes: arange(0, sequence.size(0), 1, { dtype: 'int64' }),
    }),
  );
  c.expect('last_hidden', hidden);
}

export const handlers: Handler[] = [
  [/^llm_mot_train_forward/, trainForward],
  [/^llm_mot_text_only/, textOnly],
  [/^attention_mask/, (c) => expectMask(c, 'mask', layoutSpec(c.params))],
];
