/** The LibTorch release that is fetched when nothing else is asked for. */
export const DEFAULT_VERSION = '2.13.0';

/** First and last minor release of LibTorch the sources build against. */
export const SUPPORTED_MINORS = ['2.11', '2.12', '2.13', '2.14'] as const;

/** A file whose content is known in advance. */
export interface KnownFile {
  file: string;
  sha256: string;
  /** Size in bytes. */
  size: number;
}

/** An official archive: a `KnownFile` with the addresses it can be fetched from, tried in order. */
export interface KnownArchive extends KnownFile {
  version: string;
  platform: string;
  variant: string;
  urls: string[];
}

/**
 * Official archives. Only CPU archives are listed: the CUDA archives come without the CUDA libraries they need,
 * while the wheels name exactly those.
 */
export const ARCHIVES: KnownArchive[] = [
  {
    version: '2.13.0',
    platform: 'linux-x64',
    variant: 'cpu',
    file: 'libtorch-shared-with-deps-2.13.0+cpu.zip',
    urls: ['https://download.pytorch.org/libtorch/cpu/libtorch-shared-with-deps-2.13.0%2Bcpu.zip'],
    sha256: 'edbf4cbed78433d803e90a65f1752e57783d164bce66c95c0872b2ab8f5c159e',
    size: 126_385_248,
  },
];

/** Wheels whose checksum is known. Others are accepted too: then the wheel's own list of hashes is what is checked. */
export const WHEELS: KnownFile[] = [
  {
    file: 'torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl',
    sha256: '6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b',
    size: 191_794_682,
  },
];

/** Index that carries CPU-only wheels, for machines whose default index has CUDA wheels. */
export const CPU_INDEX = 'https://download.pytorch.org/whl/cpu';

/** The archive for a release, platform and variant, if one is known. */
export function knownArchive(
  version: string,
  platform: string,
  variant: string,
): KnownArchive | undefined {
  return ARCHIVES.find(
    (a) => a.version === version && a.platform === platform && a.variant === variant,
  );
}

/** The expected content of a file with this name; `+` and its URL form `%2B` are the same. */
export function knownFile(name: string): KnownFile | undefined {
  const plain = name.replaceAll('%2B', '+');
  return [...ARCHIVES, ...WHEELS].find((known) => known.file === plain);
}
