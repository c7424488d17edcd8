export * as bagel from './bagel/index.js';
