import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { contents, srum, srumJson, tempDir } from '../support/srum.js';

describe('cli/demo', function () {
  this.timeout(240_000);
  const dir = tempDir();
  after(() => fs.rmSync(dir, { recursive: true, force: true }));

  it('leaves pictures before and after, heat maps, loss curve and one page that needs nothing else', async () => {
    const out = path.join(dir, 'demo');
    const args = ['demo', '--out', out, '--limit', '2', '--steps', '3', '--fresh', '4'];
    const { code, json, stderr } = await srumJson(args);
    assert.equal(code, 0, stderr);
    assert.equal(json.report, path.join(out, 'report.html'));
    assert.equal(json.loop.failed, 0);
    const files = contents(out);
    for (const name of [
      'contact-sheet.png',
      'loss.svg',
      'loss.png',
      'heat-maps/1.png',
      'heat-maps/2.png',
      'figures.json',
      'round-1/generate/1.png',
      'round-2/generate/1.png',
      'round-1/score/rewards.jsonl',
      'round-1/export/ema.safetensors',
    ]) {
      assert.ok(files.has(name), name);
    }
    assert.notDeepEqual(files.get('round-1/generate/1.png'), files.get('round-2/generate/1.png'));
    const page = (files.get('report.html') as Buffer).toString();
    assert.equal(json.figures.loop.before.total, 2);
    assert.equal(json.figures.fresh.after.total, 4);
    assert.match(page, /Exact pictures/);
    assert.equal([...page.matchAll(/<img /g)].length, [...page.matchAll(/src="data:/g)].length);
    assert.doesNotMatch(page, /<script|<link|src="(?!data:)|url\((?!data:)/);
    // A second run finds everything done and writes the same page.
    const again = await srum(args);
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stdout, /Report: +\S+report\.html/);
    assert.match(again.stdout, /Exact, other prompts: [\d.]+ % before, [\d.]+ % after/);
    assert.deepEqual(contents(out).get('report.html'), files.get('report.html'));
  });
});
