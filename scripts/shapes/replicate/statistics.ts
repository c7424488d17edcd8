/** Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom. */
const T95 = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145,
  2.131, 2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048,
  2.045, 2.042,
];

/** A mean with the half width of its 95 % interval; null for a single value. */
export interface Estimate {
  mean: number;
  halfWidth: number | null;
  n: number;
}

/** Mean and 95 % interval (Student's t) over independent values, e.g. one for each seed. */
export function estimate(values: readonly number[]): Estimate {
  const n = values.length;
  const mean = values.reduce((a, b) => a + b, 0) / n;
  if (n < 2) return { mean, halfWidth: null, n };
  const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (n - 1);
  const t = T95[Math.min(n - 1, T95.length) - 1];
  return { mean, halfWidth: t * Math.sqrt(variance / n), n };
}
