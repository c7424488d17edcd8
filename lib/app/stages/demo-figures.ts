import fs from 'node:fs';
import path from 'node:path';
import { readGenerationRecords } from '../../data/generation-record.js';
import { type RgbImage, readImage } from '../../data/images.js';
import type { Prompt } from '../../data/prompts.js';
import { probePrompts } from '../../eval/shapes/assess.js';
import { drawPictures } from '../../eval/shapes/measure.js';
import { type Exactness, exactness, Oracle } from '../../eval/shapes/oracle.js';
import { parsePrompt, type ShapesPrompt } from '../../eval/shapes/prompts.js';
import { readJsonFile, writeJsonFile } from '../../util/jsonl.js';
import { OUTPUT_FILE } from './generate-stage.js';
import { type LoopReport, roundFolder } from './loop-stage.js';
import { modelFingerprint, openModel } from './model-session.js';

/** Exact pictures of the first model and of the last. */
export interface BeforeAfter {
  before: Exactness;
  after: Exactness;
}

/** What the oracle counted. */
export interface DemoFigures {
  /** Pictures of the loop itself; null when none of its prompts is of the world's grammar. */
  loop: BeforeAfter | null;
  /** Pictures of other prompts, which training has not seen. */
  fresh: BeforeAfter;
}

export interface DemoFigureOptions {
  out: string;
  prompts: readonly Prompt[];
  loop: LoopReport;
  /** Directory of the model the loop started from. */
  model: string;
  seed: number;
  /** Other prompts to draw. */
  fresh: number;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

const FILE = 'figures.json';

/**
 * Has the oracle of the Shapes world count the exact pictures before and after a loop. The figures are
 * kept in `figures.json` and not made again for the same models.
 */
export async function demoFigures(options: DemoFigureOptions): Promise<DemoFigures> {
  const { out, loop, model, seed, fresh } = options;
  const file = path.join(out, FILE);
  const key = [modelFingerprint(model), modelFingerprint(loop.model), seed, fresh].join(' ');
  if (fs.existsSync(file)) {
    const kept = readJsonFile(file) as DemoFigures & { key?: string };
    if (kept.key === key) return { loop: kept.loop, fresh: kept.fresh };
  }
  const oracle = new Oracle();
  try {
    const rounds = loop.rounds.map(({ round }) => round);
    const before = await loopPictures(out, rounds[0], options.prompts);
    const after = await loopPictures(out, rounds[rounds.length - 1], options.prompts);
    const count = (drawn: Drawn) => exactness(oracle, drawn.prompts, drawn.images);
    const others = probePrompts(seed + 1, fresh, false);
    const draw = async (dir: string, from: number) => {
      const images = await drawFresh(dir, others, options, from);
      return exactness(oracle, others, images);
    };
    const figures: DemoFigures = {
      loop: before.prompts.length === 0 ? null : { before: count(before), after: count(after) },
      fresh: { before: await draw(model, 0), after: await draw(loop.model, fresh) },
    };
    writeJsonFile(file, { key, ...figures });
    return figures;
  } finally {
    oracle.dispose();
  }
}

interface Drawn {
  prompts: ShapesPrompt[];
  images: RgbImage[];
}

/** The pictures of a round whose prompts the oracle understands. */
async function loopPictures(out: string, round: number, all: readonly Prompt[]): Promise<Drawn> {
  const folder = roundFolder(out, round, 'generate');
  const { records } = readGenerationRecords(path.join(folder, OUTPUT_FILE));
  const wanted = new Map(all.map((p) => [String(p.Question_id), parsePrompt(p.Question)]));
  const drawn: Drawn = { prompts: [], images: [] };
  for (const { value } of records) {
    const prompt = wanted.get(String(value.prompt_id)) ?? null;
    if (prompt === null) continue;
    drawn.prompts.push(prompt);
    drawn.images.push(await readImage(path.join(folder, value.image_file)));
  }
  return drawn;
}

async function drawFresh(
  dir: string,
  prompts: readonly ShapesPrompt[],
  { seed, fresh, signal, onProgress }: DemoFigureOptions,
  from: number,
): Promise<RgbImage[]> {
  const session = openModel({ model: dir, device: 'cpu' });
  try {
    return await drawPictures(session.parts, prompts, {
      seed: seed + 1,
      signal,
      onProgress: (done) => onProgress?.(from + done, 2 * fresh),
    });
  } finally {
    session.dispose();
  }
}
