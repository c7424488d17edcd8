// A training run in a process of its own, for tests that kill it: node run-recipe.js RECIPE.yaml
import { setNumThreads } from '../../lib/torch/index.js';
import { loadRecipe } from '../../lib/train/recipe.js';
import { runRecipe } from '../../lib/train/run.js';

setNumThreads(1);
const summary = await runRecipe(loadRecipe(process.argv[2]), {
  onStep: ({ step }) => process.stdout.write(`step ${step}\n`),
  onCheckpoint: (_, step) => process.stdout.write(`checkpoint ${step}\n`),
});
process.stdout.write(`done ${summary.step} ${summary.resumedFrom}\n`);
