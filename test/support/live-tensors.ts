import fs from 'node:fs';
import v8 from 'node:v8';
import vm from 'node:vm';
import { liveTensors } from '../../lib/torch/index.js';

/** Collects garbage, so that what earlier tests left is not counted. */
async function collect(): Promise<void> {
  v8.setFlagsFromString('--expose-gc');
  const gc = vm.runInNewContext('gc') as () => void;
  for (let i = 0; i < 2; i++) {
    gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The most tensors alive at any write to a file while `body` runs, beyond those alive before. */
export async function peakWhileWriting(body: () => unknown): Promise<number> {
  await collect();
  const before = liveTensors();
  const original = fs.writeSync;
  let peak = 0;
  const writeSync = (...args: unknown[]) => {
    peak = Math.max(peak, liveTensors() - before);
    return Reflect.apply(original, fs, args);
  };
  Object.assign(fs, { writeSync });
  try {
    await body();
  } finally {
    Object.assign(fs, { writeSync: original });
  }
  return peak;
}
