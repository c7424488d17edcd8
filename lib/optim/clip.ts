import { ops, scope, type Tensor } from '../torch/index.js';

/**
 * Euclidean norm over all elements of all `grads`, as a scalar tensor.
 *
 * Computed as PyTorch does it: one norm per tensor, then the norm of those norms.
 */
export function globalNorm(grads: readonly Tensor[]): Tensor {
  if (grads.length === 0) return ops.zeros([]);
  return ops.linalgVectorNorm(ops.stack(ops._foreachNorm([...grads], 2)), 2);
}

/**
 * Scales `grads` in place so that their global norm is at most `maxNorm` and returns the norm they
 * had before.
 *
 * The factor is `maxNorm / (norm + 1e-6)`, never above 1. A norm that is not finite leaves the
 * gradients untouched: the caller has to stop there. `maxNorm` of 0 or `Infinity` only measures.
 */
export function clipGradNorm(grads: readonly Tensor[], maxNorm: number): number {
  return scope(() => {
    const total = globalNorm(grads);
    const norm = total.item();
    if (!Number.isFinite(norm) || maxNorm <= 0 || !Number.isFinite(maxNorm)) return norm;
    const factor = ops.clampMax(ops.reciprocal(total.add(1e-6)).mul(maxNorm), 1);
    if (factor.item() < 1) ops._foreachMul_([...grads], factor);
    return norm;
  });
}
