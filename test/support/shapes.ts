import assert from 'node:assert/strict';
import { parsePrompt, type ShapeObject, type ShapesPrompt } from '../../lib/eval/shapes/index.js';

/** The prompt of a text of the grammar. */
export function promptOf(text: string): ShapesPrompt {
  const prompt = parsePrompt(text);
  assert.ok(prompt !== null, text);
  return prompt;
}

/** "striped red circle" in the middle of a cell. */
export function at(cell: number, name: string): ShapeObject {
  const [texture, colour, shape] = name.split(' ');
  return { texture, colour, shape, cell, dx: 0, dy: 0 } as ShapeObject;
}
