import assert from 'node:assert/strict';
import fs from 'node:fs';
import { checkRewardRecord, parseRewardRecord } from '../../lib/data/rewards.js';
import {
  contents,
  PROMPTS,
  QUICK,
  records,
  SHORT,
  srum,
  srumJson,
  workplace,
} from '../support/srum.js';

describe('cli/score', function () {
  this.timeout(120_000);
  const place = workplace();
  const { at } = place;
  let base: string[];
  let whole: Map<string, Buffer>;

  before(async () => {
    const draw = ['generate', '--model', place.model, '--prompts', place.prompts, ...QUICK];
    await place.run(draw, 'pictures');
    base = ['score', '--model', place.model, '--device', 'cpu', ...SHORT];
    const input = ['--input', at('pictures', 'output.jsonl')];
    const { json, files } = await place.run([...base, ...input], 'whole');
    whole = files;
    assert.deepEqual([json.stage, json.inputs, json.done, json.rewards], ['score', 3, 3, 3]);
    assert.deepEqual(json.unusable, []);
  });

  it("writes the reference's final format, with scores in range and boxes inside", () => {
    const found = records(at('whole', 'rewards.jsonl'));
    assert.deepEqual(
      found.map((r) => [r.bad_image_file, r.good_image_file, r.prompt]),
      PROMPTS.map((p) => [`${p.Question_id}.png`, `${p.Question_id}.png`, p.Question]),
    );
    for (const record of found) {
      assert.deepEqual(checkRewardRecord(parseRewardRecord(record), { width: 64, height: 64 }), []);
      assert.equal(record.vlm_rewards[0].object, 'global_layout_reward');
      assert.ok(record.vlm_rewards.length >= 2 && record.vlm_rewards.length <= 3);
    }
  });

  it('keeps everything the judge said', () => {
    for (const raw of records(at('whole', 'rewards_raw.jsonl'))) {
      assert.equal(raw.status, 'ok');
      assert.match(raw.vlm_raw_output, /^\{"regions":\[/);
      assert.match(raw.global_raw_output, /^\{"global_layout_score":/);
    }
  });

  it('goes on after SIGKILL with the same files as an uninterrupted run', async () => {
    const input = ['--input', at('pictures', 'output.jsonl')];
    // One at a time, so that there is a time at which one of them is finished.
    const args = [...base, ...input, '--batch', '1', '--out', at('killed')];
    const when = () => fs.existsSync(at('killed', 'records', '9001.png.json'));
    const killed = await srum(args, { kill: { when, signal: 'SIGKILL' } });
    assert.equal(killed.signal, 'SIGKILL');
    assert.equal(fs.existsSync(at('killed', 'rewards.jsonl')), false, 'killed too late to tell');
    const { json } = await srumJson(args);
    assert.equal(json.done + json.skipped, 3);
    assert.deepEqual(contents(at('killed')), whole);
  });

  it('counts malformed lines, missing and unreadable pictures, with reasons and exit code 1', async () => {
    const input = at('mixed.jsonl');
    const good = fs.readFileSync(at('pictures', 'output.jsonl'), 'utf8').split('\n');
    fs.cpSync(at('pictures', '9001.png'), at('9001.png'));
    fs.writeFileSync(at('9003.png'), fs.readFileSync(at('pictures', '9003.png')).subarray(0, 100));
    const outside = JSON.stringify({
      prompt_id: 1,
      image_file: '../../etc/x.png',
      original_prompt: 'x',
    });
    fs.writeFileSync(
      input,
      [...good.slice(0, 3), good[0], '{"prompt_id": 4', outside, ''].join('\n'),
    );
    const ended = await srumJson([...base, '--input', input, '--out', at('mixed')]);
    assert.equal(ended.code, 1);
    const { inputs, done, skipped, failed, failures, rewards } = ended.json;
    assert.deepEqual([inputs, done, skipped, failed, rewards], [6, 1, 0, 5, 1]);
    const reasons = new Map(
      failures.map((f: { item: string; reason: string }) => [f.item, f.reason]),
    );
    assert.match(String(reasons.get('line 5')), /not valid JSON/);
    assert.match(String(reasons.get('line 4')), /already in line 1/);
    assert.match(String(reasons.get('line 6')), /out of the image folder/);
    assert.match(String(reasons.get('9002.png')), /no such file/);
    assert.match(String(reasons.get('9003.png')), /cannot be decoded/);
    assert.equal(records(at('mixed', 'failures.jsonl')).length, 2);
    // Mended input: the failures are tried again and taken back.
    for (const id of [9002, 9003]) fs.cpSync(at('pictures', `${id}.png`), at(`${id}.png`));
    fs.writeFileSync(input, good.join('\n'));
    const again = await srumJson([...base, '--input', input, '--out', at('mixed')]);
    assert.deepEqual([again.code, again.json.done, again.json.skipped], [0, 2, 1]);
    assert.equal(fs.existsSync(at('mixed', 'failures.jsonl')), false);
    assert.deepEqual(contents(at('mixed')).get('rewards.jsonl'), whole.get('rewards.jsonl'));
  });

  it('finds regions with the proposer asked for, which is part of how a folder was made', async () => {
    const input = ['--input', at('pictures', 'output.jsonl')];
    const { settings } = JSON.parse(fs.readFileSync(at('whole', 'run.json'), 'utf8'));
    assert.equal(settings.proposer, 'boxes');
    await place.run([...base, ...input, '--proposer', 'blobs'], 'blobs');
    const blobs = JSON.parse(fs.readFileSync(at('blobs', 'run.json'), 'utf8'));
    assert.deepEqual(blobs.settings, { ...settings, proposer: 'blobs' });
    const boxes = (folder: string) =>
      records(at(folder, 'rewards_raw.jsonl')).map((raw) =>
        raw.vlm_rewards.map((region: { bbox: number[] }) => region.bbox),
      );
    assert.notDeepEqual(boxes('blobs'), boxes('whole'));
    const other = await srumJson([...base, ...input, '--out', at('blobs')]);
    assert.equal(other.code, 1);
    assert.match(JSON.stringify(other.json.error), /proposer/);
  });

  it('refuses proposers it does not know', async () => {
    const args = [...base, '--input', at('pictures', 'output.jsonl'), '--out', at('unknown')];
    const ended = await srumJson([...args, '--proposer', 'sam']);
    assert.deepEqual([ended.code, ended.json.error.code], [1, 'ERR_USAGE']);
    assert.match(ended.json.error.message, /--proposer.*boxes, blobs/);
  });

  it('refuses to ask for nothing', async () => {
    const args = [...base, '--input', at('pictures', 'output.jsonl'), '--out', at('nothing')];
    const ended = await srumJson([...args, '--no-regions', '--no-layout']);
    assert.deepEqual([ended.code, ended.json.error.code], [1, 'ERR_NOTHING_ASKED']);
    assert.equal(fs.existsSync(at('nothing')), false);
  });

  it('refuses an input without records', async () => {
    fs.writeFileSync(at('none.jsonl'), '\n');
    const args = [...base, '--input', at('none.jsonl'), '--out', at('none')];
    const ended = await srumJson(args);
    assert.equal(ended.code, 1);
    assert.equal(ended.json.error.code, 'ERR_NO_RECORDS');
  });
});
