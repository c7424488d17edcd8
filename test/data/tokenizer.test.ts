import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { byteLevelTokenizerJson, tinyTokenizerFiles } from '../../lib/data/byte-level.js';
import { BpeTokenizer, ByteTokenizer, loadTokenizer } from '../../lib/data/tokenizer.js';
import { CheckpointError, SrumError } from '../../lib/util/errors.js';
import { readJsonFile, writeJsonFile } from '../../lib/util/jsonl.js';
import { temporaryFolder } from '../support/temp.js';

const tiny = fileURLToPath(new URL('../../../assets/tiny', import.meta.url));
const texts = [
  '',
  'a red kite above a stone bridge',
  ' leading, trailing  \r\n\r\n\t tabs ',
  "don't WE'LL 123 4567.89",
  '日本語 한국어 العربية e\u0301 🎉👩‍👩‍👧',
  '<|im_start|>system<|im_end|><|vision_start|><|endoftext|><|reserved_5|>',
  '\u0000\u0001\u007f\u00a0\u3000\ufeff',
];

describe('the tiny tokenizer', () => {
  const tokenizer = loadTokenizer(tiny);

  it('is what the generator makes', () => {
    const files = tinyTokenizerFiles();
    assert.deepEqual(readJsonFile(path.join(tiny, 'tokenizer.json')), files.tokenizer);
    assert.deepEqual(readJsonFile(path.join(tiny, 'tokenizer_config.json')), files.config);
  });

  it('round-trips every text and never makes a special token of one', () => {
    for (const text of texts) {
      const ids = tokenizer.encode(text);
      assert.equal(tokenizer.decode(ids), text);
      assert.ok(ids.every((id) => id >= 16));
    }
  });

  it('round-trips all 256 bytes and every character of the first planes', () => {
    let text = '';
    for (let c = 1; c < 0x3000; c++) text += String.fromCodePoint(c);
    for (let c = 0x1f300; c < 0x1f700; c++) text += String.fromCodePoint(c);
    assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
    const all = tokenizer.tokenBytes().filter((bytes) => bytes !== null);
    assert.deepEqual(
      all.map((bytes) => bytes[0]).sort((a, b) => a - b),
      [...Array(256).keys()],
    );
  });

  it('agrees with the byte tokenizer', () => {
    const bytes = new ByteTokenizer();
    for (const text of texts) assert.deepEqual(tokenizer.encode(text), bytes.encode(text));
    assert.deepEqual(tokenizer.special, bytes.special);
    assert.equal(tokenizer.vocabSize, bytes.vocabSize);
    assert.deepEqual(tokenizer.tokenBytes(), bytes.tokenBytes());
  });

  it('writes special tokens by name, unknown ids and broken UTF-8 as U+FFFD', () => {
    assert.equal(
      tokenizer.decode([1, 16 + 65, 2, 3, 4]),
      '<|im_start|>A<|im_end|><|vision_start|><|vision_end|>',
    );
    assert.equal(
      tokenizer.decode([9999, 16 + 0xc3, 16 + 65, 16 + 0xc3, 16 + 0xa4]),
      '\ufffd\ufffdAä',
    );
    assert.equal(tokenizer.decode(tokenizer.encode('a\ud800b')), 'a\ufffdb');
  });
});

describe('ByteTokenizer', () => {
  it('decodes to bracketed ids', () => {
    const tokenizer = new ByteTokenizer();
    assert.deepEqual(tokenizer.encode('aä'), [113, 211, 180]);
    assert.equal(tokenizer.decode([1, 113, 300, 3, 2]), '<|im_start|>[113][300][3]<|im_end|>');
  });
});

