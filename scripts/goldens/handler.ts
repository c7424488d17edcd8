import type { GoldenCase } from './golden-case.js';

export type { GoldenCase } from './golden-case.js';
export { type Json, optional } from './index-file.js';

/** Code that reproduces the cases whose id matches. */
export type Handler = [pattern: RegExp, run: (c: GoldenCase) => void | Promise<void>];
