import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { readImage } from '../../lib/data/images.js';
import { readPngText } from '../../lib/data/png-chunks.js';
import { packageRoot } from '../../lib/native/paths.js';
import { contents, PROMPTS, QUICK, records, srum, srumJson, workplace } from '../support/srum.js';

describe('cli/generate', function () {
  this.timeout(120_000);
  const place = workplace();
  const { at } = place;
  let base: string[];
  let whole: Map<string, Buffer>;

  before(async () => {
    // One at a time, so that not even rounding depends on how the work is cut.
    const list = ['--model', place.model, '--prompts', place.prompts];
    base = ['generate', ...list, ...QUICK, '--batch', '1'];
    const { json, files } = await place.run(base, 'whole');
    whole = files;
    const { stage, inputs, done, skipped, failed, remaining, output } = json;
    assert.deepEqual(
      { stage, inputs, done, skipped, failed, remaining },
      { stage: 'generate', inputs: 3, done: 3, skipped: 0, failed: 0, remaining: 0 },
    );
    assert.equal(output, at('whole', 'output.jsonl'));
  });

  it('writes one picture and one record per prompt, in the order of the list', async () => {
    const found = records(at('whole', 'output.jsonl'));
    assert.deepEqual(
      found.map(({ prompt_id, image_file, original_prompt }) => [
        prompt_id,
        image_file,
        original_prompt,
      ]),
      PROMPTS.map(({ Question, Question_id }) => [Question_id, `${Question_id}.png`, Question]),
    );
    for (const record of found) {
      assert.equal(record.think_output, undefined);
      const file = at('whole', record.image_file);
      const image = await readImage(file);
      assert.deepEqual([image.width, image.height], [record.width, record.height]);
      assert.deepEqual([image.width, image.height], [64, 64]);
      const text = readPngText(fs.readFileSync(file));
      assert.equal(text.prompt, record.original_prompt);
      assert.equal(text.seed, String(record.seed));
    }
    assert.equal(new Set(found.map(({ seed }) => seed)).size, 3);
    assert.equal(new Set([...whole].filter(([n]) => n.endsWith('.png')).map(String)).size, 3);
  });

  it('passes over finished items without losing their records', async () => {
    fs.rmSync(at('whole', 'output.jsonl'));
    const { json } = await srumJson([...base, '--out', at('whole')]);
    assert.deepEqual([json.done, json.skipped], [0, 3]);
    assert.deepEqual(contents(at('whole')), whole);
  });

  it('goes on after SIGKILL with the same files as an uninterrupted run', async () => {
    const first = at('killed', 'records', '9001.json');
    const when = () => fs.existsSync(first);
    const args = [...base, '--out', at('killed')];
    const killed = await srum(args, { kill: { when, signal: 'SIGKILL' } });
    assert.equal(killed.signal, 'SIGKILL');
    assert.equal(fs.existsSync(at('killed', 'output.jsonl')), false, 'killed too late to tell');
    const { json } = await srumJson(args);
    assert.equal(json.done + json.skipped, 3);
    assert.ok(json.skipped >= 1);
    assert.deepEqual(contents(at('killed')), whole);
  });

  it('goes on after SIGKILL in a batch with the same files as an uninterrupted run', async () => {
    const args = [...base.slice(0, -2), '--batch', '2', '--num-images', '2'];
    const { files } = await place.run(args, 'batches');
    const again = [...args, '--out', at('killed-batches')];
    const when = () => fs.existsSync(at('killed-batches', 'records', '9002.json'));
    const killed = await srum(again, { kill: { when, signal: 'SIGKILL' } });
    assert.equal(killed.signal, 'SIGKILL');
    assert.equal(fs.existsSync(at('killed-batches', 'output.jsonl')), false, 'killed too late');
    const { json } = await srumJson(again);
    assert.equal(json.done + json.skipped, 6);
    assert.ok(json.skipped >= 3);
    assert.deepEqual(contents(at('killed-batches')), files);
  });

  it('finishes the item at Ctrl-C, keeps its record, and exits with 130', async () => {
    const when = () => fs.existsSync(at('stopped', 'records', '9001.json'));
    const args = [...base, '--out', at('stopped')];
    const ended = await srum([...args, '--json'], { kill: { when, signal: 'SIGINT' } });
    assert.equal(ended.code, 130, ended.stderr);
    const json = JSON.parse(ended.stdout);
    assert.equal(json.interrupted, true);
    assert.equal(json.inputs, json.done + json.remaining);
    assert.equal(records(at('stopped', 'output.jsonl')).length, json.done);
    await srum(args);
    assert.deepEqual(contents(at('stopped')), whole);
  });

  it('gives the same files from two shards as from one process', async () => {
    const args = [...base, '--out', at('shards')];
    const shard = (rank: number) => srumJson(args, { env: { RANK: `${rank}`, WORLD_SIZE: '2' } });
    const both = await Promise.all([shard(0), shard(1)]);
    assert.deepEqual(
      both.map(({ json }) => json.done),
      [2, 1],
    );
    assert.deepEqual(contents(at('shards')), whole);
  });

  it('refuses a folder made with other settings, and takes it over with --force', async () => {
    fs.cpSync(at('whole'), at('other'), { recursive: true });
    const args = [...base, '--out', at('other'), '--cfg-text-scale', '2'];
    const refused = await srumJson(args);
    assert.equal(refused.code, 1);
    assert.equal(refused.json.error.code, 'ERR_OTHER_SETTINGS');
    assert.equal(refused.json.error.key, 'cfg_text_scale');
    assert.match(refused.json.error.expected, /cfg_text_scale 4/);
    const { json } = await srumJson([...args, '--force']);
    assert.equal(json.done, 3);
    assert.notDeepEqual(contents(at('other')).get('9001.png'), whole.get('9001.png'));
  });

  it('does not depend on the rest of the list, and draws several samples', async () => {
    const args = [...base, '--out', at('some'), '--limit', '1', '--num-images', '2'];
    const { json } = await srumJson(args);
    assert.equal(json.done, 2);
    const files = contents(at('some'));
    assert.deepEqual(files.get('9001.png'), whole.get('9001.png'));
    assert.notDeepEqual(files.get('9001.s1.png'), whole.get('9001.png'));
    const samples = records(at('some', 'output.jsonl')).map((r) => [r.image_file, r.sample_index]);
    assert.deepEqual(samples, [
      ['9001.png', 0],
      ['9001.s1.png', 1],
    ]);
  });

  it('keeps the thought in think mode', async () => {
    const args = [...base, '--out', at('think'), '--limit', '1', '--think'];
    const { json } = await srumJson([...args, '--max-think-token-n', '8']);
    assert.equal(json.done, 1);
    const [record] = records(at('think', 'output.jsonl'));
    assert.equal(typeof record.think_output, 'string');
    assert.equal(record.settings.think, true);
    assert.equal('detailed_prompt' in record, false);
  });

  it('takes the prompt file of the SRUM repository as it is', async () => {
    const shared = path.join(packageRoot(), '..', 'shared', 'data', 'train_comp.json');
    const list = fs.existsSync(shared) ? shared : place.prompts;
    const first = JSON.parse(fs.readFileSync(list, 'utf8'))[0];
    const args = ['generate', '--model', place.model, '--prompts', list, ...QUICK, '--limit', '2'];
    const { json } = await srumJson([...args, '--out', at('comp')]);
    assert.equal(json.done, 2);
    const [record] = records(at('comp', 'output.jsonl'));
    assert.equal(record.image_file, `${first.Question_id}.png`);
    assert.equal(record.original_prompt, first.Question);
    assert.equal(record.category, first.Category);
  });

  it('refuses an empty list, a size the model cannot draw, and a folder without a model', async () => {
    const empty = at('empty.json');
    fs.writeFileSync(empty, '[]');
    const cases: Array<[string[], string]> = [
      [['--prompts', empty], 'ERR_NO_PROMPTS'],
      [['--image-size', '72x64'], 'ERR_IMAGE_SIZE'],
      [['--model', at('whole')], 'ERR_NO_WEIGHTS'],
      [['--model', at('nowhere')], 'ERR_NO_MODEL'],
    ];
    for (const [flags, code] of cases) {
      const ended = await srumJson([...base, '--out', at('bad'), ...flags]);
      assert.equal(ended.code, 1);
      assert.equal(ended.json.error.code, code);
    }
    assert.equal(fs.existsSync(at('bad')), false);
  });

  it('says so when the output folder cannot be made', async () => {
    const ended = await srumJson([
      ...base,
      '--out',
      path.join(place.prompts, 'below', 'a', 'file'),
    ]);
    assert.equal(ended.code, 1);
    assert.equal(ended.json.error.code, 'ERR_NOT_A_FOLDER');
  });
});
