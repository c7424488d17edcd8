/**
 * SRUM for Node: each floor of the package under its own name. Also to be had one by one: `import { ops } from 'srum/torch'`.
 *
 * @packageDocumentation
 */
export * as data from './data/index.js';
export * as generate from './generate/index.js';
export * as models from './models/index.js';
export * as nn from './nn/index.js';
export * as optim from './optim/index.js';
export * as reward from './reward/index.js';
export * as torch from './torch/index.js';
export * as train from './train/index.js';
export * from './util/errors.js';
