import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Whether kernels may use what the processor has; a run with {@link passesPlainly} itself must not nest. */
export const choosesInstructions = process.env.ATEN_CPU_CAPABILITY === undefined;

/**
 * Runs tests of a file in a process whose kernels use the plainest instruction set.
 *
 * @param url `import.meta.url` of the test file.
 * @param grep chooses the tests, of which there must be `count`.
 */
export function passesPlainly(url: string, grep: string, count: number): void {
  const mocha = path.resolve('node_modules', 'mocha', 'bin', 'mocha.js');
  const run = spawnSync(process.execPath, [mocha, fileURLToPath(url), '--grep', grep], {
    env: { ...process.env, ATEN_CPU_CAPABILITY: 'default' },
    encoding: 'utf8',
  });
  assert.equal(run.status, 0, run.stdout + run.stderr);
  assert.match(run.stdout, new RegExp(`\\b${count} passing`));
}
