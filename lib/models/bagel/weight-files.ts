import fs from 'node:fs';
import path from 'node:path';
import type { SafetensorsFile, Tensor } from '../../torch/index.js';
import { openSafetensors } from '../../torch/index.js';
import { CheckpointError } from '../../util/errors.js';
import { isObject } from '../../util/json-values.js';
import { readJsonFile } from '../../util/jsonl.js';

/** Names under which BAGEL and SRUM directories keep their weights, preferred first. */
const WEIGHT_NAMES = ['ema.safetensors', 'model.safetensors'];

/** A key that only whole BAGEL weights have, to recognise them under other file names. */
const TELLTALE = 'language_model.model.embed_tokens.weight';

/** The tensors of one weight file or of the shards of an index, by key. */
export interface WeightSource {
  /** The file that was chosen: the weights themselves or the index of their shards. */
  readonly file: string;
  keys(): string[];
  shape(key: string): readonly number[];
  /** The stored tensor, memory mapped. */
  get(key: string): Tensor;
}

/**
 * Finds the weights of a model directory by what is there, never by the directory's name.
 * @param name a file name inside the directory that was asked for; default: `ema` before `model`,
 *   single files before sharded ones, then any safetensors file that holds a BAGEL
 * @throws CheckpointError when there is none
 */
export function findWeights(dir: string, name?: string): WeightSource {
  const names = listFiles(dir);
  const wanted = name === undefined ? candidates(names) : [name];
  for (const candidate of wanted) {
    if (names.includes(candidate)) return openWeights(path.join(dir, candidate));
  }
  if (name === undefined) {
    for (const other of names.filter((file) => file.endsWith('.safetensors')).sort()) {
      const source = openWeights(path.join(dir, other));
      if (source.keys().includes(TELLTALE)) return source;
    }
  }
  throw new CheckpointError('ERR_NO_WEIGHTS', 'The model directory holds no BAGEL weights', {
    file: dir,
    expected: wanted.join(', '),
    found: names.join(', ') || 'an empty directory',
  });
}

/** Opens a safetensors file, or the `.index.json` of a sharded one. @throws CheckpointError */
export function openWeights(file: string): WeightSource {
  if (file.endsWith('.json')) return openShards(file);
  const opened = openSafetensors(file);
  return {
    file,
    keys: () => [...opened.keys()],
    shape: (key) => opened.info(key).shape,
    get: (key) => opened.get(key),
  };
}

function candidates(names: readonly string[]): string[] {
  const indexes = WEIGHT_NAMES.map((name) => `${name}.index.json`);
  const other = names.filter((name) => name.endsWith('.safetensors.index.json'));
  return [...WEIGHT_NAMES, ...indexes, ...other];
}

function openShards(file: string): WeightSource {
  const map = (readJsonFile(file) as { weight_map?: unknown } | null)?.weight_map;
  const bad = (found: string, key?: string) =>
    new CheckpointError('ERR_SHARD_INDEX', 'The index of the weight shards is wrong', {
      file,
      ...(key === undefined ? {} : { key }),
      expected: '{"weight_map": {key: file name}} that agrees with the shards',
      found,
    });
  if (!isObject(map)) throw bad(typeof map);
  const shards = new Map<string, SafetensorsFile>();
  const owners = new Map<string, SafetensorsFile>();
  for (const [key, shard] of Object.entries(map)) {
    // A shard is a plain file beside the index; anything else would read outside the directory.
    if (typeof shard !== 'string' || path.basename(shard) !== shard) throw bad(String(shard), key);
    let opened = shards.get(shard);
    if (opened === undefined) {
      opened = openSafetensors(path.join(path.dirname(file), shard));
      shards.set(shard, opened);
    }
    if (!opened.keys().includes(key)) throw bad(`no such tensor in ${shard}`, key);
    owners.set(key, opened);
  }
  const owner = (key: string): SafetensorsFile => {
    const found = owners.get(key);
    if (found === undefined) throw bad('no such key', key);
    return found;
  };
  return {
    file,
    keys: () => [...owners.keys()],
    shape: (key) => owner(key).info(key).shape,
    get: (key) => owner(key).get(key),
  };
}

function listFiles(dir: string): string[] {
  try {
    return fs.readdirSync(dir);
  } catch (cause) {
    throw new CheckpointError(
      'ERR_NO_MODEL',
      'The model directory cannot be read',
      { file: dir, hint: 'Give the directory that holds llm_config.json and the weights.' },
      { cause },
    );
  }
}
