import assert from 'node:assert/strict';
import { StateDictError } from '../../lib/nn/key-report.js';
import { Linear } from '../../lib/nn/linear.js';
import { Module, parameter, toSnakeCase } from '../../lib/nn/module.js';
import { Generator, ones, randn, type Tensor } from '../../lib/torch/index.js';

class Block extends Module {
  qProjMoeGen = new Linear(2, 3, { bias: false });
  layers = [new Linear(2, 2), new Linear(2, 1)];
  posEmbed: Tensor = parameter([4, 2]);
  mid_1?: Linear;
  readonly width = 2;
  #buffer = ones([1]);

  buffer(): Tensor {
    return this.#buffer;
  }
}

const keys = [
  'q_proj_moe_gen.weight',
  'layers.0.weight',
  'layers.0.bias',
  'layers.1.weight',
  'layers.1.bias',
  'pos_embed',
];

function state(module: Module): Map<string, Tensor> {
  return new Map(
    [...module.namedParameters()].map(([key, t]) => [
      key,
      randn(t.shape, { generator: new Generator(2) }),
    ]),
  );
}

function reportOf(run: () => unknown) {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof StateDictError, String(error));
    return { report: error.report, message: error.message };
  }
  throw new assert.AssertionError({ message: 'nothing was thrown' });
}

describe('Module', () => {
  it('names parameters by their path in snake_case', () => {
    assert.equal(toSnakeCase('qProjMoeGen'), 'q_proj_moe_gen');
    assert.equal(toSnakeCase('vae2llm'), 'vae2llm');
    assert.equal(toSnakeCase('block_1'), 'block_1');
    const block = new Block();
    assert.deepEqual([...block.stateDict().keys()], keys);
    assert.deepEqual(
      [...block.namedChildren()].map(([key]) => key),
      ['q_proj_moe_gen', 'layers.0', 'layers.1'],
    );
    assert.equal(block.buffer().numel, 1);
  });

  it('allocates nothing before weights arrive', () => {
    for (const tensor of new Block().parameters()) assert.equal(tensor.device, 'meta');
  });

  it('assigns the given tensors themselves', () => {
    const block = new Block();
    const given = state(block);
    block.loadStateDict(given);
    for (const [key, tensor] of block.namedParameters()) assert.equal(tensor, given.get(key));
  });

  it('reads only the keys under a prefix', () => {
    const inner = new Linear(2, 2);
    const entries: Array<[string, Tensor]> = [
      ['a.weight', ones([2, 2])],
      ['a.bias', ones([2])],
      ['b.weight', ones([9])],
    ];
    inner.loadStateDict(entries, { prefix: 'a.' });
    assert.equal(inner.weight, entries[0][1]);
  });

  it('lists every missing, unexpected and misshapen key and changes nothing', () => {
    const block = new Block();
    const before = block.parameters();
    const given = state(block);
    given.delete('pos_embed');
    given.delete('layers.1.bias');
    given.set('extra.weight', ones([1]));
    given.set('layers.0.weight', ones([2, 5]));
    const { report, message } = reportOf(() =>
      block.loadStateDict(given, { source: 'w.safetensors' }),
    );
    assert.deepEqual(report, {
      missing: ['layers.1.bias', 'pos_embed'],
      unexpected: ['extra.weight'],
      misshapen: [{ key: 'layers.0.weight', expected: [2, 2], found: [2, 5] }],
    });
    for (const part of ['pos_embed', 'extra.weight', '[2, 5]', 'w.safetensors']) {
      assert.ok(message.includes(part), message);
    }
    assert.deepEqual(block.parameters(), before);
  });

  it('lets differences pass that are allowed, but never a wrong shape', () => {
    const block = new Block();
    const given = state(block);
    given.delete('pos_embed');
    given.set('extra', ones([1]));
    block.loadStateDict(given, {
      allowMissing: (key) => key === 'pos_embed',
      allowUnexpected: (key) => key === 'extra',
    });
    block.loadStateDict(given, { strict: false });
    given.set('layers.0.bias', ones([7]));
    const { report } = reportOf(() => block.loadStateDict(given, { strict: false }));
    assert.equal(report.misshapen.length, 1);
    assert.equal(report.missing.length, 0);
  });

  it('initialises reproducibly and converts', () => {
    const make = () => {
      const block = new Block().initWeights(new Generator(7));
      block.posEmbed = ones([4, 2]);
      return block;
    };
    const values = (b: Block) => [...b.qProjMoeGen.weight.toFloat32Array()];
    assert.deepEqual(values(make()), values(make()));
    const block = make().to({ dtype: 'bfloat16' });
    assert.equal(block.layers[1].weight.dtype, 'bfloat16');
    block.layers[0].requiresGrad_();
    assert.deepEqual(
      block.layers[0].parameters().map((t) => t.requiresGrad),
      [true, true],
    );
    assert.equal(block.layers[1].weight.requiresGrad, false);
  });
});
