/**
 * Adapters in memory, bounded by bytes and keyed by digest. A row leases its adapter for as long as it is in the batch.
 *
 * Who may be evicted decides where an adapter lives: idle ones in an LRUCache, leased and pinned ones in a Map that knows no eviction.
 * A lease moves an adapter from the first to the second, its last release moves it back; both together stay within `maxBytes`.
 * lru-cache's own `fetch()` would not do: its first caller's abort rejects all who wait, and so does evicting an entry in flight.
 *
 * Whoever asks for what is not there joins its claim, one a digest, in order of arrival. The size is known only after loading, so a
 * claim is loaded first (`maxConcurrentLoads` at a time: so many adapters may lie beside the bound) and then admitted, first come
 * first served, as releases make room. While a claim waits for room nobody takes an idle adapter past it: hits could starve it.
 * Where tenants have claims, loads are started by turns: a hundred cold adapters of one tenant are not all before the one of another.
 */
import { LRUCache } from 'lru-cache';
import { AppError } from '../errors.js';
import { ALONE, type Party, Turns } from '../fairness/turns.js';
import type { AdapterRef, LoadedAdapter } from './adapter.js';
import { abortError, tooLarge } from './refusal.js';

export interface CacheOptions {
  /** Bound for the bytes of all resident adapters: idle, leased and pinned. */
  readonly maxBytes: number;
  readonly load: (ref: AdapterRef) => Promise<LoadedAdapter>;
  readonly maxConcurrentLoads?: number;
  /** How long a failed load answers for its digest before it is tried again. */
  readonly failureTtlMs?: number;
  /** A monotonic clock in milliseconds. */
  readonly now?: () => number;
}

/** The right to use an adapter. It stays in memory until `release`, which may be called twice. */
export interface Lease {
  readonly adapter: LoadedAdapter;
  /** It was there, and nobody waited. */
  readonly hit: boolean;
  release(): void;
}

/** Totals since the start, and how things are now. */
export interface CacheStats {
  readonly hits: number;
  readonly misses: number;
  readonly loads: number;
  readonly failures: number;
  readonly evictions: number;
  /** Idle, leased and pinned together. */
  readonly bytes: number;
  readonly leases: number;
}

/** What happened since the last `takeCounts`: the adapters' part of the engine's counts. */
export interface CacheCounts {
  readonly adapterHits: number;
  readonly adapterMisses: number;
  readonly adapterLoads: number;
  readonly adapterLoadFailures: number;
  readonly adapterEvictions: number;
  readonly adapterLoadSeconds: number[];
}

export interface ResidentAdapter {
  readonly name: string;
  readonly digest: string;
  readonly bytes: number;
  readonly leases: number;
  readonly pinned: boolean;
  readonly matched: number;
  readonly targeted: number;
}

/** An adapter in memory. */
interface Resident {
  readonly digest: string;
  readonly adapter: LoadedAdapter;
  /** What it is charged: at least 1, because lru-cache knows no empty entry. */
  readonly bytes: number;
  leases: number;
}

interface Waiter {
  grant(lease: Lease): void;
  refuse(error: AppError): void;
}

/** A digest that somebody wants and that is not theirs yet. */
interface Claim {
  readonly ref: AdapterRef;
  /** Who wants it: the load is everybody's turn. */
  readonly parties: Map<string, Party>;
  readonly waiters: Set<Waiter>;
  /** Load it even if nobody waits. */
  prefetched: boolean;
  /** A started claim holds one of the places for loading until it is admitted or gone. */
  started: boolean;
  /** Loaded, not admitted yet. */
  loaded: Resident | undefined;
}

const MAX_FAILURES = 1024;
/** Leases on what is in use anyway that may pass a claim which waits for room: enough to keep a batch full, not enough to starve it. */
const MAX_OVERTAKES = 64;
/** Load times must not pile up where nobody takes the counts. */
const MAX_OBSERVATIONS = 4096;

