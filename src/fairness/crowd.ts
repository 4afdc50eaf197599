/**
 * How many of each tenant wait, and whether one more may. A queue that is full is full for those who fill it: whoever has less than its share of it
 * still finds a place. So a queue may hold more than its limit, but not much: the n-th tenant that comes finds a share of one n-th.
 */
import type { Party } from './turns.js';

interface Group {
  readonly weight: number;
  count: number;
}

export class Crowd {
  readonly #groups = new Map<string, Group>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** How many of this tenant there are. */
  of(tenant: string): number {
    return this.#groups.get(tenant)?.count ?? 0;
  }

  /** Those of whom there are any. */
  get parties(): readonly Party[] {
    return Array.from(this.#groups, ([tenant, { weight }]) => ({ tenant, weight }));
  }

  add({ tenant, weight }: Party): void {
    const group = this.#groups.get(tenant);
    this.#size++;
    if (group) group.count++;
    else this.#groups.set(tenant, { weight, count: 1 });
  }

  /** Throws TypeError where there is none of it. */
  remove({ tenant }: Party): void {
    const group = this.#groups.get(tenant);
    if (!group) throw new TypeError('Expected one that was added');
    this.#size--;
    if (--group.count === 0) this.#groups.delete(tenant);
  }
}

/** Whether one more of this tenant may wait where so many may, over all these queues: there is room, or it has less than its share. */
export function hasRoom({ tenant, weight }: Party, limit: number, queues: readonly Crowd[]): boolean {
  if (queues.reduce((sum, { size }) => sum + size, 0) < limit) return true;
  const own = queues.reduce((sum, queue) => sum + queue.of(tenant), 0);
  const weights = new Map(queues.flatMap(({ parties }) => parties.map((party) => [party.tenant, party.weight])));
  weights.set(tenant, weight);
  const all = [...weights.values()].reduce((sum, one) => sum + one, 0);
  return own < (limit * weight) / all;
}
