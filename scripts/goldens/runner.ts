import { messageOf } from '../../lib/util/errors.js';
import { handlers } from './areas.js';
import { GoldenFolder } from './folder.js';
import type { Check } from './golden-case.js';
import { GoldenCase } from './golden-case.js';
import type { CaseEntry } from './index-file.js';
import { isInformation } from './index-file.js';

export { GoldenFolder } from './folder.js';
export { GoldenCase } from './golden-case.js';
export type { CaseEntry, Config, Json } from './index-file.js';

/** What became of one case. */
export interface CaseResult {
  id: string;
  /** The tensor file's name without extension, or `json` for a case without one. */
  area: string;
  status: 'passed' | 'failed' | 'information';
  /** Worst error in units of its tolerance; Infinity where no tolerance applies. */
  error: number;
  /** The check that error belongs to. */
  worst: string;
  checks: number;
  failures: string[];
  milliseconds: number;
}

/** Runs the cases of a folder in order, each to its end whatever the others do. */
export class GoldenRunner {
  readonly folder: GoldenFolder;

  /** Opens a folder. @throws DataError as `readIndex` does. */
  constructor(dir: string) {
    this.folder = new GoldenFolder(dir);
  }

  /** Entries whose id matches `only` (all without it). */
  entries(only?: RegExp): CaseEntry[] {
    return this.folder.index.cases.filter((c) => only === undefined || only.test(c.id));
  }

  async run(entry: CaseEntry): Promise<CaseResult> {
    const start = performance.now();
    const area = entry.file ? entry.file.replace(/\.safetensors$/, '') : 'json';
    if (isInformation(entry)) {
      return {
        id: entry.id,
        area,
        status: 'information',
        error: 0,
        worst: '',
        checks: 0,
        failures: [],
        milliseconds: 0,
      };
    }
    const failures: string[] = [];
    let checks: Check[] = [];
    try {
      const handler = handlers.find(([pattern]) => pattern.test(entry.id));
      if (handler === undefined) throw new Error('no handler reproduces this case');
      this.folder.reset();
      const golden = new GoldenCase(this.folder, entry);
      checks = golden.checks;
      await handler[1](golden);
      golden.finish();
    } catch (error) {
      const name = error instanceof Error && error.name !== 'Error' ? `${error.name}: ` : '';
      failures.push(`${name}${messageOf(error)}`);
    }
    for (const check of checks) if (!check.ok) failures.push(`${check.name}: ${check.message}`);
    const worst = checks.reduce<Check | null>(
      (a, b) => (a === null || b.error > a.error ? b : a),
      null,
    );
    return {
      id: entry.id,
      area,
      status: failures.length === 0 ? 'passed' : 'failed',
      error: worst?.error ?? Number.POSITIVE_INFINITY,
      worst: worst?.name ?? '',
      checks: checks.length,
      failures,
      milliseconds: performance.now() - start,
    };
  }
}
