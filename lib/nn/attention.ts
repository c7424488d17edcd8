import type { Tensor } from '../torch/index.js';
import { ops } from '../torch/index.js';
import type { AttentionCall } from './packed-layout.js';

/** A plan in the form the native operator takes, computed once per plan. */
interface NativePlan {
  qStarts: number[];
  qEnds: number[];
  kStarts: number[];
  kEnds: number[];
  causal: boolean[];
}

/**
 * How attention is computed: `short` (CPU; all ranges in one pass, for ranges of up to some hundred
 * keys), `flash` (CPU; range by range), `math` (any device; range by range) or by what suits the plan.
 */
export type AttentionKernel = 'auto' | 'short' | 'flash' | 'math';

const planned = new WeakMap<readonly AttentionCall[], NativePlan>();

/**
 * Scaled dot-product attention over contiguous ranges, without a mask and without repeating K/V heads.
 * @param q [Tq, heads, d]
 * @param k [Tk, kvHeads, d]; query head h uses kv head floor(h * kvHeads / heads)
 * @param v [Tk, kvHeads, d]
 * @param plan ranges; those over the same query rows are parts of one softmax
 * @param options scale of the scores, default 1/sqrt(d); kernel, default `auto`
 * @returns [Tq, heads, d] in the dtype of q, softmax in float32; differentiable in q, k and v
 */
export function packedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  plan: readonly AttentionCall[],
  options: { scale?: number; kernel?: AttentionKernel } = {},
): Tensor {
  const { qStarts, qEnds, kStarts, kEnds, causal } = nativePlan(plan);
  const scale = options.scale ?? 1 / Math.sqrt(q.shape[q.ndim - 1]);
  const kernel = options.kernel ?? 'auto';
  return ops.srum.packedAttention(q, k, v, qStarts, qEnds, kStarts, kEnds, causal, scale, kernel);
}

function nativePlan(plan: readonly AttentionCall[]): NativePlan {
  let native = planned.get(plan);
  if (native === undefined) {
    native = {
      qStarts: plan.map((call) => call.qStart),
      qEnds: plan.map((call) => call.qEnd),
      kStarts: plan.map((call) => call.kStart),
      kEnds: plan.map((call) => call.kEnd),
      causal: plan.map((call) => call.causal),
    };
    planned.set(plan, native);
  }
  return native;
}
