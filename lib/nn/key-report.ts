import { CheckpointError } from '../util/errors.js';

/** A key whose tensor has another shape than the model's parameter. */
export interface MisshapenKey {
  key: string;
  expected: number[];
  found: number[];
}

/** Everything in which a set of tensors and a model differ. */
export interface KeyReport {
  missing: string[];
  unexpected: string[];
  misshapen: MisshapenKey[];
}

/** Which differences between a model and a set of tensors are fine. */
export interface KeyRules {
  /** Report missing and unexpected keys (default true); wrong shapes are always reported. */
  strict?: boolean;
  /** Missing keys that are fine. */
  allowMissing?: (key: string) => boolean;
  /** Unexpected keys that are fine. */
  allowUnexpected?: (key: string) => boolean;
}

type Shapes = ReadonlyMap<string, readonly number[]>;

/** Compares the keys and shapes a model has with those that were found. */
export function compareKeys(expected: Shapes, found: Shapes, rules: KeyRules = {}): KeyReport {
  const { strict = true, allowMissing, allowUnexpected } = rules;
  const report: KeyReport = { missing: [], unexpected: [], misshapen: [] };
  for (const [key, shape] of expected) {
    const other = found.get(key);
    if (other === undefined) {
      if (strict && !allowMissing?.(key)) report.missing.push(key);
    } else if (other.join() !== shape.join()) {
      report.misshapen.push({ key, expected: [...shape], found: [...other] });
    }
  }
  if (strict) {
    for (const key of found.keys()) {
      if (!expected.has(key) && !allowUnexpected?.(key)) report.unexpected.push(key);
    }
  }
  return report;
}

/** Throws unless a report is empty. @throws StateDictError */
export function requireFit(report: KeyReport, source?: string): void {
  const faults = report.missing.length + report.unexpected.length + report.misshapen.length;
  if (faults > 0) throw new StateDictError(report, source);
}

/** A set of tensors does not fit a model; `report` names every key. */
export class StateDictError extends CheckpointError {
  readonly report: KeyReport;

  constructor(report: KeyReport, source?: string) {
    super('ERR_STATE_DICT', `The weights do not fit the model.\n${formatKeyReport(report)}`, {
      ...(source === undefined ? {} : { file: source }),
      hint: 'Check that the configuration files belong to these weights.',
    });
    this.report = report;
  }
}

/** The report as lines, one key each, under a heading with its count. */
export function formatKeyReport(report: KeyReport): string {
  const lines: string[] = [];
  if (report.missing.length > 0) {
    lines.push(`${report.missing.length} missing:`, ...report.missing.map((key) => `  ${key}`));
  }
  if (report.unexpected.length > 0) {
    lines.push(`${report.unexpected.length} unexpected:`);
    lines.push(...report.unexpected.map((key) => `  ${key}`));
  }
  if (report.misshapen.length > 0) {
    lines.push(`${report.misshapen.length} of the wrong shape:`);
    for (const { key, expected, found } of report.misshapen) {
      lines.push(`  ${key}: expected [${expected.join(', ')}], found [${found.join(', ')}]`);
    }
  }
  return lines.join('\n');
}
