import assert from 'node:assert/strict';
import {
  checkGuidance,
  extrapolate,
  type GuidanceOptions,
  guide,
  parseRenormType,
  passesAt,
  type RenormType,
  renormTypes,
} from '../../lib/generate/guidance.js';
import { Generator, randn, type Tensor } from '../../lib/torch/index.js';
import { ConfigError } from '../../lib/util/errors.js';
import { maxDifference } from '../support/tensors.js';

const options = (over: Partial<GuidanceOptions> = {}): GuidanceOptions => ({
  cfg_text_scale: 4,
  cfg_img_scale: 1.5,
  cfg_interval: [0.4, 1],
  cfg_renorm_min: 0,
  cfg_renorm_type: 'global',
  cfg_renorm_scope: 'image',
  ...over,
});

const rows = (t: Tensor): Float32Array[] => t.split(1, 0).map((row) => row.toFloat32Array());
const norm = (values: ArrayLike<number>): number => Math.hypot(...Array.from(values));

describe('guidance', () => {
  const generator = new Generator(5);
  const draw = () => randn([6, 8], { generator });
  const conditional = draw();
  const withoutText = draw();
  const withoutImage = draw();
  const v = { conditional, withoutText, withoutImage };
  const spans = [4, 2];

  it('leaves the velocity alone when the text scale is at most 1, whatever the image scale', () => {
    const out = guide(v, options({ cfg_text_scale: 1, cfg_img_scale: 9 }), spans);
    assert.equal(maxDifference(out.toFloat32Array(), conditional.toFloat32Array()), 0);
  });

  it('is plain extrapolation when renormalisation is switched off', () => {
    const text = extrapolate(withoutText, conditional, 4);
    const expected = extrapolate(withoutImage, text, 1.5).toFloat32Array();
    for (const cfg_renorm_type of ['global', 'channel'] as const) {
      const out = guide(v, options({ cfg_renorm_type, cfg_renorm_min: 1 }), spans);
      assert.ok(maxDifference(out.toFloat32Array(), expected) < 1e-5);
    }
  });

  it('never lengthens: global per image, channel per token', () => {
    const perToken = rows(guide(v, options({ cfg_renorm_type: 'channel' }), spans));
    rows(conditional).forEach((row, i) => {
      assert.ok(norm(perToken[i]) <= norm(row) * (1 + 1e-5));
    });
    const global = guide(v, options(), spans);
    const parts = global.split(spans, 0);
    conditional.split(spans, 0).forEach((part, i) => {
      assert.ok(norm(parts[i].toFloat32Array()) <= norm(part.toFloat32Array()) * (1 + 1e-5));
    });
  });

  it('keeps the direction of each token with channel renormalisation', () => {
    const free = rows(guide(v, options({ cfg_renorm_min: 1 }), spans));
    const bound = rows(guide(v, options({ cfg_renorm_type: 'channel' }), spans));
    free.forEach((row, i) => {
      const dot = row.reduce((sum, x, j) => sum + x * bound[i][j], 0);
      assert.ok(dot / (norm(row) * norm(bound[i])) > 1 - 1e-5);
    });
  });

  it('honours the lower bound of the shrink factor', () => {
    const free = norm(guide(v, options({ cfg_renorm_min: 1 }), spans).toFloat32Array());
    const half = norm(guide(v, options({ cfg_renorm_min: 0.9 }), spans).toFloat32Array());
    assert.ok(half >= 0.9 * free * (1 - 1e-5));
  });

  it('renormalises before image guidance with text_channel', () => {
    const o = options({ cfg_renorm_type: 'text_channel' });
    const textOnly = guide({ conditional, withoutText }, o, spans);
    const expected = extrapolate(withoutImage, textOnly, 1.5).toFloat32Array();
    assert.ok(maxDifference(guide(v, o, spans).toFloat32Array(), expected) < 1e-5);
    rows(conditional).forEach((row, i) => {
      assert.ok(norm(rows(textOnly)[i]) <= norm(row) * (1 + 1e-5));
    });
  });

  it('amplifies text guidance when the image-free context equals the full one', () => {
    const o = options({ cfg_renorm_min: 1 });
    const same = guide({ conditional, withoutText, withoutImage: conditional }, o, spans);
    const scale = 1 + 1.5 * (4 - 1);
    const expected = extrapolate(withoutText, conditional, scale).toFloat32Array();
    assert.ok(maxDifference(same.toFloat32Array(), expected) < 1e-4);
  });

  it('keeps images of a batch apart, unless asked for the norm of the whole batch', () => {
    const one = {
      conditional: conditional.narrow(0, 0, 4),
      withoutText: withoutText.narrow(0, 0, 4),
      withoutImage: withoutImage.narrow(0, 0, 4),
    };
    for (const cfg_renorm_type of renormTypes) {
      const alone = guide(one, options({ cfg_renorm_type }), [4]).toFloat32Array();
      const together = guide(v, options({ cfg_renorm_type }), spans).narrow(0, 0, 4);
      assert.ok(maxDifference(together.toFloat32Array(), alone) < 1e-5);
    }
    const alone = guide(one, options(), [4]).toFloat32Array();
    const coupled = guide(v, options({ cfg_renorm_scope: 'batch' }), spans).narrow(0, 0, 4);
    assert.ok(maxDifference(coupled.toFloat32Array(), alone) > 1e-3);
  });

  it('answers a zero velocity with zero, not with NaN', () => {
    const zero = conditional.mul(0);
    for (const cfg_renorm_type of renormTypes) {
      const all = { conditional: zero, withoutText: zero, withoutImage: zero };
      const out = guide(all, options({ cfg_renorm_type }), spans).toFloat32Array();
      assert.ok(out.every((x) => x === 0));
    }
  });

  it('asks only for the passes that count', () => {
    assert.deepEqual(passesAt(0.5, options()), { text: true, image: true });
    assert.deepEqual(passesAt(0.4, options()), { text: false, image: false });
    assert.deepEqual(passesAt(0.5, options({ cfg_img_scale: 1 })), { text: true, image: false });
    assert.deepEqual(passesAt(0.5, options({ cfg_text_scale: 1 })), { text: false, image: false });
  });

  it('refuses unknown types and values out of range', () => {
    assert.throws(() => parseRenormType('local'), ConfigError);
    const bad: Array<Partial<GuidanceOptions>> = [
      { cfg_renorm_type: 'local' as RenormType },
      { cfg_text_scale: Number.NaN },
      { cfg_interval: [0.9, 0.4] },
      { cfg_interval: [0.4] as unknown as [number, number] },
      { cfg_renorm_min: 1.5 },
      { cfg_renorm_scope: 'all' as 'batch' },
    ];
    for (const over of bad) assert.throws(() => checkGuidance(options(over)), ConfigError);
    checkGuidance(options());
  });
});
