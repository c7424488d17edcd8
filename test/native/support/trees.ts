import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { libraryName } from '../../../lib/native/libtorch-locate.js';
import { zip } from './zip.js';

/** A folder that is removed after the tests of the surrounding `describe`. */
export function temporaryFolder(): () => string {
  let folder = '';
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'srum-test-'));
  });
  afterEach(() => fs.rmSync(folder, { recursive: true, force: true }));
  return () => folder;
}

export function writeTree(root: string, files: Record<string, string>): string {
  for (const [name, content] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    fs.writeFileSync(path.join(root, name), content);
  }
  return root;
}

export interface FakeOptions {
  version?: string;
  cuda?: boolean;
  headers?: boolean;
}

export const versionHeader = (version: string): string => {
  const [major, minor, patch] = version.split('.');
  return `#define TORCH_VERSION_MAJOR ${major}\n#define TORCH_VERSION_MINOR ${minor}\n#define TORCH_VERSION_PATCH ${patch}\n`;
};

/** The files of something that looks like LibTorch from outside. */
export function fakeLibTorch(options: FakeOptions = {}): Record<string, string> {
  const version = options.version ?? '2.13.0+cpu';
  const files: Record<string, string> = {
    [`lib/${libraryName('c10')}`]: 'c10',
    [`lib/${libraryName('torch_cpu')}`]: 'torch_cpu',
    'version.py': `from typing import Optional\n__version__ = '${version}'\n`,
  };
  if (options.cuda) files[`lib/${libraryName('torch_cuda')}`] = 'torch_cuda';
  if (options.headers !== false) {
    files['include/torch/headeronly/version.h'] = versionHeader(version.split('+')[0]);
  }
  return files;
}

/** A wheel with the given LibTorch, the Python parts around it and a correct RECORD. */
export function fakeWheel(
  options: FakeOptions & { requires?: string[]; spoil?: string } = {},
): Buffer {
  const version = options.version ?? '2.13.0+cpu';
  const info = `torch-${version}.dist-info`;
  const files: Record<string, string> = {
    'torch/__init__.py': 'raise ImportError',
    'torch/lib/libtorch_python.so': 'python',
    'torch/lib/libshm.so': 'shm',
    'torch/lib/libtorchbind_test.so': 'test',
    'torch/lib/libgomp.so.1': 'gomp',
    'torch/share/cmake/Torch/TorchConfig.cmake': 'cmake',
    'torchgen/packaged/ATen/native/native_functions.yaml': 'yaml',
    [`${info}/METADATA`]: `Name: torch\nVersion: ${version}\n${(options.requires ?? []).map((r) => `Requires-Dist: ${r}\n`).join('')}`,
  };
  for (const [name, content] of Object.entries(fakeLibTorch(options)))
    files[`torch/${name}`] = content;
  const lines = Object.entries(files).map(([name, content]) => {
    const text = name === options.spoil ? `${content}!` : content;
    return `${name},sha256=${createHash('sha256').update(text).digest('base64url')},${content.length}`;
  });
  files[`${info}/RECORD`] = `${lines.join('\n')}\n${info}/RECORD,,\n`;
  return zip(files);
}

/** Writes an executable shell script. */
export function script(file: string, body: string): string {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  return file;
}
