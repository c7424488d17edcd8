/**
 * The reversible byte alphabet of GPT-2 style tokenizers: every byte has a printable character, so
 * that vocabularies can be stored as text.
 */
function buildAlphabet(): string[] {
  const printable = (b: number): boolean =>
    (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++));
}

/** Character of each byte. */
export const BYTE_CHARACTERS: readonly string[] = buildAlphabet();

const BYTE_OF = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));

/** Bytes of a token written in the byte alphabet, or null when it holds other characters. */
export function tokenToBytes(token: string): Uint8Array | null {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = BYTE_OF.get(character);
    if (byte === undefined) return null;
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

/** A token outside the merges, as `tokenizer.json` lists it. */
export interface AddedTokenJson {
  id: number;
  content: string;
  special: boolean;
  single_word?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  normalized?: boolean;
}

/** How Qwen2 cuts text into words before merging. */
const QWEN2_WORDS =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** Parts of a byte-level BPE tokenizer. */
export interface ByteLevelParts {
  vocab: Record<string, number>;
  /** Pairs to merge, best first. */
  merges: Array<[string, string]>;
  addedTokens: AddedTokenJson[];
  /** Unicode normalisation before everything else. */
  normalizer: 'NFC' | null;
}

/** A byte-level BPE tokenizer with Qwen2's word rule, in the form of a `tokenizer.json`. */
export function byteLevelTokenizerJson(parts: ByteLevelParts) {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: parts.addedTokens.map((token) => ({
      id: token.id,
      content: token.content,
      single_word: token.single_word ?? false,
      lstrip: token.lstrip ?? false,
      rstrip: token.rstrip ?? false,
      normalized: token.normalized ?? false,
      special: token.special,
    })),
    normalizer: parts.normalizer === null ? null : { type: parts.normalizer },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: QWEN2_WORDS }, behavior: 'Isolated', invert: false },
        { ...byteLevel, use_regex: false },
      ],
    },
    post_processor: { ...byteLevel, use_regex: false },
    decoder: { ...byteLevel, use_regex: false },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      vocab: parts.vocab,
      merges: parts.merges,
    },
  };
}

/** First id of the bytes in byte tokenizers; the ids before it are special tokens. */
export const FIRST_BYTE_ID = 16;

/**
 * The tokenizer of the embedded tiny model: one token per byte (id = 16 + byte), no merges, and the
 * special tokens BAGEL uses as ids 1 to 4.
 */
export function tinyTokenizerFiles() {
  const special = (content: string, id: number): AddedTokenJson => ({ id, content, special: true });
  const named = [
    '<|endoftext|>',
    '<|im_start|>',
    '<|im_end|>',
    '<|vision_start|>',
    '<|vision_end|>',
  ];
  const addedTokens = Array.from({ length: FIRST_BYTE_ID }, (_, id) =>
    special(named[id] ?? `<|reserved_${id}|>`, id),
  );
  const vocab = Object.fromEntries(
    BYTE_CHARACTERS.map((character, byte) => [character, FIRST_BYTE_ID + byte]),
  );
  return {
    tokenizer: byteLevelTokenizerJson({ vocab, merges: [], addedTokens, normalizer: null }),
    config: {
      tokenizer_class: 'Qwen2Tokenizer',
      add_prefix_space: false,
      add_bos_token: false,
      bos_token: null,
      eos_token: '<|im_end|>',
      pad_token: '<|endoftext|>',
      unk_token: null,
      clean_up_tokenization_spaces: false,
      split_special_tokens: false,
      model_max_length: 4096,
      added_tokens_decoder: Object.fromEntries(
        addedTokens.map(({ id, content }) => [
          String(id),
          {
            content,
            lstrip: false,
            normalized: false,
            rstrip: false,
            single_word: false,
            special: true,
          },
        ]),
      ),
    },
  };
}
