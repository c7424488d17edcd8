import { ConfigError } from '../util/errors.js';

/** The points a flow sampler visits. */
export interface SamplerSchedule {
  /** Times at which the network is evaluated, from 1 downwards; `num_timesteps - 1` of them. */
  timesteps: number[];
  /** Length of the Euler step taken at each of them; they sum to 1. */
  dts: number[];
}

/**
 * Time grid of the sampler: N points from 1 to 0, bent by `t' = s t / (1 + (s - 1) t)`.
 *
 * N points bound N - 1 intervals, so the network runs N - 1 times (the BAGEL reference's meaning of
 * `num_timesteps`). All arithmetic is rounded to float32 step by step, as the reference's is.
 *
 * @throws ConfigError unless N is an integer of at least 2 and the shift is a positive number.
 */
export function samplerSchedule(numTimesteps: number, timestepShift: number): SamplerSchedule {
  if (!Number.isInteger(numTimesteps) || numTimesteps < 2) {
    throw new ConfigError('ERR_NUM_TIMESTEPS', 'the sampler needs at least one step', {
      key: 'num_timesteps',
      expected: 'an integer of at least 2 (N points give N - 1 steps)',
      found: String(numTimesteps),
    });
  }
  if (!(timestepShift > 0) || !Number.isFinite(timestepShift)) {
    throw new ConfigError('ERR_TIMESTEP_SHIFT', 'the time shift must be positive', {
      key: 'timestep_shift',
      expected: 'a finite number above 0',
      found: String(timestepShift),
    });
  }
  const f = Math.fround;
  const points = linspaceFromOne(numTimesteps).map((u) =>
    f(f(timestepShift * u) / f(1 + f((timestepShift - 1) * u))),
  );
  // Exact in real arithmetic; rounding must not push the start outside a guidance interval ending at 1.
  points[0] = 1;
  return {
    timesteps: points.slice(0, -1),
    dts: points.slice(0, -1).map((t, i) => f(t - points[i + 1])),
  };
}

/** float32 `linspace(1, 0, n)`, built from both ends so that the last point is exactly 0. */
function linspaceFromOne(n: number): number[] {
  const f = Math.fround;
  const step = f(-1 / (n - 1));
  return Array.from({ length: n }, (_, i) =>
    i < Math.floor(n / 2) ? f(1 + f(step * i)) : f(-f(step * (n - 1 - i))),
  );
}

/** Whether guidance applies at time t: inside the half-open interval `(lo, hi]` of shifted times. */
export function guidanceActive(t: number, interval: readonly [number, number]): boolean {
  return t > interval[0] && t <= interval[1];
}

/** How much network work a schedule means. */
export interface ScheduleCost {
  /** Steps, each with one pass through the full context. */
  evaluations: number;
  /** Steps on which guidance is active. */
  guided: number;
  /** Network passes in all. */
  passes: number;
}

/**
 * Counts the work before it is done.
 *
 * @param guidancePasses passes that an active step needs besides the main one (0, 1 or 2).
 */
export function scheduleCost(
  schedule: SamplerSchedule,
  interval: readonly [number, number],
  guidancePasses = 1,
): ScheduleCost {
  const evaluations = schedule.timesteps.length;
  const guided = schedule.timesteps.filter((t) => guidanceActive(t, interval)).length;
  return { evaluations, guided, passes: evaluations + guided * guidancePasses };
}
