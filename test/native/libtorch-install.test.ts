import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type InstallOptions, installLibTorch } from '../../lib/native/libtorch-install.js';
import { INSTALL_RECORD, type LibTorch } from '../../lib/native/libtorch-locate.js';
import { ARCHIVES, knownArchive, knownFile, WHEELS } from '../../lib/native/libtorch-manifest.js';
import { fakeLibTorch, fakeWheel, script, temporaryFolder } from './support/trees.js';
import { zip } from './support/zip.js';

describe('installing LibTorch', () => {
  const folder = temporaryFolder();
  const cache = (): string => path.join(folder(), 'cache');
  /** No network: every address is asked of a proxy that is not there. No Python but the ones a test makes. */
  const env = (extra: Record<string, string> = {}): Record<string, string> => ({
    PATH: `${path.join(folder(), 'bin')}:/usr/bin:/bin`,
    SRUM_PYTHON: path.join(folder(), 'bin', 'python'),
    SRUM_CACHE: cache(),
    HTTPS_PROXY: 'http://127.0.0.1:1',
    ...extra,
  });
  const file = (name: string, content: Buffer): string => {
    fs.writeFileSync(path.join(folder(), name), content);
    return path.join(folder(), name);
  };
  const install = (options: InstallOptions): Promise<LibTorch> =>
    installLibTorch({ env: env(), stream: null, ...options });
  /** An interpreter whose pip hands out `wheel` for the requirements that match; it keeps a list of what was asked. */
  const fakePip = (wheel: string, only = '*', delay = 0): void => {
    script(
      path.join(folder(), 'bin', 'python'),
      `if [ "$3" = "--version" ]; then echo pip 99; exit 0; fi
for last in "$@"; do :; done
echo "$last" >> '${folder()}/asked'
while [ $# -gt 0 ]; do if [ "$1" = "--dest" ]; then dest=$2; fi; shift; done
case "$last" in
  ${only}) sleep ${delay}; cp '${wheel}' "$dest/" ;;
  *) echo "ERROR: No matching distribution found for $last" >&2; exit 1 ;;
esac`,
    );
  };
  /** An interpreter whose pip has one file per requirement (a shell pattern). */
  const fakePipPerName = (files: Record<string, string>): void => {
    const cases = Object.entries(files).map(([pattern, name]) => `${pattern}) name=${name} ;;`);
    script(
      path.join(folder(), 'bin', 'python'),
      `if [ "$3" = "--version" ]; then exit 0; fi
for last in "$@"; do :; done
while [ $# -gt 0 ]; do if [ "$1" = "--dest" ]; then dest=$2; fi; shift; done
case "$last" in ${cases.join(' ')} *) echo "ERROR: No matching distribution found" >&2; exit 1 ;; esac
cp '${folder()}'/"$name.whl" "$dest/"`,
    );
  };
  const asked = (): string[] =>
    fs.readFileSync(path.join(folder(), 'asked'), 'utf8').trim().split('\n');

  it('unpacks a wheel without its Python parts', async () => {
    const content = fakeWheel();
    const wheel = file('torch-9-any.whl', content);
    const found = await install({ from: wheel });
    assert.equal(found.root, path.join(cache(), 'libtorch', '2.13.0-cpu', 'torch'));
    assert.deepEqual(fs.readdirSync(found.lib).sort(), [
      'libc10.so',
      'libgomp.so.1',
      'libtorch_cpu.so',
    ]);
    assert.equal(fs.existsSync(path.join(found.root, '__init__.py')), false);
    const home = path.dirname(found.root);
    assert.ok(
      fs.existsSync(path.join(home, 'torchgen/packaged/ATen/native/native_functions.yaml')),
    );
    assert.deepEqual(JSON.parse(fs.readFileSync(path.join(home, INSTALL_RECORD), 'utf8')), {
      version: '2.13.0+cpu',
      variant: 'cpu',
      origin: 'torch-9-any.whl',
      sha256: createHash('sha256').update(content).digest('hex'),
      known: false,
    });
  });

  it('unpacks an official archive into the same place', async () => {
    const files: Record<string, string> = { 'libtorch/build-version': '2.13.0+cpu\n' };
    for (const [name, text] of Object.entries(fakeLibTorch())) {
      if (name !== 'version.py') files[`libtorch/${name}`] = text;
    }
    const found = await install({ from: file('libtorch.zip', zip(files)) });
    assert.equal(found.root, path.join(cache(), 'libtorch', '2.13.0-cpu', 'torch'));
    assert.equal(found.version, '2.13.0+cpu');
  });

  it('turns to pip when the archive is out of reach, and asks for the CPU build by name', async () => {
    fakePip(file('torch-9-any.whl', fakeWheel()), 'torch==2.13.0+cpu');
    const lines: string[] = [];
    await install({ log: (line) => lines.push(line) });
    assert.deepEqual(asked(), ['torch==2.13.0+cpu']);
    assert.ok(
      lines.some((line) => /trying the wheel through pip/.test(line)) ||
        !knownArchive('2.13.0', `${process.platform}-${process.arch}`, 'cpu'),
    );
  });

  it('takes the plain version where the index has no CPU name for it', async () => {
    fakePip(file('torch-9-any.whl', fakeWheel({ version: '2.13.0' })), 'torch==2.13.0');
    const found = await install({});
    assert.equal(found.version, '2.13.0');
    assert.equal(asked().pop(), 'torch==2.13.0');
  });

  it('does nothing the second time, and again when told to', async () => {
    fakePip(file('torch-9-any.whl', fakeWheel()));
    await install({});
    await install({});
    assert.equal(asked().length, 1);
    await install({ force: true });
    assert.equal(asked().length, 2);
  });

  it('takes the CPU part of a CUDA build where the index has nothing else', async () => {
    const requires = ['cuda-toolkit[cublas,cudart,cupti]==13.0.2; x', 'nvidia-cudnn-cu13==9.1; x'];
    file('torch.whl', fakeWheel({ version: '2.13.0+cu130', cuda: true, requires }));
    file('cudart.whl', zip({ 'nvidia/cu13/lib/libcudart.so.13': 'rt' }));
    fakePipPerName({ 'torch==2.13.0': 'torch', 'cuda-toolkit\\[cudart,cupti]==13.0.2': 'cudart' });
    const found = await install({});
    assert.equal(found.root, path.join(cache(), 'libtorch', '2.13.0-cpu', 'torch'));
    assert.equal(found.hasCuda, false);
    assert.deepEqual(fs.readdirSync(found.lib).sort(), [
      'libc10.so',
      'libgomp.so.1',
      'libtorch_cpu.so',
    ]);
    assert.ok(fs.existsSync(path.join(found.root, '../nvidia/cu13/lib/libcudart.so.13')));
    assert.equal((await install({})).root, found.root);
  });

  it('fetches the CUDA libraries a CUDA wheel asks for, beside it', async () => {
    const torch = fakeWheel({
      version: '2.13.0+cu130',
      cuda: true,
      requires: ['nvidia-cublas==13.0; x'],
    });
    const cublas = zip({
      'nvidia/cu13/lib/libcublas.so.13': 'b',
      'nvidia/cu13/include/cublas.h': 'h',
      'nvidia/x.py': '',
    });
    file('torch.whl', torch);
    file('cublas.whl', cublas);
    fakePipPerName({ 'torch==2.13.0': 'torch', 'nvidia-cublas==13.0': 'cublas' });
    // Room for a real CUDA build is asked for first; without it there is nothing to see here.
    const { bavail, bsize } = fs.statfsSync(folder());
    if (bavail * bsize < 9e9) return;
    const found = await install({ variant: 'cuda' });
    const home = path.dirname(found.root);
    assert.equal(path.basename(home), '2.13.0-cu130');
    assert.ok(fs.existsSync(path.join(home, 'nvidia/cu13/lib/libcublas.so.13')));
    assert.equal(fs.existsSync(path.join(home, 'nvidia/x.py')), false);
  });

  it('lists every failed way and the way out when there is no network', async () => {
    fakePip('/nowhere', 'never');
    await assert.rejects(install({}), (error: Error & { code: string }) => {
      assert.equal(error.code, 'ERR_LIBTORCH_FETCH');
      assert.match(error.message, /wheel torch==2\.13\.0: .*No matching distribution/);
      assert.match(
        error.message,
        /pip download --no-deps torch==2\.13\.0.*libtorch install --from FILE/s,
      );
      return true;
    });
    await assert.rejects(
      install({ env: env({ SRUM_PYTHON: '/nowhere/python' }) }),
      /no Python with pip was found/,
    );
  });

  it('notices a wrong checksum by the known size and the known hash', async () => {
    const [known] = WHEELS;
    await assert.rejects(
      install({ from: file(known.file, fakeWheel()) }),
      (error: Error & { code: string }) => {
        assert.equal(error.code, 'ERR_CHECKSUM');
        assert.match(error.message, new RegExp(`expected ${known.size} bytes`));
        return true;
      },
    );
    const padded = file(known.file, fakeWheel());
    fs.truncateSync(padded, known.size);
    await assert.rejects(
      install({ from: padded }),
      new RegExp(`wrong SHA-256.*expected ${known.sha256}`),
    );
  });

  it("notices content that differs from the wheel's own list", async () => {
    const wheel = file('torch-9-any.whl', fakeWheel({ spoil: 'torch/lib/libtorch_cpu.so' }));
    await assert.rejects(
      install({ from: wheel }),
      /wrong check value in torch\/lib\/libtorch_cpu\.so/,
    );
    assert.deepEqual(fs.readdirSync(path.join(cache(), 'libtorch')), []);
  });

  it('refuses missing, truncated and foreign files', async () => {
    await assert.rejects(install({ from: path.join(folder(), 'none.whl') }), {
      code: 'ERR_NO_FILE',
    });
    const whole = fakeWheel();
    await assert.rejects(install({ from: file('cut.whl', whole.subarray(0, whole.length / 2)) }), {
      code: 'ERR_ARCHIVE',
    });
    await assert.rejects(
      install({ from: file('other.zip', zip({ 'readme.txt': 'x' })) }),
      /holds no LibTorch/,
    );
    const cpu = file('torch-9-any.whl', fakeWheel());
    await assert.rejects(install({ from: cpu, variant: 'cuda' }), /this archive is a CPU build/);
    await assert.rejects(install({ version: 'latest' }), { code: 'ERR_LIBTORCH_VERSION' });
  });

  it('clears away what a killed installation left', async () => {
    fs.mkdirSync(path.join(cache(), 'libtorch', '.tmp-killed', 'tree'), { recursive: true });
    await install({ from: file('torch-9-any.whl', fakeWheel()) });
    assert.deepEqual(fs.readdirSync(path.join(cache(), 'libtorch')), ['2.13.0-cpu']);
  });

  it('lets two processes that install at once do the work once', async () => {
    fakePip(file('torch-9-any.whl', fakeWheel()), '*', 1);
    const module = new URL('../../lib/native/libtorch-install.js', import.meta.url);
    const code = `import { installLibTorch } from ${JSON.stringify(fileURLToPath(module))};
      console.log((await installLibTorch({ stream: null })).root);`;
    const run = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const child = spawn(process.execPath, ['--input-type=module', '-e', code], { env: env() });
        let out = '';
        let err = '';
        child.stdout.on('data', (chunk) => {
          out += chunk;
        });
        child.stderr.on('data', (chunk) => {
          err += chunk;
        });
        child.on('close', (status) =>
          status === 0 ? resolve(out.trim()) : reject(new Error(err)),
        );
      });
    const roots = await Promise.all([run(), run(), run()]);
    const expected = path.join(cache(), 'libtorch', '2.13.0-cpu', 'torch');
    assert.deepEqual(roots, [expected, expected, expected]);
    assert.equal(asked().length, 1);
    assert.deepEqual(fs.readdirSync(path.join(cache(), 'libtorch')), ['2.13.0-cpu']);
  });

  it('keeps a manifest that can be checked', () => {
    for (const entry of [...ARCHIVES, ...WHEELS]) {
      assert.match(entry.sha256, /^[0-9a-f]{64}$/);
      assert.ok(entry.size > 1e8);
      assert.equal(knownFile(entry.file.replace('+', '%2B')), entry);
    }
    for (const archive of ARCHIVES) {
      for (const url of archive.urls) assert.equal(new URL(url).protocol, 'https:');
    }
  });
});
