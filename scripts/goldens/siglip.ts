import { parseVitConfig } from '../../lib/models/bagel/config.js';
import { patchify } from '../../lib/models/bagel/patchify.js';
import { SiglipVisionModel } from '../../lib/models/bagel/siglip.js';
import { noGrad, ops, type Tensor } from '../../lib/torch/index.js';
import type { GoldenCase, Handler } from './handler.js';

/** The packed input as the case stores it. */
function packedInput(c: GoldenCase): { patches: Tensor; positionIds: Tensor; seqlens: number[] } {
  return {
    patches: c.input('packed_tokens'),
    positionIds: c.input('position_ids'),
    seqlens: c.input('seqlens').toIntArray(),
  };
}

/** Images of a case cut into patches and packed must be the stored packed input. */
function checkPatches(c: GoldenCase): void {
  const images = c.inputNames().filter((name) => /^image_\d+$/.test(name));
  if (images.length === 0) return;
  const size = parseVitConfig(c.config.vit).patch_size;
  const packed = ops.cat(
    images.map((name) => patchify(c.input(name), size)),
    0,
  );
  c.expectClose('patchified images', packed, c.input('packed_tokens'), { atol: 1e-6 });
}

function tower(c: GoldenCase): void {
  noGrad(() => {
    const { vitModel, connector, vitPosEmbed } = c.bagel();
    if (!vitModel || !connector || !vitPosEmbed) throw new Error('the model has no vision tower');
    const { patches, positionIds, seqlens } = packedInput(c);
    checkPatches(c);
    c.expect('embeddings', vitModel.visionModel.embeddings.forward(patches, positionIds));
    const hidden = vitModel.forward(patches, positionIds, seqlens);
    c.expect('last_hidden', hidden);
    const lifted = connector.forward(hidden);
    c.expect('connector', lifted);
    c.expect('with_pos', lifted.add(vitPosEmbed.forward(positionIds)));
  });
}

function rotaryTower(c: GoldenCase): void {
  noGrad(() => {
    const model = new SiglipVisionModel(parseVitConfig(c.config.vit));
    model.loadStateDict(c.weightsFile());
    const { patches, positionIds, seqlens } = packedInput(c);
    c.expect('last_hidden', model.forward(patches, positionIds, seqlens));
  });
}

export const handlers: Handler[] = [
  [/^siglip_navit_rope/, rotaryTower],
  [/^siglip_navit/, tower],
];
