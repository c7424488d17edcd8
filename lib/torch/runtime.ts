import { native } from './native.js';

/** Threads LibTorch's CPU operators use. */
export const getNumThreads = (): number => native.getNumThreads();
/** @throws {TorchError} ERR_ARGUMENT unless 1 <= count <= 8 times the cores (at least 64, at most 1024). */
export const setNumThreads = (count: number): void => native.setNumThreads(count);

/** What LibTorch is running: version, build settings, CUDA devices, the CPU instruction set in use. */
export const runtimeInfo = () => native.runtimeInfo();
/** LibTorch's version the addon was built for. */
export const torchVersion = (): string => native.runtimeInfo().builtFor;
/** Whether LibTorch has CUDA and finds a device. */
export const cudaAvailable = (): boolean => native.runtimeInfo().cuda;
