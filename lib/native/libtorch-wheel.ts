import type { Archive } from './unpack.js';

/** Libraries of a wheel that only Python or torch's own tests use. */
const NOT_NEEDED = /^lib(torch_python|shm|aoti_custom_ops|backend_with_compiler|.*_test)\./;
const LIBRARY = /^(torch|libtorch)\/lib\/([^/]+\.(?:so|dylib|dll|lib)(?:\.\d+)*)$/;

/** What an archive turned out to be. */
export interface LibTorchArchive {
  kind: 'wheel' | 'archive';
  /** Full version, e.g. `2.13.0+cpu`. */
  version: string;
  isCuda: boolean;
  /** Entry name to path below the installation folder, in which LibTorch is the sub-folder `torch`. */
  targets: Map<string, string>;
  /** SHA-256 in base64url per entry, from a wheel's RECORD. */
  hashes?: Map<string, string>;
  /** The CUDA packages a CUDA wheel needs, as pip requirements. */
  cudaRequirements: string[];
}

/** Reads what an archive holds; returns null when it is no LibTorch at all. */
export async function readLibTorchArchive(archive: Archive): Promise<LibTorchArchive | null> {
  const names = [...archive.entries.keys()];
  const hasCuda = names.some((name) => /\/lib\/(lib)?torch_cuda\./.test(name));
  if (names.some((name) => /^libtorch\/lib\/(lib)?torch_cpu\./.test(name))) {
    const version = (await archive.read('libtorch/build-version')).toString().trim();
    const targets = pick(names);
    return { kind: 'archive', version, isCuda: hasCuda, targets, cudaRequirements: [] };
  }
  const metadataName = names.find((name) => /^torch-[^/]+\.dist-info\/METADATA$/.test(name));
  if (!metadataName || !names.some((name) => /^torch\/lib\/(lib)?torch_cpu\./.test(name)))
    return null;
  const metadata = (await archive.read(metadataName)).toString();
  const version = metadata.match(/^Version: (\S+)/m)?.[1] ?? '';
  const record = (await archive.read(metadataName.replace(/METADATA$/, 'RECORD'))).toString();
  const cudaRequirements = [
    ...metadata.matchAll(/^Requires-Dist: ((?:nvidia-|cuda-toolkit)[^;\n]*)/gm),
  ].map((match) => match[1].trim());
  return {
    kind: 'wheel',
    version,
    isCuda: hasCuda || cudaRequirements.length > 0,
    targets: pick(names),
    hashes: parseRecord(record),
    cudaRequirements,
  };
}

/** The entries of a LibTorch without its Python parts. */
function pick(names: string[]): Map<string, string> {
  const targets = new Map<string, string>();
  for (const name of names) {
    const library = name.match(LIBRARY);
    if (library) {
      if (!NOT_NEEDED.test(library[2])) targets.set(name, `torch/lib/${library[2]}`);
    } else if (/^torch\.libs\/[^/]+\.so/.test(name)) {
      // Libraries a wheel brings along for LibTorch (arm64: OpenBLAS); the search path expects them just there.
      targets.set(name, name);
    } else if (/^(torch|libtorch)\/(include|share\/cmake)\//.test(name)) {
      targets.set(name, name.replace(/^libtorch\//, 'torch/'));
    } else if (/^(torch\/version\.py|libtorch\/build-version)$/.test(name)) {
      targets.set(name, name.replace(/^libtorch\//, 'torch/'));
    } else if (/^torchgen\/packaged\/ATen\/native\/[^/]+\.yaml$/.test(name)) {
      targets.set(name, name);
    } else if (/^torch-[^/]+\.dist-info\/licenses\/(LICENSE|NOTICE)$/.test(name)) {
      targets.set(name, name.slice(name.lastIndexOf('/') + 1));
    }
  }
  return targets;
}

/** Libraries of a CUDA build that run on the GPU only. */
const GPU_ONLY = /^torch\/lib\/lib(c10_cuda|torch_cuda|torch_nvshmem|caffe2_nvrtc|torch\.so|cu)/;

/**
 * The part of a CUDA build that computes on the CPU: 530 MB to fetch, but it is what a plain Python index has. Its CPU
 * library is linked against two small CUDA libraries (runtime and profiler), which stay required.
 */
export function cpuPart(content: LibTorchArchive): LibTorchArchive {
  const targets = new Map([...content.targets].filter(([, target]) => !GPU_ONLY.test(target)));
  const cudaRequirements = content.cudaRequirements.flatMap((requirement) => {
    if (/^nvidia-cuda-(runtime|cupti)/.test(requirement)) return [requirement];
    const toolkit = requirement.match(/^cuda-toolkit(?:\[[^\]]*\])?(.*)$/);
    return toolkit ? [`cuda-toolkit[cudart,cupti]${toolkit[1]}`] : [];
  });
  return { ...content, targets, cudaRequirements };
}

/** The libraries and headers of a wheel of the CUDA toolkit, in the layout the wheels' search paths expect. */
export function pickCuda(archive: Archive): Map<string, string> {
  const targets = new Map<string, string>();
  for (const name of archive.entries.keys()) {
    if (/^nvidia\/.+\/(lib\/[^/]+\.so[.\d]*|include\/.+)$/.test(name)) targets.set(name, name);
  }
  return targets;
}

/** `path,sha256=<base64url>,size` per line; a path with a comma is quoted. */
export function parseRecord(text: string): Map<string, string> {
  const hashes = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = line.trim().match(/^(?:"((?:[^"]|"")*)"|([^,]*)),sha256=([\w-]+)=*,\d*$/);
    if (match) hashes.set((match[1] ?? match[2]).replaceAll('""', '"'), match[3]);
  }
  return hashes;
}
