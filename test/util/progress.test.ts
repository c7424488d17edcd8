import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { startProgress } from '../../lib/util/progress.js';

/** What a terminal, or a file, is sent. */
function sink(isTTY: boolean): { stream: NodeJS.WriteStream; text: () => string } {
  const stream = Object.assign(new PassThrough(), { isTTY, columns: 120, rows: 30 });
  let text = '';
  stream.on('data', (data) => {
    text += data;
  });
  return { stream: stream as unknown as NodeJS.WriteStream, text: () => text };
}

describe('startProgress', () => {
  it('shows count, rate and time left on a terminal', async () => {
    const { stream, text } = sink(true);
    const bar = startProgress('draw', { stream, unit: 'steps' });
    bar.update(2, 9);
    await new Promise((resolve) => setTimeout(resolve, 20));
    bar.update(3, 9);
    bar.stop();
    await new Promise((resolve) => setImmediate(resolve));
    assert.match(text(), /draw.*33% 3 of 9, (\d+\.\d\/s|\d+\.\d s each), \d+ s left/);
  });

  it('does not take what an earlier run did for its own pace', async () => {
    const { stream, text } = sink(true);
    const bar = startProgress('draw', { stream, unit: 'steps' });
    bar.update(900, 1000);
    await new Promise((resolve) => setTimeout(resolve, 20));
    bar.update(901, 1000);
    bar.stop();
    await new Promise((resolve) => setImmediate(resolve));
    assert.match(text(), /900 of 1000, \?\/s, \? left/);
    assert.match(text(), /901 of 1000, (\d{1,2}\.\d\/s|\d+\.\d s each), /);
  });

  it('is quiet elsewhere, and everywhere without a stream', async () => {
    const { stream, text } = sink(false);
    for (const to of [stream, null]) {
      const progress = startProgress('draw', { stream: to, unit: 'steps' });
      progress.update(3, 9);
      progress.stop();
    }
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(text(), '');
  });
});
