import type { Command } from 'commander';
import {
  addModelOptions,
  addTextOptions,
  type InferenceFlags,
  inferenceInput,
  type ModelFlags,
} from './options.js';
import { action } from './run-command.js';

export function addAsk(program: Command): void {
  const command = program
    .command('ask')
    .argument('<image>', 'picture file')
    .argument('<question>', 'what to ask')
    .summary('ask the model about a picture')
    .description('Asks the model about a picture and prints its answer.');
  addModelOptions(addTextOptions(command))
    .addHelpText(
      'after',
      '\nExample:\n  srum ask photo.jpg "How many boats are there?" --model models/BAGEL-7B-MoT --think',
    )
    .action(
      action<ModelFlags & InferenceFlags>(async (context, flags, image, question) => {
        const { askImage } = await import('../app/stages/image-request.js');
        const result = await askImage({
          ...flags,
          image,
          text: question,
          inference: inferenceInput(flags),
          onLoad: () => context.note(`loading ${flags.model}`),
        });
        const thought = result.thought === null ? [] : [`[thought] ${result.thought}`, ''];
        const cut = result.truncated ? ['[cut off at --max-think-token-n]'] : [];
        return { json: result, text: [...thought, result.answer, ...cut].join('\n') };
      }),
    );
}