export class AdapterCache {
  readonly #options: Required<CacheOptions>;
  readonly #idle: LRUCache<string, Resident>;
  readonly #held = new Map<string, Resident>();
  #heldBytes = 0;
  /** Digests that an operator wants to stay, resident or not. */
  readonly #pins = new Set<string>();
  /** In order of arrival. */
  readonly #claims = new Map<string, Claim>();
  #startedClaims = 0;
  readonly #turns = new Turns();
  /** A claim is loaded, wanted, and waits for room. */
  #blocked = false;
  /** Leases given past the blocked claim. */
  #overtakes = 0;
  readonly #failures: LRUCache<string, { readonly error: AppError; readonly untilMs: number }>;

  readonly #totals = { hits: 0, misses: 0, loads: 0, failures: 0, evictions: 0 };
  #taken = { ...this.#totals };
  #loadSeconds: number[] = [];

  constructor(options: CacheOptions) {
    this.#options = { maxConcurrentLoads: 2, failureTtlMs: 5000, now: () => performance.now(), ...options };
    const { maxBytes, maxConcurrentLoads } = this.#options;
    for (const [option, value] of Object.entries({ maxBytes, maxConcurrentLoads })) {
      if (!(Number.isSafeInteger(value) && value > 0)) {
        throw new RangeError(`Expected ${option} to be a positive integer but received ${value}`);
      }
    }
    this.#idle = new LRUCache({ maxSize: maxBytes, sizeCalculation: (resident) => resident.bytes });
    this.#failures = new LRUCache({ max: MAX_FAILURES });
  }

  /**
   * A lease on the adapter, loaded if need be; waits while leased and pinned adapters leave no room for it.
   * An abort only leaves the queue, and disturbs nobody else in it. A task that holds a lease while it waits for another can wait
   * for a task that does the same: take one lease a task, or set a deadline.
   * Throws AppError: the load's own; `adapter_too_large` where it can never fit; after an abort the signal's reason, or `cancelled`.
   */
  async acquire(ref: AdapterRef, signal?: AbortSignal, party = ALONE): Promise<Lease> {
    if (signal?.aborted) throw abortError(signal);
    const lease = this.tryAcquire(ref);
    if (lease !== undefined) return lease;
    this.#totals.misses++;
    const failure = this.#rememberedFailure(ref.digest);
    if (failure !== undefined) throw failure;
    return new Promise<Lease>((resolve, reject) => {
      const claim = this.#claim(ref, party);
      const settle = (outcome: () => void): void => {
        claim.waiters.delete(waiter);
        signal?.removeEventListener('abort', leave);
        outcome();
      };
      const waiter: Waiter = {
        grant: (granted) => settle(() => resolve(granted)),
        refuse: (error) => settle(() => reject(error)),
      };
      const leave = (): void => {
        settle(() => reject(abortError(signal)));
        this.#pump();
      };
      claim.waiters.add(waiter);
      signal?.addEventListener('abort', leave, { once: true });
      this.#pump();
    });
  }

