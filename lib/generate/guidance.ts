import { ops, scope, type Tensor } from '../torch/index.js';
import { ConfigError } from '../util/errors.js';
import { guidanceActive } from './schedule.js';

/** Ways to shrink the guided velocity back to the length of the conditional one. */
export const renormTypes = ['global', 'channel', 'text_channel'] as const;
/** One of {@link renormTypes}. */
export type RenormType = (typeof renormTypes)[number];

/** What one norm of type `global` spans: each image by itself, or the whole packed batch. */
export type RenormScope = 'image' | 'batch';

/** Classifier-free guidance, under the reference's names. */
export interface GuidanceOptions {
  /** Weight of the prompt; 1 or less switches all guidance off, the image's included. */
  cfg_text_scale: number;
  /** Weight of the input images; 1 or less switches this branch off. */
  cfg_img_scale: number;
  /** Guidance is active for shifted times t with `lo < t <= hi`. */
  cfg_interval: [number, number];
  /** Lower bound of the shrink factor; 1 means no renormalisation. */
  cfg_renorm_min: number;
  cfg_renorm_type: RenormType;
  /**
   * `image` (default) keeps the images of a batch independent of each other; `batch` is the reference's
   * behaviour. The two agree for one image.
   */
  cfg_renorm_scope: RenormScope;
}

/** Guards against a zero velocity in the quotient of norms. */
const tiny = 1e-8;

/** @throws ConfigError for a name that is not one of {@link renormTypes}. */
export function parseRenormType(name: string): RenormType {
  if ((renormTypes as readonly string[]).includes(name)) return name as RenormType;
  throw new ConfigError('ERR_CFG_RENORM_TYPE', 'unknown renormalisation', {
    key: 'cfg_renorm_type',
    expected: renormTypes.join(', '),
    found: name,
  });
}

/** @throws ConfigError when an option is outside its range. */
export function checkGuidance(o: GuidanceOptions): void {
  parseRenormType(o.cfg_renorm_type);
  const bad = (key: string, expected: string, found: unknown): never => {
    throw new ConfigError(`config.${key}`, 'guidance option out of range', {
      key,
      expected,
      found: JSON.stringify(found),
    });
  };
  for (const key of ['cfg_text_scale', 'cfg_img_scale'] as const) {
    if (!Number.isFinite(o[key])) bad(key, 'a finite number', o[key]);
  }
  const [lo, hi] = o.cfg_interval;
  if (o.cfg_interval.length !== 2 || !(lo >= 0 && hi <= 1 && lo <= hi)) {
    bad('cfg_interval', 'two times with 0 <= lo <= hi <= 1', o.cfg_interval);
  }
  if (!(o.cfg_renorm_min >= 0 && o.cfg_renorm_min <= 1)) {
    bad('cfg_renorm_min', 'a number from 0 to 1', o.cfg_renorm_min);
  }
  if (o.cfg_renorm_scope !== 'image' && o.cfg_renorm_scope !== 'batch') {
    bad('cfg_renorm_scope', 'image or batch', o.cfg_renorm_scope);
  }
}

/** Which passes a step needs besides the main one. */
export function passesAt(t: number, o: GuidanceOptions): { text: boolean; image: boolean } {
  const text = guidanceActive(t, o.cfg_interval) && o.cfg_text_scale > 1;
  return { text, image: text && o.cfg_img_scale > 1 };
}

/** `weak + scale * (strong - weak)`. */
export function extrapolate(weak: Tensor, strong: Tensor, scale: number): Tensor {
  return weak.add(strong.sub(weak).mul(scale));
}

/** Norm of each token, `[n, P] -> [n, 1]`. */
function tokenNorm(x: Tensor): Tensor {
  return ops.linalgVectorNorm(x, 2, [-1], true);
}

/** Norm of each span of rows, repeated over its rows: `[n, P] -> [n, 1]`. */
function spanNorm(x: Tensor, spans: readonly number[]): Tensor {
  const norms = x
    .split([...spans], 0)
    .map((part, i) => ops.linalgVectorNorm(part, 2).reshape([1, 1]).expand([spans[i], 1]));
  return norms.length === 1 ? norms[0] : ops.cat(norms, 0);
}

/** `clamp(|reference| / (|guided| + 1e-8), min, 1) * guided` for norms of a matching shape. */
function shrink(
  guided: Tensor,
  reference: Tensor,
  norm: (x: Tensor) => Tensor,
  min: number,
): Tensor {
  const factor = norm(reference).div(norm(guided).add(tiny)).clamp(min, 1);
  return guided.mul(factor);
}

/** Velocities of one step; all `[n, P]`, a missing one means that its branch is off. */
export interface Velocities {
  /** Full context. */
  conditional: Tensor;
  /** Context without the last text. */
  withoutText?: Tensor;
  /** Context without images. */
  withoutImage?: Tensor;
}

/**
 * Combines the velocities of one step into the guided one (BAGEL reference, generate_image).
 *
 * Text guidance comes first, image guidance second. `global` and `channel` shrink the result of both,
 * with one norm per span or per token; `text_channel` shrinks after the text and before the image.
 * Arithmetic is float32 whatever the dtype of the velocities.
 *
 * @param spans tokens per image, in order; they sum to n.
 * @returns float32 `[n, P]`.
 */
export function guide(
  velocities: Velocities,
  o: GuidanceOptions,
  spans: readonly number[],
): Tensor {
  const { withoutText, withoutImage } = velocities;
  return scope(() => {
    const v = velocities.conditional.to('float32');
    if (!withoutText || o.cfg_text_scale <= 1) return v;
    const text = extrapolate(withoutText.to('float32'), v, o.cfg_text_scale);
    const image = withoutImage && o.cfg_img_scale > 1 ? withoutImage.to('float32') : undefined;
    const addImage = (g: Tensor): Tensor => (image ? extrapolate(image, g, o.cfg_img_scale) : g);
    const min = o.cfg_renorm_min;
    switch (parseRenormType(o.cfg_renorm_type)) {
      case 'text_channel':
        return addImage(shrink(text, v, tokenNorm, min));
      case 'channel':
        return shrink(addImage(text), v, tokenNorm, min);
      case 'global': {
        const rows = o.cfg_renorm_scope === 'batch' ? [v.shape[0]] : spans;
        return shrink(addImage(text), v, (x) => spanNorm(x, rows), min);
      }
    }
  });
}
