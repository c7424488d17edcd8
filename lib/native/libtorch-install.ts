import fs from 'node:fs';
import path from 'node:path';
import { messageOf, NativeError } from '../util/errors.js';
import { formatBytes } from '../util/format.js';
import { type Progress, startProgress } from '../util/progress.js';
import { sha256OfFile } from '../util/sha256.js';
import { download } from './download.js';
import {
  INSTALL_RECORD,
  inspectLibTorch,
  installFolder,
  type LibTorch,
} from './libtorch-locate.js';
import {
  CPU_INDEX,
  DEFAULT_VERSION,
  knownArchive,
  knownFile,
  WHEELS,
} from './libtorch-manifest.js';
import { cpuPart, type LibTorchArchive, pickCuda, readLibTorchArchive } from './libtorch-wheel.js';
import { withLock } from './lock.js';
import { cacheRoot, type Env, platformTag } from './paths.js';
import { findPip, type PipCommand, pipDownload } from './pip.js';
import { extract, openArchive, requireSpace } from './unpack.js';

export interface InstallOptions {
  /** LibTorch release, e.g. `2.13.0`. */
  version?: string;
  variant?: 'cpu' | 'cuda';
  /** An archive or wheel that is already here; `variant: 'cpu'` takes only the CPU part of a CUDA build. */
  from?: string;
  /** Install again even if it is there. */
  force?: boolean;
  env?: Env;
  /** Receives one line per step. */
  log?: (line: string) => void;
  /** Where progress is drawn; null for none. */
  stream?: NodeJS.WriteStream | null;
}

/** What is kept beside an installation. */
export interface InstallRecord {
  version: string;
  variant: string;
  /** Address or file name it came from. */
  origin: string;
  sha256: string;
  /** True when the checksum was known in advance. */
  known: boolean;
}

/** Room for the download and what comes out of it. */
const CPU_SPACE = 1.2e9;
const CUDA_SPACE = 9e9;

/**
 * Puts LibTorch into the cache and returns it. The official archive is tried first, then the wheel through the user's
 * own pip; `from` takes a file instead. The result appears under its name complete or not at all, and two processes
 * that install at once do the work once.
 *
 * @throws NativeError ERR_LIBTORCH_FETCH when no way led to it (each with its reason), ERR_CHECKSUM, ERR_ARCHIVE,
 *   ERR_DISK_FULL.
 */
export async function installLibTorch(options: InstallOptions = {}): Promise<LibTorch> {
  const env = options.env ?? process.env;
  const log = options.log ?? (() => {});
  const version = options.version ?? DEFAULT_VERSION;
  const variant = options.variant ?? 'cpu';
  if (!/^\d+\.\d+\.\d+$/.test(version)) {
    throw new NativeError('ERR_LIBTORCH_VERSION', 'not a LibTorch release', {
      expected: 'a version such as 2.13.0',
      found: JSON.stringify(version),
    });
  }
  const base = path.join(cacheRoot(env), 'libtorch');
  try {
    fs.mkdirSync(base, { recursive: true });
  } catch (error) {
    throw new NativeError(
      'ERR_CACHE',
      `the cache folder cannot be made: ${messageOf(error)}`,
      { file: base, hint: 'Set SRUM_CACHE to a folder that can be written.' },
      { cause: error },
    );
  }
  const present = (): LibTorch | null =>
    options.from || options.force ? null : installed(version, variant, env);
  const already = present();
  if (already) return already;
  return withLock(
    path.join(base, 'install.lock'),
    async () => {
      const meanwhile = present();
      if (meanwhile) return meanwhile;
      removeLeftovers(base);
      const scratch = fs.mkdtempSync(path.join(base, '.tmp-'));
      try {
        const job = new InstallJob(env, log, options.stream, scratch);
        return options.from
          ? await job.fromFile(
              path.resolve(options.from),
              path.basename(options.from),
              options.variant,
            )
          : await job.fetch(version, variant);
      } finally {
        fs.rmSync(scratch, { recursive: true, force: true });
      }
    },
    (pid) => log(`process ${pid} is installing LibTorch; waiting for it`),
  );
}

