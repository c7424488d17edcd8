import { existsSync, readFileSync } from 'node:fs';
import type { RowDraws } from '../../lib/data/draws.js';
import { editSample } from '../../lib/data/edit.js';
import { RegionalRewardDataset } from '../../lib/data/regional-reward.js';
import type { Sample } from '../../lib/data/sample.js';
import { t2iSample } from '../../lib/data/t2i.js';
import { ByteTokenizer } from '../../lib/data/tokenizer.js';
import { parseVlmRecord, vlmSample } from '../../lib/data/vlm.js';
import { codeRewardMap, globalScoreOf } from '../../lib/reward/reward-map.js';
import { readJsonl } from '../../lib/util/jsonl.js';
import type { GoldenCase, Handler, Json } from './handler.js';
import { transformOf } from './transforms.js';

/** Compares a sample with what the index says about it; keys it does not give are not looked at. */
function expectSample(c: GoldenCase, label: string, sample: Sample, reference: Json): void {
  const sizes = sample.images.map(({ height, width }) => [height, width]);
  const single = typeof reference.image_hw?.[0] === 'number';
  const got: Record<string, unknown> = {
    text_ids: sample.textIdsList[0],
    text_ids_list: sample.textIdsList,
    num_tokens: sample.numTokens,
    sequence_plan: sample.sequencePlan,
    image_hw: single ? sizes[0] : sizes,
  };
  for (const key of Object.keys(reference)) {
    c.expectEqual(`${label}.${key}`, got[key] ?? null, reference[key]);
  }
}

async function regionalDataset(c: GoldenCase): Promise<void> {
  const dataset = new RegionalRewardDataset({
    jsonl: c.path(c.params.jsonl),
    badDir: c.dir,
    goodDir: c.dir,
    transform: transformOf(c.params.transform),
    tokenizer: new ByteTokenizer(c.specialTokens),
    buildMap: (rewards, size) => codeRewardMap(rewards, size, globalScoreOf(rewards) ?? 0),
    boxFrame: 'reference',
    tokenCount: 'reference',
  });
  const used: string[] = [];
  for (let i = 0; i < dataset.length; i++) {
    const line = String(dataset.lineOf(i) - 1);
    const sample = await dataset.trySample(i);
    if (sample === null) continue;
    used.push(line);
    const reference = c.params.lines[line];
    if (reference === undefined) continue;
    expectSample(c, `line ${line}`, sample, reference);
    const [image] = sample.images;
    // The target image is resized on its own: its size may differ from that of the input image.
    const planes = { reward_map: sample.rewardMap, image, gt_image: sample.gtImage };
    for (const [name, plane] of Object.entries(planes)) {
      const output = `line${line}/${name}`;
      if (!c.hasOutput(output) || plane === undefined) continue;
      const pixels = [plane.height, plane.width];
      c.expect(output, plane.data, name === 'reward_map' ? pixels : [3, ...pixels]);
    }
  }
  c.expectEqual('lines used', used, Object.keys(c.params.lines));
  const { lines, records } = dataset.report;
  const skipped = [...lines, ...records].map(({ line }) => line - 1).sort((a, b) => a - b);
  c.expectParam('skipped_lines', skipped);
}

async function vlmDataset(c: GoldenCase): Promise<void> {
  const transform = transformOf(c.params.transform);
  const tokenizer = new ByteTokenizer(c.specialTokens);
  const { records } = readJsonl(c.path(c.params.jsonl));
  for (const { line, value } of records) {
    const id = (value as Json).id;
    const build = () =>
      vlmSample(parseVlmRecord(value), c.dir, transform, tokenizer, {
        dataset: c.params.jsonl,
        row: line,
      });
    const reference = c.params.records[id];
    if (reference === undefined) await c.expectThrows(`record ${id}`, build);
    else expectSample(c, `record ${id}`, await build(), reference);
  }
  const ids = records.map(({ value }) => (value as Json).id);
  const skipped = ids.filter((id) => c.params.records[id] === undefined);
  c.expectParam('skipped', skipped);
}

/** Answers choices with the listed indexes (modulo the number of things) and uniform draws with the listed numbers. */
function listedDraws(choices: number[], uniforms: number[]): RowDraws {
  let choice = 0;
  let uniform = 0;
  return {
    choice: (count) => choices[choice++] % count,
    uniform: () => uniforms[uniform++],
  };
}

async function editDataset(c: GoldenCase): Promise<void> {
  const { params } = c;
  const sample = await editSample(
    {
      imageList: params.images.map((name: string) => readFileSync(c.path(name))),
      instructionList: params.instruction_list,
    },
    { vae: transformOf(params.vae_transform), vit: transformOf(params.vit_transform) },
    new ByteTokenizer(c.specialTokens),
    listedDraws(params.random_choices, params.uniform_draws),
    { dataset: c.id, row: 0 },
  );
  expectSample(c, 'row', sample, params.expected);
}

async function t2iDataset(c: GoldenCase): Promise<void> {
  const transform = transformOf(c.params.transform);
  const tokenizer = new ByteTokenizer(c.specialTokens);
  for (const [row, { image, captions }] of c.params.rows.entries()) {
    const file = c.path(image);
    const bytes = existsSync(file) ? readFileSync(file) : Buffer.from(image, 'utf8');
    const build = () =>
      t2iSample(
        { image: bytes, captions },
        transform,
        tokenizer,
        { choice: (count) => count - 1 },
        { dataset: c.id, row },
      );
    const reference = c.params.expected[row];
    if (reference === undefined) await c.expectThrows(`row ${row}`, build);
    else expectSample(c, `row ${row}`, await build(), reference);
  }
}

/** Dataset readers: rows and records to samples. */
export const handlers: Handler[] = [
  [/^regional_dataset/, regionalDataset],
  [/^vlm_dataset/, vlmDataset],
  [/^edit_dataset/, editDataset],
  [/^t2i_dataset/, t2iDataset],
];
