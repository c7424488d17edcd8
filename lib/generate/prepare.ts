import { flatPositionIds } from '../models/bagel/position-ids.js';
import { ConfigError, DataError } from '../util/errors.js';

/** The four ids that frame text and images. */
export interface SpecialTokens {
  bos_token_id: number;
  eos_token_id: number;
  start_of_image: number;
  end_of_image: number;
}

/** Lengths and rotary counters of a batch of contexts, one entry per sequence. */
export interface ContextLengths {
  readonly kvLens: readonly number[];
  readonly ropes: readonly number[];
}

/**
 * Packed index lists. "Merged" rows count over `[past_0, new_0, past_1, new_1, ...]`, the layout of
 * the cache after the call; "local" rows count over the new tokens of the call alone. Names follow
 * the BAGEL reference, whose arrays these equal.
 */
export interface PreparedPrompts extends NextLengths {
  text_token_lens: number[];
  packed_text_ids: number[];
  packed_text_position_ids: number[];
  /** Merged rows of the new tokens. */
  packed_text_indexes: number[];
  /** Merged rows of the past. */
  packed_key_value_indexes: number[];
  key_values_lens: number[];
}

/** Lengths and counters after the call. */
export interface NextLengths {
  newKvLens: number[];
  newRopes: number[];
}

/** An image block: start token, `n` cells, end token, all at one rotary position. */
export interface PreparedImages extends NextLengths {
  packed_text_ids: number[];
  /** Local rows of the two frame tokens of every image. */
  packed_text_indexes: number[];
  packed_position_ids: number[];
  /** New tokens per sequence, frame included. */
  packed_seqlens: number[];
  /** Merged rows of the new tokens. */
  packed_indexes: number[];
  packed_key_value_indexes: number[];
  key_values_lens: number[];
}

/** Image blocks for the vision tower. */
export interface PreparedVitImages extends PreparedImages {
  vit_token_seqlens: number[];
  packed_vit_position_ids: number[];
  /** Local rows. */
  packed_vit_token_indexes: number[];
}

/** Image blocks for the generation expert. */
export interface PreparedVaeImages extends PreparedImages {
  packed_vae_position_ids: number[];
  /** Local rows. */
  packed_vae_token_indexes: number[];
  /** Latent cells per image, (rows, columns). */
  patchified_vae_latent_shapes: Array<[number, number]>;
}

/** What a second context needs to serve the same query tokens. */
export interface PreparedCfg {
  cfg_packed_position_ids: number[];
  cfg_key_values_lens: number[];
  cfg_packed_query_indexes: number[];
  cfg_packed_key_value_indexes: number[];
}

/** The first step of decoding: one start token per sequence. */
export interface PreparedStart {
  packed_start_tokens: number[];
  packed_query_position_ids: number[];
  key_values_lens: number[];
  packed_key_value_indexes: number[];
}

/** Appends `from, from + 1, ...` (`count` numbers). */
function pushRange(list: number[], from: number, count: number): void {
  for (let i = 0; i < count; i++) list.push(from + i);
}

function checkBatch(context: ContextLengths, found: number, what: string): void {
  if (found === context.kvLens.length) return;
  throw new DataError('ERR_BATCH', `one ${what} per sequence of the context is needed`, {
    expected: String(context.kvLens.length),
    found: String(found),
  });
}

/** Merged rows of past and new tokens for given numbers of new tokens. */
function mergedRows(
  kvLens: readonly number[],
  newLens: readonly number[],
): { past: number[]; fresh: number[] } {
  const past: number[] = [];
  const fresh: number[] = [];
  let base = 0;
  kvLens.forEach((n, s) => {
    pushRange(past, base, n);
    pushRange(fresh, base + n, newLens[s]);
    base += n + newLens[s];
  });
  return { past, fresh };
}

/**
 * Text segments `[bos] ids [eos]`, one per sequence.
 *
 * @param prompts token ids without frame tokens.
 */
export function preparePrompts(
  context: ContextLengths,
  prompts: readonly (readonly number[])[],
  special: SpecialTokens,
): PreparedPrompts {
  checkBatch(context, prompts.length, 'prompt');
  const lens = prompts.map((ids) => ids.length + 2);
  const { past, fresh } = mergedRows(context.kvLens, lens);
  const positions: number[] = [];
  lens.forEach((n, s) => {
    pushRange(positions, context.ropes[s], n);
  });
  return {
    text_token_lens: lens,
    packed_text_ids: prompts.flatMap((ids) => [special.bos_token_id, ...ids, special.eos_token_id]),
    packed_text_position_ids: positions,
    packed_text_indexes: fresh,
    packed_key_value_indexes: past,
    key_values_lens: [...context.kvLens],
    newKvLens: context.kvLens.map((n, s) => n + lens[s]),
    newRopes: context.ropes.map((r, s) => r + lens[s]),
  };
}

