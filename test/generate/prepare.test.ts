import assert from 'node:assert/strict';
import {
  type CellGrid,
  preparePrompts,
  prepareStartTokens,
  prepareVaeImages,
  prepareVaeLatent,
  prepareVaeLatentCfg,
  prepareVitImages,
} from '../../lib/generate/prepare.js';
import { ConfigError, DataError } from '../../lib/util/errors.js';

const special = { bos_token_id: 1, eos_token_id: 2, start_of_image: 3, end_of_image: 4 };
const grid: CellGrid = { cell: 16, maxPerSide: 4, limit: 'max_latent_size', interpolate: false };

describe('packed index arrays', () => {
  it('numbers past and new rows sample by sample', () => {
    const p = preparePrompts({ kvLens: [3, 2], ropes: [7, 2] }, [[], [50]], special);
    assert.deepEqual(p.packed_key_value_indexes, [0, 1, 2, 5, 6]);
    assert.deepEqual(p.packed_text_indexes, [3, 4, 7, 8, 9]);
    assert.deepEqual(p.packed_text_ids, [1, 2, 1, 50, 2]);
    assert.deepEqual(p.packed_text_position_ids, [7, 8, 2, 3, 4]);
    assert.deepEqual(p.newKvLens, [5, 5]);
    assert.deepEqual(p.newRopes, [9, 5]);
  });

  it('puts a whole image at one rotary position, frame included', () => {
    const p = prepareVaeImages(
      { kvLens: [5, 0], ropes: [3, 0] },
      [
        [32, 48],
        [16, 16],
      ],
      grid,
      special,
    );
    assert.deepEqual(p.packed_position_ids, [...new Array(8).fill(3), 0, 0, 0]);
    assert.deepEqual(p.packed_text_indexes, [0, 7, 8, 10]);
    assert.deepEqual(p.packed_vae_token_indexes, [1, 2, 3, 4, 5, 6, 9]);
    assert.deepEqual(p.packed_vae_position_ids, [0, 1, 2, 4, 5, 6, 0]);
    assert.deepEqual(p.packed_indexes, [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert.deepEqual(p.newKvLens, [13, 3]);
    assert.deepEqual(p.newRopes, [4, 1]);
  });

  it('leaves lengths alone for images still to be drawn', () => {
    const context = { kvLens: [5], ropes: [3] };
    const p = prepareVaeLatent(context, [[16, 32]], grid, special);
    assert.deepEqual(p.newKvLens, [5]);
    assert.deepEqual(p.newRopes, [3]);
    const other = prepareVaeLatentCfg({ kvLens: [2], ropes: [9] }, p.packed_seqlens);
    assert.deepEqual(other.cfg_packed_position_ids, [9, 9, 9, 9]);
    assert.deepEqual(other.cfg_packed_query_indexes, [2, 3, 4, 5]);
    assert.deepEqual(other.cfg_packed_key_value_indexes, [0, 1]);
  });

  it('spreads position ids over the table when interpolating, whatever the size', () => {
    const wide = { ...grid, interpolate: true };
    const p = prepareVitImages({ kvLens: [0], ropes: [0] }, [[16, 128]], wide, special);
    assert.deepEqual(p.packed_vit_position_ids, [0, 0, 1, 1, 2, 2, 3, 3]);
  });

  it('refuses sizes that the grid or the position table cannot hold', () => {
    const context = { kvLens: [0], ropes: [0] };
    for (const size of [
      [16, 80],
      [80, 16],
      [17, 16],
      [0, 16],
    ] as Array<[number, number]>) {
      assert.throws(() => prepareVaeImages(context, [size], grid, special), DataError);
    }
  });

  it('refuses a batch that does not match the context', () => {
    const context = { kvLens: [0, 0], ropes: [0, 0] };
    assert.throws(() => preparePrompts(context, [[5]], special), DataError);
    assert.throws(() => prepareVitImages(context, [[16, 16]], grid, special), DataError);
  });

  it('starts decoding at the rotary counter, and never from nothing', () => {
    const p = prepareStartTokens({ kvLens: [4, 2], ropes: [2, 2] }, special);
    assert.deepEqual(p.packed_start_tokens, [1, 1]);
    assert.deepEqual(p.packed_query_position_ids, [2, 2]);
    assert.deepEqual(p.packed_key_value_indexes, [0, 1, 2, 3, 4, 5]);
    assert.throws(
      () => prepareStartTokens({ kvLens: [4, 0], ropes: [2, 0] }, special),
      ConfigError,
    );
    assert.throws(() => prepareStartTokens({ kvLens: [], ropes: [] }, special), ConfigError);
  });
});
