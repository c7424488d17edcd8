import assert from 'node:assert/strict';
import { packPatches, padImages, patchRows } from '../../lib/data/collate.js';
import { lengthToWeight, type PackConfig, packSamples } from '../../lib/data/packing.js';
import { conditionImage, conditionText, type Sample, targetImage } from '../../lib/data/sample.js';
import type { ChwImage } from '../../lib/data/transforms.js';
import { DataError, ImageError } from '../../lib/util/errors.js';

const config: PackConfig = {
  text_cond_dropout_prob: 0.1,
  vae_cond_dropout_prob: 0.3,
  vit_cond_dropout_prob: 0.3,
  vae_image_downsample: 16,
  max_latent_size: 64,
  vit_patch_size: 14,
  max_num_patch_per_side: 70,
  interpolate_pos: false,
};
const tokens = { bos_token_id: 101, eos_token_id: 102, start_of_image: 103, end_of_image: 104 };

function draws(uniforms: number[] = [], timesteps: number[] = []) {
  const take = (list: number[]) => () => {
    const value = list.shift();
    assert.notEqual(value, undefined, 'more draws than expected');
    return value as number;
  };
  return { uniform: take(uniforms), timestep: take(timesteps) };
}

const image = (width: number, height: number): ChwImage => ({
  width,
  height,
  data: Float32Array.from({ length: 3 * width * height }, (_, i) => i),
});

const textToImage = (): Sample => ({
  sequencePlan: [conditionText(), targetImage()],
  textIdsList: [[7, 8, 9]],
  images: [image(32, 32)],
  numTokens: 7,
});

