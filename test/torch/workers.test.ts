import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'mocha';
import { asyncOps, Generator, randn, type Tensor } from '../../lib/torch/index.js';

const torchModule = new URL('../../lib/torch/index.js', import.meta.url).href;

/**
 * Runs `body` in a process of its own, with `torch` and `start` in reach. `start(source)` makes a worker of a program that
 * has `torch` and `say` too, and resolves when the worker has called `say()`.
 */
function run(body: string): { status: number | null; signal: string | null; text: string } {
  const program = `
    import { Worker } from 'node:worker_threads';
    import { setTimeout as sleep } from 'node:timers/promises';
    const torch = await import(${JSON.stringify(torchModule)});
    torch.setNumThreads(1);
    const start = (source) => new Promise((resolve, reject) => {
      const worker = new Worker(\`
        const { parentPort } = require('node:worker_threads');
        const say = () => parentPort.postMessage('here');
        import(${JSON.stringify(torchModule)}).then(async (torch) => {
          torch.setNumThreads(1);
          \${source}
        });\`, { eval: true, execArgv: [] });
      worker.once('message', () => resolve(worker));
      worker.once('error', reject);
      worker.once('exit', () => reject(new Error('the worker ended early')));
    });
    ${body}`;
  const done = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
    timeout: 110_000,
  });
  return { status: done.status, signal: done.signal, text: done.stdout + done.stderr };
}

/** A worker that has said so is terminated a little later; afterwards its tensors must be gone. */
function terminated(source: string, times = 3): string {
  return `
    const before = torch.liveTensors();
    for (let i = 0; i < ${times}; i++) {
      const worker = await start(${JSON.stringify(source)});
      await sleep(i * 7);
      await worker.terminate();
    }
    if (torch.liveTensors() !== before)
      throw new Error(\`\${torch.liveTensors() - before} tensors left behind\`);`;
}

function endsWell(body: string, status = 0): void {
  const result = run(body);
  assert.deepEqual([result.signal, result.status], [null, status], result.text);
}

describe('workers that end', () => {
  it('in the middle of a scope', () => {
    endsWell(
      terminated(
        'torch.scope(() => { torch.zeros([64, 64]); say(); for (;;) torch.zeros([3]).add(1); });',
      ),
    );
  });

  it('in the middle of making tensors without a scope, small and large', () => {
    endsWell(
      terminated(
        'say(); const all = []; for (let i = 0; ; i++) all[i % 500] = torch.zeros([i % 2 ? 3 : 8192]).add(1);',
      ),
    );
  });

  it('in the middle of scopes that hand out results', () => {
    endsWell(
      terminated(
        'say(); for (;;) torch.scope(() => torch.scope(() => [torch.zeros([3]), torch.zeros([8192])]));',
      ),
    );
  });

  it('in the middle of asynchronous operators', () => {
    endsWell(
      terminated(`
        const x = torch.zeros([600, 600]), loss = x.clone().requiresGrad_().mul(2).sum();
        for (let i = 0; i < 6; i++) torch.asyncOps.matmul(x, x);
        loss.backwardAsync(null, { retainGraph: true });
        say();
        for (;;) await torch.asyncOps.matmul(x, x);`),
    );
  });

  it('by an exception, and by process.exit, with everything open', () => {
    const open =
      'torch.zeros([9]); torch.asyncOps.relu(torch.zeros([300, 300])); new torch.Generator(1);';
    endsWell(`
      const before = torch.liveTensors();
      for (const end of ['throw new Error("stop")', 'process.exit(5)']) {
        const worker = await start(\`${open}
          torch.noGrad(() => torch.inferenceMode(() => torch.scope(() => {
            torch.zeros([4]);
            say();
            setTimeout(() => {}, 1e6);
            \${end};
          })));\`).catch((error) => error);
        if (worker.terminate) await new Promise((done) => {
          worker.once('error', () => {});
          worker.once('exit', done);
          if (worker.threadId === -1) done();
        });
      }
      await sleep(50);
      if (torch.liveTensors() !== before)
        throw new Error(\`\${torch.liveTensors() - before} tensors left behind\`);`);
  });

  it('fifty times', () => {
    endsWell(`
      const before = torch.liveTensors();
      const source = \`
        const kept = [torch.zeros([3]), torch.zeros([99999]), new torch.Generator(7)];
        const sum = torch.scope(() => torch.randn([8], { generator: kept[2] }).add(1));
        say();
        setTimeout(() => { kept.push(sum); process.exit(0); }, 1e6);\`;
      for (let i = 0; i < 50; i += 5)
        await Promise.all(Array.from({ length: 5 }, async () => (await start(source)).terminate()));
      if (torch.liveTensors() !== before)
        throw new Error(\`\${torch.liveTensors() - before} tensors left behind\`);`);
  });
});

describe('the process ends', () => {
  const busy =
    'const x = torch.zeros([900, 900]); for (let i = 0; i < 8; i++) torch.asyncOps.matmul(x, x);';
  it('by process.exit during asynchronous operators', () =>
    endsWell(`${busy} process.exit(3);`, 3));

  it('by process.exit inside scopes and inference mode', () => {
    endsWell(
      'torch.inferenceMode(() => torch.scope(() => { torch.zeros([5]); process.exit(4); }));',
      4,
    );
  });

  it('by an exception during asynchronous operators', () => {
    const result = run(`${busy} throw new Error('stop');`);
    assert.deepEqual([result.signal, result.status], [null, 1], result.text);
    assert.match(result.text, /stop/);
  });

  it('while workers compute', () => {
    endsWell(
      `await start(\`${busy} say(); for (;;) torch.scope(() => torch.zeros([4]).add(1));\`); process.exit(6);`,
      6,
    );
  });
});

describe('asynchronous operators', () => {
  it('hold their arguments, whatever becomes of the objects', async () => {
    const x = randn([300, 300], { generator: new Generator(1) });
    const y = randn([300, 300], { generator: new Generator(2) });
    const expected = x.matmul(y);
    const running = Array.from({ length: 6 }, () => asyncOps.matmul(x, y) as Promise<Tensor>);
    const joined = asyncOps.cat([x, y], 0) as Promise<Tensor>;
    x.dispose();
    y.dispose();
    for (const product of await Promise.all(running))
      assert.equal(product.sub(expected).abs().max().item(), 0);
    assert.deepEqual((await joined).shape, [600, 300]);
    await assert.rejects(asyncOps.matmul(x, y), { code: 'ERR_DISPOSED' });
  });

  it('keep their results apart from scopes that are open when they are started', async () => {
    const { scope, tensor } = await import('../../lib/torch/index.js');
    let running: Promise<unknown> = Promise.resolve();
    scope(() => {
      const inner = tensor([1, 2, 3]);
      running = asyncOps.mul(inner, 2);
    });
    assert.deepEqual(((await running) as Tensor).toArray(), [2, 4, 6]);
  });

  it('leave the graph alone that backward is walking', async () => {
    const { tensor } = await import('../../lib/torch/index.js');
    const w = tensor([2, 3]).requiresGrad_();
    const loss = w.mul(w).sum();
    const running = loss.backwardAsync();
    loss.dispose();
    await running;
    assert.deepEqual(w.grad?.toArray(), [4, 6]);
  });
});
