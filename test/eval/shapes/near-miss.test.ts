import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import { nearMiss } from '../../../lib/eval/shapes/near-miss.js';
import { isExact } from '../../../lib/eval/shapes/oracle.js';
import { drawPrompt, sceneFor } from '../../../lib/eval/shapes/prompts.js';
import { layoutTruth } from '../../../lib/eval/shapes/truth.js';
import { checkScene, isHeldOut, type ShapeObject } from '../../../lib/eval/shapes/world.js';
import { seededRandom } from '../../../lib/util/seeded-random.js';

const kind = (o: ShapeObject) => `${o.texture} ${o.colour} ${o.shape}`;
const kinds = (objects: readonly ShapeObject[]) => objects.map(kind).sort();

/** Things of the second list that are not in the first. */
function surplus(first: readonly string[], second: readonly string[]): number {
  const left = [...first];
  return second.filter((one) => {
    const at = left.indexOf(one);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  }).length;
}

describe('near misses of the shapes world', () => {
  it('have one fault and no held-out pair', () => {
    const random = seededRandom(3);
    const seen = new Map<string, number>();
    for (let i = 0; i < 2000; i++) {
      const prompt = drawPrompt(random);
      const scene = sceneFor(prompt, random);
      const before = structuredClone(scene);
      const miss = nearMiss(scene, random);
      assert.deepEqual(scene, before);
      checkScene(miss);
      assert.ok(miss.objects.every((o) => !isHeldOut(o.shape, o.colour)));
      assert.ok(surplus(kinds(scene.objects), kinds(miss.objects)) <= 1);
      assert.ok(surplus(kinds(miss.objects), kinds(scene.objects)) <= 1);
      const { reason } = layoutTruth(prompt, miss.objects);
      const what = isExact(prompt, miss.objects) ? 'exact' : reason;
      seen.set(what, (seen.get(what) ?? 0) + 1);
    }
    for (const [what, least] of [
      ['exact', 200],
      ['as requested', 50],
      ['wrong number', 200],
      ['something is missing', 400],
      ['wrong places', 150],
    ] as const) {
      assert.ok((seen.get(what) ?? 0) >= least, `${what}: ${seen.get(what) ?? 0}`);
    }
  });

  it('fill an empty picture and keep a full one within its cells', () => {
    const random = seededRandom(4);
    assert.equal(nearMiss({ objects: [] }, random).objects.length, 1);
    const full = [0, 1, 2, 3].map((cell): ShapeObject => {
      return { shape: 'circle', colour: 'blue', texture: 'solid', cell, dx: 0, dy: 0 };
    });
    for (let i = 0; i < 100; i++) checkScene(nearMiss({ objects: full }, random));
  });
});