describe('packSamples', () => {
  it('packs a prompt and its image', () => {
    const p = packSamples([textToImage()], config, tokens, draws([0.5], [1.25]));
    assert.deepEqual(p.packedTextIds, [101, 7, 8, 9, 102, 103, 104]);
    assert.deepEqual(p.packedTextIndexes, [0, 1, 2, 3, 4, 5, 10]);
    assert.deepEqual(p.packedPositionIds, [0, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5]);
    assert.deepEqual(p.packedLatentPositionIds, [0, 1, 64, 65]);
    assert.deepEqual(p.mseLossIndexes, [6, 7, 8, 9]);
    assert.deepEqual(p.packedTimesteps, [1.25, 1.25, 1.25, 1.25]);
    assert.deepEqual(
      [p.splitLens, p.attnModes],
      [
        [5, 6],
        ['causal', 'noise'],
      ],
    );
    assert.deepEqual(p.sampleLens, [11]);
  });

  it('drops the prompt below its probability, without a trace', () => {
    const p = packSamples([textToImage()], config, tokens, draws([0.0999], [0]));
    assert.deepEqual(p.packedTextIds, [103, 104]);
    assert.deepEqual(p.packedPositionIds, [0, 0, 0, 0, 0, 0]);
    assert.deepEqual(p.splitLens, [6]);
  });

  it('keeps targets and maps beside their image when kinds are mixed', () => {
    const edit: Sample = {
      sequencePlan: [
        conditionImage('vae_image'),
        conditionImage('vit_image'),
        conditionText(),
        targetImage(),
      ],
      textIdsList: [[5]],
      images: [image(16, 16), image(28, 14), image(16, 32)],
      numTokens: 0,
    };
    const rewardMap = { width: 32, height: 32, data: new Float32Array(1024) };
    const judged = { ...textToImage(), gtImage: image(32, 32), rewardMap };
    const p = packSamples([edit, judged], config, tokens, draws([0.9, 0.9, 0.9, 0.9], [1, 2]));
    assert.deepEqual(
      p.vaeImages.map((v) => [v.sample, v.loss, v.gtImage !== null, v.rewardMap === rewardMap]),
      [
        [0, false, false, false],
        [0, true, false, false],
        [1, true, true, true],
      ],
    );
    assert.deepEqual(p.packedTimesteps, [Number.NEGATIVE_INFINITY, 1, 1, 2, 2, 2, 2]);
    assert.deepEqual(p.vitTokenSeqlens, [2]);
  });

  it('moves on by one rope position for dropped images', () => {
    const sample: Sample = {
      sequencePlan: [conditionImage('vae_image'), conditionImage('vit_image'), conditionText()],
      textIdsList: [[5]],
      images: [image(16, 16), image(14, 14)],
      numTokens: 0,
    };
    const p = packSamples([sample], config, tokens, draws([0.1, 0.1, 0.9]));
    assert.deepEqual(p.packedPositionIds, [2, 3, 4]);
    assert.equal(p.vaeImages.length + p.vitImages.length, 0);
  });

  it('drops the frames of one split together', () => {
    const frame = (start: boolean, end: boolean) => ({
      ...conditionImage('vae_image'),
      split_start: start,
      split_end: end,
      frame_delta: 1,
    });
    const sample: Sample = {
      sequencePlan: [frame(true, false), frame(false, true), conditionText()],
      textIdsList: [[5]],
      images: [image(16, 16), image(16, 16)],
      numTokens: 0,
    };
    const dropped = packSamples([sample], config, tokens, draws([0.1, 0.9]));
    assert.deepEqual([dropped.splitLens, dropped.attnModes], [[3], ['causal']]);
    const kept = packSamples([sample], config, tokens, draws([0.5, 0.9]));
    assert.deepEqual(
      [kept.splitLens, kept.attnModes],
      [
        [6, 3],
        ['full', 'causal'],
      ],
    );
  });

  it('learns texts with one weight a text and labels boundary tokens on request', () => {
    const sample: Sample = {
      sequencePlan: [
        { type: 'text', enable_cfg: 0, loss: 1, special_token_loss: 1, special_token_label: 103 },
      ],
      textIdsList: [[5, 6, 7]],
      images: [],
      numTokens: 3,
    };
    const p = packSamples([sample], config, tokens, draws());
    assert.deepEqual(p.ceLossIndexes, [0, 1, 2, 3, 4]);
    assert.deepEqual(p.packedLabelIds, [5, 6, 7, 102, 103]);
    assert.deepEqual(p.ceLossWeights, [0.5, 0.5, 0.5, 0.5, 1]);
  });

  it('refuses samples that contradict themselves', () => {
    const good = textToImage();
    const bad = (change: Partial<Sample>): void => {
      const run = () => packSamples([{ ...good, ...change }], config, tokens, draws([0.5], [0]));
      assert.throws(run, DataError);
    };
    bad({ textIdsList: [] });
    bad({ textIdsList: [[1], [2]] });
    bad({ images: [] });
    bad({ sequencePlan: [conditionText(), { ...targetImage(), split_end: false }] });
    bad({ sequencePlan: [conditionText(), { ...targetImage(), split_start: false }] });
    bad({ sequencePlan: [conditionText(), { ...targetImage(), special_token_loss: 1 }] });
  });

  it('refuses images off the token grid or larger than the position table', () => {
    const run = (width: number, height: number) => () =>
      packSamples(
        [{ ...textToImage(), images: [image(width, height)] }],
        config,
        tokens,
        draws([0.5], [0]),
      );
    assert.throws(run(24, 32), ImageError);
    assert.throws(run(65 * 16, 16), /more tokens per side/);
  });
});

describe('weights', () => {
  it('weighs texts as the reference', () => {
    assert.deepEqual(
      (['token', 'sample', 'square'] as const).map((r) => lengthToWeight(4, r)),
      [1, 0.25, 0.5],
    );
    assert.equal(lengthToWeight(0), 0);
  });
});

describe('collating images', () => {
  it('pads to the largest image with zeros', () => {
    const { shape, data } = padImages([image(1, 2), image(2, 1)]);
    assert.deepEqual(shape, [2, 3, 2, 2]);
    assert.deepEqual(
      [...data],
      [0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 0, 1, 0, 0, 2, 3, 0, 0, 4, 5, 0, 0],
    );
  });

  it('cuts patches row by row, channel fastest', () => {
    const img = image(4, 2);
    assert.deepEqual(
      [...patchRows(img, 2)],
      [0, 8, 16, 1, 9, 17, 4, 12, 20, 5, 13, 21, 2, 10, 18, 3, 11, 19, 6, 14, 22, 7, 15, 23],
    );
    assert.equal(packPatches([img, img], 2).length, 48);
    assert.throws(() => patchRows(image(3, 2), 2), ImageError);
  });
});
