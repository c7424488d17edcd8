/** What became of one item of a group. */
export type Outcome<R> = { value: R } | { error: unknown };

/**
 * Results that are made for several items at once while a stage asks for them one by one. Groups are
 * always the same neighbours, whatever has been finished before: a run that goes on after another works
 * with the same batches as one that was never stopped, so that not even rounding can tell them apart.
 */
export class GroupWork<T, R> {
  readonly #items: readonly T[];
  readonly #places: ReadonlyMap<T, number>;
  readonly #size: number;
  readonly #make: (group: readonly T[]) => Promise<Array<Outcome<R>>>;
  #first = -1;
  #made: Array<Outcome<R>> = [];

  /** @param make one outcome per item; what it throws is the outcome of the item asked for. */
  constructor(
    items: readonly T[],
    size: number,
    make: (group: readonly T[]) => Promise<Array<Outcome<R>>>,
  ) {
    this.#items = items;
    this.#places = new Map(items.map((item, place) => [item, place]));
    this.#size = size;
    this.#make = make;
  }

  /** The result of one of the items; throws its error. Results of one group are kept at a time. */
  async result(item: T): Promise<R> {
    const place = this.#places.get(item) as number;
    const first = place - (place % this.#size);
    if (first !== this.#first) {
      this.#first = -1;
      this.#made = await this.#make(this.#items.slice(first, first + this.#size));
      this.#first = first;
    }
    const outcome = this.#made[place - first];
    if ('error' in outcome) throw outcome.error;
    return outcome.value;
  }
}
