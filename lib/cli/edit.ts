import type { Command } from 'commander';
import { startProgress } from '../util/progress.js';
import {
  addModelOptions,
  addSamplerOptions,
  addTextOptions,
  type InferenceFlags,
  inferenceInput,
  type ModelFlags,
} from './options.js';
import { action } from './run-command.js';

export function addEdit(program: Command): void {
  const command = program
    .command('edit')
    .argument('<image>', 'picture file')
    .argument('<instruction>', 'what to change')
    .summary('change a picture by an instruction')
    .description(
      'Changes a picture by an instruction and writes the result as PNG. The defaults are those of ' +
        'editing: image guidance 2, guidance at all times, renormalisation text_channel.',
    )
    .option('--out <file>', 'where the result goes', 'edited.png');
  addModelOptions(addTextOptions(addSamplerOptions(command)))
    .addHelpText(
      'after',
      '\nExample:\n  srum edit photo.jpg "make it snow" --model models/BAGEL-7B-MoT --out snow.png',
    )
    .action(
      action<ModelFlags & InferenceFlags & { out: string }>(
        async (context, flags, image, instruction) => {
          const { editImage } = await import('../app/stages/image-request.js');
          const bar = startProgress('edit', { stream: context.stream, unit: 'steps' });
          const result = await editImage({
            ...flags,
            image,
            text: instruction,
            inference: inferenceInput(flags),
            onLoad: () => context.note(`loading ${flags.model}`),
            onStep: (step, steps) => bar.update(step, steps),
          }).finally(() => bar.stop());
          const text = `${result.image_file} (${result.width}x${result.height})`;
          return { json: result, text };
        },
      ),
    );
}
