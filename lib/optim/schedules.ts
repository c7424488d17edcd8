import { ConfigError } from '../util/errors.js';

/** Names of the learning-rate schedules a recipe can ask for. */
export const SCHEDULE_KINDS = ['constant', 'cosine'] as const;
/** One of {@link SCHEDULE_KINDS}. */
export type ScheduleKind = (typeof SCHEDULE_KINDS)[number];

/** A learning-rate schedule; steps are optimiser steps. */
export interface ScheduleOptions {
  kind: ScheduleKind;
  /** Peak learning rate, reached at step `warmupSteps`. */
  lr: number;
  /** Floor of the cosine schedule; the constant schedule ignores it. */
  minLr?: number;
  /** Steps of the linear ramp from 0. */
  warmupSteps?: number;
  /** Length of the run; the cosine ends here. */
  totalSteps: number;
}

/**
 * Learning rate of the optimiser step numbered `step` (0-based).
 *
 * Warm-up is `lr * step / warmupSteps`, so with any warm-up the very first update has rate 0, as in
 * the BAGEL reference trainer. After it `constant` stays at `lr`; `cosine` follows half a cosine
 * from `lr` down to `minLr`, which it reaches at `totalSteps` and then keeps.
 */
export function learningRate(step: number, options: ScheduleOptions): number {
  const { kind, lr, totalSteps } = options;
  const warmup = options.warmupSteps ?? 0;
  if (step < warmup) return lr * (step / warmup);
  if (kind === 'constant') return lr;
  const floor = (options.minLr ?? 0) / lr;
  const progress = Math.min(1, (step - warmup) / Math.max(1, totalSteps - warmup));
  const fall = 0.5 * (1 + Math.cos(Math.PI * progress));
  return lr * (floor + (1 - floor) * fall);
}

/**
 * Checks the numbers once and returns the schedule as a function of the step.
 *
 * @throws ConfigError for a negative or non-finite rate, a floor above the peak or negative counts.
 */
export function schedule(options: ScheduleOptions): (step: number) => number {
  const { lr, minLr = 0, warmupSteps = 0, totalSteps } = options;
  const bad = (key: string, expected: string, found: unknown): never => {
    throw new ConfigError('ERR_SCHEDULE', 'the learning-rate schedule makes no sense', {
      key,
      expected,
      found: String(found),
    });
  };
  if (!(Number.isFinite(lr) && lr > 0)) bad('lr', 'a positive number', lr);
  if (!(Number.isFinite(minLr) && minLr >= 0)) bad('min_lr', 'a number of at least 0', minLr);
  if (options.kind === 'cosine' && minLr > lr) bad('min_lr', `at most lr = ${lr}`, minLr);
  if (!(Number.isInteger(warmupSteps) && warmupSteps >= 0))
    bad('warmup_steps', 'a whole number of at least 0', warmupSteps);
  if (!(Number.isInteger(totalSteps) && totalSteps > 0))
    bad('total_steps', 'a positive whole number', totalSteps);
  return (step) => learningRate(step, options);
}
