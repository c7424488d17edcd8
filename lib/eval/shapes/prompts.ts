import { ConfigError } from '../../util/errors.js';
import type { Random } from '../../util/seeded-random.js';
import {
  CELLS,
  COLOURS,
  type Colour,
  choose,
  isHeldOut,
  placed,
  readingOrder,
  type Scene,
  SHAPES,
  type Shape,
  seenColour,
  shuffled,
  TEXTURES,
  type Texture,
} from './world.js';

/** What a prompt is about. */
export const FAMILIES = ['colour', 'shape', 'texture', 'spatial', 'numeracy', 'complex'] as const;
export type Family = (typeof FAMILIES)[number];

/** How the first object of a prompt lies to the second: in the neighbouring cell of a row or column. */
export const RELATIONS = ['left', 'right', 'above', 'below'] as const;
export type Relation = (typeof RELATIONS)[number];

/** One requested object; null leaves an attribute free. */
export interface Wanted {
  readonly shape: Shape;
  readonly colour: Colour | null;
  readonly texture: Texture | null;
}

/** A prompt and what it asks for. */
export interface ShapesPrompt {
  readonly family: Family;
  readonly text: string;
  /** One entry for each requested object, in the order of the text. */
  readonly objects: readonly Wanted[];
  /** How `objects[0]` lies to `objects[1]`; null where the prompt says nothing about places. */
  readonly relation: Relation | null;
}

const RELATION_WORDS: Readonly<Record<Relation, string>> = {
  left: 'to the left of',
  right: 'to the right of',
  above: 'above',
  below: 'below',
};
/** Cells of the first and the second object that satisfy a relation. */
const RELATION_CELLS: Readonly<Record<Relation, ReadonlyArray<readonly [number, number]>>> = {
  left: [
    [0, 1],
    [2, 3],
  ],
  right: [
    [1, 0],
    [3, 2],
  ],
  above: [
    [0, 2],
    [1, 3],
  ],
  below: [
    [2, 0],
    [3, 1],
  ],
};
const NUMBER_WORDS: Readonly<Record<number, string>> = { 2: 'two', 3: 'three', 4: 'four' };
const PLURALS: Readonly<Record<Shape, string>> = {
  circle: 'circles',
  square: 'squares',
  triangle: 'triangles',
  cross: 'crosses',
};

/** Whether an object in cell `a` lies in that relation to one in cell `b`. */
export function relationHolds(relation: Relation, a: number, b: number): boolean {
  return RELATION_CELLS[relation].some(([first, second]) => first === a && second === b);
}

/** A requested object's words without an article: "striped red circle". */
export function wantedName({ texture, colour, shape }: Wanted, noun: string = shape): string {
  return [texture, colour, noun].filter((word) => word !== null).join(' ');
}

function pairPrompt(
  family: Family,
  first: Wanted,
  second: Wanted,
  relation: Relation | null = null,
): ShapesPrompt {
  const link = relation === null ? 'and' : RELATION_WORDS[relation];
  const text = `a ${wantedName(first)} ${link} a ${wantedName(second)}`;
  return { family, text, objects: [first, second], relation };
}

function numberPrompt(count: number, kind: Wanted, other: Wanted | null): ShapesPrompt {
  const many = `${NUMBER_WORDS[count]} ${wantedName(kind, PLURALS[kind.shape])}`;
  return {
    family: 'numeracy',
    text: other === null ? many : `${many} and a ${wantedName(other)}`,
    objects: [...Array<Wanted>(count).fill(kind), ...(other === null ? [] : [other])],
    relation: null,
  };
}

/** All ordered pairs of different values. */
function pairs<T>(values: readonly T[]): Array<readonly [T, T]> {
  return values.flatMap((a) => values.filter((b) => b !== a).map((b) => [a, b] as const));
}

