import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { formatBytes } from '../util/format.js';
import { readBuildRecord } from './build-addon.js';
import { compilerCommand, programVersion } from './build-key.js';
import {
  hasNvidiaDriver,
  INSTALL_RECORD,
  type LibTorch,
  type LocateReport,
  locateLibTorch,
} from './libtorch-locate.js';
import { findAddon, setupCommand } from './load-addon.js';
import { cacheRoot, type Env, packageRoot, platformTag } from './paths.js';
import { type ProbeResult, probeAddon } from './probe.js';

/** One thing the package needs or can use. */
export interface DoctorCheck {
  id:
    | 'node'
    | 'platform'
    | 'libtorch'
    | 'addon'
    | 'cuda'
    | 'threads'
    | 'cache'
    | 'python'
    | 'tools';
  label: string;
  /** `fail`: nothing works without it. `warn`: something is missing or slow. */
  status: 'ok' | 'warn' | 'fail';
  /** What was found. */
  found: string;
  /** What to do; absent when all is well. */
  advice?: string;
}

export interface DoctorReport {
  checks: DoctorCheck[];
  /** True when no check failed. */
  healthy: boolean;
}

const OLDEST_NODE = [20, 17];
const OLDEST_GLIBC = [2, 28];

/** Looks at everything the native floor depends on. Changes nothing, and never throws for what it finds. */
export function runDoctor(env: Env = process.env): DoctorReport {
  const located = locateLibTorch({ env });
  const probe = located.found ? probeAddon(env) : null;
  const checks = [
    checkNode(),
    checkPlatform(),
    checkLibTorch(located),
    checkAddon(located.found, probe, env),
    checkCuda(located.found, probe),
    checkThreads(probe, env),
    checkCache(env),
    checkPython(env),
    checkTools(env),
  ];
  return { checks, healthy: checks.every((check) => check.status !== 'fail') };
}

/** True when `version` (numbers in order) is at least `oldest`. */
function atLeast(version: string, oldest: number[]): boolean {
  const parts = version.replace(/^v/, '').split('.').map(Number);
  for (const [i, wanted] of oldest.entries()) {
    if ((parts[i] ?? 0) !== wanted) return (parts[i] ?? 0) > wanted;
  }
  return true;
}

function checkNode(): DoctorCheck {
  const base = {
    id: 'node',
    label: 'Node',
    found: `${process.version} (Node-API ${process.versions.napi})`,
  } as const;
  if (atLeast(process.version, OLDEST_NODE)) return { ...base, status: 'ok' };
  return { ...base, status: 'fail', advice: `Install Node ${OLDEST_NODE.join('.')} or newer.` };
}

function checkPlatform(): DoctorCheck {
  const glibc = glibcVersion();
  const cpu = os.cpus()[0]?.model.trim() ?? 'unknown processor';
  const libc = glibc === null ? '' : `, glibc ${glibc}`;
  const base = {
    id: 'platform',
    label: 'Platform',
    found: `${platformTag()}${libc}, ${cpu}`,
  } as const;
  if (process.platform !== 'linux') {
    return {
      ...base,
      status: 'warn',
      advice: 'Only Linux is tested; other systems may work with a source build.',
    };
  }
  if (glibc === null) {
    return {
      ...base,
      status: 'fail',
      advice: 'LibTorch needs glibc; musl systems (Alpine) cannot load it.',
    };
  }
  if (!atLeast(glibc, OLDEST_GLIBC)) {
    return {
      ...base,
      status: 'fail',
      advice: `LibTorch needs glibc ${OLDEST_GLIBC.join('.')} or newer.`,
    };
  }
  return { ...base, status: 'ok' };
}

function glibcVersion(): string | null {
  if (process.platform !== 'linux') return null;
  // Without this the report looks up the names of all network peers.
  (process.report as { excludeNetwork?: boolean }).excludeNetwork = true;
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return report.header?.glibcVersionRuntime ?? null;
}

function checkLibTorch(located: LocateReport): DoctorCheck {
  const base = { id: 'libtorch', label: 'LibTorch' } as const;
  const { found } = located;
  if (found === null) {
    const list = located.candidates.map((c) => `${c.source} ${c.place} ${c.refused}`).join('; ');
    return {
      ...base,
      status: 'fail',
      found: `none (${list})`,
      advice: `Run ${setupCommand('libtorch')}.`,
    };
  }
  const record = installRecord(found);
  const origin = record ? `, from ${record}` : '';
  return {
    ...base,
    status: 'ok',
    found: `${found.version} (${found.variant}, ${found.source}) in ${found.root}${origin}`,
  };
}

function installRecord(found: LibTorch): string | null {
  try {
    const text = fs.readFileSync(path.join(found.root, '..', INSTALL_RECORD), 'utf8');
    return JSON.parse(text).origin;
  } catch {
    return null;
  }
}

function checkAddon(
  libtorch: LibTorch | null,
  probe: ProbeResult | string | null,
  env: Env,
): DoctorCheck {
  const base = { id: 'addon', label: 'Addon' } as const;
  const advice = `Run ${setupCommand('addon')}.`;
  if (libtorch === null || probe === null) {
    return { ...base, status: 'fail', found: 'not looked at, because LibTorch is missing', advice };
  }
  const candidates = findAddon(libtorch, env);
  const file = candidates.find((candidate) => candidate.refused === null)?.place;
  if (file === undefined) {
    const list = candidates
      .map((candidate) => `${candidate.place} ${candidate.refused}`)
      .join('; ');
    return { ...base, status: 'fail', found: `none (${list})`, advice };
  }
  if (typeof probe === 'string')
    return { ...base, status: 'fail', found: `${file}: ${probe}`, advice };
  const record = readBuildRecord(file);
  const built = record
    ? `built with ${record.tool} and ${record.compiler.split('\n')[0]} for LibTorch ${record.torch}`
    : `built for LibTorch ${probe.info.builtFor ?? 'unknown'}`;
  return { ...base, status: 'ok', found: `${file}, ${built}, loads in ${probe.milliseconds} ms` };
}