/** The finished installation of this release and kind, if there is one. */
function installed(version: string, variant: 'cpu' | 'cuda', env: Env): LibTorch | null {
  const base = path.join(cacheRoot(env), 'libtorch');
  for (const name of fs.readdirSync(base).sort()) {
    if (!name.startsWith(`${version}-`) || !fs.existsSync(path.join(base, name, INSTALL_RECORD)))
      continue;
    const found = inspectLibTorch(path.join(base, name, 'torch'), 'cache');
    if (typeof found !== 'string' && found.hasCuda === (variant === 'cuda')) return found;
  }
  return null;
}

/** Removes what killed installations left; called with the lock held. */
function removeLeftovers(base: string): void {
  for (const name of fs.readdirSync(base)) {
    if (name.startsWith('.tmp-'))
      fs.rmSync(path.join(base, name), { recursive: true, force: true });
  }
}

/** One installation with its scratch folder. */
class InstallJob {
  constructor(
    private readonly env: Env,
    private readonly log: (line: string) => void,
    private readonly stream: NodeJS.WriteStream | null | undefined,
    private readonly scratch: string,
  ) {}

  /** Tries each way in turn. */
  async fetch(version: string, variant: 'cpu' | 'cuda'): Promise<LibTorch> {
    const failures: string[] = [];
    requireSpace(this.scratch, variant === 'cpu' ? CPU_SPACE : CUDA_SPACE);
    const archive = knownArchive(version, platformTag(), variant);
    let indexInReach = true;
    if (archive) {
      const target = path.join(cacheRoot(this.env), 'downloads', archive.file);
      for (const url of archive.urls) {
        this.log(
          `fetching LibTorch ${version} (${variant}, ${formatBytes(archive.size)}) from ${new URL(url).host}`,
        );
        try {
          await this.withProgress('download', (progress) =>
            download(url, target, {
              env: this.env,
              onProgress: (done, total) => progress.update(done, total || archive.size),
            }),
          );
          const result = await this.fromFile(target, url);
          fs.rmSync(target, { force: true });
          return result;
        } catch (error) {
          const code = error instanceof NativeError ? error.code : '';
          if (code === 'ERR_DISK_FULL') throw error;
          // A complete file with the wrong content is of no use to the next try.
          if (code === 'ERR_CHECKSUM' || code === 'ERR_ARCHIVE') fs.rmSync(target, { force: true });
          if (code === 'ERR_DOWNLOAD') indexInReach = false;
          failures.push(`official archive: ${messageOf(error)}`);
          this.log(`not available there (${messageOf(error)}); trying the wheel through pip`);
        }
      }
    }
    const pip = findPip(this.env);
    if (pip === null) {
      failures.push('wheel: no Python with pip was found');
      throw this.allFailed(version, variant, failures);
    }
    try {
      return await this.throughPip(pip, version, variant, indexInReach, failures);
    } catch (error) {
      if (error instanceof NativeError && error.code !== 'ERR_PIP') throw error;
      failures.push(`wheel: ${messageOf(error)}`);
      throw this.allFailed(version, variant, failures);
    }
  }

