import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { readPrompts } from '../../lib/data/prompts.js';
import { DataError } from '../../lib/util/errors.js';
import { temporaryFolder } from '../support/temp.js';

describe('readPrompts', () => {
  const folder = temporaryFolder();
  const write = (name: string, content: unknown): string => {
    const file = path.join(folder(), name);
    fs.writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
    return file;
  };
  const prompt = (Question: unknown, Question_id: unknown, Category: unknown = 'color') => ({
    Question,
    Category,
    Question_id,
  });
  const refused = (content: unknown, code: string, place: RegExp, name = 'p.json') => {
    const file = write(name, content);
    assert.throws(
      () => readPrompts(file),
      (error) => {
        assert.ok(error instanceof DataError, String(error));
        assert.equal(error.code, code);
        assert.equal(error.details.file, file);
        assert.match(error.message, place);
        return true;
      },
    );
  };

  it('reads the SRUM prompt metadata', () => {
    const file = write('p.json', [prompt('a red kite', 9001), prompt('a bee', 'b-2', 'shape')]);
    assert.deepEqual(readPrompts(file), [
      { Question: 'a red kite', Category: 'color', Question_id: 9001, original_index: 0 },
      { Question: 'a bee', Category: 'shape', Question_id: 'b-2', original_index: 1 },
    ]);
  });

  it('reads plain text, one prompt a line, and jsonl', () => {
    const text = readPrompts(write('p.txt', '\ufeffone\r\n\n  two \n'));
    assert.deepEqual(
      text.map(({ Question, Question_id }) => [Question, Question_id]),
      [
        ['one', 1],
        ['two', 2],
      ],
    );
    const lines = `${JSON.stringify(prompt('x', 5))}\n\n${JSON.stringify({ Question: 'y', Question_id: 6 })}\n`;
    assert.deepEqual(
      readPrompts(write('p.jsonl', lines)).map(({ Question, Category }) => [Question, Category]),
      [
        ['x', 'color'],
        ['y', ''],
      ],
    );
  });

  it('refuses empty lists and other JSON', () => {
    refused([], 'ERR_NO_PROMPTS', /empty/);
    refused(' \n', 'ERR_NO_PROMPTS', /empty/, 'p.txt');
    refused('', 'ERR_NO_PROMPTS', /empty/, 'p.jsonl');
    refused({ a: 1 }, 'ERR_PROMPTS', /must be an array/);
    refused('[{"Question": "x"', 'ERR_NOT_JSON', /not valid JSON/);
  });

  it('names index and key of the first fault and counts the others', () => {
    refused([prompt('a', 1), prompt(' ', 2)], 'ERR_PROMPTS', /is empty.*\[1\]\.Question/);
    refused([prompt(5, 1)], 'ERR_PROMPTS', /wrong type.*\[0\]\.Question.*found 5/);
    refused([prompt('a', 1, 7)], 'ERR_PROMPTS', /\[0\]\.Category/);
    refused([prompt('a', undefined)], 'ERR_PROMPTS', /\[0\]\.Question_id.*found nothing/);
    refused([7, prompt('', 1)], 'ERR_PROMPTS', /first of 2 faults.*\[0\]/);
  });

  for (const id of [
    'a/b',
    '..',
    'a\\b',
    '',
    ' a',
    'a\u0000',
    1.5,
    -1,
    null,
    true,
    'x'.repeat(300),
  ]) {
    it(`refuses the id ${JSON.stringify(id)?.slice(0, 20)}`, () => {
      refused([prompt('a', id)], 'ERR_PROMPTS', /\[0\]\.Question_id/);
    });
  }

  it('limits ids by their bytes', () => {
    const id = 'ä'.repeat(100);
    assert.equal(readPrompts(write('p.json', [prompt('a', id)]))[0].Question_id, id);
    refused([prompt('a', `${id}b`)], 'ERR_PROMPTS', /\[0\]\.Question_id.*200 bytes/);
  });

  it('refuses text that is not UTF-8, with its line', () => {
    const latin1 = (name: string, text: string, code: string, place: RegExp) => {
      const file = path.join(folder(), name);
      fs.writeFileSync(file, Buffer.from(text, 'latin1'));
      assert.throws(
        () => readPrompts(file),
        (error) => {
          assert.ok(error instanceof DataError && error.code === code, String(error));
          assert.equal(error.details.file, file);
          assert.equal(error.details.line, 2);
          assert.match(error.message, place);
          return true;
        },
      );
    };
    const second = JSON.stringify(prompt('K\xe4se', 2));
    latin1('l.txt', 'one\nK\xe4se\nthree', 'ERR_NOT_UTF8', /UTF-8/);
    latin1('l.json', `[${JSON.stringify(prompt('a', 1))},\n${second}]`, 'ERR_NOT_UTF8', /UTF-8/);
    latin1('l.jsonl', `${JSON.stringify(prompt('a', 1))}\n${second}\n`, 'ERR_PROMPTS', /UTF-8/);
  });

  it('refuses ids that would share a file', () => {
    refused([prompt('a', 7), prompt('b', '7')], 'ERR_PROMPTS', /same id.*\[1\]\.Question_id/);
  });

  it('names the line of a malformed jsonl entry', () => {
    refused('{"Question":\n', 'ERR_PROMPTS', /p\.jsonl:1/, 'p.jsonl');
    const lines = `${JSON.stringify(prompt('a', 1))}\n\n${JSON.stringify(prompt('', 2))}\n`;
    refused(lines, 'ERR_PROMPTS', /p\.jsonl:3/, 'p.jsonl');
  });
});
