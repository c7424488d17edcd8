import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import {
  INSTALL_RECORD,
  inspectLibTorch,
  locateLibTorch,
} from '../../lib/native/libtorch-locate.js';
import { cacheRoot } from '../../lib/native/paths.js';
import {
  type FakeOptions,
  fakeLibTorch,
  script,
  temporaryFolder,
  versionHeader,
  writeTree,
} from './support/trees.js';

describe('where LibTorch is looked for', () => {
  const folder = temporaryFolder();
  /** Nothing but what a test puts there: no interpreter on the PATH, an empty cache. */
  const bare = (extra: Record<string, string> = {}): Record<string, string> => ({
    PATH: path.join(folder(), 'bin'),
    SRUM_CACHE: path.join(folder(), 'cache'),
    ...extra,
  });
  const tree = (name: string, options?: FakeOptions): string =>
    writeTree(path.join(folder(), name), fakeLibTorch(options));
  const install = (name: string, options?: FakeOptions): string => {
    const entry = path.join(folder(), 'cache', 'libtorch', name);
    writeTree(entry, { [INSTALL_RECORD]: '{}' });
    return writeTree(path.join(entry, 'torch'), fakeLibTorch(options));
  };
  const interpreter = (name: string, torch: string): string =>
    script(path.join(folder(), name), `echo '${torch}'`);

  it('takes option, variable, cache and Python in this order', () => {
    const places = {
      option: tree('option'),
      variable: tree('variable'),
      cache: install('2.13.0-cpu'),
      python: tree('python'),
    };
    const env = bare({ SRUM_LIBTORCH: places.variable });
    interpreter('bin/python3', places.python);
    const source = (options: Parameters<typeof locateLibTorch>[0]): string | undefined =>
      locateLibTorch(options).found?.root;
    assert.equal(source({ env, root: places.option }), places.option);
    assert.equal(source({ env }), places.variable);
    assert.equal(source({ env: bare() }), places.cache);
    fs.rmSync(path.join(folder(), 'cache'), { recursive: true });
    assert.equal(source({ env: bare() }), places.python);
    assert.equal(source({ env: bare(), noPython: true }), undefined);
  });

  it('never passes over a place the user named', () => {
    install('2.13.0-cpu');
    for (const options of [
      { env: bare({ SRUM_LIBTORCH: path.join(folder(), 'nowhere') }) },
      { env: bare(), root: path.join(folder(), 'nowhere') },
    ]) {
      const { found, candidates } = locateLibTorch(options);
      assert.equal(found, null);
      assert.deepEqual(
        candidates.map((c) => c.refused),
        ['does not exist'],
      );
    }
  });

  it('asks the chosen interpreter, else the virtual environment, then python3', () => {
    const env = bare();
    interpreter('bin/python3', tree('system'));
    interpreter('venv/bin/python', tree('venv-torch'));
    interpreter('chosen', tree('chosen-torch'));
    const venv = { ...env, VIRTUAL_ENV: path.join(folder(), 'venv') };
    const chosen = { ...venv, SRUM_PYTHON: path.join(folder(), 'chosen') };
    const root = (e: Record<string, string>): string =>
      path.basename(locateLibTorch({ env: e }).found?.root ?? '');
    assert.equal(root(env), 'system');
    assert.equal(root(venv), 'venv-torch');
    assert.equal(root(chosen), 'chosen-torch');
  });

  it('says why each interpreter was of no use', () => {
    const env = bare({ VIRTUAL_ENV: path.join(folder(), 'gone') });
    script(path.join(folder(), 'bin', 'python3'), 'echo "broken install" >&2; exit 3');
    const { candidates } = locateLibTorch({ env });
    const reasons = candidates.filter((c) => c.source === 'python').map((c) => c.refused);
    assert.deepEqual(reasons, ['no such interpreter', 'ended with status 3: broken install']);
    interpreter('bin/python3', '');
    const again = locateLibTorch({ env }).candidates.pop();
    assert.equal(again?.refused, 'has no torch package');
  });

  it('does not take a folder called torch for the package', function () {
    const python = '/usr/bin/python3';
    if (!fs.existsSync(python)) this.skip();
    const env = bare({ SRUM_PYTHON: python, PYTHONPATH: path.join(folder(), 'modules') });
    fs.mkdirSync(path.join(folder(), 'modules', 'torch'), { recursive: true });
    const { candidates } = locateLibTorch({ env });
    assert.equal(candidates.pop()?.refused, 'has no torch package');
  });

  it('prefers the default release in the cache and leaves unfinished ones alone', () => {
    install('2.14.0-cpu', { version: '2.14.0+cpu' });
    const expected = install('2.13.0-cpu');
    writeTree(path.join(folder(), 'cache', 'libtorch', '2.12.0-cpu', 'torch'), fakeLibTorch());
    const { found, candidates } = locateLibTorch({ env: bare(), variant: 'cpu' });
    assert.equal(found?.root, expected);
    const unfinished = candidates.find((c) => c.place.endsWith('2.12.0-cpu'));
    assert.match(unfinished?.refused ?? '', /not a finished installation/);
  });

  it('takes the wanted variant from the cache', () => {
    const cpu = install('2.13.0-cpu');
    const cuda = install('2.13.0-cu130', { version: '2.13.0+cu130', cuda: true });
    assert.equal(locateLibTorch({ env: bare(), variant: 'cpu' }).found?.root, cpu);
    const found = locateLibTorch({ env: bare(), variant: 'cu' }).found;
    assert.equal(found?.root, cuda);
    assert.equal(found?.hasCuda, true);
  });

  it('wants headers only for building', () => {
    const root = tree('bare-libraries', { headers: false });
    assert.equal(locateLibTorch({ root }).found?.include, null);
    const { found, candidates } = locateLibTorch({ root, forBuild: true });
    assert.equal(found, null);
    assert.match(candidates[0].refused ?? '', /no headers/);
  });

  it('reads the version of a package, an archive and bare headers', () => {
    const python = inspectLibTorch(tree('a'), 'option');
    assert.deepEqual(
      typeof python === 'string' ? python : [python.version, python.minor, python.variant],
      ['2.13.0+cpu', '2.13', 'cpu'],
    );
    const archive = tree('b', { version: '2.14.1+cu130', cuda: true });
    fs.rmSync(path.join(archive, 'version.py'));
    writeTree(archive, { 'build-version': '2.14.1+cu130\n' });
    const second = inspectLibTorch(archive, 'option');
    assert.equal(typeof second !== 'string' && second.variant, 'cu130');
    fs.rmSync(path.join(archive, 'build-version'));
    const third = inspectLibTorch(archive, 'option');
    assert.equal(typeof third !== 'string' && third.version, '2.14.1');
    fs.rmSync(path.join(archive, 'include'), { recursive: true });
    assert.match(String(inspectLibTorch(archive, 'option')), /tells no version/);
  });

  it('refuses versions the sources do not build against', () => {
    for (const version of ['2.10.0', '2.15.0+cpu', '1.13.1']) {
      const root = tree(`v${version}`, { version });
      assert.match(
        String(inspectLibTorch(root, 'option')),
        /versions 2\.11 to 2\.14 are supported/,
      );
    }
    const empty = writeTree(path.join(folder(), 'empty'), {
      'version.py': versionHeader('2.13.0'),
    });
    assert.match(String(inspectLibTorch(empty, 'option')), /has no lib\//);
  });

  it('honours the variables for the cache folder', () => {
    assert.equal(
      cacheRoot({ SRUM_CACHE: '/a', XDG_CACHE_HOME: '/b', HOME: '/c' }),
      path.resolve('/a'),
    );
    assert.equal(cacheRoot({ XDG_CACHE_HOME: '/b', HOME: '/c' }), path.join('/b', 'srum'));
    assert.equal(
      cacheRoot({ XDG_CACHE_HOME: 'relative', HOME: '/c' }),
      path.join('/c', '.cache', 'srum'),
    );
  });
});
