import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { readMetrics } from '../../lib/train/metrics.js';
import { buildWorkshop, hashesOf, type Workshop } from '../support/workshop.js';

const script = fileURLToPath(new URL('./run-recipe.js', import.meta.url));

/** Runs a recipe in a child; kills it without warning when `killAt` finds its moment. */
function child(recipe: string, killAt?: (line: string) => boolean): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const lines: string[] = [];
    const process_ = spawn(process.execPath, [script, recipe]);
    let rest = '';
    let errors = '';
    process_.stderr.on('data', (chunk) => {
      errors += chunk;
    });
    process_.stdout.on('data', (chunk) => {
      const parts = (rest + chunk).split('\n');
      rest = parts.pop() ?? '';
      for (const line of parts) {
        lines.push(line);
        if (killAt?.(line)) process_.kill('SIGKILL');
      }
    });
    process_.on('error', reject);
    process_.on('close', (code, signal) => {
      if (code === 0 || signal === 'SIGKILL') resolve(lines);
      else reject(new Error(`the run ended with ${code}: ${errors}`));
    });
  });
}

describe('a training run that is killed', function () {
  this.timeout(240_000);
  let shop: Workshop;
  before(async () => {
    shop = await buildWorkshop();
  });
  after(() => fs.rmSync(shop.dir, { recursive: true, force: true }));

  function recipe(name: string): { file: string; checkpoints: string; metrics: string } {
    const results_dir = path.join(shop.dir, name);
    const file = path.join(shop.dir, `${name}.yaml`);
    const options = shop.options({ results_dir, total_steps: 12, save_every: 2 });
    fs.writeFileSync(file, stringify(options));
    return {
      file,
      checkpoints: path.join(results_dir, 'checkpoints'),
      metrics: path.join(results_dir, 'metrics.jsonl'),
    };
  }

  it('ends with the very same bits once it is started again', async () => {
    const whole = recipe('whole');
    assert.equal((await child(whole.file)).at(-1), 'done 12 0');
    const wanted = hashesOf(path.join(whole.checkpoints, '0000012'));

    const broken = recipe('broken');
    // Between two checkpoints, right after one was written, and while the next is being written.
    await child(broken.file, (line) => line === 'step 2');
    await child(broken.file, (line) => line === 'checkpoint 6');
    await child(broken.file, (line) => line === 'step 7');
    const lines = await child(broken.file);
    assert.match(lines.at(-1) ?? '', /^done 12 (6|8)$/);
    assert.deepEqual(hashesOf(path.join(broken.checkpoints, '0000012')), wanted);

    const curve = (file: string) => readMetrics(file).map(({ step, loss }) => ({ step, loss }));
    assert.deepEqual(curve(broken.metrics), curve(whole.metrics));
    assert.deepEqual(
      fs.readdirSync(broken.checkpoints).filter((name) => name.startsWith('.')),
      [],
    );
  });
});
