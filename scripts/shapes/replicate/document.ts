import type { LossSeries } from '../../../lib/app/loss-curve.js';
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

function valuesAt(curves: readonly Curve[], step: number, key: 'seen' | 'heldOut'): number[] {
  return curves.flatMap(({ points }) => points.filter((p) => p.step === step).map((p) => p[key]));
}

/** Mean share of exact pictures on seen prompts by step, a curve for each arm. */
export function learningCurves({ base, curves }: Results): LossSeries[] {
  return ARMS.map(({ name }) => {
    const own = curves.filter(({ arm }) => arm === name);
    const steps = [...new Set(own.flatMap(({ points }) => points.map((p) => p.step)))].sort(
      (a, b) => a - b,
    );
    const points = steps.map(
      (step) => [step, 100 * estimate(valuesAt(own, step, 'seen')).mean] as const,
    );
    return { name, points: [[0, 100 * base.points[0].seen] as const, ...points] };
  }).filter(({ points }) => points.length > 1);
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
    const cells = settings.marks.map((step) => interval(estimate(valuesAt(own, step, 'seen'))));
    const held = interval(estimate(valuesAt(own, last, 'heldOut')));
    const looking = interval(estimate(own.map((c) => c.understanding)));
    const negative = percent(own.reduce((sum, c) => sum + c.negative, 0) / own.length);
    return `| ${[arm.name, arm.about, ...cells, held, looking, negative, arm.passes].join(' | ')} |`;
  }).filter((row) => row !== null);
  return `# Self-reward in miniature

Does a model that learns from its own judgement draw better, and better than one that learns from all of its
own pictures alike? The Shapes model draws ${settings.poolPictures} pictures for each of ${settings.seeds} seeds, judges them
itself, and is trained on them in ${rows.length} ways from the same start, with the same pictures, steps and learning rate
(${settings.lr}). An exact oracle, which no arm but those named after it ever asks, counts exact pictures.

\`${command}\`

Before: ${percent(start.seen)} % exact on seen prompts, ${percent(start.heldOut)} % on held-out ones (${settings.prompts} prompts each, the same
for all), ${percent(base.understanding)} % of the questions about rendered pictures answered rightly. Of the pools' pictures ${mean((p) => p.exact)} %
are exact; the judge finds nothing wrong with ${mean((p) => p.accepted)} %; ${mean((p) => p.regions)} % of its region scores and ${mean((p) => p.layouts)} % of its layout
scores are the true ones.

Exact pictures in percent, mean over seeds with 95 % intervals (Student's t), after as many steps; then
held-out prompts, understanding and share of tokens with a negative weight; passes: forward passes' worth of work per step.

| arm | what it does | ${settings.marks.map((m) => `${m} steps`).join(' | ')} | held out, ${last} | understanding | negative | passes |
| --- | --- | ${settings.marks.map(() => '---').join(' | ')} | --- | --- | --- | --- |
${rows.join('\n')}

![Exact pictures by training step](${plot})
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

Fresh pictures each round, seen / held-out prompts. \`frozen\`: the base model judges in every round; \`current\`: the model
judges itself as it is.

| judge | ${heads.join(' | ')} |
| --- | ${heads.map(() => '---').join(' | ')} |
${rows.join('\n')}
`;
}
