import assert from 'node:assert/strict';
import { PackingLoop, type PackLimits, type PackMode } from '../../lib/data/packing-loop.js';
import { ConfigError, DataError } from '../../lib/util/errors.js';

const limits: PackLimits = {
  expected_num_tokens: 40,
  max_num_tokens: 48,
  max_num_tokens_per_sample: 48,
  prefer_buffer_before: 24,
  max_buffer_size: 1,
};

function sample(group: number, row: number, rows: number) {
  return {
    numTokens: rows - 2,
    sequencePlan: [{ type: 'text', enable_cfg: 0, loss: 1 } as const],
    source: { dataset: `g${group}`, row },
  };
}
type S = ReturnType<typeof sample>;

const stream = (group: number, sizes: number[]) =>
  sizes.map((n, i) => sample(group, i, n)).values();

/** A linear congruential generator, enough for fair draws. */
function uniforms(seed = 1): () => number {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

async function run(loop: PackingLoop<S>): Promise<string[][]> {
  const packs: string[][] = [];
  for await (const pack of loop.packs()) {
    packs.push(
      pack.map(({ source, numTokens }) => `${source.dataset}:${source.row}/${numTokens + 2}`),
    );
  }
  return packs;
}
const rowsOf = (pack: string[]) => pack.reduce((sum, name) => sum + Number(name.split('/')[1]), 0);

describe('PackingLoop', () => {
  const sizes = Array.from({ length: 200 }, (_, i) => 3 + ((i * 37) % 46));

  it('loses no sample and breaks no limit when lossless', async () => {
    for (const mandatory of [false, true]) {
      const groups = [
        { weight: 3, stream: stream(0, sizes) },
        { weight: 1, stream: stream(1, sizes.slice(0, 60)), mandatory },
      ];
      const loop = new PackingLoop<S>(groups, limits, uniforms());
      const packs = await run(loop);
      const names = packs.flat();
      assert.equal(names.length, 260);
      assert.equal(new Set(names).size, 260);
      assert.ok(packs.every((pack) => rowsOf(pack) <= limits.max_num_tokens && pack.length > 0));
      assert.equal(loop.report.packs, packs.length);
      assert.deepEqual(
        [loop.report.packed, loop.report.skipped],
        [260, { too_long: 0, overflow: 0 }],
      );
    }
  });

  it('loses and counts samples as the released code in reference mode', async () => {
    const loop = new PackingLoop<S>([{ weight: 1, stream: stream(0, sizes) }], limits, uniforms(), {
      mode: 'reference' satisfies PackMode,
    });
    const packs = await run(loop);
    const { packed, skipped, examples } = loop.report;
    assert.ok(skipped.overflow > 0);
    assert.ok(packed >= packs.flat().length);
    assert.ok(packed + skipped.overflow <= sizes.length);
    assert.equal(examples[0].reason, 'overflow');
  });

  it('counts samples that are too long, with their origin', async () => {
    const loop = new PackingLoop<S>(
      [{ weight: 1, stream: stream(0, [60, 10]) }],
      limits,
      uniforms(),
    );
    assert.deepEqual(await run(loop), [['g0:1/10']]);
    assert.deepEqual(loop.report.examples, [
      { source: { dataset: 'g0', row: 0 }, rows: 60, reason: 'too_long' },
    ]);
  });

  it('gives up instead of spinning when nothing fits', async () => {
    const endless = (function* (): Generator<S> {
      for (let i = 0; ; i++) yield sample(0, i, 100);
    })();
    const loop = new PackingLoop<S>([{ weight: 1, stream: endless }], limits, uniforms());
    await assert.rejects(
      run(loop),
      (e) => e instanceof DataError && e.code === 'ERR_NO_SAMPLE_FITS',
    );
  });

  it('opens every pack with the mandatory group while it lasts', async () => {
    const groups = [
      { weight: 1, stream: stream(0, new Array(20).fill(20)) },
      { weight: 0, stream: stream(1, new Array(10).fill(10)), mandatory: true },
    ];
    const packs = await run(new PackingLoop<S>(groups, limits, uniforms()));
    assert.ok(packs.slice(0, 10).every((pack) => pack[0].startsWith('g1:')));
    assert.equal(packs.flat().length, 30);
  });

  it('goes on from its state and its stream as if it had never stopped', async () => {
    // Without taking up set-aside samples early the buffer is full when the loop is left.
    for (const prefer_buffer_before of [0, 24]) {
      const own = { ...limits, prefer_buffer_before, max_buffer_size: 3 };
      const whole = await run(
        new PackingLoop<S>([{ weight: 1, stream: stream(0, sizes) }], own, uniforms()),
      );
      const group = { weight: 1, stream: stream(0, sizes) };
      let loop = new PackingLoop<S>([group], own, uniforms());
      const packs: S[][] = [];
      for (let i = 0; i < whole.length; i++) {
        const { value } = await loop.packs().next();
        packs.push(value as S[]);
        loop = new PackingLoop<S>([group], own, uniforms(), { state: loop.state });
      }
      const names = packs.map((p) => p.map((s) => `g0:${s.source.row}/${s.numTokens + 2}`));
      assert.deepEqual(names, whole);
    }
  });

  it('tells of every sample that is skipped', async () => {
    const skipped: string[] = [];
    const groups = [{ weight: 1, stream: stream(0, [60, 10, 70]) }];
    const onSkip = ({ source }: S, { rows, reason }: { rows: number; reason: string }) =>
      skipped.push(`${source.row} ${rows} ${reason}`);
    await run(new PackingLoop<S>(groups, limits, uniforms(), { onSkip }));
    assert.deepEqual(skipped, ['0 60 too_long', '2 70 too_long']);
  });

  it('uses the rows a sample really took', async () => {
    const loop = new PackingLoop<S>(
      [{ weight: 1, stream: stream(0, new Array(8).fill(20)) }],
      { ...limits, max_buffer_size: 0 },
      uniforms(),
      { onAdd: () => 10 },
    );
    assert.deepEqual(
      (await run(loop)).map((pack) => pack.length),
      [3, 3, 2],
    );
  });

  it('refuses limits and weights that make no sense', () => {
    const groups = [{ weight: 1, stream: stream(0, []) }];
    const make = (change: Partial<PackLimits>) => () =>
      new PackingLoop<S>(groups, { ...limits, ...change }, uniforms());
    assert.throws(make({ max_num_tokens: -1 }), ConfigError);
    assert.throws(make({ max_num_tokens_per_sample: 49 }), ConfigError);
    const weights = (weight: number) => () =>
      new PackingLoop<S>([{ weight, stream: stream(0, []) }], limits, uniforms());
    assert.throws(weights(0), ConfigError);
    assert.throws(weights(Number.NaN), ConfigError);
    assert.throws(weights(-1), ConfigError);
  });
});
