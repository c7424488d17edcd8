import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DataError, messageOf } from '../../lib/util/errors.js';
import { isObject } from '../../lib/util/json-values.js';
import type { OutputSpec } from './compare.js';

/** Any JSON value; the golden index is read through the handlers' own knowledge of each case. */
// biome-ignore lint/suspicious/noExplicitAny: the shape of `params` differs from case to case
export type Json = any;

/** Per-part configuration with the snake_case keys of the golden index. */
export interface Config {
  llm: Json;
  vit: Json;
  vae: Json;
  bagel: Json;
  [part: string]: Json;
}

/** One entry of `cases.json`. */
export interface CaseEntry {
  id: string;
  file: string | null;
  about: string;
  params?: Json;
  inputs: string[];
  outputs: OutputSpec[];
  /** Names of shared weight files joined with `+`, e.g. `bagel+vae`. */
  weights?: string;
  weights_file?: string;
  config_override?: Partial<Config> | null;
}

/** The parsed index of a golden folder. */
export interface GoldenIndex {
  format: 1;
  set?: string;
  special_token_ids: {
    bos_token_id: number;
    eos_token_id: number;
    start_of_image: number;
    end_of_image: number;
  };
  weights: Record<string, string>;
  default_config: Config;
  cases: CaseEntry[];
}

/** The only `format` of `cases.json` that this release reads. */
export const FORMAT = 1;

/**
 * Reads and checks `<dir>/cases.json`.
 *
 * @throws DataError `GOLDENS_MISSING` no folder or no index in it, `GOLDENS_JSON` unreadable index,
 *   `GOLDENS_FORMAT` another format (the SAM set has its own), `GOLDENS_INDEX` fields missing or of a wrong kind.
 */
export function readIndex(dir: string): GoldenIndex {
  if (!existsSync(dir) || !statSync(dir).isDirectory()) {
    throw new DataError('GOLDENS_MISSING', 'the golden folder does not exist or is no folder', {
      file: dir,
      hint: 'Name a folder that holds cases.json, e.g. test/goldens/data',
    });
  }
  const file = join(dir, 'cases.json');
  if (!existsSync(file)) {
    throw new DataError('GOLDENS_MISSING', 'the golden folder has no index', {
      file,
      hint: 'A golden folder holds cases.json beside its safetensors files',
    });
  }
  let index: Json;
  try {
    index = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new DataError('GOLDENS_JSON', `the index is not JSON: ${messageOf(error)}`, { file });
  }
  if (typeof index !== 'object' || index === null || Array.isArray(index)) {
    throw new DataError('GOLDENS_INDEX', 'the index is not a JSON object', { file });
  }
  checkFormat(index.format, file);
  checkFields(index, file);
  return index as GoldenIndex;
}

function checkFormat(format: unknown, file: string): void {
  if (format === FORMAT) return;
  const sam = typeof format === 'string' && format.startsWith('sam-goldens');
  throw new DataError(
    'GOLDENS_FORMAT',
    sam
      ? 'this is a golden set of the segmentation model (SAM), which belongs to a later release'
      : 'the golden set has a format this release does not read',
    {
      file,
      key: 'format',
      expected: String(FORMAT),
      found: JSON.stringify(format) ?? 'nothing',
      hint: sam ? 'Run the folder above it for the cases of this release' : undefined,
    },
  );
}

function checkFields(index: Json, file: string): void {
  const fail = (key: string, expected: string, found: unknown): never => {
    const shown = JSON.stringify(found)?.slice(0, 80) ?? 'nothing';
    throw new DataError('GOLDENS_INDEX', 'the index is incomplete', {
      file,
      key,
      expected,
      found: shown,
    });
  };
  if (!Array.isArray(index.cases)) fail('cases', 'a list', index.cases);
  for (const key of ['default_config', 'weights', 'special_token_ids']) {
    if (!isObject(index[key])) fail(key, 'an object', index[key]);
  }
  const seen = new Set<string>();
  index.cases.forEach((entry: Json, i: number) => {
    const at = `cases[${i}]`;
    if (!isObject(entry) || typeof entry.id !== 'string') fail(`${at}.id`, 'a name', entry);
    if (seen.has(entry.id)) fail(`${at}.id`, 'a name used once', entry.id);
    seen.add(entry.id);
    if (entry.file !== null && entry.file !== undefined && typeof entry.file !== 'string') {
      fail(`${at}.file`, 'a file name or null', entry.file);
    }
    if (entry.params !== null && entry.params !== undefined && !isObject(entry.params)) {
      fail(`${at}.params`, 'an object', entry.params);
    }
    // A case that is JSON only may leave its lists out.
    entry.inputs ??= [];
    entry.outputs ??= [];
    if (!Array.isArray(entry.outputs)) fail(`${at}.outputs`, 'a list', entry.outputs);
    for (const output of entry.outputs) {
      if (typeof output?.name !== 'string' || !Array.isArray(output.shape)) {
        fail(`${at}.outputs`, 'entries with name and shape', output);
      }
    }
  });
}

/** A parameter that not every case has; undefined where it is absent. */
export function optional(params: Json, key: string): Json {
  return key in params ? params[key] : undefined;
}

/** The default configuration with a case's override merged in, part by part. */
export function mergeConfig(base: Config, override?: Partial<Config> | null): Config {
  const out: Config = { ...base };
  for (const [part, values] of Object.entries(override ?? {}))
    out[part] = { ...base[part], ...values };
  return out;
}

/** Entries that only inform (how far bfloat16 moves the reference) and are counted neither as passed nor as failed. */
export function isInformation(entry: CaseEntry): boolean {
  const keys = Object.keys(entry.params ?? {});
  return !entry.file && entry.outputs.length === 0 && keys.length === 1 && keys[0] === 'deviation';
}
