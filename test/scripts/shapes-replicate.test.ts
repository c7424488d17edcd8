import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, it } from 'mocha';
import { saveBagel } from '../../lib/models/bagel/save.js';
import { shapesModel } from '../../lib/models/shapes/index.js';
import { packageRoot } from '../../lib/native/paths.js';
import type { TrainingRecord } from '../../lib/reward/training-record.js';
import { seededRandom } from '../../lib/util/seeded-random.js';
import { ARMS, isAccepted, type PoolRecord } from '../../scripts/shapes/replicate/arms.js';
import { estimate } from '../../scripts/shapes/replicate/statistics.js';
import { temporaryFolder } from '../support/temp.js';

const program = fileURLToPath(new URL('../../scripts/shapes/replicate.js', import.meta.url));

function record(name: string, layout: number, scores: number[]): TrainingRecord {
  const entry = (object: string, score: number) => ({ object, bbox: [0, 0, 8, 8], score });
  return {
    bad_image_file: name,
    good_image_file: name,
    prompt: 'a circle and a cross',
    vlm_rewards: [
      entry('global_layout_reward', layout),
      ...scores.map((score) => entry('solid red cross', score)),
    ],
  };
}

describe('the miniature experiment', function () {
  this.timeout(300_000);
  const folder = temporaryFolder();
  const pool: PoolRecord[] = [
    { own: record('a', 1, [1, 1]), truth: record('a', 1, [1, -1]), exact: false },
    { own: record('b', -0.5, [1, -0.5]), truth: record('b', 1, [1, 1]), exact: true },
  ];
  const scores = (name: string) => {
    const arm = ARMS.find((a) => a.name === name);
    assert.ok(arm !== undefined);
    const records = arm.records(pool, seededRandom(1));
    return records.map((r) => r.vlm_rewards.map(({ score }) => score));
  };

  it('gives each arm the scores it is about', () => {
    assert.deepEqual(scores('paper'), [
      [1, 1, 1],
      [-0.5, 1, -0.5],
    ]);
    assert.deepEqual(scores('signed')[1], [1, 1, -0.5]);
    assert.deepEqual(scores('no-local'), [[1], [-0.5]]);
    assert.deepEqual(scores('zero-one')[1], [-1, 1, -1]);
    assert.deepEqual(scores('rejection'), [[1, 1, 1]]);
    assert.deepEqual(scores('nft-whole'), [[1], [-1]]);
    assert.deepEqual(scores('oracle')[1], [1, 1, 1]);
    assert.deepEqual(scores('random').flat().sort(), scores('paper').flat().sort());
    assert.equal(isAccepted(pool[1].own), false);
  });

  it('knows means and 95 % intervals', () => {
    const { mean, halfWidth, n } = estimate([1, 2, 3, 4, 5]);
    assert.deepEqual([mean, n], [3, 5]);
    assert.ok(Math.abs((halfWidth ?? 0) - 2.776 * Math.sqrt(2.5 / 5)) < 1e-3);
    assert.equal(estimate([2]).halfWidth, null);
  });

  it('runs from pictures to the document, and finds all of it done the second time', () => {
    const model = path.join(folder(), 'model');
    const { bagel, vae } = shapesModel(3);
    const tokenizerDir = path.join(packageRoot(), 'assets', 'shapes');
    saveBagel(model, { bagel, vae, tokenizerDir });
    bagel.dispose();
    vae.dispose();
    const out = path.join(folder(), 'out');
    const run = (...more: string[]) =>
      spawnSync(process.execPath, [program, '--quick', '--model', model, '--out', out, ...more], {
        encoding: 'utf8',
        env: { ...process.env, OMP_NUM_THREADS: '1' },
      });
    const first = run();
    assert.equal(first.status, 0, first.stderr);
    const page = fs.readFileSync(path.join(out, 'shapes.md'), 'utf8');
    for (const arm of ['sft', 'paper', 'nft']) assert.match(page, new RegExp(`\\| ${arm} \\|`));
    assert.match(page, /\| current \|/);
    // A single seed has no interval, and an arm gains nothing over itself.
    assert.match(page, /\| sft \| \S+ \| \S+ \| 0\.0 \| 0\.0 \|/);
    assert.match(fs.readFileSync(path.join(out, 'shapes.svg'), 'utf8'), /^<svg/);
    const checkpoints = path.join(out, 'seed-0', 'sft', 'train', 'checkpoints');
    assert.equal(fs.existsSync(checkpoints), false);
    const second = run();
    assert.equal(second.status, 0, second.stderr);
    assert.equal(fs.readFileSync(path.join(out, 'shapes.md'), 'utf8'), page);
    const other = run('--lr', '0.5');
    assert.equal(other.status, 1);
    assert.match(other.stderr, /ERR_OTHER_SETTINGS/);
    assert.match(other.stderr, /key lr; expected lr 0\.0001; found lr 0\.5/);
    // Processes that share the work come to the same.
    const shared = path.join(folder(), 'shared');
    const third = run('--workers', '2', '--out', shared);
    assert.equal(third.status, 0, third.stderr);
    assert.equal(fs.readFileSync(path.join(shared, 'shapes.md'), 'utf8'), page);
  });

  it('ends with the first process that fails', () => {
    const { status, stderr } = spawnSync(
      process.execPath,
      [
        program,
        '--quick',
        '--workers',
        '2',
        '--model',
        folder(),
        '--out',
        path.join(folder(), 'x'),
      ],
      { encoding: 'utf8' },
    );
    assert.equal(status, 1);
    assert.match(stderr, /ERR_NO_WEIGHTS/);
    assert.match(stderr, /did not finish.*pools:\d\/2.*exit status 1/);
  });
});
