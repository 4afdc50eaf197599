/** Whose turn it is: that of the tenant whose last one is longest ago, and within it the oldest first, so that nobody who sends a hundred jobs keeps another waiting. */

export class TenantQueue {
  /** Ids by tenant; a tenant that waits for nothing is not in it. */
  readonly #waiting = new Map<string, readonly string[]>();
  /** When each had its last turn, counted in turns. */
  readonly #turns = new Map<string, number>();
  #turn = 0;

  countOf(tenant: string): number {
    return this.#waiting.get(tenant)?.length ?? 0;
  }

  add(tenant: string, id: string): void {
    this.#waiting.set(tenant, [...(this.#waiting.get(tenant) ?? []), id]);
  }

  /** The next one, which leaves the queue; undefined where nobody waits. */
  next(): string | undefined {
    const turnOf = (tenant: string): number => this.#turns.get(tenant) ?? 0;
    const [tenant] = [...this.#waiting.keys()].sort((a, b) => turnOf(a) - turnOf(b));
    if (tenant === undefined) return undefined;
    this.#turns.set(tenant, ++this.#turn);
    const [id, ...rest] = this.#waiting.get(tenant) ?? [];
    this.#keep(tenant, rest);
    return id;
  }

  remove(tenant: string, id: string): void {
    this.#keep(
      tenant,
      (this.#waiting.get(tenant) ?? []).filter((each) => each !== id),
    );
  }

  #keep(tenant: string, ids: readonly string[]): void {
    if (ids.length > 0) this.#waiting.set(tenant, ids);
    else this.#waiting.delete(tenant);
  }
}