function checkCuda(libtorch: LibTorch | null, probe: ProbeResult | string | null): DoctorCheck {
  const base = { id: 'cuda', label: 'CUDA' } as const;
  const gpus = nvidiaSmi();
  if (libtorch === null) {
    return { ...base, status: 'warn', found: gpus ?? 'unknown, because LibTorch is missing' };
  }
  if (!libtorch.hasCuda) {
    const found = `no: LibTorch is a ${libtorch.variant} build${gpus ? ` (but there is ${gpus})` : ''}`;
    if (!hasNvidiaDriver())
      return { ...base, status: 'ok', found: `${found}, and no NVIDIA driver is loaded` };
    return {
      ...base,
      status: 'warn',
      found,
      advice: 'Run npx srum libtorch install --cuda to use the GPU.',
    };
  }
  if (!hasNvidiaDriver()) {
    return {
      ...base,
      status: 'warn',
      found: 'no: no NVIDIA driver is loaded',
      advice: 'Install the NVIDIA driver.',
    };
  }
  if (typeof probe === 'string' || probe === null) {
    return {
      ...base,
      status: 'warn',
      found: `unknown, because the addon does not load (${gpus ?? 'no GPU listed'})`,
    };
  }
  if (probe.info.cuda && (probe.info.cudaDevices ?? 0) > 0) {
    return {
      ...base,
      status: 'ok',
      found: `${probe.info.cudaDevices} device(s): ${gpus ?? 'unnamed'}`,
    };
  }
  const why = probe.warnings.length > 0 ? probe.warnings.join('; ') : 'LibTorch sees no device';
  return {
    ...base,
    status: 'warn',
    found: `no: ${why}`,
    advice: 'Check that the driver is new enough for this CUDA version, and CUDA_VISIBLE_DEVICES.',
  };
}

function nvidiaSmi(): string | null {
  if (!hasNvidiaDriver()) return null;
  const run = spawnSync(
    'nvidia-smi',
    ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader'],
    {
      encoding: 'utf8',
      timeout: 10_000,
    },
  );
  return run.status === 0 ? run.stdout.trim().split('\n').join('; ') : null;
}

function checkThreads(probe: ProbeResult | string | null, env: Env): DoctorCheck {
  const cores = os.availableParallelism();
  const base = { id: 'threads', label: 'Threads' } as const;
  const info = probe !== null && typeof probe !== 'string' ? probe.info : {};
  const used = info.threads === undefined ? '' : `, LibTorch uses ${info.threads}`;
  const set = env.OMP_NUM_THREADS ? `, OMP_NUM_THREADS=${env.OMP_NUM_THREADS}` : '';
  const simd = info.cpuCapability ? `, ${info.cpuCapability}` : '';
  const found = `${cores} core(s)${used}${set}${simd}`;
  if (info.threads !== undefined && info.threads > cores) {
    return {
      ...base,
      status: 'warn',
      found,
      advice: `Set OMP_NUM_THREADS=${cores}; more threads than cores are slow.`,
    };
  }
  return { ...base, status: 'ok', found };
}

function checkCache(env: Env): DoctorCheck {
  const folder = cacheRoot(env);
  const base = { id: 'cache', label: 'Cache' } as const;
  let probe = folder;
  while (!fs.existsSync(probe) && path.dirname(probe) !== probe) probe = path.dirname(probe);
  const { bavail, bsize } = fs.statfsSync(probe);
  const found = `${folder}, ${formatBytes(bavail * bsize)} free`;
  try {
    fs.accessSync(probe, fs.constants.W_OK);
  } catch {
    return {
      ...base,
      status: 'warn',
      found,
      advice: 'It cannot be written: set SRUM_CACHE to another folder.',
    };
  }
  if (bavail * bsize < 1e9) {
    return {
      ...base,
      status: 'warn',
      found,
      advice: 'Less than 1 GB is free: set SRUM_CACHE to a folder on another disk.',
    };
  }
  return { ...base, status: 'ok', found };
}

function checkPython(env: Env): DoctorCheck {
  const rest: Env = {
    ...env,
    SRUM_LIBTORCH: undefined,
    SRUM_CACHE: path.join(os.tmpdir(), 'srum-no-cache'),
  };
  const { found, candidates } = locateLibTorch({ env: rest });
  const base = { id: 'python', label: 'Python torch', status: 'ok' } as const;
  if (found) return { ...base, found: `${found.version} in ${found.root}` };
  const list = candidates
    .filter((c) => c.source === 'python')
    .map((c) => `${c.place} ${c.refused}`);
  return { ...base, found: `none, and none is needed (${list.join('; ')})` };
}

function checkTools(env: Env): DoctorCheck {
  const compiler = programVersion(compilerCommand(env)).split('\n')[0];
  const cmake = programVersion('cmake').split('\n')[0];
  const nvcc = programVersion('nvcc').match(/release [\d.]+/)?.[0];
  const base = { id: 'tools', label: 'Build tools' } as const;
  const found = [
    compiler || 'no C++ compiler',
    cmake || 'no cmake',
    nvcc ? `nvcc ${nvcc}` : 'no nvcc',
  ].join(', ');
  if (compiler && cmake) return { ...base, status: 'ok', found };
  const sources = fs.existsSync(path.join(packageRoot(), 'cpp'));
  return {
    ...base,
    status: 'warn',
    found,
    advice: sources
      ? 'Only needed to build the addon: sudo apt-get install g++ cmake make.'
      : undefined,
  };
}
