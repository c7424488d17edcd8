import { DataError, messageOf } from '../util/errors.js';
import { isObject } from '../util/json-values.js';
import type { RowDraws } from './draws.js';
import { decodeImage } from './images.js';
import { conditionText, type Sample, type SampleSource, targetImage } from './sample.js';
import type { Tokenizer } from './tokenizer.js';
import type { ImageTransform } from './transforms.js';

/** A row of a BAGEL text-to-image shard. */
export interface T2iRow {
  /** Encoded image. */
  image: Uint8Array;
  /** JSON object: name of a caption to its text. */
  captions: string;
}

function parseCaptions(text: string, source: SampleSource): string[] {
  const bad = (found: string): DataError =>
    new DataError('ERR_CAPTIONS', 'the captions of a row are unusable', {
      file: source.dataset,
      line: source.row,
      key: 'captions',
      expected: 'a JSON object of texts',
      found,
    });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw bad(messageOf(error));
  }
  if (!isObject(value)) {
    throw bad(JSON.stringify(value).slice(0, 60));
  }
  const captions = Object.values(value);
  const odd = captions.find((caption) => typeof caption !== 'string');
  if (odd !== undefined) throw bad(JSON.stringify(odd).slice(0, 60));
  return captions as string[];
}

/**
 * Turns a text-to-image row into a sample: a droppable caption (one of the row's, chosen at random;
 * a single space when there is none), then the image to be generated.
 *
 * @throws ImageError, DataError for an unreadable image or captions.
 */
export async function t2iSample(
  row: T2iRow,
  transform: ImageTransform,
  tokenizer: Tokenizer,
  draws: Pick<RowDraws, 'choice'>,
  source: SampleSource,
): Promise<Sample> {
  const name = `${source.dataset}, row ${source.row}`;
  const image = transform.apply(await decodeImage(row.image, { name }));
  const captions = parseCaptions(row.captions, source);
  const caption = captions.length === 0 ? ' ' : captions[draws.choice(captions.length)];
  const ids = tokenizer.encode(caption);
  return {
    sequencePlan: [conditionText(), targetImage()],
    textIdsList: [ids],
    images: [image],
    numTokens: ids.length + Math.floor((image.width * image.height) / transform.stride ** 2),
    source,
  };
}
