/**
 * The adapters that come from elsewhere: those that the operator has named, and those that requests may name by their place. A request waits for
 * what is not on the disk, others do not: only so many may wait, and whoever leaves disturbs nobody.
 */
import { LRUCache } from 'lru-cache';
import type { RegisteredAdapter } from '../adapter/registry.js';
import { AppError } from '../errors.js';
import { Crowd, hasRoom } from '../fairness/crowd.js';
import { ALONE, type Party } from '../fairness/turns.js';
import { type Allowance, type Place, parsePlace } from './place.js';
import type { Shelf, Stocked } from './shelf.js';
import type { Source } from './source.js';
import { Supply, type SupplyOptions } from './supply.js';

export interface LibraryOptions {
  readonly named: ReadonlyMap<string, Place>;
  readonly allowed: Allowance;
  readonly shelf: Shelf;
  readonly open: (place: Place) => Source;
  readonly supply: SupplyOptions;
  /** Requests that may wait for sources at once; past that, those of tenants that have less than their share. */
  readonly maxWaiting: number;
  /** An adapter was on the disk (`hit`), or had to be waited for. */
  readonly onAsked?: (hit: boolean) => void;
}

/** An adapter that a request may use until `release`. */
export interface HeldAdapter {
  readonly adapter: RegisteredAdapter;
  /** How long its source was waited for. */
  readonly fetchMs: number;
  readonly release: () => void;
}

/** A named one, as lists show it. */
export interface NamedSource {
  readonly name: string;
  readonly source: string;
  /** Absent where it has not come yet. */
  readonly adapter?: RegisteredAdapter;
  readonly fault?: string;
}

/** Places that requests have named lately. */
const MAX_PLACES = 1024;
/** What came may be gone at once where others need its room. */
const ATTEMPTS = 3;

export class SourceLibrary {
  readonly #options: LibraryOptions;
  readonly #named: ReadonlyMap<string, Supply>;
  readonly #others = new LRUCache<string, Supply>({ max: MAX_PLACES });
  readonly #waiting = new Crowd();

  constructor(options: LibraryOptions) {
    this.#options = options;
    this.#named = new Map([...options.named].map(([name, place]) => [name, this.#supply(place)]));
  }

  /** Looks at all that is named: who misspelt a place learns it now, and the first request need not wait. */
  start(): void {
    for (const supply of this.#named.values()) void supply.look().catch(() => undefined);
  }

  /** A place in the one spelling by which it is allowed or not; any other name as it is. */
  spelling(name: string): string {
    return this.#named.has(name) ? name : (parsePlace(name)?.text ?? name);
  }

  /** Whether an adapter of this name may come from here. */
  knows(name: string): boolean {
    return this.#find(name) !== undefined;
  }

  /** In the order in which they were named. */
  list(): NamedSource[] {
    return [...this.#named].map(([name, supply]) => {
      const { place, current, fault, sinceMs } = supply;
      const folder = current && this.#options.shelf.folderOf(current.digest);
      return {
        name,
        source: place.text,
        ...(current && folder && { adapter: adapterOf(name, place, current, folder, sinceMs) }),
        ...(fault && { fault: wordsOf(name, fault, true).message }),
      };
    });
  }

  get bytes(): number {
    return this.#options.shelf.bytes;
  }

  get maxBytes(): number {
    return this.#options.shelf.maxBytes;
  }

  /**
   * An adapter by its name or its place. Throws AppError: `adapter_not_found` for what is not known, not allowed or not there; `adapter_invalid`,
   * `adapter_too_large`, `source_unavailable`, `source_timeout`, `download_failed`, `disk_full` for what its source says; `queue_full` where too
   * many wait; the signal's reason.
   */
  async acquire(name: string, signal: AbortSignal, party = ALONE): Promise<HeldAdapter> {
    const supply = this.#find(name);
    if (supply === undefined) throw new AppError('adapter_not_found', `Expected a known adapter but received ${name}`);
    const startedMs = performance.now();
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const supplied = supply.take();
      if (attempt === 0) this.#options.onAsked?.(supplied !== undefined);
      if (supplied) {
        const fetchMs = attempt === 0 ? 0 : performance.now() - startedMs;
        const { stocked, lease, sinceMs } = supplied;
        return { adapter: adapterOf(name, supply.place, stocked, lease.folder, sinceMs), fetchMs, release: lease.release };
      }
      try {
        if (supply.failure) throw supply.failure;
        await this.#wait(supply, signal, party);
      } catch (error) {
        throw signal.aborted ? AppError.from(signal.reason) : wordsOf(name, AppError.from(error), this.#named.has(name));
      }
    }
    throw new AppError('source_unavailable', `Expected room for adapter ${name} on the disk but others need it now`, {
      retryAfterS: 1,
    });
  }

