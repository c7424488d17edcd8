import { DataError, messageOf, SrumError } from '../../util/errors.js';
import { removeStaleTempFiles } from '../../util/files.js';
import { type ItemFile, ItemRecords, type StoredItem } from './item-records.js';
import { hashOf, openRunFolder, type RunSettings } from './run-folder.js';
import { type Shard, shardOf } from './shard.js';

/** One unit of a stage's work. */
export interface StageItem<T> {
  /** Unique in the stage and fit to name a file. */
  key: string;
  /** Place in the views. */
  order: readonly number[];
  /** Everything that decides the result besides the run's settings: prompt, seed, input file. */
  identity: () => Readonly<Record<string, unknown>>;
  value: T;
}

/** An input that never became an item, e.g. a malformed line. */
export interface RejectedInput {
  key: string;
  reason: string;
}

/** What working on an item gives. */
export interface ItemResult {
  record: Record<string, unknown>;
  files: ItemFile[];
}

/** What became of an item. */
export interface ItemEvent {
  key: string;
  outcome: 'done' | 'skipped' | 'failed';
  /** Items of this process that are settled, and all of them. */
  settled: number;
  total: number;
  reason?: string;
}

/** How a caller steers the work of any stage. */
export interface ItemControls {
  shard?: Shard;
  /** Take over a folder that was made with other settings; its items are made again. */
  force?: boolean;
  /** Make finished items again. */
  overwrite?: boolean;
  /**
   * Leave items out of the views that an earlier run with other inputs made in this folder. Not for
   * stages that are shared out or worked on piece by piece.
   */
  only_inputs?: boolean;
  /** Stops after the item at hand; a batch at hand is given up. */
  signal?: AbortSignal;
  onItem?: (event: ItemEvent) => void;
}

/** The controls alone, out of a stage's own options. */
export function controlsOf(options: ItemControls): ItemControls {
  const { shard, force, overwrite, only_inputs, signal, onItem } = options;
  return { shard, force, overwrite, only_inputs, signal, onItem };
}

export interface ItemStageOptions<T> extends RunSettings, ItemControls {
  folder: string;
  items: ReadonlyArray<StageItem<T>>;
  rejected?: readonly RejectedInput[];
  /** Called once, with all items of this process, before the first that has to be worked on; loads models. */
  prepare?: (items: ReadonlyArray<StageItem<T>>) => void | Promise<void>;
  /**
   * Makes one item. What it throws becomes the item's failure; nothing is left of it. The reason of the
   * signal is none: the item remains.
   */
  work: (item: StageItem<T>) => Promise<ItemResult>;
  /** The line-oriented files of the stage. */
  views: (items: StoredItem[]) => Array<{ file: string; records: unknown[] }>;
}

/** The balance of a stage: `inputs = done + skipped + failed + remaining`. */
export interface StageReport {
  stage: string;
  folder: string;
  inputs: number;
  done: number;
  /** Finished by an earlier run. */
  skipped: number;
  failed: number;
  /** Not reached because the run was stopped. */
  remaining: number;
  interrupted: boolean;
  failures: Array<{ item: string; code: string; reason: string }>;
}

/**
 * Works through a stage's items one by one so that the work can be stopped, killed, repeated and spread
 * over processes at will: each finished item has its own record, written atomically after its files;
 * finished items are passed over; failures are kept with their reasons and tried again by the next run;
 * at the end every input is accounted for.
 *
 * @throws ConfigError for a folder made with other settings, DataError for two items of one key,
 *   FileError when results cannot be written. What `work` throws is counted, not thrown.
 */
export async function runItemStage<T>(options: ItemStageOptions<T>): Promise<StageReport> {
  const { stage, stage_version, model, settings, signal } = options;
  checkKeys(options.items);
  const run = { stage, stage_version, model, settings };
  const records = new ItemRecords(options.folder);
  const settingsHash = openRunFolder(options.folder, run, options.force, () => records.clear());
  for (const folder of records.folders) removeStaleTempFiles(folder);
  const items = shardOf(options.items, options.shard);
  // Inputs that are no items belong to nobody; the first process answers for them.
  const rejected = (options.shard?.rank ?? 0) === 0 ? (options.rejected ?? []) : [];
  const report: StageReport = {
    stage,
    folder: options.folder,
    inputs: items.length + rejected.length,
    done: 0,
    skipped: 0,
    failed: 0,
    remaining: 0,
    interrupted: false,
    failures: [],
  };
  const settle = (key: string, outcome: ItemEvent['outcome'], reason?: string): void => {
    report[outcome] += 1;
    const settled = report.done + report.skipped + report.failed;
    options.onItem?.({ key, outcome, settled, total: report.inputs, reason });
  };
  const fail = (key: string, code: string, reason: string): void => {
    report.failures.push({ item: key, code, reason });
    settle(key, 'failed', reason);
  };
  for (const { key, reason } of rejected) fail(key, 'ERR_INPUT', reason);

  let prepared = false;
  for (const item of items) {
    const itemHash = hashOf([settingsHash, item.identity()]);
    if (!options.overwrite && records.find(item.key, itemHash) !== null) {
      settle(item.key, 'skipped');
      continue;
    }
    if (signal?.aborted) {
      report.remaining += 1;
      continue;
    }
    if (!prepared) await options.prepare?.(items);
    prepared = true;
    if (!options.overwrite) records.forget(item.key);
    let result: ItemResult;
    try {
      result = await options.work(item);
    } catch (error) {
      if (signal?.aborted && error === signal.reason) {
        report.remaining += 1;
        continue;
      }
      const code = error instanceof SrumError ? error.code : 'ERR_UNEXPECTED';
      records.fail({ key: item.key, code, reason: messageOf(error) });
      fail(item.key, code, messageOf(error));
      continue;
    }
    const { record, files } = result;
    records.store({ key: item.key, item_hash: itemHash, order: [...item.order], record }, files);
    settle(item.key, 'done');
    // Timers and signals get their turn even if the work never waited for anything.
    await new Promise((resolve) => setImmediate(resolve));
  }
  report.interrupted = report.remaining > 0;
  const keys = new Set(options.items.map(({ key }) => key));
  records.writeViews((all) =>
    options.views(options.only_inputs ? all.filter(({ key }) => keys.has(key)) : all),
  );
  return report;
}

function checkKeys<T>(items: ReadonlyArray<StageItem<T>>): void {
  const seen = new Set<string>();
  for (const { key } of items) {
    if (seen.has(key)) {
      throw new DataError('ERR_DUPLICATE_ITEM', 'two items would get the same file name', {
        key,
        hint: 'Rename one of the prompt ids.',
      });
    }
    seen.add(key);
  }
}