/** The forms of sentences of each family with all prompts of each form. */
function buildForms(): Record<Family, ShapesPrompt[][]> {
  const plain: ShapesPrompt[] = [];
  const textured: ShapesPrompt[] = [];
  const coloured: ShapesPrompt[] = [];
  const spatial: ShapesPrompt[] = [];
  const several: ShapesPrompt[] = [];
  const complex: ShapesPrompt[] = [];
  const texturePairs = TEXTURES.flatMap((a) => TEXTURES.map((b) => [a, b] as const));
  for (const [s1, s2] of pairs(SHAPES)) {
    const wanted = (colours: readonly [Colour, Colour] | null, textures: readonly Texture[] = []) =>
      [s1, s2].map((shape, i) => ({
        shape,
        colour: colours?.[i] ?? null,
        texture: textures[i] ?? null,
      }));
    const [p1, p2] = wanted(null);
    plain.push(pairPrompt('shape', p1, p2));
    for (const textures of pairs(TEXTURES)) {
      const [t1, t2] = wanted(null, textures);
      textured.push(pairPrompt('texture', t1, t2));
    }
    for (const colours of pairs(COLOURS)) {
      const [c1, c2] = wanted(colours);
      coloured.push(pairPrompt('colour', c1, c2));
      for (const count of [2, 3]) several.push(numberPrompt(count, c1, c2));
      for (const relation of RELATIONS) {
        spatial.push(pairPrompt('spatial', c1, c2, relation));
        for (const textures of texturePairs) {
          const [x1, x2] = wanted(colours, textures);
          complex.push(pairPrompt('complex', x1, x2, relation));
        }
      }
    }
  }
  const alike = [2, 3, 4].flatMap((count) =>
    SHAPES.flatMap((shape) =>
      COLOURS.map((colour) => numberPrompt(count, { shape, colour, texture: null }, null)),
    ),
  );
  return {
    colour: [coloured],
    shape: [plain],
    texture: [textured],
    spatial: [spatial],
    numeracy: [alike, several],
    complex: [complex],
  };
}

/** Whether a prompt names a held-out pair of shape and colour. */
export function namesHeldOut(prompt: Pick<ShapesPrompt, 'objects'>): boolean {
  return prompt.objects.some((o) => o.colour !== null && isHeldOut(o.shape, o.colour));
}

const FORMS = buildForms();
const EVERY: readonly ShapesPrompt[] = FAMILIES.flatMap((family) => FORMS[family].flat());
const BY_TEXT: ReadonlyMap<string, ShapesPrompt> = new Map(EVERY.map((p) => [p.text, p]));

/** The forms of a family, of the seen (false) or the held-out (true) prompts; empty ones left out. */
const SPLIT_FORMS = new Map(
  [false, true].map((heldOut) => {
    const of = (family: Family) =>
      FORMS[family]
        .map((form) => form.filter((prompt) => namesHeldOut(prompt) === heldOut))
        .filter((form) => form.length > 0);
    return [heldOut, new Map(FAMILIES.map((family) => [family, of(family)]))] as const;
  }),
);

/** Which prompts are meant. */
export interface PromptOptions {
  /** One family; all by default. */
  family?: Family;
  /** True: prompts that name a held-out pair. False: those that name none. */
  heldOut?: boolean;
}

/** Every prompt of the grammar, once, in a fixed order; both sets when `heldOut` is left out. */
export function allPrompts(options: PromptOptions = {}): ShapesPrompt[] {
  const { family, heldOut } = options;
  return EVERY.filter(
    (prompt) =>
      (family === undefined || prompt.family === family) &&
      (heldOut === undefined || namesHeldOut(prompt) === heldOut),
  );
}

/**
 * A random prompt, of the seen set unless `heldOut` is true. Families are equally likely, then the
 * forms of sentences within a family, then the prompts of that form. Prompts about shapes or textures
 * name no colours, so they are all seen ones.
 *
 * @throws ConfigError ERR_OPTION when the family has no held-out prompts but one is asked for.
 */
export function drawPrompt(random: Random, options: PromptOptions = {}): ShapesPrompt {
  const byFamily = SPLIT_FORMS.get(options.heldOut ?? false) as Map<Family, ShapesPrompt[][]>;
  const families = FAMILIES.filter((family) => byFamily.get(family)?.length !== 0);
  const family = options.family ?? choose(random, families);
  const forms = byFamily.get(family) ?? [];
  if (forms.length === 0) {
    throw new ConfigError('ERR_OPTION', 'the family has no such prompts', {
      key: 'family',
      expected: families.join(', '),
      found: family,
    });
  }
  return choose(random, choose(random, forms));
}

