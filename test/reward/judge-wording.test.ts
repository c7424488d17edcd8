import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { readModelConfig } from '../../lib/models/bagel/load.js';
import { saveBagel } from '../../lib/models/bagel/save.js';
import { SHAPES_CONFIG } from '../../lib/models/shapes/config.js';
import { shapesModel } from '../../lib/models/shapes/model.js';
import { Judge, type JudgeModel, type JudgeQuestion } from '../../lib/reward/judge.js';
import { boardCell, judgeSystemPrompt, judgeWords } from '../../lib/reward/judge-prompts.js';
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

const SHAPES = SHAPES_CONFIG.judge as NonNullable<typeof SHAPES_CONFIG.judge>;

describe('judge wording', () => {
  const folder = temporaryFolder();

  it('of the shapes model asks in its words and without thoughts', async () => {
    const { heard, model } = recorder();
    const judge = new Judge(model, { wording: SHAPES_CONFIG.judge });
    const prompt = '  a red circle and\n a blue square ';
    const raw = await judge.score(image, { imageFile: 'x.png', prompt, regions });
    assert.equal(raw.status, 'ok');
    assert.equal(raw.prompt_version, 'shapes-judge-5');
    assert.deepEqual(heard.system, ['']);
    assert.deepEqual(
      heard.asked.map((q) => q.question),
      [
        'request: a red circle and a blue square\n1:c3\n2:g3\nregions?',
        'request: a red circle and a blue square\nlayout?',
      ],
    );
    assert.equal(heard.asked[0].grammar.parts[0].kind, 'literal', 'no thoughts come first');
    assert.match(
      raw.vlm_raw_output ?? '',
      /"id":1,"at":"c3","object":".+","for":".+","score":.*"id":2,"at":"g3",/,
    );
    assert.match(raw.global_raw_output ?? '', /^\{"seen":".+","global_layout_score":/);
    assert.deepEqual(
      raw.vlm_rewards.map(({ status }) => status),
      ['ok', 'ok'],
    );
  });

  it('names the cell of a board that the centre of a box lies in', () => {
    const wide = { width: 640, height: 320 };
    assert.equal(boardCell([0, 0, 1, 1], wide), 'a1');
    assert.equal(boardCell([639, 319, 640, 320], wide), 'h8');
    assert.equal(boardCell([0, 0, 640, 320], wide), 'e5');
    assert.equal(boardCell([150, 0, 168, 78], wide), 'b1');
    assert.equal(boardCell([150, 0, 170, 80], wide), 'c2');
    // An empty box at the far corner is still on the board.
    assert.equal(boardCell([640, 320, 640, 320], wide), 'h8');
  });

  it('gives way to what the user decides', async () => {
    const { heard, model } = recorder();
    const options = {
      wording: { ...SHAPES, region: '{id}: {cx} {cy} {w} {h}', place: '', counterpart: false },
      think: true,
      coordinates: 'normalized' as const,
    };
    await new Judge(model, options).score(image, { imageFile: '', prompt: 'x', regions });
    assert.match(heard.asked[0].question, /^1: 250 281 375 375$/m);
    assert.doesNotMatch(String.fromCharCode(...heard.asked[0].grammar.shortest), /"at"|"for"/);
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
      ...SHAPES,
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
    refused({ place: '{id}' }, 'judge.place', /\{id\}/);
    refused({ counterpart: 'yes' }, 'judge.counterpart', /true or false/);
    refused({ system: 'You judge {request}.' }, 'judge.system', /\{request\}/);
    refused({ coordinates: 'percent' }, 'judge.coordinates', /pixels/);
    refused({ extra: 1 }, 'judge.extra', /unknown key/);
  });
});