  /** The engine found other content under the digest than it says: it is hashed again, and fetched again where that is so. */
  mend(digest: string): Promise<void> {
    return this.#options.shelf.mend(digest);
  }

  async close(): Promise<void> {
    const reason = new AppError('shutting_down', 'The server is shutting down');
    await Promise.all([...this.#named.values(), ...this.#others.values()].map((supply) => supply.close(reason)));
    await this.#options.shelf.records.settled();
  }

  #find(name: string): Supply | undefined {
    const named = this.#named.get(name);
    if (named) return named;
    const place = parsePlace(name);
    if (place === undefined || !this.#options.allowed.allows(place)) return undefined;
    let supply = this.#others.get(place.text);
    if (supply === undefined) {
      supply = this.#supply(place);
      this.#others.set(place.text, supply);
    }
    return supply;
  }

  #supply(place: Place): Supply {
    const { open, shelf, supply } = this.#options;
    return new Supply(place, open(place), shelf, supply);
  }

  async #wait(supply: Supply, signal: AbortSignal, party: Party): Promise<void> {
    signal.throwIfAborted();
    const { maxWaiting } = this.#options;
    if (!hasRoom(party, maxWaiting, [this.#waiting]))
      throw new AppError('queue_full', `Expected fewer than ${maxWaiting} requests that wait for adapters: please retry later`);
    this.#waiting.add(party);
    try {
      await unlessAborted(supply.look(), signal);
    } finally {
      this.#waiting.remove(party);
    }
  }
}

/** Leaves a shared promise to the others. */
function unlessAborted(shared: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = (): void => reject(AppError.from(signal.reason));
    signal.addEventListener('abort', leave, { once: true });
    const settle = (outcome: () => void): void => {
      signal.removeEventListener('abort', leave);
      outcome();
    };
    shared.then(
      () => settle(resolve),
      (error: unknown) => settle(() => reject(AppError.from(error))),
    );
  });
}

function adapterOf(name: string, place: Place, stocked: Stocked, folder: string, registeredAt: number): RegisteredAdapter {
  const { digest, bytes, summary } = stocked;
  return { name, ref: { name, digest, folder }, bytes, summary, registeredAt, source: place.text };
}

/**
 * A failure in words for clients: addresses, accounts and what a server answered stay in the log. What is not there and what may not be read
 * look the same, and as if nobody had ever heard of it, unless an operator has named it.
 */
function wordsOf(name: string, error: AppError, isNamed: boolean): AppError {
  const { code, cause, retryAfterS } = error;
  const options = { cause: cause ?? error, ...(retryAfterS !== undefined && { retryAfterS }) };
  switch (code) {
    case 'not_found':
      return new AppError('adapter_not_found', `Expected adapter ${name} at its source but it is not there`, options);
    case 'invalid_config':
      if (!isNamed) return new AppError('adapter_not_found', `Expected a known adapter but received ${name}`, options);
      return new AppError('download_failed', `Expected adapter ${name} from its source but that refused this server`, options);
    case 'adapter_invalid':
    case 'adapter_too_large':
      return new AppError(code, `Adapter ${name} cannot be served: ${error.message}`, { ...options, param: 'adapter' });
    case 'source_unavailable':
      return new AppError(code, `The source of adapter ${name} cannot be reached now: please retry`, options);
    case 'source_timeout':
      return new AppError(code, `The source of adapter ${name} took too long: please retry`, options);
    case 'download_failed':
      return new AppError(code, `Expected adapter ${name} from its source but received something else`, options);
    default:
      return error;
  }
}
