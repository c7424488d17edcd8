import { noGrad, ops } from '../../lib/torch/index.js';
import type { GoldenCase, Handler } from './handler.js';

function roundTrip(c: GoldenCase): void {
  noGrad(() => {
    const vae = c.vae();
    const image = c.input('image');
    const moments = vae.moments(image);
    c.expect('moments', moments);
    c.expect('mean', moments.chunk(2, 1)[0]);
    c.expect('latent_from_mean', vae.encode(image, { deterministic: true }));
    const latent = vae.encode(image, { posteriorNoise: c.input('posterior_noise') });
    c.expect('latent_sampled', latent);
    c.expect('decoded', vae.decode(latent));
  });
}

function padded(c: GoldenCase): void {
  noGrad(() => {
    const batch = c.input('padded');
    for (const name of c.inputNames().filter((n) => /^image_\d+$/.test(n))) {
      const image = c.input(name);
      const i = Number(name.slice('image_'.length));
      const [, height, width] = image.shape;
      const region = batch.select(0, i).narrow(1, 0, height).narrow(2, 0, width);
      c.expectTrue(`${name} lies in the padded batch`, ops.equal(region, image));
    }
    c.expect('latent', c.vae().encode(batch, { posteriorNoise: c.input('posterior_noise') }));
  });
}

function block(c: GoldenCase): void {
  noGrad(() => {
    c.expect('y', c.vae().submodule(c.params.module).forward(c.input('x')));
  });
}

export const handlers: Handler[] = [
  [/^vae_roundtrip/, roundTrip],
  [/^vae_encode_padded/, padded],
  [/^vae_block/, block],
];
