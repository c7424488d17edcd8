import { z } from 'zod';
import { DataError } from '../util/errors.js';
import { faultDetails, schemaFaults } from '../util/schema-faults.js';
import { imagePath } from './image-folder.js';
import { readImage } from './images.js';
import { plainItem, type Sample, type SampleSource } from './sample.js';
import type { Tokenizer } from './tokenizer.js';
import type { ImageTransform } from './transforms.js';

const schema = z.looseObject({
  image: z.union([z.string().min(1), z.array(z.string().min(1))]).optional(),
  video: z.string().optional(),
  conversations: z.array(z.looseObject({ from: z.string(), value: z.string() })),
});

/** One conversation of the understanding data (LLaVA form). */
export type VlmRecord = z.output<typeof schema>;

/** The record of one jsonl line. @throws DataError naming the key that is missing or wrong. */
export function parseVlmRecord(value: unknown): VlmRecord {
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    throw new DataError('ERR_VLM_RECORD', 'a conversation record is unusable', {
      ...faultDetails(schemaFaults(parsed.error, value)[0]),
    });
  }
  if (parsed.data.video !== undefined) {
    throw new DataError('ERR_VIDEO', 'videos are not supported', {
      key: 'video',
      found: parsed.data.video,
    });
  }
  return parsed.data;
}

type Piece = { type: 'image' } | { type: 'text'; text: string; loss: 0 | 1 };

const IMAGE_MARK = '<image>';

/**
 * Splits a conversation: what the human says is not learned, what `gpt` says is; turns of other roles are
 * not used. Image marks of human turns place the images in order, marks beyond their number are removed.
 */
function pieces(record: VlmRecord, images: number): Piece[] {
  const out: Piece[] = [];
  let placed = 0;
  for (const { from, value } of record.conversations) {
    if (from === 'gpt') out.push({ type: 'text', text: value, loss: 1 });
    if (from !== 'human') continue;
    const parts = value.split(IMAGE_MARK);
    if (parts.length === 1) {
      out.push({ type: 'text', text: value, loss: 0 });
      continue;
    }
    for (const [i, part] of parts.entries()) {
      if (part.trim() !== '') out.push({ type: 'text', text: part.trim(), loss: 0 });
      if (i === parts.length - 1 || placed >= images) continue;
      out.push({ type: 'image' });
      placed += 1;
    }
  }
  return out;
}

/**
 * Turns a conversation into a sample. Images share the pixel budget of the transform; images without a
 * mark stay in the list but are never packed; texts without tokens are left out.
 *
 * @throws FileError, ImageError for unreadable images; DataError when nothing is to be learned.
 */
export async function vlmSample(
  record: VlmRecord,
  imageFolder: string,
  transform: ImageTransform,
  tokenizer: Tokenizer,
  source: SampleSource,
): Promise<Sample> {
  const names = typeof record.image === 'string' ? [record.image] : (record.image ?? []);
  const sample: Sample = { sequencePlan: [], textIdsList: [], images: [], numTokens: 0, source };
  for (const name of names) {
    const image = transform.apply(await readImage(imagePath(imageFolder, name)), names.length);
    sample.images.push(image);
    sample.numTokens += Math.floor((image.width * image.height) / transform.stride ** 2);
  }
  for (const piece of pieces(record, names.length)) {
    if (piece.type === 'image') {
      sample.sequencePlan.push(plainItem('vit_image', 0));
      continue;
    }
    const ids = tokenizer.encode(piece.text);
    if (ids.length === 0) continue;
    sample.sequencePlan.push(plainItem('text', piece.loss));
    sample.textIdsList.push(ids);
    sample.numTokens += ids.length;
  }
  if (sample.sequencePlan.every(({ loss }) => loss === 0)) {
    throw new DataError('ERR_NOTHING_TO_LEARN', 'the conversation has no answer to learn from', {
      file: source.dataset,
      line: source.row,
    });
  }
  return sample;
}
