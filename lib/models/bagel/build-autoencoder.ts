import { Autoencoder } from './autoencoder.js';
import type { VaeConfig } from './config.js';
import type { LatentAutoencoder } from './latent-autoencoder.js';
import { PatchAutoencoder } from './patch-autoencoder.js';

/** The autoencoder a configuration describes, without values. */
export function buildAutoencoder(config: VaeConfig): LatentAutoencoder {
  return config.type === 'patch' ? new PatchAutoencoder(config) : new Autoencoder(config);
}
