import path from 'node:path';
import { readGenerationRecords } from '../data/generation-record.js';
import { type RgbImage, readImage } from '../data/images.js';
import type { Prompt } from '../data/prompts.js';
import {
  GLOBAL_REWARD_NAME,
  type RewardRecord,
  type RewardRegion,
  readRewardRecords,
} from '../data/rewards.js';
import { FAMILIES } from '../eval/shapes/prompts.js';
import { globalScoreOf } from '../reward/reward-map.js';
import { buildRewardMap } from '../train/reward-maps.js';
import { readBytes, writeFileAtomic } from '../util/files.js';
import { formatCount } from '../util/format.js';
import { type ContactCell, contactSheet } from './contact-sheet.js';
import { heatMap } from './heat-map.js';
import { lossCurvePng, lossCurveSvg } from './loss-curve.js';
import { type Report, type ReportBlock, type ReportImage, renderReport } from './report.js';
import type { BeforeAfter, DemoFigures } from './stages/demo-figures.js';
import { OUTPUT_FILE } from './stages/generate-stage.js';
import { inspectModel } from './stages/inspect-stage.js';
import { type LoopReport, roundFolder } from './stages/loop-stage.js';
import { REWARDS_FILE } from './stages/score-stage.js';
import { lossSeries } from './stages/train-stage.js';

export interface DemoReportInput {
  out: string;
  prompts: readonly Prompt[];
  loop: LoopReport;
  /** Directory of the model the loop started from. */
  model: string;
  seed: number;
  figures: DemoFigures;
}

/** Prompts side by side in the contact sheet; more go below, up to a limit. */
const SHEET_COLUMNS = 8;
const SHEET_PROMPTS = 24;
/** Reward maps that are drawn. */
const MAPS = 12;

/** Pictures of one round by prompt id. */
type Pictures = Map<string, { file: string; image: RgbImage; seed: number }>;

/**
 * Writes the pictures of a finished loop (`contact-sheet.png`, `heat-maps/`, `loss.svg`, `loss.png`)
 * and `report.html`, which needs no other file.
 *
 * @returns the path of the report.
 */
export async function writeDemoReport(input: DemoReportInput): Promise<string> {
  const { out, loop } = input;
  const rounds = loop.rounds.map(({ round }) => round);
  const pictures = await Promise.all(rounds.map((round) => readPictures(out, round)));
  const sheet = await writeContactSheet(input, rounds, pictures);
  const heat = await writeHeatMaps(input, pictures[0]);
  const loss = await writeLossCurve(input);
  const file = path.join(out, 'report.html');
  const page = demoPage(input, { rounds, pictures, sheet, heat, loss });
  writeFileAtomic(file, renderReport(page));
  return file;
}

async function readPictures(out: string, round: number): Promise<Pictures> {
  const folder = roundFolder(out, round, 'generate');
  const { records } = readGenerationRecords(path.join(folder, OUTPUT_FILE));
  const found: Pictures = new Map();
  for (const { value } of records) {
    const file = path.join(folder, value.image_file);
    const image = await readImage(file);
    found.set(String(value.prompt_id), { file, image, seed: Number(value.seed) });
  }
  return found;
}

function headings(rounds: readonly number[]): string[] {
  return rounds.map((round, i) => (i === 0 ? 'before' : `after round ${round - 1}`));
}

async function writeContactSheet(
  { out, prompts: all }: DemoReportInput,
  rounds: readonly number[],
  pictures: readonly Pictures[],
): Promise<Buffer> {
  const prompts = all.slice(0, SHEET_PROMPTS);
  const columns = Math.min(prompts.length, SHEET_COLUMNS);
  const cells: ContactCell[] = [];
  const names: string[] = [];
  for (let start = 0; start < prompts.length; start += columns) {
    const group = prompts.slice(start, start + columns);
    for (const [row, of] of pictures.entries()) {
      names.push(headings(rounds)[row]);
      for (let column = 0; column < columns; column += 1) {
        cells.push(sheetCell(of, group[column], row === pictures.length - 1));
      }
    }
  }
  const png = await contactSheet(cells, {
    title: 'Before and after',
    subtitle: 'Same prompts, same seeds; the model has learned from its own judgement only.',
    columns,
    rowHeadings: names,
    cellSize: 128,
  });
  writeFileAtomic(path.join(out, 'contact-sheet.png'), png);
  return png;
}

