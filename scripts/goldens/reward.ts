import { type GridSize, toLatentGrid } from '../../lib/reward/latent-grid.js';
import { codeRewardMap } from '../../lib/reward/reward-map.js';
import { type Tensor, tensor } from '../../lib/torch/index.js';
import { type GoldenCase, type Handler, optional } from './handler.js';

/** JSON has no infinities; the index spells them out as text that begins like this. */
const SPELLED: Array<[RegExp, number]> = [
  [/^\+?Infinity\b/, Number.POSITIVE_INFINITY],
  [/^-Infinity\b/, Number.NEGATIVE_INFINITY],
  [/^NaN\b/, Number.NaN],
];

function unspelled(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unspelled);
  if (typeof value === 'string') return SPELLED.find(([text]) => text.test(value))?.[1] ?? value;
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, unspelled(v)]));
}

function latentTensor(map: Float32Array, size: GridSize): Tensor {
  return tensor(toLatentGrid(map, size, 'bilinear'), { shape: [...size.to] });
}

async function rewardMap(c: GoldenCase): Promise<void> {
  const [width, height] = c.params.image_size_wh;
  const build = () =>
    codeRewardMap(
      unspelled(c.params.vlm_rewards),
      { width, height },
      optional(c.params, 'global_reward') ?? 0,
    );
  if (optional(c.params, 'raises')) {
    await c.expectThrows('the input is refused', build);
    return;
  }
  const { data } = build();
  c.expect('map', tensor(data, { shape: [height, width] }));
  for (const [h, w] of c.params.grids_hw) {
    const size = { from: [height, width], to: [h, w] } as const;
    c.expect(`latent_${h}x${w}`, latentTensor(data, size));
  }
}

function bilinear(c: GoldenCase): void {
  const map = c.input('map');
  const [rows, columns] = map.shape;
  const [h, w] = c.params.size;
  const size = { from: [rows, columns], to: [h, w] } as const;
  c.expect('y', latentTensor(map.toFloat32Array(), size));
}

export const handlers: Handler[] = [
  [/^reward_map/, rewardMap],
  [/^bilinear/, bilinear],
];
