import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { tinyTokenizerFiles } from '../../lib/data/byte-level.js';
import { writePng } from '../../lib/data/images.js';
import { saveBagel } from '../../lib/models/bagel/save.js';
import { getNumThreads, setNumThreads } from '../../lib/torch/index.js';
import { writeJsonFile, writeJsonl } from '../../lib/util/jsonl.js';
import { tinyConfig, tinyModel } from './tiny-model.js';

/** A folder with everything a training run needs, as small as it can be. */
export interface Workshop {
  dir: string;
  model: string;
  rewards: string;
  images: string;
  /** Recipe options, to be changed and passed to `recipeFrom` or written as YAML. */
  options(changes?: Record<string, unknown>): Record<string, unknown>;
}

function buildModel(dir: string): void {
  const { bagel, vae } = tinyModel(tinyConfig({ llm: { vocab_size: 288 } }), 11);
  saveBagel(dir, { bagel, vae });
  bagel.dispose();
  vae.dispose();
  const { tokenizer, config } = tinyTokenizerFiles();
  writeJsonFile(path.join(dir, 'tokenizer.json'), tokenizer);
  writeJsonFile(path.join(dir, 'tokenizer_config.json'), config);
}

/** Builds a workshop in a temporary folder; the caller removes `dir`. */
export async function buildWorkshop(records = 6): Promise<Workshop> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'srum-train-'));
  const model = path.join(dir, 'model');
  const images = path.join(dir, 'images');
  buildModel(model);
  const lines: unknown[] = [];
  for (let i = 0; i < records; i++) {
    const [width, height] = i % 3 === 2 ? [48, 32] : [32, 32];
    const data = Uint8Array.from({ length: width * height * 3 }, (_, k) => (k * (7 + i)) % 256);
    await writePng(path.join(images, `${i}.png`), { width, height, data });
    lines.push({
      bad_image_file: `${i}.png`,
      good_image_file: `${i}.png`,
      prompt: `picture ${i}`,
      vlm_rewards: [
        { object: 'global_layout_reward', bbox: [0, 0, width, height], score: 0.5 - 0.1 * i },
        { object: 'thing', bbox: [2, 2, 20, 20], score: i % 2 === 0 ? 0.8 : -0.9 },
      ],
    });
  }
  const rewards = path.join(dir, 'rewards.jsonl');
  writeJsonl(rewards, lines);
  const options = (changes: Record<string, unknown> = {}) => ({
    model_path: model,
    dataset: {
      regional_reward: {
        dataset_names: ['tiny'],
        image_transform_args: { image_stride: 16, max_image_size: 64, min_image_size: 32 },
      },
    },
    dataset_info: {
      regional_reward: { tiny: { jsonl_path: rewards, image_dirs: { good: images, bad: images } } },
    },
    results_dir: path.join(dir, 'results'),
    expected_num_tokens: 40,
    max_num_tokens: 64,
    max_num_tokens_per_sample: 48,
    max_buffer_size: 2,
    total_steps: 6,
    warmup_steps: 1,
    save_every: 2,
    lr: 1e-3,
    ...changes,
  });
  return { dir, model, rewards, images, options };
}

/**
 * Registers hooks that run a suite on one thread: for matrices this small that is faster, and on a
 * busy machine very much so.
 */
export function onOneThread(): void {
  let threads = 1;
  before(() => {
    threads = getNumThreads();
    setNumThreads(1);
  });
  after(() => setNumThreads(threads));
}

/** sha256 of every file of a checkpoint, as its state lists them. */
export function hashesOf(checkpoint: string): Record<string, string> {
  const state = JSON.parse(fs.readFileSync(path.join(checkpoint, 'trainer.json'), 'utf8'));
  return Object.fromEntries(
    Object.entries(state.files as Record<string, { sha256: string }>).map(([name, f]) => [
      name,
      f.sha256,
    ]),
  );
}