  /** The lease that needs no waiting; undefined, uncounted, where `acquire` would have to wait. */
  tryAcquire({ digest }: AdapterRef): Lease | undefined {
    if (this.#blocked && this.#overtakes >= MAX_OVERTAKES) return undefined;
    let resident = this.#held.get(digest);
    if (resident !== undefined && this.#blocked) this.#overtakes++;
    if (resident === undefined && !this.#blocked) {
      resident = this.#idle.get(digest);
      if (resident !== undefined) this.#hold(resident);
    }
    if (resident === undefined) return undefined;
    this.#totals.hits++;
    return this.#lease(resident, true);
  }

  /** Starts loading what is not there, and keeps it as idle if there is room. Never throws; a failure is remembered. */
  prefetch(ref: AdapterRef, party = ALONE): void {
    if (this.#held.has(ref.digest) || this.#idle.has(ref.digest) || this.#rememberedFailure(ref.digest) !== undefined) return;
    this.#claim(ref, party).prefetched = true;
    this.#pump();
  }

  /** Pinned adapters are loaded if need be, and never evicted. A pin whose load fails takes effect with the next that succeeds. */
  setPinned(ref: AdapterRef, pinned: boolean): void {
    const { digest } = ref;
    if (pinned) {
      this.#pins.add(digest);
      const idle = this.#idle.get(digest);
      if (idle !== undefined) this.#hold(idle);
      else if (!this.#held.has(digest) && this.#rememberedFailure(digest) === undefined) this.#claim(ref);
    } else {
      this.#pins.delete(digest);
      this.#rest(digest);
    }
    this.#pump();
  }

  stats(): CacheStats {
    let leases = 0;
    for (const resident of this.#held.values()) leases += resident.leases;
    return { ...this.#totals, bytes: this.#bytes, leases };
  }

  takeCounts(): CacheCounts {
    const now = this.#totals;
    const then = this.#taken;
    const counts = {
      adapterHits: now.hits - then.hits,
      adapterMisses: now.misses - then.misses,
      adapterLoads: now.loads - then.loads,
      adapterLoadFailures: now.failures - then.failures,
      adapterEvictions: now.evictions - then.evictions,
      adapterLoadSeconds: this.#loadSeconds,
    };
    this.#taken = { ...now };
    this.#loadSeconds = [];
    return counts;
  }

  /** Leased and pinned adapters, then idle ones from the most recently used on. */
  resident(): ResidentAdapter[] {
    return [...this.#held.values(), ...this.#idle.values()].map(({ digest, adapter, bytes, leases }) => {
      const { name, matched, targeted } = adapter;
      return { name, digest, bytes, leases, pinned: this.#pins.has(digest), matched, targeted };
    });
  }

  get #bytes(): number {
    return this.#heldBytes + this.#idle.calculatedSize;
  }

  get #pinnedBytes(): number {
    let bytes = 0;
    for (const digest of this.#pins) bytes += this.#held.get(digest)?.bytes ?? 0;
    return bytes;
  }

  #claim(ref: AdapterRef, { tenant, weight } = ALONE): Claim {
    let claim = this.#claims.get(ref.digest);
    if (claim === undefined) {
      claim = { ref, parties: new Map(), waiters: new Set(), prefetched: false, started: false, loaded: undefined };
      this.#claims.set(ref.digest, claim);
    }
    claim.parties.set(tenant, { tenant, weight });
    return claim;
  }

  #drop(claim: Claim): void {
    this.#claims.delete(claim.ref.digest);
    if (claim.started) this.#startedClaims--;
  }

  #isWanted(claim: Claim): boolean {
    return claim.waiters.size > 0 || this.#pins.has(claim.ref.digest);
  }

  /** Moves every claim as far as it can go now; called after each change of room, claims or loads. */
  #pump(): void {
    if (this.#claims.size === 0) return;
    this.#admit();
    this.#start(true);
    this.#start(false);
  }

  /** Settles what is loaded: wanted claims in order until one does not fit, unwanted ones into the idle part or out. */
  #admit(): void {
    this.#blocked = false;
    for (const claim of this.#claims.values()) {
      const { digest } = claim.ref;
      const resident = claim.loaded ?? this.#held.get(digest) ?? this.#idle.peek(digest);
      if (!this.#isWanted(claim)) this.#settleUnwanted(claim, resident);
      else if (resident !== undefined) this.#settleWanted(claim, resident);
    }
  }

  #settleUnwanted(claim: Claim, resident: Resident | undefined): void {
    if (resident === undefined && (claim.started || claim.prefetched)) return;
    this.#drop(claim);
    if (claim.loaded === undefined || this.#heldBytes + claim.loaded.bytes > this.#options.maxBytes) return;
    this.#makeRoom(claim.loaded.bytes);
    this.#idle.set(claim.loaded.digest, claim.loaded);
  }

  #settleWanted(claim: Claim, resident: Resident): void {
    if (this.#blocked && this.#overtakes >= MAX_OVERTAKES) return;
    if (!this.#held.has(resident.digest)) {
      const pinned = this.#pinnedBytes;
      // Releases make room, but pins do not go away by themselves: waiting for one could be for ever.
      if (pinned + resident.bytes > this.#options.maxBytes) {
        this.#fail(claim, tooLarge(resident.adapter, this.#options.maxBytes, pinned));
        return;
      }
      this.#blocked ||= this.#heldBytes + resident.bytes > this.#options.maxBytes;
      if (this.#blocked) return;
      this.#hold(resident);
      this.#overtakes = 0;
    }
    this.#drop(claim);
    for (const waiter of claim.waiters) waiter.grant(this.#lease(resident, false));
  }

  /** Starts loads, each tenant in its turn and its own in order, while there are places: those that somebody waits for before mere prefetches. */
  #start(wanted: boolean): void {
    while (this.#startedClaims < this.#options.maxConcurrentLoads) {
      const wishes = [...this.#claims.values()].flatMap((claim) => {
        if (claim.started || this.#isWanted(claim) !== wanted || this.#idle.has(claim.ref.digest)) return [];
        return Array.from(claim.parties.values(), (party) => ({ ...party, claim }));
      });
      this.#turns.advance(wishes);
      const next = this.#turns.first(wishes);
      if (!next) return;
      this.#turns.charge(next, 1);
      next.claim.started = true;
      this.#startedClaims++;
      void this.#run(next.claim);
    }
  }

  /** Loads one claim; never rejects. */
  async #run(claim: Claim): Promise<void> {
    const { ref } = claim;
    const startedMs = this.#options.now();
    try {
      // The inner function turns a synchronous throw into a rejection: nothing is settled while #start still iterates.
      const adapter = await (async () => this.#options.load(ref))();
      if (adapter.digest !== ref.digest) {
        throw new AppError('internal', `Expected the loader to return ${ref.digest} but received ${adapter.digest}`);
      }
      if (adapter.bytes > this.#options.maxBytes) throw tooLarge(adapter, this.#options.maxBytes, 0);
      claim.loaded = { digest: ref.digest, adapter, bytes: Math.max(1, adapter.bytes), leases: 0 };
      this.#totals.loads++;
      if (this.#loadSeconds.length < MAX_OBSERVATIONS) this.#loadSeconds.push((this.#options.now() - startedMs) / 1000);
    } catch (thrown) {
      this.#fail(claim, AppError.from(thrown));
    }
    this.#pump();
  }

  /** The same error to all who wait, and to all who come within `failureTtlMs`: no storm of reloads. */
  #fail(claim: Claim, error: AppError): void {
    this.#totals.failures++;
    this.#drop(claim);
    // These two say nothing about the content that the digest names: the next try may well succeed.
    if (error.code !== 'adapter_changed' && error.code !== 'cancelled') {
      this.#failures.set(claim.ref.digest, { error, untilMs: this.#options.now() + this.#options.failureTtlMs });
    }
    for (const waiter of claim.waiters) waiter.refuse(error);
  }

  #rememberedFailure(digest: string): AppError | undefined {
    const failure = this.#failures.get(digest);
    if (failure === undefined) return undefined;
    if (this.#options.now() < failure.untilMs) return failure.error;
    this.#failures.delete(digest);
    return undefined;
  }

  /** Into the part that is never evicted; the caller has seen that it fits. */
  #hold(resident: Resident): void {
    this.#idle.delete(resident.digest);
    this.#makeRoom(resident.bytes);
    this.#held.set(resident.digest, resident);
    this.#heldBytes += resident.bytes;
  }

  /** Back to the idle part, as its most recently used, where neither lease nor pin holds it. */
  #rest(digest: string): void {
    const resident = this.#held.get(digest);
    if (resident === undefined || resident.leases > 0 || this.#pins.has(digest)) return;
    this.#held.delete(digest);
    this.#heldBytes -= resident.bytes;
    this.#idle.set(digest, resident);
  }

  #makeRoom(bytes: number): void {
    while (this.#bytes + bytes > this.#options.maxBytes && this.#idle.pop() !== undefined) this.#totals.evictions++;
  }

  #lease(resident: Resident, hit: boolean): Lease {
    resident.leases++;
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      resident.leases--;
      this.#rest(resident.digest);
      this.#pump();
    };
    return { adapter: resident.adapter, hit, release };
  }
}
