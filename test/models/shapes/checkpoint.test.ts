import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { openModel, SHAPES_MODEL } from '../../../lib/app/stages/model-session.js';
import { assessShapes } from '../../../lib/eval/shapes/index.js';
import { packageRoot } from '../../../lib/native/paths.js';
import { readJsonFile } from '../../../lib/util/jsonl.js';

describe('the shipped shapes model', function () {
  this.timeout(300_000);
  const dir = path.join(packageRoot(), 'assets', 'shapes');

  it('fits into a repository', () => {
    const bytes = fs.readdirSync(dir).map((file) => fs.statSync(path.join(dir, file)).size);
    assert.ok(bytes.reduce((a, b) => a + b, 0) < 12e6);
  });

  it('draws and sees about as well as its card says', async () => {
    const session = openModel({ model: SHAPES_MODEL, device: 'cpu' });
    try {
      const parts = { ...session.parts, tokenizer: session.tokenizer };
      const found = await assessShapes(parts, { prompts: 96, pictures: 32, seed: 5 });
      const card = readJsonFile(path.join(dir, 'figures.json')) as typeof found;
      const share = ({ exact, total }: { exact: number; total: number }) => exact / total;
      for (const set of ['seen', 'heldOut'] as const) {
        const [now, then] = [found, card].map(({ generation }) => share(generation[set]));
        // Three deviations of a share of 96.
        assert.ok(Math.abs(now - then) < 0.16, `${set}: ${now}, card ${then}`);
      }
      for (const set of ['rendered', 'heldOut', 'own'] as const) {
        const [now, then] = [found, card].map(({ understanding }) => understanding[set].share);
        assert.ok(now > then - 0.04, `${set}: ${now}, card ${then}`);
      }
    } finally {
      session.dispose();
    }
  });
});
