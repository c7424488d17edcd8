import { arch, cpus, platform } from 'node:os';
import { setNumThreads, torchVersion } from '../../../lib/torch/index.js';
import { ConfigError, messageOf, SrumError } from '../../../lib/util/errors.js';
import { Peer } from './peer.js';
import type { Bench, BenchCase, Report, Row, RunOptions } from './types.js';

const perSecond = { ns: 1e9, us: 1e6, ms: 1e3, s: 1 };

/** Times every case of a bench, ours and the peer's by turns in each round, after one round that is not counted. */
export async function runBench(
  name: string,
  bench: Bench,
  peerScript: string | null,
  options: RunOptions,
): Promise<Report> {
  const threads = options.threads ?? bench.threads;
  setNumThreads(threads);
  const leftOut = [...(bench.leftOut ?? [])];
  const peer = options.peer ? await findPeer(peerScript, threads, leftOut) : null;
  if (!options.peer) leftOut.push('the peer: switched off');
  try {
    const all = await bench.cases();
    const cases = all.filter((c) => options.only === undefined || options.only.test(c.name));
    if (cases.length === 0) {
      throw new ConfigError('BENCH_CASES', 'no case of the bench is selected', {
        key: '--only',
        found: String(options.only),
        expected: all.map((c) => c.name).join(', '),
      });
    }
    if (cases.length < all.length) leftOut.push(`${all.length - cases.length} cases by --only`);
    const rows: Row[] = [];
    for (const c of cases) rows.push(await timeCase(c, bench, peer, options, leftOut));
    return {
      name,
      machine: machine(peer),
      rows,
      rounds: options.rounds,
      threads,
      left_out: leftOut,
    };
  } finally {
    peer?.close();
  }
}

async function findPeer(
  script: string | null,
  threads: number,
  leftOut: string[],
): Promise<Peer | null> {
  if (script === null) {
    leftOut.push('the peer: this bench has no peer script');
    return null;
  }
  try {
    return await Peer.start(script, threads);
  } catch (error) {
    if (!(error instanceof SrumError)) throw error;
    leftOut.push(`the peer: ${error.message}`);
    return null;
  }
}

async function timeCase(
  c: BenchCase,
  bench: Bench,
  peer: Peer | null,
  options: RunOptions,
  leftOut: string[],
): Promise<Row> {
  const iterations = options.iterations ?? c.iterations;
  const scale = perSecond[bench.unit] / iterations;
  const partner = c.peer !== null && peer?.hello.cases.includes(c.peer) ? c.peer : null;
  if (peer !== null && partner === null) leftOut.push(`the peer of ${c.name}: it has no such case`);
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round <= options.rounds; round++) {
    const mine = (await timeOurs(c, iterations)) * scale;
    const other = peer && partner ? (await peer.time(partner, iterations)) * scale : null;
    if (round === 0) continue;
    ours.push(mine);
    if (other !== null) theirs.push(other);
  }
  const median = medianOf(ours);
  const peerMedian = theirs.length > 0 ? medianOf(theirs) : null;
  return {
    case: c.name,
    ours: round(median),
    peer: peerMedian === null ? null : round(peerMedian),
    ratio: peerMedian === null ? null : round(median / peerMedian),
    unit: bench.unit,
    ours_range: range(ours),
    peer_range: theirs.length > 0 ? range(theirs) : null,
  };
}

async function timeOurs(c: BenchCase, iterations: number): Promise<number> {
  const start = process.hrtime.bigint();
  try {
    await c.run(iterations);
  } catch (error) {
    throw new SrumError('BENCH_CASE', `case ${c.name} failed: ${messageOf(error)}`, undefined, {
      cause: error,
    });
  }
  return Number(process.hrtime.bigint() - start) / 1e9;
}

function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function range(values: readonly number[]): [number, number] {
  return [round(Math.min(...values)), round(Math.max(...values))];
}

/** Four significant digits: more would be noise. */
function round(value: number): number {
  return Number(value.toPrecision(4));
}

function machine(peer: Peer | null): string {
  const list = cpus();
  const model = list[0]?.model.trim() || 'unknown processor';
  const parts = [
    `${list.length} x ${model}`,
    `${platform()} ${arch()}`,
    `Node ${process.versions.node}`,
    `LibTorch ${torchVersion()}`,
  ];
  if (peer !== null) parts.push(`peer torch ${peer.hello.version}`);
  return parts.join(', ');
}
