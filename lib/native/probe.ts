import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../util/errors.js';
import { loadAddon, loadedAddon } from './load-addon.js';
import type { Env } from './paths.js';

/** What the addon tells about itself and the machine. */
export interface RuntimeInfo {
  /** LibTorch it was built for. */
  builtFor?: string;
  cuda?: boolean;
  cudaDevices?: number;
  /** Instruction set LibTorch picked, e.g. `AVX512`. */
  cpuCapability?: string;
  threads?: number;
}

export interface ProbeResult {
  file: string;
  libtorchRoot: string;
  warnings: string[];
  info: RuntimeInfo;
  /** Time to load everything, in milliseconds. */
  milliseconds: number;
}

/**
 * Loads the addon in a process of its own, so that a binary that crashes takes nothing with it.
 * Returns the reason as text when it does not load.
 */
export function probeAddon(env: Env = process.env): ProbeResult | string {
  const run = spawnSync(process.execPath, [fileURLToPath(import.meta.url), 'probe'], {
    env: env as NodeJS.ProcessEnv,
    encoding: 'utf8',
    timeout: 120_000,
  });
  if (run.status === 0) return JSON.parse(run.stdout.slice(run.stdout.lastIndexOf('\n{') + 1));
  const said = run.stderr.trim();
  if (run.signal)
    return `loading it ended the process with ${run.signal}${said ? `: ${said}` : ''}`;
  return said || `the check ended with status ${run.status}`;
}

function probe(): ProbeResult {
  const started = process.hrtime.bigint();
  const addon = loadAddon() as { runtimeInfo?: () => RuntimeInfo; getNumThreads?: () => number };
  const milliseconds = Number((process.hrtime.bigint() - started) / 1_000_000n);
  const where = loadedAddon();
  return {
    file: where?.file ?? '',
    libtorchRoot: where?.libtorch.root ?? '',
    warnings: where?.warnings ?? [],
    info: { ...addon.runtimeInfo?.(), threads: addon.getNumThreads?.() },
    milliseconds,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.argv[2] === 'probe') {
  try {
    process.stdout.write(`\n${JSON.stringify(probe())}\n`);
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n`);
    process.exitCode = 1;
  }
}
