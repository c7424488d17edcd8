import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'mocha';
import {
  keep,
  liveTensors,
  ownedTensors,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '../../lib/torch/index.js';

const torchModule = new URL('../../lib/torch/index.js', import.meta.url).href;

/** Runs `body` (with `torch` in reach) in a process of its own and returns its peak resident memory in MB. */
function peakMemory(body: string): number {
  const program = `
    const torch = await import(${JSON.stringify(torchModule)});
    torch.setNumThreads(1);
    let peak = 0;
    const watch = () => { peak = Math.max(peak, process.memoryUsage.rss()); };
    ${body}
    watch();
    console.log(peak / 2 ** 20);`;
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
  });
  assert.equal(run.status, 0, run.stderr);
  return Number(run.stdout);
}

describe('memory', function () {
  // A million allocations and the collections between them: minutes on a busy machine.
  this.timeout(900_000);

  it('frees what a scope made, except its result and what is kept', () => {
    const before = liveTensors();
    let inner: Tensor | undefined;
    let kept: Tensor | undefined;
    const result = scope(() => {
      inner = zeros([2]);
      kept = keep(inner.add(1));
      return { list: [inner.add(2)], map: new Map([['x', inner.add(3)]]), text: 'x' };
    });
    assert.ok(inner?.isDisposed);
    assert.deepEqual(kept?.toArray(), [1, 1]);
    assert.deepEqual(result.list[0].toArray(), [2, 2]);
    assert.deepEqual(result.map.get('x')?.toArray(), [3, 3]);
    assert.equal(liveTensors(), before + 3);
    for (const t of [kept, result.list[0], result.map.get('x')]) t?.dispose();
    assert.equal(liveTensors(), before);
  });

  it('hands results of inner scopes to the outer one', () => {
    const before = liveTensors();
    scope(() => {
      const middle = scope(() => zeros([2]).add(1));
      assert.deepEqual(middle.toArray(), [1, 1]);
    });
    assert.equal(liveTensors(), before);
  });

  it('finds tensors behind ownedTensors', () => {
    class Box {
      readonly #content: Tensor;
      constructor(content: Tensor) {
        this.#content = content;
      }
      *[ownedTensors]() {
        yield this.#content;
      }
      get content() {
        return this.#content;
      }
    }
    const box = scope(() => new Box(zeros([1]).add(5)));
    assert.equal(box.content.item(), 5);
  });

  it('frees everything when the body throws, and refuses promises', () => {
    const before = liveTensors();
    assert.throws(
      () =>
        scope(() => {
          zeros([3]);
          throw new Error('stop');
        }),
      /stop/,
    );
    assert.throws(() => scope(async () => zeros([3])), { code: 'ERR_SCOPE' });
    assert.equal(liveTensors(), before);
  });

  it('supports using, and disposal twice', () => {
    const before = liveTensors();
    {
      using x = tensor([1]);
      assert.equal(x.item(), 1);
    }
    assert.equal(liveTensors(), before);
    const y = tensor([1]);
    y.dispose();
    y.dispose();
    assert.ok(y.isDisposed);
  });

  it('holds a view alive after its base is gone', () => {
    const base = tensor([
      [1, 2],
      [3, 4],
    ]);
    const view = base.select(0, 1);
    base.dispose();
    assert.deepEqual(view.toArray(), [3, 4]);
  });

  for (const [name, body] of [
    ['bare', 'for (let i = 0; i < 1e6; i++) { torch.empty(shape); if (i % 1000 === 0) watch(); }'],
    [
      'in scopes',
      'for (let i = 0; i < 1e6; i += 100) torch.scope(() => { for (let j = 0; j < 100; j++) torch.empty(shape); watch(); });',
    ],
    [
      'disposed',
      'for (let i = 0; i < 1e6; i++) { torch.empty(shape).dispose(); if (i % 1000 === 0) watch(); }',
    ],
  ]) {
    it(`stays under 500 MB through a million 1 MB temporaries in a synchronous loop, ${name}`, () => {
      assert.ok(peakMemory(`const shape = [2 ** 18];\n${body}`) < 500);
    });
  }

  it('stays under 500 MB through a million additions of 4 elements in a bare synchronous loop', () => {
    const peak = peakMemory(
      'const x = torch.zeros([4]); for (let i = 0; i < 1e6; i++) { x.add(1); if (i % 1000 === 0) watch(); }',
    );
    assert.ok(peak < 500, `${peak}`);
  });

  it('stays under 500 MB when every temporary is written', () => {
    const peak = peakMemory(
      'const x = torch.zeros([2 ** 18]); for (let i = 0; i < 2e4; i++) { x.add(1); if (i % 100 === 0) watch(); }',
    );
    assert.ok(peak < 500, `${peak}`);
  });

  it('frees a training loop whose graph is dropped', () => {
    const w = zeros([8, 8]).requiresGrad_();
    const step = () =>
      scope(() => {
        w.matmul(w).add(1).sum().backward();
        w.grad = null;
      });
    step();
    const before = liveTensors();
    for (let i = 0; i < 100; i++) step();
    assert.equal(liveTensors(), before);
  });
});
