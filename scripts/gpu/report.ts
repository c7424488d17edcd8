import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { writeFileAtomic } from '../../lib/util/files.js';

// Turns what scripts/gpu/check.sh measured into a table for people (gpu-<name>.md) and one for programs (gpu-<name>.json).

interface BenchRow {
  case: string;
  ours: number;
  peer: number | null;
  ratio: number | null;
  unit: string;
}

interface BenchReport {
  name: string;
  rows: BenchRow[];
}

const { values } = parseArgs({
  options: {
    work: { type: 'string' },
    out: { type: 'string' },
    'build-seconds': { type: 'string', default: '' },
    passed: { type: 'string', default: '0' },
    failed: { type: 'string', default: '0' },
  },
});
const work = values.work ?? '.';
const out = values.out ?? 'docs/results';

function output(command: string, args: string[]): string {
  const run = spawnSync(command, args, { encoding: 'utf8' });
  return run.status === 0 ? run.stdout.trim() : '';
}

const gpu = output('nvidia-smi', [
  '--query-gpu=name,memory.total,driver_version',
  '--format=csv,noheader',
]);
const gpuName = gpu.split(',')[0].trim() || 'no-gpu';
const probeText = fs.readFileSync(path.join(work, 'probe.json'), 'utf8').trim();
const probe = JSON.parse(probeText);
const benchFolder = path.join(work, 'bench');
const benches: BenchReport[] = fs
  .readdirSync(benchFolder)
  .filter((name) => name.endsWith('.json'))
  .sort()
  .map((name) => JSON.parse(fs.readFileSync(path.join(benchFolder, name), 'utf8')));
const broken = fs.readdirSync(benchFolder).filter((name) => name.endsWith('.broken'));
const version = /TORCH_VERSION=([\d.]+)/.exec(probe.info.config ?? '')?.[1] ?? probe.info.builtFor;

const machine = {
  gpu,
  cpu: os.cpus()[0]?.model.trim(),
  cores: os.availableParallelism(),
  torch: version,
  nvcc: /release [\d.]+/.exec(output('nvcc', ['--version']))?.[0] ?? null,
  node: process.version,
  cudaDevices: probe.info.cudaDevices,
};
const result = {
  machine,
  buildSeconds: Number(values['build-seconds']),
  tests: { passed: Number(values.passed), failed: Number(values.failed) },
  benches,
};

const number = (value: number | null): string => (value === null ? '-' : value.toPrecision(4));
const lines = [
  `# ${gpuName}`,
  '',
  `${gpu || 'no GPU listed'}; ${machine.cpu}, ${machine.cores} cores; LibTorch ${version}; nvcc ${machine.nvcc ?? 'not found'}; Node ${machine.node}.`,
  `The addon built in ${result.buildSeconds} s and sees ${machine.cudaDevices} CUDA device(s). ` +
    `Tests: ${result.tests.passed} passed, ${result.tests.failed} failed.`,
  '',
];
for (const bench of benches) {
  lines.push(
    `## ${bench.name}`,
    '',
    '| case | ours | PyTorch | ratio | unit |',
    '| --- | ---: | ---: | ---: | --- |',
  );
  for (const row of bench.rows) {
    lines.push(
      `| ${row.case} | ${number(row.ours)} | ${number(row.peer)} | ${number(row.ratio)} | ${row.unit} |`,
    );
  }
  lines.push('');
}
if (broken.length > 0) {
  lines.push(
    `Benches that did not finish: ${broken.map((name) => path.parse(name).name).join(', ')}.`,
    '',
  );
}

const slug = gpuName.toLowerCase().replace(/[^a-z0-9]+/g, '-');
fs.mkdirSync(out, { recursive: true });
await writeFileAtomic(path.join(out, `gpu-${slug}.json`), `${JSON.stringify(result, null, 2)}\n`);
await writeFileAtomic(path.join(out, `gpu-${slug}.md`), lines.join('\n'));
console.log(`tables: ${path.join(out, `gpu-${slug}.md`)}`);