/** A picture of the sheet; the lowest of a prompt's carries its words. */
function sheetCell(of: Pictures, prompt: Prompt | undefined, lowest: boolean): ContactCell {
  if (prompt === undefined) return { blank: true };
  const picture = of.get(String(prompt.Question_id));
  const words = { label: prompt.Question, note: `seed ${picture?.seed ?? 'none'}` };
  return { image: picture?.image, ...(lowest ? words : {}) };
}

interface HeatMap {
  record: RewardRecord;
  png: Buffer;
}

/** Reward maps of the first round, as training used them. */
async function writeHeatMaps({ out }: DemoReportInput, pictures: Pictures): Promise<HeatMap[]> {
  const score = roundFolder(out, 1, 'score');
  const byFile = new Map([...pictures.values()].map((p) => [path.basename(p.file), p]));
  const maps: HeatMap[] = [];
  for (const { value: record } of readRewardRecords(path.join(score, REWARDS_FILE)).records) {
    const picture = byFile.get(record.bad_image_file);
    if (picture === undefined) continue;
    if (maps.length === MAPS) break;
    const png = await rewardPicture(picture.image, record);
    writeFileAtomic(path.join(out, 'heat-maps', record.bad_image_file), png);
    maps.push({ record, png });
  }
  return maps;
}

/** The reward map of one record over its picture, as training used it; `size` as for `heatMap`. */
export function rewardPicture(
  image: RgbImage,
  record: RewardRecord,
  size?: number,
): Promise<Buffer> {
  const { width, height } = image;
  const map = buildRewardMap('strict', record.vlm_rewards, { width, height });
  return heatMap(image, map, {
    title: 'Reward map',
    caption: record.prompt,
    regions: regionsOf(record).map(({ bbox, score, object }, i) => ({
      box: bbox,
      label: object ?? `region ${i + 1}`,
      score,
    })),
    span: Math.max(0.05, ...map.data.map(Math.abs)),
    size,
  });
}

function regionsOf(record: RewardRecord): RewardRegion[] {
  const rewards = (record.vlm_rewards ?? []) as RewardRegion[];
  return rewards.filter(({ object }) => object !== GLOBAL_REWARD_NAME);
}

async function writeLossCurve({ out, loop }: DemoReportInput): Promise<string | null> {
  const trained = loop.rounds.flatMap(({ round, train }) =>
    train === null ? [] : [{ round, series: lossSeries(train.metrics) }],
  );
  const series =
    trained.length === 1
      ? trained[0].series
      : trained.map(({ round, series: [loss] }) => ({ ...loss, name: `round ${round}` }));
  if (series.every((curve) => curve === undefined || curve.points.length === 0)) return null;
  const svg = lossCurveSvg(series);
  writeFileAtomic(path.join(out, 'loss.svg'), svg);
  writeFileAtomic(path.join(out, 'loss.png'), await lossCurvePng(series));
  return svg;
}

const share = ({ exact, total }: { exact: number; total: number }): string =>
  total === 0 ? '-' : `${((100 * exact) / total).toFixed(1)} %`;

/** How many pictures were exactly what was asked for, before and after, by family of prompts. */
function countBlocks({ loop, fresh }: DemoFigures): ReportBlock[] {
  const rows = (name: string, { before, after }: BeforeAfter) => [
    [name, before.total, share(before), share(after)],
    ...FAMILIES.filter((family) => before.byFamily[family].total > 0).map((family) => [
      `· ${family}`,
      before.byFamily[family].total,
      share(before.byFamily[family]),
      share(after.byFamily[family]),
    ]),
  ];
  return [
    {
      kind: 'text',
      text: 'An oracle, which training never asks, compares every picture with all objects the world has. A picture is exact when everything in it is as requested: number, shapes, colours, surfaces, places.',
    },
    {
      kind: 'table',
      table: {
        caption: 'Exact pictures',
        columns: ['prompts', 'pictures', 'before', 'after'],
        rows: [
          ...(loop === null ? [] : rows('of the loop', loop)),
          ...rows('other prompts', fresh),
        ],
      },
    },
  ];
}

