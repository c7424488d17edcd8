import { ARMS } from './arms.js';
import type { Curve, CurveSettings } from './curve.js';
import type { Rounds } from './rounds.js';
import { type Estimate, estimate } from './statistics.js';

/** Everything the document tells. */
export interface Results {
  settings: CurveSettings & { seeds: number; poolPictures: number };
  base: Curve;
  /** Curves of all arms and seeds that are done. */
  curves: readonly Curve[];
  /** Accuracy of the judge on each seed's pool, and the pool's share of exact pictures. */
  pools: ReadonlyArray<{ regions: number; layouts: number; exact: number; accepted: number }>;
  /** Rounds of self-improvement; empty when they were not run. */
  rounds: readonly Rounds[];
  command: string;
  /** Path of the plot from the document. */
  plot: string;
}

const percent = (value: number): string => (100 * value).toFixed(1);

const interval = ({ mean, halfWidth }: Estimate): string =>
  halfWidth === null ? percent(mean) : `${percent(mean)} ± ${percent(halfWidth)}`;

/** The figures of some curves after so much work. */
export function valuesAt(
  curves: readonly Curve[],
  work: number,
  key: 'seen' | 'heldOut',
): number[] {
  return curves.flatMap(({ points }) => points.filter((p) => p.work === work).map((p) => p[key]));
}

/** The result as a Markdown document. */
export function resultsDocument(results: Results): string {
  const { settings, base, curves, pools, command, plot } = results;
  const [start] = base.points;
  const last = settings.marks[settings.marks.length - 1];
  const mean = (of: (pool: Results['pools'][number]) => number) =>
    percent(pools.reduce((sum, pool) => sum + of(pool), 0) / Math.max(1, pools.length));
  const rows = ARMS.map((arm) => {
    const own = curves.filter((curve) => curve.arm === arm.name);
    if (own.length === 0) return null;
    const cells = settings.marks.map((work) => interval(estimate(valuesAt(own, work, 'seen'))));
    const held = interval(estimate(valuesAt(own, last, 'heldOut')));
    const looking = interval(estimate(own.map((c) => c.understanding)));
    const negative = percent(own.reduce((sum, c) => sum + c.negative, 0) / own.length);
    return `| ${[arm.name, arm.about, ...cells, held, looking, negative, arm.passes].join(' | ')} |`;
  }).filter((row) => row !== null);
  return `# Self-reward in miniature

Does a model that learns from its own judgement draw better, and better than one that learns from all of its
own pictures alike? The Shapes model draws ${settings.poolPictures} pictures for each of ${settings.seeds} seeds, judges them
itself, and is trained on them in ${rows.length} ways from the same start, with the same pictures, work and learning rate
(${settings.lr}). An exact oracle, which no arm but those named after it ever asks, counts exact pictures.

\`${command}\`

Before: ${percent(start.seen)} % exact on seen prompts, ${percent(start.heldOut)} % on held-out ones (${settings.prompts} prompts each, the same
for all), ${percent(base.understanding)} % of the questions about rendered pictures answered rightly. Of the pools' pictures ${mean((p) => p.exact)} %
are exact; the judge finds nothing wrong with ${mean((p) => p.accepted)} %; ${mean((p) => p.regions)} % of its region scores and ${mean((p) => p.layouts)} % of its layout
scores are the true ones.

Exact pictures in percent, mean over seeds with 95 % intervals (Student's t), after equal work, which is counted in forward
passes of a batch (a training step is 3 of them, or 4 where the base model is asked too: last column); then held-out prompts,
understanding, and the share of tokens with a negative weight. Seeds differ in pictures and training; prompts and noise to
measure with are the same, so the intervals are those of a run and not of the choice of prompts.

| arm | what it does | ${settings.marks.map((m) => `${m} passes`).join(' | ')} | held out, ${last} | understanding | negative | passes a step |
| --- | --- | ${settings.marks.map(() => '---').join(' | ')} | --- | --- | --- | --- |
${rows.join('\n')}

![Exact pictures by work, and at its end with intervals](${plot})
${roundsSection(results)}`;
}

function roundsSection({ rounds }: Results): string {
  if (rounds.length === 0) return '';
  const rows = rounds.map(({ judge, points }) => {
    const cells = points.map(({ seen, heldOut }) => `${interval(seen)} / ${interval(heldOut)}`);
    return `| ${[judge, ...cells].join(' | ')} |`;
  });
  const heads = rounds[0].points.map((_, i) => (i === 0 ? 'before' : `round ${i}`));
  return `
## Several rounds

The pictures and the work of one run of \`nft\`, shared among the rounds; each draws and judges its own. Exact pictures of
seen / held-out prompts. \`frozen\`: the base model judges in every round; \`current\`: the model
judges itself as it is.

| judge | ${heads.join(' | ')} |
| --- | ${heads.map(() => '---').join(' | ')} |
${rows.join('\n')}
`;
}
