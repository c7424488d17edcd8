import type { ProposerName } from '../models/bagel/config.js';
import { BlobsProposer } from './blobs.js';
import { BoxesProposer, type RegionProposer } from './propose.js';

/** What every proposer can be told. */
export interface ProposerOptions {
  /** Most regions returned; default 10. */
  maxRegions?: number;
}

const MAKERS: Record<ProposerName, (options: ProposerOptions) => RegionProposer> = {
  boxes: (options) => new BoxesProposer(options),
  blobs: (options) => new BlobsProposer(options),
};

/**
 * The proposer of a name; without one `boxes`, which makes no assumption about the background.
 *
 * @throws ConfigError for options out of range.
 */
export function createProposer(
  name: ProposerName | undefined,
  options: ProposerOptions = {},
): RegionProposer {
  return MAKERS[name ?? 'boxes'](options);
}
