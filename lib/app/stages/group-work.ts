/** What became of one item of a group. */
export type Outcome<R> = { value: R } | { error: unknown };

/** Makes something; what it throws is part of the outcome. */
export async function outcomeOf<R>(make: () => Promise<R>): Promise<Outcome<R>> {
  try {
    return { value: await make() };
  } catch (error) {
    return { error };
  }
}

/**
 * Makes the results of several items at once; where that fails, each by itself, so that each has its own
 * reason and none takes the others with it.
 *
 * @param make one result per item.
 * @throws the signal's reason when aborted.
 */
export async function makeTogether<T, R>(
  items: readonly T[],
  make: (items: readonly T[]) => Promise<R[]>,
  signal?: AbortSignal,
): Promise<Array<Outcome<R>>> {
  if (items.length === 0) return [];
  try {
    return (await make(items)).map((value) => ({ value }));
  } catch (error) {
    if (signal?.aborted) throw error;
    if (items.length === 1) return [{ error }];
  }
  const outcomes: Array<Outcome<R>> = [];
  for (const item of items) {
    outcomes.push(await outcomeOf(async () => (await make([item]))[0]));
    signal?.throwIfAborted();
  }
  return outcomes;
}

/** How a group is made; the signal is that of a group that is given up when the run is stopped. */
export type MakeGroup<T, R> = (
  group: readonly T[],
  signal: AbortSignal | undefined,
) => Promise<Array<Outcome<R>>>;

/**
 * Results that are made for several items at once while a stage asks for them one by one. Groups are
 * always the same neighbours, whatever has been finished before: a run that goes on after another works
 * with the same batches as one that was never stopped, so that not even rounding can tell them apart.
 */
export class GroupWork<T, R> {
  readonly #items: readonly T[];
  readonly #places: ReadonlyMap<T, number>;
  readonly #size: number;
  readonly #make: MakeGroup<T, R>;
  readonly #signal: AbortSignal | undefined;
  #first = -1;
  #made: Array<Outcome<R>> = [];

  /**
   * @param make one outcome per item; what it throws is the outcome of the item asked for.
   * @param signal stops the run: an item by itself is finished, a group is given up.
   */
  constructor(items: readonly T[], size: number, make: MakeGroup<T, R>, signal?: AbortSignal) {
    this.#items = items;
    this.#places = new Map(items.map((item, place) => [item, place]));
    this.#size = size;
    this.#make = make;
    this.#signal = size === 1 ? undefined : signal;
  }

  /** The result of one of the items; throws its error. Results of one group are kept at a time. */
  async result(item: T): Promise<R> {
    const place = this.#places.get(item) as number;
    const first = place - (place % this.#size);
    if (first !== this.#first) {
      this.#first = -1;
      const group = this.#items.slice(first, first + this.#size);
      this.#made = await this.#make(group, this.#signal);
      this.#first = first;
    }
    const outcome = this.#made[place - first];
    if ('error' in outcome) throw outcome.error;
    return outcome.value;
  }
}
