import type { Sample } from '../data/sample.js';
import type { DataError } from '../util/errors.js';

/** A training sample and the record it came from, `<data set>:<line>`. */
export interface NamedSample extends Sample {
  id: string;
}

/** Why a record was left out. */
export interface RecordProblem {
  id: string;
  reason: string;
}

/** What became of the records. Images are looked at when they are first needed. */
export interface DatasetReport {
  /** Records not found unusable so far. */
  usable: number;
  /** Lines and records that were left out, each with its reason. */
  problems: RecordProblem[];
  /**
   * Regions left out of their map, cut at the image border, and scores outside [-1, 1], so far; each
   * record counts once, in whatever number of epochs it is used.
   */
  regionsSkipped: number;
  regionsCut: number;
  scoresOutOfRange: number;
  /** The first region problems in detail. */
  regions: RecordProblem[];
}

/**
 * What a trainer learns from: a numbered list of records in which it can begin anywhere. Records
 * may lie in files or be made on the spot; the same number always gives the same sample.
 */
export interface SampleSet {
  /** Hash over everything the records say; a resumed run must find the same. */
  readonly fingerprint: string;
  /** Number of records, those found unusable included. */
  readonly size: number;
  /** Order in which an epoch visits the records: a pure function of the epoch. */
  order(epoch: number): Uint32Array;
  /** One record as a sample, or null when it cannot be used; the reason is in the report. */
  load(index: number): Promise<NamedSample | null>;
  /** Marks a record as unusable for a reason found later, e.g. too many tokens. */
  reject(index: number, reason: string): void;
  /** Name of a record: `<data set>:<line>`. */
  idOf(index: number): string;
  report(): DatasetReport;
  /** The error for a run that has nothing to train on. */
  nothingUsable(): DataError;
}
