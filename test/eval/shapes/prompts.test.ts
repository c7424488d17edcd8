import assert from 'node:assert/strict';
import {
  allPrompts,
  drawPrompt,
  FAMILIES,
  type Family,
  isExact,
  isHeldOut,
  namesHeldOut,
  parsePrompt,
  sceneFor,
  swapped,
} from '../../../lib/eval/shapes/index.js';
import { ConfigError } from '../../../lib/util/errors.js';
import { seededRandom } from '../../../lib/util/seeded-random.js';

/** The grammar once more, as patterns. */
const SHAPE = '(?:circle|square|triangle|cross)';
const MANY = '(?:circles|squares|triangles|crosses)';
const COLOUR = '(?:red|green|blue|yellow|purple|cyan|black)';
const TEXTURE = '(?:solid|striped)';
const REL = '(?:to the left of|to the right of|above|below)';
const GRAMMAR: Record<Family, RegExp> = {
  colour: new RegExp(`^a ${COLOUR} ${SHAPE} and a ${COLOUR} ${SHAPE}$`),
  shape: new RegExp(`^a ${SHAPE} and a ${SHAPE}$`),
  texture: new RegExp(`^a ${TEXTURE} ${SHAPE} and a ${TEXTURE} ${SHAPE}$`),
  spatial: new RegExp(`^a ${COLOUR} ${SHAPE} ${REL} a ${COLOUR} ${SHAPE}$`),
  numeracy: new RegExp(
    `^(?:(?:two|three|four) ${COLOUR} ${MANY}|(?:two|three) ${COLOUR} ${MANY} and a ${COLOUR} ${SHAPE})$`,
  ),
  complex: new RegExp(`^a ${TEXTURE} ${COLOUR} ${SHAPE} ${REL} a ${TEXTURE} ${COLOUR} ${SHAPE}$`),
};

describe('prompts of the shapes world', () => {
  const every = allPrompts();

  it('are as many as the grammar has', () => {
    const counts = FAMILIES.map((family) => allPrompts({ family }).length);
    // Ordered pairs of different shapes (12) and colours (42). Textures: 2 different pairs, 4 pairs.
    const pairs = 12 * 42;
    const numeracy = 3 * 4 * 7 + 2 * pairs;
    assert.deepEqual(counts, [pairs, 12, 24, 4 * pairs, numeracy, 4 * 4 * pairs]);
    assert.equal(new Set(every.map((p) => p.text)).size, every.length);
    for (const { family, text } of every) assert.match(text, GRAMMAR[family]);
  });

  it('are read back from their text', () => {
    for (const prompt of every) assert.deepEqual(parsePrompt(prompt.text), prompt);
    assert.deepEqual(parsePrompt('  A Striped red circle TO THE LEFT OF a solid blue cross\n'), {
      family: 'complex',
      text: 'a striped red circle to the left of a solid blue cross',
      objects: [
        { shape: 'circle', colour: 'red', texture: 'striped' },
        { shape: 'cross', colour: 'blue', texture: 'solid' },
      ],
      relation: 'left',
    });
    const cross = { shape: 'cross', colour: 'green', texture: null };
    const circle = { shape: 'circle', colour: 'blue', texture: null };
    assert.deepEqual(parsePrompt('three green crosses and a blue circle'), {
      family: 'numeracy',
      text: 'three green crosses and a blue circle',
      objects: [cross, cross, cross, circle],
      relation: null,
    });
  });

  it('exclude every other text', () => {
    const others = [
      '',
      'a cat',
      'a red circle',
      'a red circle and a red square',
      'a red circle and a blue circle',
      'a solid circle and a solid square',
      'a red circle near a blue square',
      'a  red circle and a blue square',
      'five red circles',
      'four red circles and a blue square',
      'two red crosss',
      'a red circle and a blue square, please',
    ];
    for (const text of others) assert.equal(parsePrompt(text), null, text);
  });

  it('are split by what they name', () => {
    const seen = allPrompts({ heldOut: false });
    const held = allPrompts({ heldOut: true });
    assert.equal(seen.length + held.length, every.length);
    const pattern = /red circle|green square|blue triangle|yellow cross/;
    for (const { text } of seen) assert.doesNotMatch(text, pattern);
    for (const { text } of held) assert.match(text, pattern);
    assert.deepEqual([...new Set(held.map((p) => p.family))].sort(), [
      'colour',
      'complex',
      'numeracy',
      'spatial',
    ]);
  });

  it('are drawn from the set and the family asked for', () => {
    const random = seededRandom(5, 'prompts');
    const families = new Map<string, number>();
    for (let i = 0; i < 6000; i++) {
      const prompt = drawPrompt(random);
      assert.ok(!namesHeldOut(prompt));
      assert.deepEqual(parsePrompt(prompt.text), prompt);
      families.set(prompt.family, (families.get(prompt.family) ?? 0) + 1);
      assert.ok(namesHeldOut(drawPrompt(random, { heldOut: true })));
    }
    for (const family of FAMILIES) {
      assert.ok(Math.abs((families.get(family) ?? 0) - 1000) < 6 * 29, family);
      assert.equal(drawPrompt(random, { family }).family, family);
    }
    for (const family of ['shape', 'texture'] as const) {
      assert.throws(
        () => drawPrompt(random, { family, heldOut: true }),
        (error) => error instanceof ConfigError && /found (shape|texture)/.test(error.message),
      );
    }
  });

  it('are shown by the scenes made for them', () => {
    const random = seededRandom(6, 'scenes for prompts');
    const free = new Set<boolean>();
    for (const prompt of every) {
      const { objects } = sceneFor(prompt, random);
      assert.ok(isExact(prompt, objects), `${prompt.text} ${JSON.stringify(objects)}`);
      const held = objects.some((o) => isHeldOut(o.shape, o.colour));
      assert.equal(held, namesHeldOut(prompt));
      if (prompt.family !== 'texture' && prompt.family !== 'complex') {
        assert.ok(objects.every((o) => o.texture === 'solid'));
      }
      if (prompt.family === 'shape') {
        for (let i = 0; i < 20; i++) {
          const any = sceneFor(prompt, random, { heldOut: true });
          free.add(any.objects.some((o) => isHeldOut(o.shape, o.colour)));
        }
      }
    }
    assert.equal(free.size, 2, 'free colours make held-out pairs only where they may');
  });

  it('never fit the scene of the prompt they are the swap of', () => {
    const random = seededRandom(7, 'swaps');
    for (const prompt of every) {
      const other = swapped(prompt);
      assert.equal(other === null, prompt.family === 'shape');
      if (other === null) continue;
      assert.deepEqual(parsePrompt(other.text), other);
      assert.equal(other.family, prompt.family);
      assert.ok(!isExact(other, sceneFor(prompt, random).objects), prompt.text);
      assert.ok(!isExact(prompt, sceneFor(other, random).objects), prompt.text);
    }
  });

  it('exchange what the family is about', () => {
    const swaps = {
      'a red circle and a blue square': 'a blue circle and a red square',
      'a solid circle and a striped cross': 'a striped circle and a solid cross',
      'a red circle above a blue square': 'a blue circle above a red square',
      'a solid red circle below a striped blue square':
        'a solid blue circle below a striped red square',
      'two red crosses': 'three red crosses',
      'three red crosses': 'four red crosses',
      'four red crosses': 'two red crosses',
      'three red crosses and a blue square': 'three blue crosses and a red square',
    };
    for (const [text, other] of Object.entries(swaps)) {
      const prompt = parsePrompt(text);
      assert.ok(prompt !== null);
      assert.equal(swapped(prompt)?.text, other);
    }
  });
});