  /** The wheel; CPU builds are asked for by name first, since many indexes answer a plain version with CUDA. */
  private async throughPip(
    pip: PipCommand,
    version: string,
    variant: 'cpu' | 'cuda',
    indexInReach: boolean,
    failures: string[],
  ): Promise<LibTorch> {
    const plain = `torch==${version}`;
    const attempts: { requirement: string; args: string[] }[] =
      variant === 'cuda'
        ? [{ requirement: plain, args: [] }]
        : [
            { requirement: `${plain}+cpu`, args: [] },
            ...(indexInReach
              ? [
                  {
                    requirement: `${plain}+cpu`,
                    args: ['--index-url', CPU_INDEX, '--timeout', '5', '--retries', '0'],
                  },
                ]
              : []),
            { requirement: plain, args: [] },
          ];
    if (platformTag() === 'linux-x64') {
      // A Python too old or too new for any wheel: its Python parts are thrown away, so another version's will do.
      const foreign = [
        '--only-binary=:all:',
        '--python-version',
        '3.11',
        '--platform',
        'manylinux_2_28_x86_64',
      ];
      attempts.push({ requirement: plain, args: foreign });
    }
    for (const { requirement, args } of attempts) {
      const folder = fs.mkdtempSync(path.join(this.scratch, 'wheel-'));
      this.log(`fetching ${[requirement, ...args].join(' ')} with ${pip.join(' ')}`);
      try {
        const [wheel] = await this.withProgress('download', (progress) =>
          pipDownload(pip, {
            requirements: [requirement],
            folder,
            args,
            env: this.env,
            expectedBytes: requirement.endsWith('+cpu') ? WHEELS[0].size : undefined,
            onProgress: (done, total) => progress.update(done, total),
          }),
        );
        if (wheel === undefined) throw new NativeError('ERR_PIP', 'pip left no wheel');
        return await this.fromFile(wheel, path.basename(wheel), variant, pip);
      } catch (error) {
        fs.rmSync(folder, { recursive: true, force: true });
        if (!(error instanceof NativeError && error.code === 'ERR_PIP')) throw error;
        failures.push(`wheel ${requirement}: ${messageOf(error)}`);
      }
    }
    throw this.allFailed(version, variant, failures);
  }

  /** Unpacks an archive or wheel after checking it. */
  async fromFile(
    file: string,
    origin: string,
    wanted?: 'cpu' | 'cuda',
    pip?: PipCommand,
  ): Promise<LibTorch> {
    if (!fs.existsSync(file)) {
      throw new NativeError('ERR_NO_FILE', 'no such archive', {
        file,
        expected: 'a LibTorch zip archive or a torch wheel',
      });
    }
    const known = knownFile(path.basename(file));
    const sha256 = await verifyChecksum(file, known);
    if (!known) this.log(`SHA-256 ${sha256} (not known in advance; kept with the installation)`);
    const archive = await openArchive(file);
    try {
      const whole = await readLibTorchArchive(archive);
      if (whole === null) {
        throw new NativeError('ERR_ARCHIVE', 'this archive holds no LibTorch', {
          file,
          expected: 'libtorch/lib/libtorch_cpu.so or torch/lib/libtorch_cpu.so in it',
        });
      }
      if (wanted === 'cuda' && !whole.isCuda) {
        throw new NativeError('ERR_ARCHIVE', 'this archive is a CPU build', {
          file,
          expected: 'a CUDA build',
        });
      }
      const partial = wanted === 'cpu' && whole.isCuda;
      const content = partial ? cpuPart(whole) : whole;
      if (partial)
        this.log(`torch ${whole.version} is a CUDA build; only its CPU part is installed`);
      const folder = path.join(this.scratch, 'tree');
      await this.withProgress('unpack', (progress) =>
        extract(archive, folder, content.targets, {
          hashes: content.hashes,
          onProgress: (done, total) => progress.update(done, total),
        }),
      );
      if (content.isCuda && content.kind === 'wheel') {
        await this.addCudaLibraries(content, folder, pip ?? findPip(this.env));
      }
      const result = inspectLibTorch(path.join(folder, 'torch'), 'cache');
      if (typeof result === 'string') {
        throw new NativeError('ERR_ARCHIVE', `the unpacked LibTorch ${result}`, { file });
      }
      return this.publish(folder, result, { origin, sha256, known: known !== undefined });
    } finally {
      archive.close();
    }
  }

