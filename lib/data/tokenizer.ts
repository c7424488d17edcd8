import fs from 'node:fs';
import path from 'node:path';
import { Tokenizer as HfTokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import { CheckpointError, DataError, messageOf } from '../util/errors.js';
import { readTextFile } from '../util/files.js';
import { readJsonFile } from '../util/jsonl.js';
import { schemaFaults } from '../util/schema-faults.js';
import {
  type AddedTokenJson,
  byteLevelTokenizerJson,
  FIRST_BYTE_ID,
  tokenToBytes,
} from './byte-level.js';
import type { BoundaryTokens } from './packing.js';

/** Text to token ids and back. */
export interface Tokenizer {
  /** Ids of a text, without boundary tokens. Strings that look like special tokens stay plain text. */
  encode(text: string): number[];
  /** Text of ids; special tokens appear under their names, unknown ids as U+FFFD. */
  decode(ids: readonly number[]): string;
  /** Ids from 0 up to this number exist. */
  readonly vocabSize: number;
  /** The tokens that frame texts and images. */
  readonly special: Readonly<BoundaryTokens>;
  /** Bytes of every id; null for special tokens and unused ids. For constrained decoding. */
  tokenBytes(): Array<Uint8Array | null>;
}

/** Names of the boundary tokens in BAGEL's vocabulary (Qwen2.5). */
export const BOUNDARY_TOKEN_NAMES = {
  bos_token_id: '<|im_start|>',
  eos_token_id: '<|im_end|>',
  start_of_image: '<|vision_start|>',
  end_of_image: '<|vision_end|>',
} as const satisfies Record<keyof BoundaryTokens, string>;

const addedTokenSchema = z.looseObject({
  id: z.int().min(0),
  content: z.string().min(1),
  special: z.boolean().default(false),
});

const tokenizerSchema = z.looseObject({
  added_tokens: z.array(addedTokenSchema).default([]),
  model: z.looseObject({
    type: z.literal('BPE').optional(),
    vocab: z.record(z.string(), z.int().min(0)),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
  }),
});

type TokenizerJson = z.output<typeof tokenizerSchema>;

function unusable(file: string, message: string, found?: string, key?: string): CheckpointError {
  return new CheckpointError('ERR_TOKENIZER', message, { file, key, found });
}

/** Tokens that steer the model, which text must never be able to produce. */
function isControl(token: { content: string; special: boolean }): boolean {
  return token.special || /^<\|.*\|>$/s.test(token.content);
}

/** A byte-level BPE tokenizer (the Qwen2 family). */
export class BpeTokenizer implements Tokenizer {
  /** Ids run from 0 to this number, excluded; some may stand for nothing. */
  readonly vocabSize: number;
  /** Ids of the boundary tokens. */
  readonly special: Readonly<BoundaryTokens>;
  readonly #inner: HfTokenizer;
  readonly #bytes: Array<Uint8Array | null>;
  readonly #controls = new Map<number, string>();
  readonly #file: string;

  /**
   * @param json content of a `tokenizer.json`.
   * @param config content of a `tokenizer_config.json`.
   * @param file name used in errors.
   * @throws CheckpointError when it is no byte-level BPE tokenizer or lacks a boundary token.
   */
  constructor(json: unknown, config: object = {}, file = 'tokenizer.json') {
    this.#file = file;
    const parsed = tokenizerSchema.safeParse(json);
    if (!parsed.success) {
      const [{ key, expected, found }] = schemaFaults(parsed.error, json);
      const reason = `expected ${expected}, found ${found}`;
      throw unusable(file, 'the tokenizer has an unknown form', reason, key);
    }
    const { added_tokens: added, model } = parsed.data;
    const controls = added.filter(isControl);
    for (const { id, content } of controls) this.#controls.set(id, content);
    this.#inner = this.#open(parsed.data, config);
    const ids = [...Object.values(model.vocab), ...added.map(({ id }) => id)];
    this.vocabSize = ids.reduce((max, id) => Math.max(max, id), -1) + 1;
    this.#bytes = this.#tokenBytes(model.vocab, added);
    const find = (name: string): number => {
      const token = controls.find(({ content }) => content === name);
      if (token === undefined) throw unusable(file, 'a boundary token is missing', undefined, name);
      return token.id;
    };
    this.special = {
      bos_token_id: find(BOUNDARY_TOKEN_NAMES.bos_token_id),
      eos_token_id: find(BOUNDARY_TOKEN_NAMES.eos_token_id),
      start_of_image: find(BOUNDARY_TOKEN_NAMES.start_of_image),
      end_of_image: find(BOUNDARY_TOKEN_NAMES.end_of_image),
    };
  }

  /** The library's tokenizer without the control tokens, so that it cannot find them in text. */
  #open(json: TokenizerJson, config: object): HfTokenizer {
    const hidden = new Set(this.#controls.values());
    const vocab = Object.fromEntries(
      Object.entries(json.model.vocab).filter(([token]) => !hidden.has(token)),
    );
    try {
      return new HfTokenizer(
        {
          ...json,
          model: { ...json.model, vocab },
          added_tokens: json.added_tokens.filter((token) => !isControl(token)),
        },
        { ...config, additional_special_tokens: [] },
      );
    } catch (error) {
      throw unusable(this.#file, 'the tokenizer cannot be built', messageOf(error));
    }
  }

  #tokenBytes(
    vocab: Record<string, number>,
    added: Array<{ id: number; content: string }>,
  ): Array<Uint8Array | null> {
    const out = new Array<Uint8Array | null>(this.vocabSize).fill(null);
    const addedIds = new Set(added.map(({ id }) => id));
    for (const [token, id] of Object.entries(vocab)) {
      if (addedIds.has(id)) continue;
      out[id] = tokenToBytes(token);
      if (out[id] === null) throw unusable(this.#file, 'this is no byte-level tokenizer', token);
    }
    for (const { id, content } of added) {
      if (!this.#controls.has(id)) out[id] = Buffer.from(content, 'utf8');
    }
    return out;
  }

  /**
   * Token ids of a text; boundary and control tokens written out in it are plain text.
   *
   * @throws DataError when the vocabulary cannot write the text.
   */
  encode(text: string): number[] {
    if (text === '') return [];
    // Lone surrogates have no UTF-8 form.
    const clean = Buffer.from(text, 'utf8').toString('utf8');
    const { ids }: { ids: number[] } = this.#inner.encode(clean, { add_special_tokens: false });
    if (ids.every((id) => Number.isInteger(id) && !this.#controls.has(id))) return ids;
    throw new DataError('ERR_TOKENIZE', 'a text cannot be written in the vocabulary', {
      file: this.#file,
      found: JSON.stringify(text.slice(0, 60)),
    });
  }

  /** The text of ids: control tokens by their names, unknown ids and broken UTF-8 as U+FFFD. */
  decode(ids: readonly number[]): string {
    let out = '';
    let pending: Uint8Array[] = [];
    const flush = (): void => {
      if (pending.length > 0) out += Buffer.concat(pending).toString('utf8');
      pending = [];
    };
    for (const id of ids) {
      const bytes = this.#bytes[id] ?? null;
      if (bytes !== null) {
        pending.push(bytes);
        continue;
      }
      flush();
      out += this.#controls.get(id) ?? '\ufffd';
    }
    flush();
    return out;
  }

  /** Bytes of every id, null for control tokens and unused ids. Not a copy. */
  tokenBytes(): Array<Uint8Array | null> {
    return this.#bytes;
  }
}

/** One id per UTF-8 byte (id = 16 + byte); decoding writes ids as `[id]`. For tests and golden data. */
export class ByteTokenizer implements Tokenizer {
  /** 16 ids for control tokens and one for each byte. */
  readonly vocabSize = FIRST_BYTE_ID + 256;
  /** Ids of the boundary tokens, all below 16. */
  readonly special: Readonly<BoundaryTokens>;

  /** @param special ids of the boundary tokens; default 1 to 4. */
  constructor(
    special: BoundaryTokens = {
      bos_token_id: 1,
      eos_token_id: 2,
      start_of_image: 3,
      end_of_image: 4,
    },
  ) {
    this.special = special;
  }

  /** One id per byte of the UTF-8 form. */
  encode(text: string): number[] {
    return Array.from(Buffer.from(text, 'utf8'), (byte) => FIRST_BYTE_ID + byte);
  }

  /** bos and eos by their names, every other id as `[id]`; bytes are not turned back into text. */
  decode(ids: readonly number[]): string {
    const { bos_token_id, eos_token_id } = this.special;
    return ids
      .map((id) => {
        if (id === bos_token_id) return BOUNDARY_TOKEN_NAMES.bos_token_id;
        return id === eos_token_id ? BOUNDARY_TOKEN_NAMES.eos_token_id : `[${id}]`;
      })
      .join('');
  }

  /** Bytes of every id, null below 16. */
  tokenBytes(): Array<Uint8Array | null> {
    return Array.from({ length: this.vocabSize }, (_, id) =>
      id < FIRST_BYTE_ID ? null : Uint8Array.of(id - FIRST_BYTE_ID),
    );
  }
}

/** Tokens listed in a `tokenizer_config.json`. */
function addedTokensOf(config: Record<string, unknown>, file: string): AddedTokenJson[] {
  const table = config.added_tokens_decoder ?? {};
  const parsed = z
    .record(z.string().regex(/^\d+$/), addedTokenSchema.omit({ id: true }))
    .safeParse(table);
  if (!parsed.success) {
    throw unusable(file, 'the token table has an unknown form', undefined, 'added_tokens_decoder');
  }
  return Object.entries(parsed.data).map(([id, token]) => ({ ...token, id: Number(id) }));
}

/** Builds the tokenizer from `vocab.json` and `merges.txt`, which older Qwen2 folders have. */
function fromMerges(folder: string, config: Record<string, unknown>): BpeTokenizer {
  const vocabFile = path.join(folder, 'vocab.json');
  const merges = readTextFile(path.join(folder, 'merges.txt'))
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#version'))
    .map((line) => line.trimEnd().split(' ') as [string, string]);
  const json = byteLevelTokenizerJson({
    vocab: readJsonFile(vocabFile) as Record<string, number>,
    merges,
    addedTokens: addedTokensOf(config, path.join(folder, 'tokenizer_config.json')),
    normalizer: 'NFC',
  });
  return new BpeTokenizer(json, config, vocabFile);
}

/**
 * Loads the tokenizer of a model folder: `tokenizer.json`, else `vocab.json` with `merges.txt`;
 * `tokenizer_config.json` is used where present.
 *
 * @throws FileError, DataError, CheckpointError naming the file that is missing or unusable.
 */
export function loadTokenizer(folder: string): BpeTokenizer {
  const file = path.join(folder, 'tokenizer.json');
  const configFile = path.join(folder, 'tokenizer_config.json');
  const config = fs.existsSync(configFile)
    ? (readJsonFile(configFile) as Record<string, unknown>)
    : {};
  if (fs.existsSync(file)) return new BpeTokenizer(readJsonFile(file), config, file);
  if (fs.existsSync(path.join(folder, 'merges.txt'))) return fromMerges(folder, config);
  throw new CheckpointError('ERR_TOKENIZER', 'the folder has no tokenizer', {
    file: folder,
    expected: 'tokenizer.json, or vocab.json and merges.txt',
  });
}
