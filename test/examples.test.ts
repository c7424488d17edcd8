import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import ts from 'typescript';
import { loadAddon, loadedAddon } from '../lib/native/load-addon.js';
import { packageRoot } from '../lib/native/paths.js';

/** The examples are compiled and run as a reader would: against the package by its name. */
describe('examples', function () {
  this.timeout(120_000);
  const root = packageRoot();
  const folder = path.join(root, 'examples');
  const names = fs.readdirSync(folder).filter((name) => name.endsWith('.ts'));
  // Inside the package, so that its own name leads to it.
  const out = path.join(root, 'dist', `examples-${process.pid}`);
  const cwd = fs.mkdtempSync(path.join(os.tmpdir(), 'srum-examples-'));

  before(() => {
    const options: ts.CompilerOptions = {
      target: ts.ScriptTarget.ES2022,
      lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      types: ['node'],
      typeRoots: [path.join(root, 'node_modules', '@types')],
      strict: true,
      skipLibCheck: true,
      rootDir: folder,
      outDir: out,
    };
    const files = names.map((name) => path.join(folder, name));
    const program = ts.createProgram(files, options);
    const { diagnostics } = program.emit();
    const all = [...ts.getPreEmitDiagnostics(program), ...diagnostics];
    const text = all.map(({ file, messageText }) => {
      const message = ts.flattenDiagnosticMessageText(messageText, '\n');
      return `${path.basename(file?.fileName ?? '')}: ${message}`;
    });
    assert.deepEqual(text, []);
  });
  after(() => {
    fs.rmSync(out, { recursive: true, force: true });
    fs.rmSync(cwd, { recursive: true, force: true });
  });

  function run(name: string): string {
    loadAddon();
    const loaded = loadedAddon();
    const env = {
      ...process.env,
      OMP_NUM_THREADS: '1',
      // The embedded model goes into a cache of its own.
      SRUM_CACHE: path.join(cwd, 'cache'),
      SRUM_LIBTORCH: loaded?.libtorch.root,
      SRUM_ADDON: loaded?.file,
    };
    const script = path.join(out, name.replace(/\.ts$/, '.js'));
    const ended = spawnSync(process.execPath, [script], { cwd, env, encoding: 'utf8' });
    assert.equal(ended.status, 0, ended.stderr);
    return ended.stdout;
  }

  it('01-tensors computes, differentiates and frees', () => {
    const text = run('01-tensors.ts');
    assert.match(text, /a @ a = \[ \[ 7, 10 \], \[ 15, 22 \] \]/);
    assert.match(text, /slope of x\^3 at 0, 1, 2 = \[ 0, 3, 12 \]/);
    assert.match(text, /kept by the scope: 1 tensor/);
  });

  it('02-generate draws and answers', () => {
    const text = run('02-generate.ts');
    assert.match(text, /step 19 of 19/);
    assert.match(text, /kite\.png: 128 x 128/);
    assert.ok(fs.existsSync(path.join(cwd, 'kite.png')));
  });

  it('03-train-step learns', () => {
    const losses = [...run('03-train-step.ts').matchAll(/loss ([\d.]+)/g)].map(([, n]) =>
      Number(n),
    );
    assert.equal(losses.length, 5);
    assert.ok(losses[4] < 0.2 * losses[0], losses.join(' '));
  });
});