  /** The CUDA libraries a CUDA wheel asks for, beside it, where its search path leads. */
  private async addCudaLibraries(
    content: LibTorchArchive,
    folder: string,
    pip: PipCommand | null,
  ): Promise<void> {
    if (content.cudaRequirements.length === 0) return;
    if (pip === null) {
      throw new NativeError(
        'ERR_PIP',
        'a CUDA wheel needs its CUDA libraries, and no pip was found',
        {
          hint: 'Install Python with pip, or use a Python torch through SRUM_PYTHON.',
        },
      );
    }
    const wheels = path.join(this.scratch, 'cuda');
    fs.mkdirSync(wheels);
    this.log(`fetching the CUDA libraries: ${content.cudaRequirements.join(', ')}`);
    const files = await this.withProgress('download', (progress) =>
      pipDownload(pip, {
        requirements: content.cudaRequirements,
        folder: wheels,
        withDependencies: true,
        env: this.env,
        onProgress: (done, total) => progress.update(done, total),
      }),
    );
    for (const file of files) {
      const archive = await openArchive(file);
      try {
        await this.withProgress(`unpack ${path.basename(file)}`, (progress) =>
          extract(archive, folder, pickCuda(archive), {
            onProgress: (done, total) => progress.update(done, total),
          }),
        );
      } finally {
        archive.close();
      }
      fs.rmSync(file);
    }
  }

  /** Gives the finished tree its name. Whoever comes second uses the first one's. */
  private publish(
    folder: string,
    found: LibTorch,
    source: { origin: string; sha256: string; known: boolean },
  ): LibTorch {
    const release = found.version.split('+')[0];
    const record: InstallRecord = { version: found.version, variant: found.variant, ...source };
    fs.writeFileSync(path.join(folder, INSTALL_RECORD), `${JSON.stringify(record, null, 2)}\n`);
    const target = installFolder(release, found.variant, this.env);
    // An older installation of the same name stays usable for whoever has it open until the swap.
    const old = `${target}.old-${process.pid}`;
    if (fs.existsSync(target)) fs.renameSync(target, old);
    try {
      fs.renameSync(folder, target);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
    } finally {
      fs.rmSync(old, { recursive: true, force: true });
    }
    const result = inspectLibTorch(path.join(target, 'torch'), 'cache');
    if (typeof result === 'string')
      throw new NativeError('ERR_ARCHIVE', `the installed LibTorch ${result}`);
    this.log(`LibTorch ${result.version} is in ${result.root}`);
    return result;
  }

  private async withProgress<T>(
    label: string,
    work: (progress: Progress) => Promise<T>,
  ): Promise<T> {
    const progress = startProgress(label, { stream: this.stream });
    try {
      return await work(progress);
    } finally {
      progress.stop();
    }
  }

  private allFailed(version: string, variant: string, failures: string[]): NativeError {
    const list = failures.map((line) => `\n  - ${line}`).join('');
    return new NativeError(
      'ERR_LIBTORCH_FETCH',
      `LibTorch ${version} (${variant}) could not be fetched:${list}`,
      {
        hint:
          'Without a network: fetch the archive or the wheel on another machine ' +
          `(pip download --no-deps torch==${version}), copy it here and run npx srum libtorch install --from FILE.`,
      },
    );
  }
}

/** SHA-256 of a file in hexadecimal; checked against what is known of it. */
async function verifyChecksum(
  file: string,
  known: { sha256: string; size: number } | undefined,
): Promise<string> {
  const { size } = fs.statSync(file);
  if (known && size !== known.size) {
    throw new NativeError('ERR_CHECKSUM', 'the archive has the wrong size', {
      file,
      expected: `${known.size} bytes`,
      found: `${size} bytes`,
      hint: 'Delete the file and fetch it again.',
    });
  }
  const sha256 = await sha256OfFile(file);
  if (known && sha256 !== known.sha256) {
    throw new NativeError('ERR_CHECKSUM', 'the archive has the wrong SHA-256', {
      file,
      expected: known.sha256,
      found: sha256,
      hint: 'Delete the file and fetch it again; if it stays so, the source is not to be trusted.',
    });
  }
  return sha256;
}
