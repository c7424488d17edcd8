export * as bagel from './bagel/index.js';
export * as shapes from './shapes/index.js';
