/** One thing that is timed on our side and, where `peer` names a case of the peer script, on PyTorch's. */
export interface BenchCase {
  /** Name of the row. */
  name: string;
  /** Name of the peer script's case that does the same work; null where there is none. */
  peer: string | null;
  /** How many operations one timing covers unless the command line says otherwise. */
  iterations: number;
  /** Does the work `iterations` times. Its whole duration is timed. */
  run(iterations: number): void | Promise<void>;
}

/** What a bench file exports as `bench`. */
export interface Bench {
  /** One sentence: what is measured, and how. */
  about: string;
  /** Unit of one row; the time of one operation is reported in it. */
  unit: 'ns' | 'us' | 'ms' | 's';
  /** Intra-op threads used by both sides unless the command line says otherwise. */
  threads: number;
  /** What a reader could expect here but is not measured. */
  leftOut?: string[];
  /** Prepares inputs and returns the cases in the order of the rows. */
  cases(): BenchCase[] | Promise<BenchCase[]>;
}

/** One row of the report; times are medians over the rounds, per operation. */
export interface Row {
  case: string;
  ours: number;
  /** null without a peer */
  peer: number | null;
  /** ours / peer */
  ratio: number | null;
  unit: string;
  ours_range: [min: number, max: number];
  peer_range: [min: number, max: number] | null;
}

/** The one form in which every bench reports. */
export interface Report {
  name: string;
  /** The machine and the versions in words. */
  machine: string;
  rows: Row[];
  rounds: number;
  threads: number;
  left_out: string[];
}

/** Settings of one run. */
export interface RunOptions {
  /** Timed rounds; each times ours, then the peer's, for every case. */
  rounds: number;
  /** Operations per timing, instead of each case's own number. */
  iterations?: number;
  threads?: number;
  /** Only cases whose name matches. */
  only?: RegExp;
  /** Whether to look for a peer at all. */
  peer: boolean;
}
