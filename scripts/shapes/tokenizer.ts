import path from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type AddedTokenJson,
  BYTE_CHARACTERS,
  byteLevelTokenizerJson,
  FIRST_BYTE_ID,
} from '../../lib/data/byte-level.js';
import { BOUNDARY_TOKEN_NAMES } from '../../lib/data/tokenizer.js';
import { packageRoot } from '../../lib/native/paths.js';
import { writeJsonFile } from '../../lib/util/jsonl.js';
import { trainMerges } from './bpe.js';

/** Every word of the prompts, object names, questions and answers of the Shapes world. */
export const SHAPES_WORDS = [
  ...['a', 'and', 'the', 'of', 'in', 'is', 'to'],
  ...['two', 'three', 'four'],
  ...['circle', 'square', 'triangle', 'cross', 'circles', 'squares', 'triangles', 'crosses'],
  ...['red', 'green', 'blue', 'yellow', 'purple', 'cyan', 'black', 'solid', 'striped'],
  ...['left', 'right', 'above', 'below'],
  ...['request', 'regions', 'layout', 'what', 'picture', 'nothing'],
  ...['wrong', 'number', 'places', 'something', 'missing', 'as', 'requested'],
] as const;

/** Fixed parts of the judge's answers, and their scores of more than one digit. */
export const ANSWER_TOKENS = [
  '{"regions":[{"id":',
  ',"at":"',
  '","object":"',
  '","for":"',
  '","score":',
  '},{"id":',
  '}]}',
  '{"seen":"',
  '","global_layout_score":',
  ',"reason":"',
  '"}',
  ...['-1', '-0.5'],
] as const;

/** Cells of the board that tells places, from "a1" top left to "h8". */
const CELLS = Array.from('12345678', (row) => Array.from('abcdefgh', (column) => column + row));

/**
 * A byte-level BPE tokenizer in Qwen2's form: 16 reserved ids with BAGEL's boundary tokens as 1 to 4,
 * the 256 bytes, merges that make each word of the Shapes world one token, alone and after a blank,
 * and plain tokens for places and the fixed parts of answers.
 */
export function shapesTokenizerFiles() {
  const names = Object.values(BOUNDARY_TOKEN_NAMES);
  const reserved = Array.from({ length: FIRST_BYTE_ID }, (_, id): AddedTokenJson => {
    const content = id === 0 ? '<|endoftext|>' : (names[id - 1] ?? `<|reserved_${id}|>`);
    return { id, content, special: true };
  });
  const merges = trainMerges(SHAPES_WORDS.flatMap((word) => [word, ` ${word}`]));
  const tokens = [...BYTE_CHARACTERS, ...merges.map((pair) => pair.join(''))];
  const vocab = Object.fromEntries(tokens.map((token, i) => [token, FIRST_BYTE_ID + i]));
  const plain = [...CELLS.flat(), ...ANSWER_TOKENS].map(
    (content, i): AddedTokenJson => ({
      id: FIRST_BYTE_ID + tokens.length + i,
      content,
      special: false,
    }),
  );
  const addedTokens = [...reserved, ...plain];
  return {
    tokenizer: byteLevelTokenizerJson({ vocab, merges, addedTokens, normalizer: null }),
    config: {
      tokenizer_class: 'Qwen2Tokenizer',
      add_prefix_space: false,
      add_bos_token: false,
      bos_token: null,
      eos_token: BOUNDARY_TOKEN_NAMES.eos_token_id,
      pad_token: '<|endoftext|>',
      unk_token: null,
      clean_up_tokenization_spaces: false,
      split_special_tokens: false,
      model_max_length: 1024,
      added_tokens_decoder: Object.fromEntries(
        addedTokens.map(({ id, content, special }) => [
          String(id),
          { content, lstrip: false, normalized: false, rstrip: false, single_word: false, special },
        ]),
      ),
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = path.join(packageRoot(), 'assets', 'shapes');
  const { tokenizer, config } = shapesTokenizerFiles();
  writeJsonFile(path.join(folder, 'tokenizer.json'), tokenizer);
  writeJsonFile(path.join(folder, 'tokenizer_config.json'), config);
  const size = Object.keys(tokenizer.model.vocab).length + tokenizer.added_tokens.length;
  console.log(`${size} ids, ${tokenizer.model.merges.length} of them merged, in ${folder}`);
}
