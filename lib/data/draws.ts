/** Random choices of the dataset readers, injected so that a sample is a pure function of its row and draws. */
export interface RowDraws {
  /** Index of one of `count` equally likely things. */
  choice(count: number): number;
  /** Uniform number in [0, 1). */
  uniform(): number;
}

/** Draws made from a source of uniform numbers alone. */
export function rowDraws(uniform: () => number): RowDraws {
  return { uniform, choice: (count) => Math.min(count - 1, Math.floor(uniform() * count)) };
}
