import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Environment variables, handed in so that tests need not change the process. */
export type Env = Record<string, string | undefined>;

/** The folder all clones on this machine share: `SRUM_CACHE`, else `XDG_CACHE_HOME/srum`, else `~/.cache/srum`. */
export function cacheRoot(env: Env = process.env): string {
  if (env.SRUM_CACHE) return path.resolve(env.SRUM_CACHE);
  // The XDG specification says that a relative value is to be ignored.
  if (env.XDG_CACHE_HOME && path.isAbsolute(env.XDG_CACHE_HOME)) {
    return path.join(env.XDG_CACHE_HOME, 'srum');
  }
  return path.join(env.HOME || os.homedir(), '.cache', 'srum');
}

let foundRoot: string | undefined;

/** The folder that holds this package's package.json, wherever the compiled file lies below it. */
export function packageRoot(): string {
  if (foundRoot !== undefined) return foundRoot;
  let folder = path.dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const file = path.join(folder, 'package.json');
    if (fs.existsSync(file) && JSON.parse(fs.readFileSync(file, 'utf8')).name === 'srum') break;
    const parent = path.dirname(folder);
    if (parent === folder) throw new Error('the package.json of srum is missing');
    folder = parent;
  }
  foundRoot = folder;
  return folder;
}

/** Platform and architecture as the prebuilt packages spell them, e.g. `linux-x64`. */
export function platformTag(): string {
  return `${process.platform}-${process.arch}`;
}

/** True in a clone, where scripts can be run; false where the package was installed from a registry. */
export function isClone(): boolean {
  return fs.existsSync(path.join(packageRoot(), 'scripts', 'setup.ts'));
}