interface Shown {
  rounds: readonly number[];
  pictures: readonly Pictures[];
  sheet: Buffer;
  heat: readonly HeatMap[];
  loss: string | null;
}

function demoPage(input: DemoReportInput, shown: Shown): Report {
  const { prompts, loop, model, seed } = input;
  const { parameters, architecture } = inspectModel(model);
  const total = Object.values(parameters).reduce((a, b) => a + b, 0);
  const turns = shown.rounds.length - 1;
  const steps = loop.rounds.reduce((sum, { train }) => sum + (train?.step ?? 0), 0);
  const names = headings(shown.rounds);
  const picture = (of: Pictures, id: string, name: string): ReportImage[] => {
    const found = of.get(id);
    if (found === undefined) return [];
    return [
      { data: readBytes(found.file), alt: `picture ${name}`, caption: name, pixelated: true },
    ];
  };
  return {
    title: turns === 1 ? 'SRUM: one turn of the loop' : `SRUM: ${turns} turns of the loop`,
    subtitle:
      'A model draws, grades its own pictures region by region, and is trained on the grades. All of it ran on this machine.',
    facts: [
      { label: 'prompts', value: String(prompts.length) },
      { label: 'rounds', value: String(turns) },
      { label: 'training steps', value: String(steps) },
      { label: 'parameters', value: formatCount(total) },
      { label: 'seed', value: String(seed) },
      { label: 'exact before', value: share(input.figures.fresh.before) },
      { label: 'exact after', value: share(input.figures.fresh.after) },
    ],
    sections: [
      { title: 'What the oracle counted', blocks: countBlocks(input.figures) },
      {
        title: 'Before and after',
        blocks: [
          {
            kind: 'text',
            text: 'The same prompts from the same noise, drawn by the model before training and by the model it exported.',
          },
          {
            kind: 'comparison',
            headings: names,
            rows: prompts.slice(0, SHEET_PROMPTS).map(({ Question, Question_id }) => ({
              prompt: Question,
              images: shown.pictures.flatMap((of, i) => picture(of, String(Question_id), names[i])),
            })),
          },
        ],
      },
      {
        title: 'What the model thought of its pictures',
        blocks: [
          {
            kind: 'text',
            text: 'Boxes were proposed, the model named and graded each, and graded the layout. Blue is rewarded, red is discouraged; the colours show the map that training used. These are the first pictures; all scores are in round-1/score/rewards.jsonl.',
          },
          {
            kind: 'images',
            images: shown.heat.map(({ record, png }) => ({
              data: png,
              alt: `reward map of ${record.prompt}`,
            })),
          },
          {
            kind: 'table',
            table: {
              caption: 'Scores, from -1 to 1',
              columns: ['prompt', 'region', { title: 'score', score: true }],
              rows: shown.heat.flatMap(({ record }) => [
                [record.prompt ?? '', 'layout', globalScoreOf(record.vlm_rewards) as number | null],
                ...regionsOf(record).map(({ bbox, score, object }, i): [string, string, number] => [
                  '',
                  `${object ?? `region ${i + 1}`} [${bbox.join(', ')}]`,
                  score,
                ]),
              ]),
            },
          },
        ],
      },
      {
        title: 'Training',
        blocks:
          shown.loss === null
            ? [{ kind: 'text', text: 'No steps were logged.' }]
            : [
                { kind: 'images', images: [{ data: shown.loss, alt: 'loss by training step' }] },
                {
                  kind: 'text',
                  text: 'The loss is a mean over random times and noise, and with signed rewards it may be negative.',
                },
              ],
      },
      {
        title: 'The model',
        blocks: [
          {
            kind: 'table',
            table: {
              columns: ['part', 'parameters'],
              rows: Object.entries(parameters),
            },
          },
          { kind: 'settings', settings: { ...architecture.llm } },
        ],
      },
    ],
    footer: `Made by srum demo. To run the same on a real model: srum loop --help`,
  };
}
