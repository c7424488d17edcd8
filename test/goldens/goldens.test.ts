import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { GoldenRunner } from '../../scripts/goldens/runner.js';

const data = fileURLToPath(new URL('../../../test/goldens/data', import.meta.url));
const runner = new GoldenRunner(data);

describe('reference values of the goldens', function () {
  this.timeout(120_000);
  for (const entry of runner.entries()) {
    it(entry.id, async () => {
      const result = await runner.run(entry);
      assert.equal(result.status, 'passed', result.failures.join('\n'));
    });
  }
});