/** What a text of the grammar asks for, whatever its case and outer blanks; null for other texts. */
export function parsePrompt(text: string): ShapesPrompt | null {
  return BY_TEXT.get(text.trim().toLowerCase()) ?? null;
}

/** Options of {@link sceneFor}. */
export interface SceneForOptions {
  /** Colours that the prompt leaves free may make held-out pairs; they do not by default. */
  heldOut?: boolean;
}

/**
 * A random scene that is exactly what the prompt asks for, in reading order: textures that are not
 * named are solid, colours that are not named are equally likely.
 */
export function sceneFor(
  prompt: ShapesPrompt,
  random: Random,
  options: SceneForOptions = {},
): Scene {
  const cells: readonly number[] =
    prompt.relation === null
      ? shuffled(
          random,
          Array.from({ length: CELLS }, (_, cell) => cell),
        )
      : choose(random, RELATION_CELLS[prompt.relation]);
  const free = (shape: Shape) =>
    options.heldOut === true ? choose(random, COLOURS) : seenColour(random, shape);
  const objects = prompt.objects.map(({ shape, colour, texture }, i) =>
    placed(random, { shape, colour: colour ?? free(shape), texture: texture ?? 'solid' }, cells[i]),
  );
  return { objects: readingOrder(objects) };
}

/**
 * The prompt with its decisive attributes exchanged: the two colours; without colours the two
 * textures; for several objects of one kind the next number of two, three, four, two. Null where there
 * is nothing to exchange (family `shape`). The result never describes a scene of the prompt itself,
 * and it may be a held-out prompt where the prompt is a seen one.
 */
export function swapped(prompt: ShapesPrompt): ShapesPrompt | null {
  const { family, objects, relation } = prompt;
  const first = objects[0];
  const last = objects[objects.length - 1];
  if (family === 'shape') return null;
  if (family === 'texture') {
    return pairPrompt(
      family,
      { ...first, texture: last.texture },
      { ...last, texture: first.texture },
    );
  }
  if (family === 'numeracy' && first.shape === last.shape) {
    return numberPrompt(objects.length === 4 ? 2 : objects.length + 1, first, null);
  }
  const a = { ...first, colour: last.colour };
  const b = { ...last, colour: first.colour };
  if (family === 'numeracy') return numberPrompt(objects.length - 1, a, b);
  return pairPrompt(family, a, b, relation);
}

/** Pairs of relations that are each other's opposite. */
const OPPOSITES: Readonly<Record<Relation, Relation>> = {
  left: 'right',
  right: 'left',
  above: 'below',
  below: 'above',
};

/**
 * The prompt as somebody reads it who errs always in the same way: the relation is reversed; without
 * one the textures or the colours are exchanged, or the number is the next of two, three, four, two. Where
 * an exchange would name a held-out pair, the first object has the next colour that makes none (and is not
 * the other's), or the number changes. So a misread seen prompt is a seen prompt. Null where there is
 * nothing to misread (family `shape`); a scene of the prompt is never one of the misread prompt.
 */
export function misread(prompt: ShapesPrompt): ShapesPrompt | null {
  const { family, objects, relation } = prompt;
  const first = objects[0];
  const last = objects[objects.length - 1];
  if (relation !== null) return pairPrompt(family, first, last, OPPOSITES[relation]);
  const other = swapped(prompt);
  if (other === null || !namesHeldOut(other) || namesHeldOut(prompt)) return other;
  if (family === 'numeracy') return numberPrompt(objects.length === 3 ? 3 : 2, first, last);
  return pairPrompt(family, { ...first, colour: nextColour(first, last) }, last);
}

/** The colour after an object's own, in the order of COLOURS, that is free and makes no held-out pair. */
function nextColour(object: Wanted, other: Wanted): Colour {
  const from = COLOURS.indexOf(object.colour as Colour);
  const turned = COLOURS.map((_, i) => COLOURS[(from + 1 + i) % COLOURS.length]);
  return turned.find(
    (colour) => colour !== other.colour && !isHeldOut(object.shape, colour),
  ) as Colour;
}
