export { SHAPES_CONFIG } from './config.js';
export { shapesModel } from './model.js';
