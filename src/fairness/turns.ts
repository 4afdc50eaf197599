/**
 * Whose turn it is, where several tenants wait for one thing: start-time fair queueing (Goyal, Vin and Cheng, 1996). A tenant's tag is the service that
 * it has had, divided by its weight; the lowest goes first. A tag rises with service only, so whoever waits is served in the end, and two who wait all
 * the time are never further apart than what each is given at once. The floor follows the lowest tag that waits and lifts those who come back: to have
 * been away is worth nothing. No clock, and no names but those that it is given.
 */

/** Whose it is, as far as sharing goes. */
export interface Party {
  readonly tenant: string;
  /** Share of what there is, against the weights of others. */
  readonly weight: number;
}

/** Everybody, where nobody is told apart. */
export const ALONE: Party = { tenant: '', weight: 1 };

export class Turns {
  readonly #credit: number;
  readonly #tags = new Map<string, number>();
  #floor = 0;

  /** `credit`: how far below the floor may stay who is there and asks for little. */
  constructor(credit = 0) {
    this.#credit = credit;
  }

  tag(tenant: string): number {
    return Math.max(this.#floor - this.#credit, this.#tags.get(tenant) ?? Number.NEGATIVE_INFINITY);
  }

  /** A tenant is there that was not before: it begins where those are who have waited longest. */
  arrive(tenant: string): void {
    this.#tags.set(tenant, Math.max(this.#floor, this.tag(tenant)));
  }

  /** These wait: the floor is at least where the lowest of them is. */
  advance(waiting: Iterable<Party>): void {
    let lowest = Number.POSITIVE_INFINITY;
    for (const { tenant } of waiting) lowest = Math.min(lowest, this.tag(tenant));
    if (Number.isFinite(lowest)) this.#floor = Math.max(this.#floor, lowest);
  }

  /** The one of these whose turn it is; of equals the first. */
  first<P extends Party>(waiting: Iterable<P>): P | undefined {
    let first: P | undefined;
    let lowest = Number.POSITIVE_INFINITY;
    for (const one of waiting) {
      const tag = this.tag(one.tenant);
      if (tag >= lowest) continue;
      lowest = tag;
      first = one;
    }
    return first;
  }

  /** It was given so much. */
  charge({ tenant, weight }: Party, cost: number): void {
    this.#tags.set(tenant, this.tag(tenant) + cost / weight);
  }
}
