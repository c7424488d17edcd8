// Draw a picture, then ask the same model about it. With the embedded tiny model the picture is texture
// and the answer noise; give a model directory as the argument for more.
import { writeFileSync } from 'node:fs';
import { openModel } from 'srum/app/stages';
import { encodePng } from 'srum/data';
import { InterleaveInferencer } from 'srum/generate';

const session = openModel({ model: process.argv[2] ?? 'tiny' });
const inferencer = new InterleaveInferencer(session.parts);
const side = session.parts.vaeTransform.options.max_image_size;

const { image } = await inferencer.interleaveInference(
  ['a red kite above a stone bridge'],
  { image_shapes: [side, side], num_timesteps: 20, cfg_text_scale: 4 },
  { seeds: [7], onStep: ({ step, steps }) => console.log(`step ${step + 1} of ${steps}`) },
);
if (image === undefined) throw new Error('no picture');
writeFileSync('kite.png', await encodePng(image));
console.log(`kite.png: ${image.width} x ${image.height}`);

const { answer } = await inferencer.interleaveInference([image, 'What is in the picture?'], {
  understanding_output: true,
  max_think_token_n: 24,
});
console.log('answer:', JSON.stringify(answer));
session.dispose();
