/**
 * What is counted by name, such as an adapter's: the busiest names have series of their own, all others share one. Names come from outside,
 * and every one that /metrics shows is a series that Prometheus keeps, so there is a bound, and a name leaves where another is busier.
 *
 * No series ever goes down or jumps. What a name counted stays with it when it leaves: added to `other` it would look like new traffic to rate(),
 * all at once, and increase() would count it twice. Only what nobody has read yet goes there. A name that comes back goes on from where it was.
 */

/** The name of all that have no series of their own. */
export const OTHER = 'other';

const LISTED = 50;
/** Names without a series whose traffic is still compared; far more than could take a place soon. */
const REMEMBERED = 1000;
/** Traffic of this age counts half. */
const HALF_LIFE_MS = 600_000;
/** As much busier a name must be than the one whose place it takes: two of a kind do not take turns. */
const MARGIN = 2;

export interface Series<Count extends string> {
  readonly name: string;
  readonly counts: Readonly<Record<Count, number>>;
}

interface Entry<Count extends string> {
  counts: Record<Count, number>;
  /** What the last reader saw. */
  read: Record<Count, number>;
  /** Calls, older ones for less; as of `atMs`. */
  score: number;
  atMs: number;
}

export interface TrafficOptions {
  /** Names that have series of their own. */
  readonly listed?: number;
  readonly now?: () => number;
}

export class Traffic<Count extends string> {
  readonly #counts: readonly Count[];
  readonly #limit: number;
  readonly #now: () => number;
  readonly #listed = new Map<string, Entry<Count>>();
  readonly #unlisted = new Map<string, Entry<Count>>();
  readonly #other: Record<Count, number>;
  #hasOther = false;

  constructor(counts: readonly Count[], { listed = LISTED, now = () => performance.now() }: TrafficOptions = {}) {
    this.#counts = counts;
    this.#limit = listed;
    this.#now = now;
    this.#other = this.#zeros();
  }

  add(name: string, added: Partial<Readonly<Record<Count, number>>>): void {
    const counts = this.#countsOf(name);
    for (const count of this.#counts) counts[count] += added[count] ?? 0;
  }

  /** What there is to show now, in the order in which names came; `other` last, once there is any. */
  series(): Series<Count>[] {
    const own = [...this.#listed].map(([name, entry]) => {
      entry.read = { ...entry.counts };
      return { name, counts: entry.read };
    });
    return this.#hasOther ? [...own, { name: OTHER, counts: { ...this.#other } }] : own;
  }

  /** Where something of this name is added now. */
  #countsOf(name: string): Record<Count, number> {
    const now = this.#now();
    const known = this.#listed.get(name) ?? this.#unlisted.get(name);
    const entry = known ?? { counts: this.#zeros(), read: this.#zeros(), score: 0, atMs: now };
    entry.score = this.#scoreOf(entry, now) + 1;
    entry.atMs = now;
    if (this.#listed.has(name) || this.#enlist(name, entry, now)) return entry.counts;
    this.#unlisted.set(name, entry);
    if (this.#unlisted.size > 2 * REMEMBERED) this.#forget(now);
    this.#hasOther = true;
    return this.#other;
  }

  /** Whether a name has got a series: one that was free, or that of a name that is much less busy. */
  #enlist(name: string, entry: Entry<Count>, now: number): boolean {
    if (name === OTHER) return false;
    if (this.#listed.size >= this.#limit) {
      const least = this.#least(now);
      if (!least || entry.score <= MARGIN * this.#scoreOf(least.entry, now)) return false;
      this.#delist(least.name, least.entry);
    }
    this.#unlisted.delete(name);
    this.#listed.set(name, entry);
    return true;
  }

  #delist(name: string, entry: Entry<Count>): void {
    for (const count of this.#counts) this.#other[count] += entry.counts[count] - entry.read[count];
    this.#hasOther = true;
    entry.counts = { ...entry.read };
    this.#listed.delete(name);
    this.#unlisted.set(name, entry);
  }

  #least(now: number): { readonly name: string; readonly entry: Entry<Count> } | undefined {
    let least: { name: string; entry: Entry<Count> } | undefined;
    let score = Number.POSITIVE_INFINITY;
    for (const [name, entry] of this.#listed) {
      const own = this.#scoreOf(entry, now);
      if (own >= score) continue;
      score = own;
      least = { name, entry };
    }
    return least;
  }

  /** Once in many new names, so that it costs each of them little. */
  #forget(now: number): void {
    const ranked = [...this.#unlisted].sort(([, a], [, b]) => this.#scoreOf(b, now) - this.#scoreOf(a, now));
    for (const [name] of ranked.slice(REMEMBERED)) this.#unlisted.delete(name);
  }

  #scoreOf({ score, atMs }: Entry<Count>, now: number): number {
    return score * 2 ** ((atMs - now) / HALF_LIFE_MS);
  }

  #zeros(): Record<Count, number> {
    return Object.fromEntries(this.#counts.map((count) => [count, 0])) as Record<Count, number>;
  }
}
