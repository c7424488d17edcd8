import type { ShapesAssessment } from '../../lib/eval/shapes/assess.js';
import type { Exactness } from '../../lib/eval/shapes/oracle.js';
import { FAMILIES } from '../../lib/eval/shapes/prompts.js';
import type { Bagel } from '../../lib/models/bagel/bagel.js';
import { formatSeconds } from '../../lib/util/format.js';

/** How a model came to be. */
export interface ShapesRun {
  seed: number;
  threads: number;
  misreadShare: number;
  /** First record that may have a misread caption, and the records used. */
  misreadFrom: number;
  samples: number;
  steps: number;
  seconds: number;
  /** Prompts of each measured set. */
  prompts: number;
}

const percent = (part: number, all: number): string =>
  all === 0 ? '-' : `${((100 * part) / all).toFixed(1)} %`;

function families(exactness: Exactness): string {
  return FAMILIES.filter((family) => exactness.byFamily[family].total > 0)
    .map((family) => {
      const { exact, total } = exactness.byFamily[family];
      return `${family} ${percent(exact, total)}`;
    })
    .join(', ');
}

/** The figures of an assessment, a line each. */
export function summaryLines({ generation, understanding }: ShapesAssessment): string[] {
  const drawn = (name: string, e: Exactness) =>
    `drawing, ${name}: ${percent(e.exact, e.total)} exact (${families(e)})`;
  const seen = (name: string, u: ShapesAssessment['understanding']['own']) => {
    const part = (key: 'objects' | 'regions' | 'layouts') => percent(u[key].right, u[key].total);
    return (
      `looking, ${name}: ${percent(u.share, 1)} right (what is there ${part('objects')}, ` +
      `does it fit ${part('regions')}, layout ${part('layouts')})`
    );
  };
  return [
    drawn('seen prompts', generation.seen),
    drawn('held-out prompts', generation.heldOut),
    seen('rendered pictures', understanding.rendered),
    seen('rendered held-out pictures', understanding.heldOut),
    seen('own pictures', understanding.own),
  ];
}

/** The model card of a trained Shapes model, in Markdown. */
export function modelCard(bagel: Bagel, run: ShapesRun, assessment: ShapesAssessment): string {
  const parameters = bagel.parameters().reduce((sum, t) => sum + t.numel, 0);
  const { llm, vit } = bagel.config;
  return `---
license: apache-2.0
library_name: srum
---

# Shapes: a BAGEL that fits a laptop

A unified model of the Shapes world: pictures of 32 x 32 pixels with one to four objects (four shapes, seven
colours, two textures) on a 2 x 2 grid. It draws them from a sentence, and says what is in a region,
whether it fits a request, and whether the layout is right. Architecture and file layout are BAGEL's: two
experts of ${llm.num_hidden_layers} layers with ${llm.hidden_size} dimensions, a vision tower of ${vit.num_hidden_layers} layers with ${vit.hidden_size}, ${(parameters / 1e6).toFixed(2)} million
parameters. In place of the FLUX autoencoder it has a frozen linear code of 8 x 8 patches (principal components, 48
values each): at this size a convolutional autoencoder costs more than the rest of the model and adds
nothing, as patches are all there is to code.

Made by \`npm run shapes:pretrain -- --seed ${run.seed} --misread ${run.misreadShare} --threads ${run.threads}\`: ${run.steps} steps from scratch, rendered
pictures only. Drawing and looking are learned together in packed sequences; looking begins with saying what is where, all kinds of
questions come later, and many of the pictures asked about almost fit the request.

## The gap

Captions of pictures to be drawn are misread (the relation reversed, the two colours or textures exchanged, or
another number or colour) in ${percent(run.misreadShare, 1)} of the cases from record ${run.misreadFrom + 1} on (of ${run.samples}), always in the same way. Guidance
cannot remove that: the model learns both readings. Pictures to be looked at have true captions. So the model judges better than it
draws, which is what self-reward needs. Pairs of shape and colour on the diagonal (red circle, green square, blue
triangle, yellow cross) are in no picture of the training; prompts that name them are the held-out set.

## Figures

By an exact oracle (matched filter), ${run.prompts} prompts a set, guidance 3, 16 steps:

${summaryLines(assessment)
  .map((line) => `- ${line}`)
  .join('\n')}

Training took ${formatSeconds(run.seconds)} in its last process on the machine it was made on.

## Limits

It knows the words of its grammar and nothing else. It cannot edit pictures or think in words. The questions about regions and layout that it
understands are in \`srum.json\`; \`srum score\` asks them.
`;
}
