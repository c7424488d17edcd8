import { DataError } from '../util/errors.js';
import type { RowDraws } from './draws.js';
import { decodeImage } from './images.js';
import {
  conditionImage,
  conditionText,
  type Sample,
  type SampleSource,
  targetImage,
} from './sample.js';
import type { Tokenizer } from './tokenizer.js';
import type { ChwImage, ImageTransform, RgbImage } from './transforms.js';

/** A row of a BAGEL editing shard: states of one picture and what leads from each to the next. */
export interface EditRow {
  /** Encoded images, successive states. */
  imageList: Uint8Array[];
  /** For the step from state k to k+1: alternative instructions. */
  instructionList: string[][];
}

/** What an editing sample is made with. */
export interface EditTransforms {
  vae: ImageTransform;
  vit: ImageTransform;
}

/** Collects the items of a sample in the order in which they are packed. */
class EditSample {
  readonly sample: Sample;
  readonly #transforms: EditTransforms;

  constructor(transforms: EditTransforms, source: SampleSource) {
    this.#transforms = transforms;
    this.sample = { sequencePlan: [], textIdsList: [], images: [], numTokens: 0, source };
  }

  text(ids: number[]): void {
    this.sample.sequencePlan.push(conditionText());
    this.sample.textIdsList.push(ids);
    this.sample.numTokens += ids.length;
  }

  /** An image as target (first), then as a condition for VAE and ViT, as asked. */
  image(image: RgbImage, uses: { target: boolean; condition: boolean }): void {
    const { vae, vit } = this.#transforms;
    if (uses.target) this.#push(targetImage(), vae.apply(image), vae);
    if (!uses.condition) return;
    this.#push(conditionImage('vae_image'), vae.apply(image), vae);
    this.#push(conditionImage('vit_image'), vit.apply(image), vit);
  }

  #push(item: Sample['sequencePlan'][number], image: ChwImage, transform: ImageTransform): void {
    this.sample.sequencePlan.push(item);
    this.sample.images.push(image);
    this.sample.numTokens += Math.floor((image.width * image.height) / transform.stride ** 2);
  }
}

function checkRow(row: EditRow, source: SampleSource): void {
  const states = row.imageList.length;
  const bad = (key: string, expected: string, found: string): DataError =>
    new DataError('ERR_EDIT_ROW', 'an editing row is unusable', {
      file: source.dataset,
      line: source.row,
      key,
      expected,
      found,
    });
  if (states < 2) throw bad('image_list', 'at least two images', String(states));
  if (row.instructionList.length < states - 1) {
    throw bad('instruction_list', `${states - 1} steps`, String(row.instructionList.length));
  }
  const empty = row.instructionList.slice(0, states - 1).findIndex((list) => list.length === 0);
  if (empty >= 0) throw bad(`instruction_list[${empty}]`, 'at least one instruction', 'none');
}

/**
 * Turns an editing row into a sample over a random span of at most two steps. The span's first
 * image is the condition. A span of several steps is, with even chances, either merged (all instructions
 * in one text, then the last image) or chained (each instruction, then its image, which in turn
 * conditions the next step).
 *
 * The draws are made in the reference's order: start, end, then for longer spans one uniform number, then one
 * instruction per step. As in the reference a merged span that reaches the row's last image stops
 * one step before it.
 *
 * @throws DataError, ImageError for rows or images that cannot be used.
 */
export async function editSample(
  row: EditRow,
  transforms: EditTransforms,
  tokenizer: Tokenizer,
  draws: RowDraws,
  source: SampleSource,
): Promise<Sample> {
  checkRow(row, source);
  const count = row.imageList.length;
  const decode = (index: number): Promise<RgbImage> =>
    decodeImage(row.imageList[index], {
      name: `${source.dataset}, row ${source.row}, image ${index}`,
    });
  const instruction = (step: number): string => {
    const list = row.instructionList[step];
    return list[draws.choice(list.length)];
  };
  const start = draws.choice(count - 1);
  const last = Math.min(start + 3, count);
  let end = start + 1 + draws.choice(last - start - 1);
  const builder = new EditSample(transforms, source);
  builder.image(await decode(start), { target: false, condition: true });

  if (end - start > 1 && draws.uniform() < 0.5) {
    if (end === count - 1) end -= 1;
    let text = '';
    for (let step = start; step < end; step++) text += `${instruction(step)}. `;
    builder.text(tokenizer.encode(text.trimEnd()));
    builder.image(await decode(end), { target: true, condition: false });
    return builder.sample;
  }
  for (let step = start; step < end; step++) {
    builder.text(tokenizer.encode(instruction(step)));
    builder.image(await decode(step + 1), { target: true, condition: step + 1 < end });
  }
  return builder.sample;
}