/** The part that all image blocks share, and what is known of their cells. */
function prepareCells(
  context: ContextLengths,
  sizes: readonly (readonly [number, number])[],
  grid: CellGrid,
  special: SpecialTokens,
): PreparedImages & {
  /** Rows and columns of each image. */
  shapes: Array<[number, number]>;
  /** Cells of each image. */
  cells: number[];
  /** Position ids of the cells, one image behind the other. */
  positionIds: number[];
  /** Rows of the cells. */
  cellIndexes: number[];
} {
  checkBatch(context, sizes.length, 'image');
  const shapes = sizes.map((size) => cellsOf(size, grid));
  const cells = shapes.map(([r, c]) => r * c);
  const { cell: patch, maxPerSide: side, interpolate } = grid;
  const lens = cells.map((n) => n + 2);
  const { past, fresh } = mergedRows(context.kvLens, lens);
  const textIndexes: number[] = [];
  const cellIndexes: number[] = [];
  const positions: number[] = [];
  let local = 0;
  cells.forEach((n, s) => {
    textIndexes.push(local, local + n + 1);
    pushRange(cellIndexes, local + 1, n);
    for (let i = 0; i < n + 2; i++) positions.push(context.ropes[s]);
    local += n + 2;
  });
  return {
    packed_text_ids: cells.flatMap(() => [special.start_of_image, special.end_of_image]),
    packed_text_indexes: textIndexes,
    packed_position_ids: positions,
    packed_seqlens: lens,
    packed_indexes: fresh,
    packed_key_value_indexes: past,
    key_values_lens: [...context.kvLens],
    newKvLens: context.kvLens.map((n, s) => n + lens[s]),
    newRopes: context.ropes.map((r) => r + 1),
    shapes,
    cells,
    positionIds: sizes.flatMap(([height, width]) =>
      flatPositionIds({ height, width, patch, side, interpolate }),
    ),
    cellIndexes,
  };
}

/** How images are cut into cells and how the cells are numbered. */
export interface CellGrid {
  /** Side of a cell in pixels. */
  cell: number;
  /** Cells per side that the position table knows. */
  maxPerSide: number;
  /** Name of the limit, for messages. */
  limit: string;
  /** Stretch the ids over the whole table instead of using its top left corner. */
  interpolate: boolean;
}

/**
 * Rows and columns of cells in an image.
 *
 * @throws DataError when a side is no multiple of the cell, or longer than the position table: the
 *   reference would wrap into the next row of positions without a word.
 */
function cellsOf([height, width]: readonly [number, number], grid: CellGrid): [number, number] {
  const rows = height / grid.cell;
  const columns = width / grid.cell;
  if (!Number.isInteger(rows) || !Number.isInteger(columns) || rows < 1 || columns < 1) {
    throw new DataError('ERR_IMAGE_SIZE', 'image sides must be multiples of the cell size', {
      expected: `multiples of ${grid.cell} pixels`,
      found: `${height} x ${width} (height x width)`,
    });
  }
  if (!grid.interpolate && Math.max(rows, columns) > grid.maxPerSide) {
    throw new DataError('ERR_IMAGE_SIZE', 'image is larger than the position table', {
      key: grid.limit,
      expected: `at most ${grid.maxPerSide * grid.cell} pixels a side`,
      found: `${height} x ${width} (height x width)`,
    });
  }
  return [rows, columns];
}

/** Images for the vision tower, one per sequence; sizes are (height, width) in pixels. */
export function prepareVitImages(
  context: ContextLengths,
  sizes: readonly (readonly [number, number])[],
  grid: CellGrid,
  special: SpecialTokens,
): PreparedVitImages {
  const prepared = prepareCells(context, sizes, grid, special);
  const { shapes: _, cells, positionIds, cellIndexes, ...images } = prepared;
  return {
    ...images,
    vit_token_seqlens: cells,
    packed_vit_position_ids: positionIds,
    packed_vit_token_indexes: cellIndexes,
  };
}

/** Clean images for the generation expert, one per sequence; sizes are (height, width) in pixels. */
export function prepareVaeImages(
  context: ContextLengths,
  sizes: readonly (readonly [number, number])[],
  grid: CellGrid,
  special: SpecialTokens,
): PreparedVaeImages {
  const prepared = prepareCells(context, sizes, grid, special);
  const { cells: _, shapes, positionIds, cellIndexes, ...images } = prepared;
  return {
    ...images,
    packed_vae_position_ids: positionIds,
    packed_vae_token_indexes: cellIndexes,
    patchified_vae_latent_shapes: shapes,
  };
}

/**
 * Images to be drawn, one per sequence. The same numbers as for clean images; the cache does not grow,
 * so `newKvLens` and `newRopes` are those of the context.
 */
export function prepareVaeLatent(
  context: ContextLengths,
  sizes: readonly (readonly [number, number])[],
  grid: CellGrid,
  special: SpecialTokens,
): PreparedVaeImages {
  return {
    ...prepareVaeImages(context, sizes, grid, special),
    newKvLens: [...context.kvLens],
    newRopes: [...context.ropes],
  };
}

/** The same query tokens seen from another context: its lengths, its rotary counter. */
export function prepareVaeLatentCfg(
  context: ContextLengths,
  querySeqlens: readonly number[],
): PreparedCfg {
  checkBatch(context, querySeqlens.length, 'image');
  const { past, fresh } = mergedRows(context.kvLens, querySeqlens);
  return {
    cfg_packed_position_ids: querySeqlens.flatMap((n, s) =>
      new Array<number>(n).fill(context.ropes[s]),
    ),
    cfg_key_values_lens: [...context.kvLens],
    cfg_packed_query_indexes: fresh,
    cfg_packed_key_value_indexes: past,
  };
}

/**
 * First token of decoding, `bos` for every sequence, at its rotary counter. Past rows are numbered
 * without room for the new token, as in the reference, which shifts them at each step.
 *
 * @throws ConfigError when there is no context to decode from.
 */
export function prepareStartTokens(context: ContextLengths, special: SpecialTokens): PreparedStart {
  if (context.kvLens.length === 0 || context.kvLens.some((n) => n === 0)) {
    throw new ConfigError('ERR_EMPTY_CONTEXT', 'text cannot be decoded from an empty context', {
      hint: 'Prefill a prompt or an image first',
    });
  }
  return {
    packed_start_tokens: context.kvLens.map(() => special.bos_token_id),
    packed_query_position_ids: [...context.ropes],
    key_values_lens: [...context.kvLens],
    packed_key_value_indexes: mergedRows(
      context.kvLens,
      context.kvLens.map(() => 0),
    ).past,
  };
}
