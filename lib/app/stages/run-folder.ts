import fs from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { packageRoot } from '../../native/paths.js';
import { ConfigError } from '../../util/errors.js';
import { makeFolder } from '../../util/files.js';
import { isObject } from '../../util/json-values.js';
import { jsonLine, readJsonFile, writeJsonFile } from '../../util/jsonl.js';
import { sha256 } from '../../util/sha256.js';

/** File that says with what a folder's items were made. */
export const RUN_FILE = 'run.json';

/** Folder of the items' records inside of a stage's folder. */
export const RECORDS_FOLDER = 'records';

/** Everything that decides a stage's results besides its items. */
export interface RunSettings {
  stage: string;
  /** Changes whenever the same settings give other results. */
  stage_version: number;
  /** Fingerprint of the model directory. */
  model: string;
  settings: Readonly<Record<string, unknown>>;
}

const runSchema = z.looseObject({
  stage: z.string(),
  stage_version: z.int(),
  model: z.string(),
  settings: z.record(z.string(), z.unknown()),
  settings_hash: z.string(),
});

/** Version of this package. */
export function packageVersion(): string {
  const json = readJsonFile(path.join(packageRoot(), 'package.json')) as { version: string };
  return json.version;
}

/** Stable text of a JSON value: keys sorted, so that equal values give equal text. */
export function canonicalJson(value: unknown): string {
  return jsonLine(sorted(value));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isObject(value)) return value;
  const entries = Object.entries(value).filter(([, v]) => v !== undefined);
  return Object.fromEntries(
    entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, v]) => [key, sorted(v)]),
  );
}

/** sha256 of a JSON value, whatever the order of its keys. */
export function hashOf(value: unknown): string {
  return sha256(canonicalJson(value));
}

/**
 * Opens a stage's folder: writes `run.json` into a new one, compares it in one that is in use.
 *
 * A folder in which nothing was finished yet is taken over.
 *
 * @param force take the folder over although it was made with other settings.
 * @param clear removes what was made with other settings, when the folder is taken over.
 * @returns the hash of the settings, by which items are known to belong to them.
 * @throws ConfigError naming every setting that differs; FileError when it cannot be written.
 */
export function openRunFolder(
  folder: string,
  run: RunSettings,
  force = false,
  clear?: () => void,
): string {
  makeFolder(folder);
  const file = path.join(folder, RUN_FILE);
  const { stage, stage_version, model, settings } = run;
  const hash = hashOf({ stage, stage_version, model, settings });
  if (fs.existsSync(file)) {
    const parsed = runSchema.safeParse(readJsonFile(file));
    if (parsed.success && parsed.data.settings_hash === hash) return hash;
    if (!force && hasRecords(folder)) {
      throw refusal(folder, run, parsed.success ? parsed.data : null);
    }
    clear?.();
  }
  writeJsonFile(file, { ...run, settings_hash: hash, srum_version: packageVersion() });
  return hash;
}

function hasRecords(folder: string): boolean {
  const records = path.join(folder, RECORDS_FOLDER);
  return fs.existsSync(records) && fs.readdirSync(records).some((name) => name.endsWith('.json'));
}

function refusal(folder: string, now: RunSettings, then: RunSettings | null): ConfigError {
  const hint = 'Choose another --out, or add --force to make everything again with these settings.';
  if (then === null) {
    return new ConfigError('ERR_RUN_FOLDER', `the folder's ${RUN_FILE} cannot be understood`, {
      file: path.join(folder, RUN_FILE),
      hint,
    });
  }
  const flat = (run: RunSettings): Map<string, string> =>
    new Map(
      Object.entries({
        stage: run.stage,
        stage_version: run.stage_version,
        model: run.model.slice(0, 16),
        ...run.settings,
      })
        .filter(([, value]) => value !== undefined)
        .map(([key, value]) => [key, canonicalJson(value)]),
    );
  const [a, b] = [flat(then), flat(now)];
  const keys = [...new Set([...a.keys(), ...b.keys()])].filter((key) => a.get(key) !== b.get(key));
  const list = (of: Map<string, string>): string =>
    keys.map((key) => `${key} ${of.get(key) ?? 'nothing'}`).join(', ');
  return new ConfigError('ERR_OTHER_SETTINGS', 'the folder was made with other settings', {
    file: folder,
    key: keys.join(', '),
    expected: list(a),
    found: list(b),
    hint,
  });
}