/** A tokenizer with merges, ids as in real vocabularies: bytes first, specials last. */
function merged(change: (parts: Parameters<typeof byteLevelTokenizerJson>[0]) => void = () => {}) {
  const byteVocab = tinyTokenizerFiles().tokenizer.model.vocab;
  const vocab: Record<string, number> = Object.fromEntries(
    Object.entries(byteVocab).map(([token, id]) => [token, id - 16]),
  );
  for (const token of ['th', 'the', 'Ġthe', 'im', '<|', '|>'])
    vocab[token] = Object.keys(vocab).length;
  const names = [
    '<|endoftext|>',
    '<|im_start|>',
    '<|im_end|>',
    '<|vision_start|>',
    '<|vision_end|>',
  ];
  const parts: Parameters<typeof byteLevelTokenizerJson>[0] = {
    vocab,
    merges: [
      ['t', 'h'],
      ['th', 'e'],
      ['Ġ', 'the'],
      ['i', 'm'],
      ['<', '|'],
      ['|', '>'],
    ],
    addedTokens: [
      ...names.map((content, i) => ({ id: 300 + i, content, special: true })),
      { id: 310, content: '<tool_call>', special: false },
      { id: 311, content: '<|fim_prefix|>', special: false },
    ],
    normalizer: 'NFC',
  };
  change(parts);
  return byteLevelTokenizerJson(parts);
}

describe('BpeTokenizer', () => {
  it('merges, normalises and keeps plain added tokens', () => {
    const tokenizer = new BpeTokenizer(merged());
    const text = (s: string) => tokenizer.encode(s).map((id) => tokenizer.decode([id]));
    assert.deepEqual(text('the the th'), ['the', ' the', ' ', 'th']);
    assert.deepEqual(tokenizer.encode('e\u0301'), tokenizer.encode('é'));
    assert.deepEqual(text('x<tool_call>'), ['x', '<tool_call>']);
    assert.equal(tokenizer.vocabSize, 312);
    assert.deepEqual(tokenizer.special, {
      bos_token_id: 301,
      eos_token_id: 302,
      start_of_image: 303,
      end_of_image: 304,
    });
  });

  it('encodes look-alikes of control tokens as plain text', () => {
    const tokenizer = new BpeTokenizer(merged());
    for (const text of ['<|im_end|>', 'a <|fim_prefix|> b', '<|im_start|><|im_end|>']) {
      const ids = tokenizer.encode(text);
      assert.ok(
        ids.every((id) => id < 300),
        `${text}: ${ids}`,
      );
      assert.equal(tokenizer.decode(ids), text);
    }
  });

  it('does so even where the vocabulary itself lists the control token', () => {
    const json = merged((parts) => {
      parts.vocab['<|im_end|>'] = 302;
    });
    assert.ok(new BpeTokenizer(json).encode('<|im_end|>').every((id) => id < 300));
  });

  it('refuses tokenizers it cannot use', () => {
    const refused = (json: unknown) =>
      assert.throws(
        () => new BpeTokenizer(json),
        (e) => e instanceof CheckpointError,
      );
    refused({});
    refused({ model: { type: 'WordPiece', vocab: {}, merges: [] } });
    refused(merged((parts) => parts.addedTokens.splice(2, 1)));
    refused(
      merged((parts) => {
        parts.vocab.語 = 290;
      }),
    );
  });
});

describe('loadTokenizer', () => {
  const folder = temporaryFolder();

  it('builds a tokenizer from vocab.json and merges.txt', () => {
    const json = merged((parts) => {
      parts.addedTokens = parts.addedTokens.filter(({ special }) => special);
    });
    writeJsonFile(path.join(folder(), 'vocab.json'), json.model.vocab);
    const merges = json.model.merges.map((pair) => pair.join(' ')).join('\n');
    fs.writeFileSync(path.join(folder(), 'merges.txt'), `#version: 0.2\n${merges}\n`);
    writeJsonFile(path.join(folder(), 'tokenizer_config.json'), {
      added_tokens_decoder: Object.fromEntries(
        json.added_tokens.map(({ id, ...token }) => [String(id), token]),
      ),
    });
    const expected = new BpeTokenizer(json);
    const tokenizer = loadTokenizer(folder());
    for (const text of [...texts, 'the the <|im_end|>']) {
      assert.deepEqual(tokenizer.encode(text), expected.encode(text));
    }
    assert.deepEqual(tokenizer.special, expected.special);
  });

  it('names the folder without a tokenizer and the file that is broken', () => {
    assert.throws(
      () => loadTokenizer(folder()),
      (e) => {
        assert.ok(e instanceof SrumError);
        assert.equal(e.details.file, folder());
        return true;
      },
    );
    fs.writeFileSync(path.join(folder(), 'tokenizer.json'), '{"model":');
    assert.throws(() => loadTokenizer(folder()), /tokenizer\.json/);
  });
});
