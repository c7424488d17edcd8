import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { layoutQuestion, regionsQuestion } from '../../lib/eval/shapes/index.js';
import { readModelConfig } from '../../lib/models/bagel/load.js';
import { saveBagel } from '../../lib/models/bagel/save.js';
import { SHAPES_CONFIG } from '../../lib/models/shapes/config.js';
import { shapesModel } from '../../lib/models/shapes/model.js';
import { Judge, type JudgeModel, type JudgeQuestion } from '../../lib/reward/judge.js';
import { judgeSystemPrompt, judgeWords } from '../../lib/reward/judge-prompts.js';
import { ConfigError } from '../../lib/util/errors.js';
import { temporaryFolder } from '../support/temp.js';

type Box = [number, number, number, number];
const boxes: Box[] = [
  [2, 3, 14, 15],
  [18, 2, 30, 14],
];
const regions = boxes.map((box) => ({ box, area: 100, score: 1 }));
const image = { width: 32, height: 32, data: new Uint8Array(32 * 32 * 3) };
const size = { width: 32, height: 32 };

/** Remembers what it was asked and gives the shortest answer. */
function recorder() {
  const heard = { system: [] as string[], asked: [] as JudgeQuestion[] };
  const model: JudgeModel = {
    async read(_image, system) {
      heard.system.push(system);
      return {
        async answer(question) {
          heard.asked.push(question);
          return { text: Buffer.from(question.grammar.shortest).toString(), tokens: 1 };
        },
        dispose: () => undefined,
      };
    },
  };
  return { heard, model };
}

describe('judge wording', () => {
  const folder = temporaryFolder();

  it('of the shapes model asks in its words and without thoughts', async () => {
    const { heard, model } = recorder();
    const judge = new Judge(model, { wording: SHAPES_CONFIG.judge });
    const prompt = '  a red circle and\n a blue square ';
    const raw = await judge.score(image, { imageFile: 'x.png', prompt, regions });
    assert.equal(raw.status, 'ok');
    assert.equal(raw.prompt_version, 'shapes-judge-2');
    assert.deepEqual(heard.system, ['']);
    assert.deepEqual(
      heard.asked.map((q) => q.question),
      [
        'request: a red circle and a blue square\n1: 8 9 12 12\n2: 24 8 12 12\nregions?',
        'request: a red circle and a blue square\nlayout?',
      ],
    );
    assert.equal(heard.asked[0].grammar.parts[0].kind, 'literal', 'no thoughts come first');
  });

  it('of the shapes model is what its training asks', () => {
    const words = judgeWords(SHAPES_CONFIG.judge);
    const request = 'two green crosses';
    assert.equal(words.regions(request, regions, size, 'pixels'), regionsQuestion(request, boxes));
    assert.equal(words.layout(request, size), layoutQuestion(request));
  });

  it('gives way to what the user decides', async () => {
    const { heard, model } = recorder();
    const options = {
      wording: SHAPES_CONFIG.judge,
      think: true,
      coordinates: 'normalized' as const,
    };
    await new Judge(model, options).score(image, { imageFile: '', prompt: 'x', regions });
    assert.match(heard.asked[0].question, /^1: 250 281 375 375$/m);
    assert.equal(heard.asked[0].grammar.parts[0].kind, 'until');
  });

  it('is the built-in one, byte for byte, for other models', async () => {
    const { heard, model } = recorder();
    const item = { imageFile: '', prompt: 'a "kite"\nabove', regions };
    const raw = await new Judge(model).score(image, item);
    assert.equal(raw.prompt_version, 'srum-judge-1');
    assert.deepEqual(heard.system, [judgeSystemPrompt(true)]);
    const texts = [
      judgeSystemPrompt(true),
      judgeSystemPrompt(false),
      ...heard.asked.map((q) => q.question),
      judgeWords().regions('x', regions.slice(0, 1), size, 'pixels'),
    ];
    // The wording is a version of its own: other words, another version.
    assert.equal(
      createHash('sha256').update(texts.join('\0')).digest('hex'),
      '16cd85e49f893ad8ab1cf5b4f7105a09108eb34e6bd695c8bd4cfc91969a4bf5',
    );
  });

  it('takes nothing inside a request for a placeholder', () => {
    const words = judgeWords(SHAPES_CONFIG.judge);
    assert.equal(
      words.layout('{width} of {regions} $&', size),
      'request: {width} of {regions} $&\nlayout?',
    );
    const own = judgeWords({
      ...(SHAPES_CONFIG.judge as NonNullable<typeof SHAPES_CONFIG.judge>),
      layout: '{"size":"{width}x{height}"} {request} {}',
    });
    assert.equal(own.layout('a kite', size), '{"size":"32x32"} a kite {}');
  });

  it('travels with the model directory and is checked with it', () => {
    saveBagel(folder(), shapesModel(1));
    assert.deepEqual(readModelConfig(folder()).judge, SHAPES_CONFIG.judge);
    const file = path.join(folder(), 'srum.json');
    const json = JSON.parse(fs.readFileSync(file, 'utf8'));
    const refused = (change: object, key: string, found: RegExp) => {
      fs.writeFileSync(file, JSON.stringify({ ...json, judge: { ...json.judge, ...change } }));
      assert.throws(
        () => readModelConfig(folder()),
        (error: Error) => {
          assert.ok(error instanceof ConfigError);
          assert.deepEqual([error.details.file, error.details.key], [file, key]);
          assert.match(error.message, found);
          return true;
        },
      );
    };
    refused({ layout: 'layout?' }, 'judge.layout', /\{request\}/);
    refused({ regions: '{request}: {boxes}{regions}' }, 'judge.regions', /\{boxes\}/);
    refused({ regions: '{request}?' }, 'judge.regions', /\{regions\}/);
    refused({ region: '{x0} {y0}' }, 'judge.region', /\{id\}/);
    refused({ system: 'You judge {request}.' }, 'judge.system', /\{request\}/);
    refused({ coordinates: 'percent' }, 'judge.coordinates', /pixels/);
    refused({ extra: 1 }, 'judge.extra', /unknown key/);
  });
});
