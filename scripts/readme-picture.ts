import path from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { contactSheet } from '../lib/app/contact-sheet.js';
import { rewardPicture } from '../lib/app/demo-report.js';
import { lossCurveSvg } from '../lib/app/loss-curve.js';
import { compose, type Layer, rasterize } from '../lib/app/picture.js';
import type { DemoFigures } from '../lib/app/stages/demo-figures.js';
import { lossSeries } from '../lib/app/stages/train-stage.js';
import { readGenerationRecords } from '../lib/data/generation-record.js';
import { readImage } from '../lib/data/images.js';
import { readRewardRecords } from '../lib/data/rewards.js';
import { isExact, Oracle, parsePrompt } from '../lib/eval/shapes/index.js';
import { packageRoot } from '../lib/native/paths.js';
import { writeFileAtomic } from '../lib/util/files.js';
import { readJsonFile } from '../lib/util/jsonl.js';

// Composes the README's picture from a folder that `srum demo` left:
// pictures before and after, what the model thought of some of them, and the loss.
//
//   node dist/lib/cli/main.js demo --out srum-demo
//   node dist/scripts/readme-picture.js srum-demo docs/images/demo.png

const WIDTH = 1200;
const MARGIN = 28;
const SHOWN = 6;
const MAPS = 2;
const MAP_SIZE = 230;
const COLOURS = 128;

/** Ids of the first prompts whose picture before training was not what they ask for. */
async function wrongAtFirst(demo: string): Promise<Set<string>> {
  const folder = path.join(demo, 'round-1', 'generate');
  const oracle = new Oracle();
  const ids = new Set<string>();
  try {
    for (const { value } of readGenerationRecords(path.join(folder, 'output.jsonl')).records) {
      const prompt = parsePrompt(value.original_prompt);
      const image = await readImage(path.join(folder, value.image_file));
      const [objects] = oracle.recognise([image]);
      if (prompt !== null && !isExact(prompt, objects)) ids.add(String(value.prompt_id));
      if (ids.size === SHOWN) break;
    }
    return ids;
  } finally {
    oracle.dispose();
  }
}

/** The pictures of some prompts in each round, one round a row. */
async function sheet(demo: string, ids: ReadonlySet<string>): Promise<Buffer> {
  const rounds = [1, 2].map((round) => path.join(demo, `round-${round}`, 'generate'));
  const rows = rounds.map((folder) => {
    const { records } = readGenerationRecords(path.join(folder, 'output.jsonl'));
    const shown = records.filter(({ value }) => ids.has(String(value.prompt_id)));
    return shown.map(({ value }) => ({ folder, ...value }));
  });
  const columns = rows[0].length;
  const cells = rows.flatMap((row, i) =>
    row.map(async ({ folder, image_file, original_prompt }) => ({
      image: await readImage(path.join(folder, image_file)),
      label: i === rows.length - 1 ? original_prompt : undefined,
    })),
  );
  const room = WIDTH - 2 * MARGIN - 26 - (columns - 1) * 20;
  return contactSheet(await Promise.all(cells), {
    title: 'One turn of the loop: the first six pictures that were wrong, and what became of them',
    subtitle: countLine(readJsonFile(path.join(demo, 'figures.json')) as DemoFigures),
    columns,
    rowHeadings: ['before', 'after'],
    cellSize: Math.floor(room / columns),
  });
}

/** What the oracle counted over prompts that the training did not see. */
function countLine({ fresh: { before, after } }: DemoFigures): string {
  const share = ({ exact, total }: { exact: number; total: number }): string =>
    `${Math.round((100 * exact) / total)} %`;
  return (
    `Exactly what was asked for, over ${before.total} other prompts: ${share(before)} before, ` +
    `${share(after)} after. The model has learned from its own judgement only.`
  );
}

async function picture(demo: string): Promise<Buffer> {
  const ids = await wrongAtFirst(demo);
  const top = await sheet(demo, ids);
  const { width = WIDTH, height = 0 } = await sharp(top).metadata();
  const { records } = readRewardRecords(path.join(demo, 'round-1', 'score', 'rewards.jsonl'));
  const layers: Layer[] = [{ input: top, left: 0, top: 0 }];
  let left = 0;
  let lowest = 0;
  const wrong = records.filter(({ value }) => ids.has(path.parse(value.bad_image_file).name));
  for (const { value } of wrong.slice(0, MAPS)) {
    const file = path.join(demo, 'round-1', 'generate', value.bad_image_file);
    const input = await rewardPicture(await readImage(file), value, MAP_SIZE);
    const info = await sharp(input).metadata();
    layers.push({ input, left, top: height - 8 });
    left += info.width ?? 0;
    lowest = Math.max(lowest, info.height ?? 0);
  }
  const svg = lossCurveSvg(lossSeries(path.join(demo, 'round-1', 'train', 'metrics.jsonl')), {
    width: width - left,
    height: lowest,
  });
  layers.push({ input: await rasterize(svg, 1), left, top: height - 8 });
  const whole = await compose({ width, height: height - 8 + lowest }, '#ffffff', layers, '');
  // A palette is enough for a picture that is looked at in a page, and a quarter of the size.
  return sharp(whole).png({ palette: true, colours: COLOURS, effort: 10 }).toBuffer();
}

const { positionals } = parseArgs({ allowPositionals: true });
const [demo = 'srum-demo', out = path.join(packageRoot(), 'docs', 'images', 'demo.png')] =
  positionals;
const png = await picture(demo);
writeFileAtomic(out, png);
console.log(`${out}: ${Math.round(png.length / 1000)} kB`);
