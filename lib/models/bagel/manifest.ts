import fs from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { readJsonFile } from '../../util/jsonl.js';
import { bagelConfigSchema, LAYER_MODULES, PROPOSERS, parse, vaeConfigSchema } from './config.js';
import { judgeWordingSchema } from './judge-wording.js';

/** File of a model directory for what BAGEL's own configuration files do not say. */
export const MANIFEST_FILE = 'srum.json';

/**
 * Settings that the reference keeps as literals in its scripts. A directory without a manifest is
 * read as the released 7B model's; table sizes then come from the weights.
 */
const manifestSchema = z.strictObject({
  format: z.literal(1),
  /** Weight file to load, where a directory has several. */
  weights: z.string().optional(),
  llm: z
    .strictObject({
      qk_norm: z.boolean(),
      layer_module: z.enum(LAYER_MODULES),
      tie_word_embeddings: z.boolean(),
    })
    .partial()
    .optional(),
  vit: z
    .strictObject({
      rope: z.boolean(),
      /** Which layer's output is used: -1 the last of the file, -2 (BAGEL) the one before. */
      select_layer: z.number().int().negative(),
    })
    .partial()
    .optional(),
  vae: z.strictObject(vaeConfigSchema.shape).partial().optional(),
  bagel: z.strictObject(bagelConfigSchema.shape).partial().optional(),
  judge: judgeWordingSchema.optional(),
  /** What finds the regions of its pictures; without one, `boxes`. */
  proposer: z.enum(PROPOSERS).optional(),
});

/** Content of a valid `srum.json`. */
export type Manifest = z.output<typeof manifestSchema>;

/** Reads `srum.json` of a model directory; null when it has none. @throws ConfigError */
export function readManifest(dir: string): Manifest | null {
  const file = path.join(dir, MANIFEST_FILE);
  return fs.existsSync(file) ? parse(manifestSchema, readJsonFile(file), file) : null;
}
