import { ARMS } from './arms.js';
import type { Curve, CurveSettings } from './curve.js';
import type { Rounds } from './rounds.js';
import { type Estimate, estimate } from './statistics.js';

/** Everything the document tells. */
export interface Results {
  settings: CurveSettings & { seeds: number; poolPictures: number };
  /** The model before training, for each seed. */
  bases: readonly Curve[];
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

type Key = 'seen' | 'heldOut';

/** The figures of some curves after so much work, one for each seed. */
export function valuesAt(curves: readonly Curve[], work: number, key: Key): number[] {
  return curves.flatMap(({ points }) => points.filter((p) => p.work === work).map((p) => p[key]));
}

/** What an arm has gained over others at the end, seed by seed: the same prompts, noise and pool. */
export function gainOver(
  others: readonly Curve[],
  own: readonly Curve[],
  key: Key,
): Estimate | null {
  const gains = own.flatMap(({ seed, points }) => {
    const other = others.find((curve) => curve.seed === seed)?.points.at(-1);
    const last = points.at(-1);
    return other === undefined || last === undefined ? [] : [last[key] - other[key]];
  });
  return gains.length === 0 ? null : estimate(gains);
}

/** The result as a Markdown document. */
export function resultsDocument(results: Results): string {
  const { settings, bases, curves, pools, plot } = results;
  const last = settings.marks[settings.marks.length - 1];
  const poolMean = (of: (pool: Results['pools'][number]) => number) =>
    percent(estimate(pools.map(of)).mean);
  const arms = ARMS.map((arm) => ({
    ...arm,
    own: curves.filter((curve) => curve.arm === arm.name),
  })).filter(({ own }) => own.length > 0);
  const before = (key: Key) => interval(estimate(valuesAt(bases, 0, key)));
  const looking = (of: readonly Curve[]) => interval(estimate(of.map((c) => c.understanding)));
  const base = ['base', 'before training', ...settings.marks.map(() => before('seen'))];
  const rows = arms.map(({ name, about, own, passes }) => {
    const cells = settings.marks.map((work) => interval(estimate(valuesAt(own, work, 'seen'))));
    const held = interval(estimate(valuesAt(own, last, 'heldOut')));
    const negative = percent(estimate(own.map((c) => c.negative)).mean);
    return row([name, about, ...cells, held, looking(own), negative, passes]);
  });
  const sft = curves.filter(({ arm }) => arm === 'sft');
  const gains = arms.map(({ name, own }) => {
    const cells = [bases, sft].flatMap((others) =>
      (['seen', 'heldOut'] as const).map((key) => gain(gainOver(others, own, key))),
    );
    return row([name, ...cells]);
  });
  return `# Self-reward in miniature

Does a model that learns from its own judgement draw better, and better than one that learns from all of its
own pictures alike? The Shapes model draws ${settings.poolPictures} pictures for each of ${settings.seeds} seeds, judges them
itself, and is trained on them in ${arms.length} ways from the same start, with the same pictures, work and learning rate
(${settings.lr}). An exact oracle, which no arm but those named after it ever asks, counts exact pictures.

${commandsSection(results)}
## Exact pictures

In percent, mean over seeds with 95 % intervals (Student's t), after equal work, which is counted in forward passes of a batch:
a training step is 3 of them, or 4 where the base model is asked too (last column). Then held-out prompts, right answers about
rendered pictures, and the share of tokens with a negative weight. Every seed has its own pool, training, and ${settings.prompts} prompts of
each set to measure with.

${table(
  [
    ...['arm', 'what it does', ...settings.marks.map((m) => `${m} passes`), `held out, ${last}`],
    ...['understanding', 'negative', 'passes a step'],
  ],
  [row([...base, before('heldOut'), looking(bases), '-', '-']), ...rows],
)}

Of the pools' pictures ${poolMean((p) => p.exact)} % are exact; the judge finds nothing wrong with ${poolMean((p) => p.accepted)} %; ${poolMean((p) => p.regions)} % of its region
scores and ${poolMean((p) => p.layouts)} % of its layout scores are the true ones.

## Gains

After ${last} passes, in percentage points, over the model before training and over \`sft\`: differences seed by seed, on the same
prompts and from the same noise, with their 95 % intervals; an asterisk where the interval leaves out zero.

${table(['arm', 'base, seen', 'base, held out', 'sft, seen', 'sft, held out'], gains)}

![Exact pictures by work, and gains with intervals](${plot})
${roundsSection(results)}`;
}

const row = (cells: ReadonlyArray<string | number>): string => `| ${cells.join(' | ')} |`;

const table = (heads: readonly string[], rows: readonly string[]): string =>
  [row(heads), row(heads.map(() => '---')), ...rows].join('\n');

/** A difference with its sign. */
function gain(estimated: Estimate | null): string {
  if (estimated === null) return '-';
  const { mean, halfWidth } = estimated;
  const sign = mean > 0 ? '+' : '';
  const apart = halfWidth !== null && Math.abs(mean) > halfWidth ? ' *' : '';
  return `${sign}${interval(estimated)}${apart}`;
}

function commandsSection({ command }: Results): string {
  return `\`\`\`sh
${command}
\`\`\`

The model comes with the package; its [card](../../assets/shapes/README.md) has the command that made it. One arm of them on
its own: \`npm run shapes:replicate -- --arms nft --rounds 0\`.
`;
}

function roundsSection({ rounds }: Results): string {
  if (rounds.length === 0) return '';
  const rows = rounds.map(({ judge, points }) =>
    row([judge, ...points.map(({ seen, heldOut }) => `${interval(seen)} / ${interval(heldOut)}`)]),
  );
  const heads = rounds[0].points.map((_, i) => (i === 0 ? 'before' : `round ${i}`));
  return `
## Several rounds

The pictures and the work of one run of \`nft\`, shared among the rounds; each draws and judges its own. Exact pictures of
seen / held-out prompts. \`frozen\`: the base model judges in every round; \`current\`: the model judges itself as it is.

${table(['judge', ...heads], rows)}
`;
}
