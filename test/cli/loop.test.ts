import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { contents, QUICK, records, SHORT, srum, srumJson, workplace } from '../support/srum.js';

const RECIPE = `
model_path: tiny
objective: paper
dataset:
  regional_reward:
    dataset_names: [rewards]
    weight: 1
    image_transform_args: { image_stride: 16, max_image_size: 64, min_image_size: 64 }
expected_num_tokens: 64
max_num_tokens: 256
max_num_tokens_per_sample: 128
prefer_buffer_before: 64
total_steps: 8
warmup_steps: 1
lr: 1.0e-3
ema: 0.9
save_every: 3
`;

/** Files that a run must reproduce to the byte. */
function results(folder: string): Map<string, Buffer> {
  const wanted = /\.png$|output\.jsonl$|rewards\.jsonl$|export\/.*\.safetensors$/;
  return new Map([...contents(folder)].filter(([n]) => wanted.test(n) && !n.includes('loss.')));
}

describe('cli/loop, train, export', function () {
  this.timeout(240_000);
  const place = workplace();
  const { at } = place;
  let base: string[];
  let whole: Map<string, Buffer>;

  before(async () => {
    fs.writeFileSync(at('recipe.yaml'), RECIPE);
    const files = ['--prompts', place.prompts, '--recipe', at('recipe.yaml')];
    // Less than there are prompts, so that stages can be stopped between two batches.
    const batch = ['--batch', '2'];
    base = ['loop', '--model', place.model, ...files, ...QUICK, ...SHORT, ...batch];
    const { json } = await place.run(base, 'whole');
    assert.equal(json.rounds.length, 2);
    assert.equal(json.rounds[0].train.step, 8);
    assert.equal(json.failed, 0);
    assert.equal(json.model, at('whole', 'round-1', 'export'));
    whole = results(at('whole'));
  });

  it('leaves every stage in a folder of its own, and a trained model that draws otherwise', () => {
    const names = [...whole.keys()];
    assert.equal(names.filter((n) => /round-[12].generate.\d+\.png$/.test(n)).length, 6);
    assert.ok(names.includes(path.join('round-1', 'score', 'rewards.jsonl')));
    const before = whole.get(path.join('round-1', 'generate', '9001.png'));
    assert.notDeepEqual(whole.get(path.join('round-2', 'generate', '9001.png')), before);
    const seeds = [1, 2].map((round) =>
      records(at('whole', `round-${round}`, 'generate', 'output.jsonl')).map(({ seed }) => seed),
    );
    assert.deepEqual(seeds[0], seeds[1]);
    const run = fs.readFileSync(at('whole', 'round-2', 'generate', 'run.json'), 'utf8');
    assert.equal(JSON.parse(run).settings.batch, 2);
    for (const name of ['loss.svg', 'loss.png', 'metrics.jsonl', 'trained.json']) {
      assert.ok(fs.existsSync(at('whole', 'round-1', 'train', name)), name);
    }
    assert.equal(records(at('whole', 'round-1', 'train', 'metrics.jsonl')).length, 8);
  });

  it('killed in the middle of every stage, ends with the same files', async () => {
    const args = [...base, '--out', at('killed')];
    const round = (n: number, ...parts: string[]) => at('killed', `round-${n}`, ...parts);
    const metrics = round(1, 'train', 'metrics.jsonl');
    const lines = () => (fs.existsSync(metrics) ? records(metrics).length : 0);
    const moments: Array<[name: string, when: () => boolean, tooLate: string]> = [
      [
        'generate',
        () => fs.existsSync(round(1, 'generate', 'records', '9001.json')),
        round(1, 'generate', 'output.jsonl'),
      ],
      [
        'score',
        () => fs.existsSync(round(1, 'score', 'records', '9001.png.json')),
        round(1, 'score', 'rewards.jsonl'),
      ],
      ['train', () => lines() >= 4, round(1, 'train', 'trained.json')],
      [
        'draw again',
        () => fs.existsSync(round(2, 'generate', 'records', '9001.json')),
        round(2, 'generate', 'output.jsonl'),
      ],
    ];
    for (const [name, when, tooLate] of moments) {
      const ended = await srum(args, { kill: { when, signal: 'SIGKILL' } });
      assert.equal(ended.signal, 'SIGKILL', `${name}: ${ended.stderr}`);
      assert.equal(fs.existsSync(tooLate), false, `${name}: killed too late to tell`);
    }
    // The export of so small a model takes a moment only: try until it was caught in the middle.
    const half = () => fs.readdirSync(round(1)).some((name) => name.startsWith('.export.partial-'));
    let caught = false;
    for (let attempt = 0; attempt < 8 && !caught; attempt += 1) {
      fs.rmSync(round(1, 'export'), { recursive: true, force: true });
      fs.rmSync(round(2), { recursive: true, force: true });
      const ended = await srum(args, { kill: { when: half, signal: 'SIGKILL' } });
      caught = ended.signal === 'SIGKILL' && !fs.existsSync(round(1, 'export'));
    }
    assert.ok(caught, 'the export was never caught in the middle');
    const { code, json } = await srumJson(args);
    assert.equal(code, 0);
    assert.equal(json.failed, 0);
    assert.equal(half(), false, 'what the killed export left is gone');
    assert.deepEqual([...results(at('killed')).keys()], [...whole.keys()]);
    assert.deepEqual(results(at('killed')), whole);
    assert.equal(records(metrics).length, 8);
  });

  it('does nothing when it is done, also after the folder was moved', async () => {
    fs.cpSync(at('whole'), at('moved'), { recursive: true, preserveTimestamps: true });
    const { code, json } = await srumJson([...base, '--out', at('moved')]);
    assert.equal(code, 0);
    const [first, last] = json.rounds;
    assert.deepEqual([first.generate.skipped, first.score.skipped], [3, 3]);
    assert.equal(first.train.already_done, true);
    assert.ok(first.train.checkpoint.startsWith(at('moved')), first.train.checkpoint);
    assert.equal(first.export.output, at('moved', 'round-1', 'export'));
    assert.equal(last.generate.skipped, 3);
    assert.deepEqual(results(at('moved')), whole);
  });

  it('takes the last model’s pictures as the first stage of a further round', async () => {
    fs.cpSync(at('whole'), at('more'), { recursive: true, preserveTimestamps: true });
    const args = [...base, '--rounds', '2', '--no-final-images', '--set', 'total_steps=8'];
    const { code, json } = await srumJson([...args, '--out', at('more')]);
    assert.equal(code, 0);
    assert.equal(json.rounds[1].generate.skipped, 3);
    assert.deepEqual([json.rounds[1].score.done, json.rounds[1].train.step], [3, 8]);
    assert.equal(json.model, at('more', 'round-2', 'export'));
  });

  it('train and export by themselves give what the loop gave', async () => {
    const score = at('whole', 'round-1', 'score', 'rewards.jsonl');
    const images = at('whole', 'round-1', 'generate');
    const train = ['train', at('recipe.yaml'), '--model', place.model, '--out', at('train')];
    const data = ['--rewards', score, '--images', images];
    const metrics = at('train', 'metrics.jsonl');
    const when = () => fs.existsSync(metrics) && records(metrics).length >= 2;
    const stopped = await srum([...train, ...data, '--json'], { kill: { when, signal: 'SIGINT' } });
    assert.equal(stopped.code, 130, stopped.stderr);
    const { step, interrupted } = JSON.parse(stopped.stdout);
    assert.ok(interrupted && step >= 2 && step < 8, stopped.stdout);
    const first = await srumJson([...train, ...data]);
    assert.equal(first.code, 0, first.stderr);
    assert.equal(first.json.resumed_from, step);
    assert.deepEqual([first.json.step, first.json.interrupted], [8, false]);
    assert.equal(first.json.data.usable, 3);
    const args = ['export', '--model', place.model, '--checkpoint', at('train')];
    const done = await srumJson([...args, '--out', at('exported')]);
    assert.equal(done.code, 0, done.stderr);
    assert.deepEqual([done.json.step, done.json.weights, done.json.dtype], [8, 'raw', 'bfloat16']);
    assert.deepEqual(
      fs.readFileSync(at('exported', 'model.safetensors')),
      whole.get(path.join('round-1', 'export', 'model.safetensors')),
    );
    const again = await srumJson([...args, '--out', at('exported')]);
    assert.equal(again.json.error.code, 'ERR_OUTPUT_EXISTS');
    // What an export that was killed left behind does not stay.
    const dead = at('.average.partial-999999999-1');
    fs.mkdirSync(dead);
    const average = [...args, '--out', at('average'), '--weights', 'ema', '--dtype', 'float32'];
    const ema = await srumJson(average);
    assert.equal(ema.code, 0, ema.stderr);
    assert.equal(fs.existsSync(dead), false);
    assert.notEqual(ema.json.sha256, done.json.sha256);
  });

  it('refuses unknown recipe keys, a second run with another recipe, and missing rewards', async () => {
    const score = at('whole', 'round-1', 'score', 'rewards.jsonl');
    const train = ['train', at('recipe.yaml'), '--model', place.model, '--out', at('train')];
    const data = ['--rewards', score, '--images', at('whole', 'round-1', 'generate')];
    const typo = await srumJson([...train, ...data, '--set', 'warmup_stesp=2']);
    assert.deepEqual([typo.code, typo.json.error.code], [1, 'ERR_UNKNOWN_KEY']);
    assert.match(typo.json.error.hint, /warmup_steps/);
    const none = await srumJson([...train.slice(0, -1), at('none'), '--rewards', at('no.jsonl')]);
    assert.deepEqual([none.code, none.json.error.code], [1, 'ERR_NO_FILE']);
    const other = await srumJson([...train, ...data, '--set', 'lr=0.5']);
    assert.deepEqual([other.code, other.json.error.code], [1, 'ERR_OTHER_RECIPE']);
    assert.match(other.json.error.key, /lr/);
  });

  it('train tells what it left out of rewards and stops at a loss that is not finite', async () => {
    const images = at('whole', 'round-1', 'generate');
    const [first, second, third] = records(at('whole', 'round-1', 'score', 'rewards.jsonl'));
    const [, ...regions] = first.vlm_rewards;
    regions[0].bbox = [-10, -10, 500, 500];
    regions[0].score = 7;
    delete second.vlm_rewards[1].score;
    const lines = [first, second, { ...third, bad_image_file: 'gone.png' }].map((r) =>
      JSON.stringify(r),
    );
    fs.writeFileSync(at('odd.jsonl'), [...lines, '{"broken', '{}'].join('\n'));
    const train = ['train', at('recipe.yaml'), '--model', place.model, '--device', 'cpu'];
    const data = ['--rewards', at('odd.jsonl'), '--images', images];
    const ended = await srum([...train, ...data, '--out', at('odd')]);
    assert.equal(ended.code, 0, ended.stderr);
    assert.match(ended.stdout, /records +2 usable, 3 left out/);
    for (const line of [
      /rewards:4: not valid JSON/,
      /rewards:5: .*bad_image_file/,
      /rewards:3: .*gone\.png/,
      /rewards:1: the box reaches over the image border/,
      /rewards:2: the score is not a number/,
      /scores brought into \[-1, 1\]/,
    ]) {
      assert.match(ended.stdout, line);
    }
    const wild = [...train, ...data, '--out', at('wild'), '--set', 'lr=1e30'];
    const stopped = await srumJson(wild);
    assert.deepEqual([stopped.code, stopped.json.error.code], [1, 'ERR_NOT_FINITE']);
    const place_ = await srumJson([...train.slice(0, 4), ...data, '--set', 'device=gpu']);
    assert.deepEqual([place_.code, place_.json.error.code], [1, 'ERR_DEVICE']);
  });

  it('does not mix the pictures of a longer prompt list into a shorter one', async () => {
    fs.cpSync(at('whole'), at('shorter'), { recursive: true, preserveTimestamps: true });
    for (const made of ['round-1/train', 'round-1/export', 'round-2']) {
      fs.rmSync(at('shorter', made), { recursive: true });
    }
    const { code, json } = await srumJson([...base, '--out', at('shorter'), '--limit', '2']);
    assert.equal(code, 0);
    assert.equal(json.rounds[0].train.data.usable, 2);
  });

  it('export replaces nothing but model folders', async () => {
    const args = [
      'export',
      '--model',
      place.model,
      '--checkpoint',
      at('whole', 'round-1', 'train'),
    ];
    const pictures = at('whole', 'round-1', 'generate');
    const ended = await srumJson([...args, '--out', pictures, '--overwrite']);
    assert.deepEqual([ended.code, ended.json.error.code], [1, 'ERR_OUTPUT_EXISTS']);
    assert.ok(fs.existsSync(path.join(pictures, 'output.jsonl')));
    const below = await srumJson([...args, '--out', path.join(place.prompts, 'x')]);
    assert.deepEqual([below.code, below.json.error.code], [1, 'ERR_NOT_A_FOLDER']);
  });

  it('export says so when there is nothing to export', async () => {
    const args = ['export', '--model', place.model, '--checkpoint', at('whole')];
    const ended = await srumJson([...args, '--out', at('nothing')]);
    assert.deepEqual([ended.code, ended.json.error.code], [1, 'ERR_NO_CHECKPOINT']);
    assert.equal(fs.existsSync(at('nothing')), false);
  });
});
