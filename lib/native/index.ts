export { type BuildRecord, type BuildResult, ensureAddon } from './build-addon.js';
export { type DoctorCheck, type DoctorReport, runDoctor } from './doctor.js';
export { type InstallOptions, installLibTorch } from './libtorch-install.js';
export {
  type LibTorch,
  type LibTorchCandidate,
  type LocateReport,
  locateLibTorch,
} from './libtorch-locate.js';
export { DEFAULT_VERSION, SUPPORTED_MINORS } from './libtorch-manifest.js';
export { loadAddon, loadedAddon, setupCommand } from './load-addon.js';
export { cacheRoot } from './paths.js';
