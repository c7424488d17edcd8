import type { RgbImage } from '../../lib/data/images.js';
import { ImageTransform } from '../../lib/data/transforms.js';
import type { InferencerParts, TextCodec } from '../../lib/generate/inferencer.js';
import { tinyConfig, tinyModel } from './tiny-model.js';

const config = tinyConfig({
  llm: { vocab_size: 300 },
  vit: { image_size: 112 },
  bagel: { vit_max_num_patch_per_side: 8 },
});

/** One token per UTF-8 byte, after 16 ids for special use; ids from 272 on do not exist. */
export const byteCodec: TextCodec = {
  vocabSize: 272,
  encode: (text) => [...new TextEncoder().encode(text)].map((byte) => byte + 16),
  decode: (ids) =>
    new TextDecoder().decode(
      Uint8Array.from(
        ids.filter((id) => id >= 16),
        (id) => id - 16,
      ),
    ),
};

/** A randomly filled model with everything generation needs. */
export function tinyParts(seed = 1): Required<InferencerParts> {
  const { bagel, vae } = tinyModel(config, seed);
  return {
    model: bagel,
    vae,
    special: { bos_token_id: 1, eos_token_id: 2, start_of_image: 3, end_of_image: 4 },
    tokenizer: byteCodec,
    vaeTransform: new ImageTransform({ max_image_size: 64, min_image_size: 32, image_stride: 16 }),
    vitTransform: new ImageTransform({ max_image_size: 56, min_image_size: 28, image_stride: 14 }),
  };
}

/** A picture in which no two neighbouring pixels are alike. */
export function tinyImage(width: number, height: number): RgbImage {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 37) % 251);
  return { width, height, data };
}
