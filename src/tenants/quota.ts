/**
 * What tenants have used of their limits. Requests and tokens are counted in windows, by this server alone or by all that share a store; requests
 * that run at once are counted by each server for itself. Tokens are reserved before anything is computed, as many as a request can take at
 * most, and what it did not use is given back: a tenant can be late by a request, never above its limit.
 */
import { AppError } from '../errors.js';
import type { Tenant } from './tenant.js';
import { type Level, memoryWindows, type Rate, type Taking, type Windows } from './window.js';

const MINUTE_S = 60;
const DAY_S = 86_400;

export interface Counters {
  readonly requests: Windows;
  readonly tokens: Windows;
}

/** Where windows are. */
export interface Store {
  /** Throws where it does not answer. */
  use<T>(work: (counters: Counters) => Promise<T>): Promise<T>;
  close(): void;
}

/** What happens while the shared store is away: each server counts by itself, or nobody with a limit is let in. */
export type QuotaFailure = 'open' | 'closed';

export interface QuotaOptions {
  /** null: this server counts alone. */
  readonly shared: Store | null;
  readonly failure: QuotaFailure;
}

/** Null where the tenant has no such limit. */
export interface Arrival {
  readonly requests: Taking | null;
  readonly tokens: Level | null;
}

export interface Reservation extends Level {
  readonly isGranted: boolean;
  /** How many were used in the end; the rest is given back. Counts once. Never throws. */
  settle(usedTokens: number): Promise<void>;
}

export class Quota {
  readonly #own: Store = new MemoryStore();
  readonly #shared: Store | null;
  readonly #failure: QuotaFailure;
  /** By tenant. */
  readonly #running = new Map<string, number>();

  constructor({ shared, failure }: QuotaOptions) {
    this.#shared = shared;
    this.#failure = failure;
  }

  /** Counts a request. Throws `quota_unavailable`. */
  async arrive({ name, limits }: Tenant): Promise<Arrival> {
    const { requestsPerSecond, tokensPerMinute } = limits;
    const [requests, tokens] = await Promise.all([
      requestsPerSecond === null ? null : this.#count(({ requests }) => requests.take(name, 1, rateOf(requestsPerSecond))),
      // Only told: where it cannot be looked up it is left out.
      tokensPerMinute === null
        ? null
        : this.#count(({ tokens }) => tokens.level(name, perMinute(tokensPerMinute))).catch(() => null),
    ]);
    return { requests: requests?.value ?? null, tokens: tokens?.value ?? null };
  }

  /** Counts a request among those that run, until what it returns is called; null where there are as many as may be. */
  enter({ name, limits }: Tenant): (() => void) | null {
    const running = this.#running.get(name) ?? 0;
    if (limits.concurrent !== null && running >= limits.concurrent) return null;
    this.#running.set(name, running + 1);
    let isInside = true;
    return () => {
      if (!isInside) return;
      isInside = false;
      const left = (this.#running.get(name) ?? 0) - 1;
      if (left > 0) this.#running.set(name, left);
      else this.#running.delete(name);
    };
  }

  /** Takes the tokens that a request can use at most, of `limit` in a minute. Throws `quota_unavailable`. */
  async reserve(name: string, tokens: number, limit: number): Promise<Reservation> {
    const { value: taking, store } = await this.#count((counters) => counters.tokens.take(name, tokens, perMinute(limit)));
    let isOpen = taking.isGranted;
    const settle = async (usedTokens: number): Promise<void> => {
      const unused = isOpen ? tokens - usedTokens : 0;
      isOpen = false;
      // To where it is from: another store never had it. Where that is away, the window ends without it.
      if (unused > 0) await store.use(() => taking.giveBack(unused)).catch(() => undefined);
    };
    return { ...taking, settle };
  }

  close(): void {
    this.#shared?.close();
  }

  async #count<T>(work: (counters: Counters) => Promise<T>): Promise<{ readonly value: T; readonly store: Store }> {
    const store = this.#shared ?? this.#own;
    try {
      return { value: await store.use(work), store };
    } catch (error) {
      if (this.#failure === 'open') return { value: await this.#own.use(work), store: this.#own };
      throw new AppError(
        'quota_unavailable',
        'Expected to count this request among those of its tenant but the store of the counts does not answer: please retry',
        { cause: error },
      );
    }
  }
}

/** Requests a second as whole requests in whole seconds, of which there is at least one: 2.5 are 5 in 2. */
export function rateOf(perSecond: number): Rate {
  for (let seconds = 1; seconds <= MINUTE_S; seconds++) {
    const points = Math.round(perSecond * seconds);
    if (points > 0 && Math.abs(points - perSecond * seconds) < 1e-9) return { points, seconds };
  }
  const seconds = Math.min(DAY_S, Math.ceil(1 / perSecond));
  return { points: Math.max(1, Math.floor(perSecond * seconds)), seconds };
}

function perMinute(points: number): Rate {
  return { points, seconds: MINUTE_S };
}

class MemoryStore implements Store {
  readonly #counters = { requests: memoryWindows(), tokens: memoryWindows() };

  use<T>(work: (counters: Counters) => Promise<T>): Promise<T> {
    return work(this.#counters);
  }

  close(): void {}
}
