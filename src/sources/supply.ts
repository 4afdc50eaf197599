/**
 * One source over time: the version that it has, when that was last asked, and what went wrong. All who want what is not there share one look at
 * the source; nobody's abort ends it. What is on the disk is served while somebody looks whether there is a newer one, and goes on to be served
 * while the source cannot be reached. A clear answer is another thing: what is gone, or may not be read any more, or is broken, is not served.
 */
import { AppError } from '../errors.js';
import { type Patience, Transient } from '../hub/retry.js';
import type { DiskLease } from './disk.js';
import type { Place, SourceKind } from './place.js';
import type { Shelf, Stocked } from './shelf.js';
import { Changed, type Source } from './source.js';

/** Of failures, the kinds that metrics tell apart. */
export type Failure = 'missing' | 'refused' | 'invalid' | 'unavailable' | 'timeout' | 'failed';

export interface SupplyOptions {
  /** After so long the source is asked whether it has another version. */
  readonly refreshMs: number;
  /** For one look at a source, all fetching included. */
  readonly timeoutMs: number;
  /** How long a clear refusal answers for its place before it is asked again. */
  readonly refusalMs: number;
  /** Runs looks, so many at once. */
  readonly gate: Gate;
  readonly patience: Patience;
  onFailure(place: Place, kind: SourceKind, failure: Failure, error: AppError): void;
}

export interface Supplied {
  readonly stocked: Stocked;
  readonly lease: DiskLease;
  /** When this version was first there, in milliseconds since 1970. */
  readonly sinceMs: number;
}

/** A source is written to while it is read. */
const ATTEMPTS = 3;
/** After trouble, what is on the disk is good for so long before the source is asked again. */
const TROUBLE_MS = 10_000;
/** How long trouble answers for a place of which nothing is on the disk: only as long as a storm of requests lasts. */
const STORM_MS = 1000;
const MAX_STORM_MS = 60_000;

export class Supply {
  readonly place: Place;
  readonly #source: Source;
  readonly #shelf: Shelf;
  readonly #options: SupplyOptions;
  #current: Stocked | undefined;
  #sinceMs = 0;
  /** When the source last gave a clear answer; a wall clock, for it outlives this process. */
  #checkedMs = 0;
  #failure: { readonly error: AppError; readonly untilMs: number } | undefined;
  #isRemembered = false;
  #flight: Promise<void> | undefined;
  readonly #end = new AbortController();

  constructor(place: Place, source: Source, shelf: Shelf, options: SupplyOptions) {
    this.place = place;
    this.#source = source;
    this.#shelf = shelf;
    this.#options = options;
  }

  /** What it has now, as far as is known. */
  get current(): Stocked | undefined {
    return this.#current;
  }

  /** The last look's failure, as long as it counts. */
  get failure(): AppError | undefined {
    return this.#failure && performance.now() < this.#failure.untilMs ? this.#failure.error : undefined;
  }

  /** Why there is nothing. */
  get fault(): AppError | undefined {
    return this.#current ? undefined : this.#failure?.error;
  }

  get sinceMs(): number {
    return this.#sinceMs;
  }

  /** What is on the disk, without waiting. Begins a look where it is time for one. */
  take(): Supplied | undefined {
    const lease = this.#current && this.#shelf.lease(this.#current.digest);
    if (this.#current === undefined || lease === undefined) return undefined;
    if (this.#isStale) void this.look().catch(() => undefined);
    return { stocked: this.#current, lease, sinceMs: this.#sinceMs };
  }

  /** Resolves when what the source has is on the disk. Throws AppError, whose message may name addresses. */
  look(): Promise<void> {
    this.#flight ??= this.#options.gate
      .run(() => this.#look())
      .finally(() => {
        this.#flight = undefined;
      });
    return this.#flight;
  }

  async close(reason: AppError): Promise<void> {
    this.#end.abort(reason);
    await this.#flight?.catch(() => undefined);
  }

  get #isStale(): boolean {
    const { isPinned, isOffline } = this.#source;
    if (isPinned || isOffline || this.failure !== undefined) return false;
    return Math.abs(Date.now() - this.#checkedMs) >= this.#options.refreshMs;
  }

  async #look(): Promise<void> {
    if (await this.#remember()) return;
    const { timeoutMs, patience } = this.#options;
    const controller = new AbortController();
    const late = new AppError(
      'source_timeout',
      `Expected ${this.place.text} to be fetched within ${timeoutMs} ms but it was not`,
    );
    const timer = setTimeout(() => controller.abort(late), timeoutMs);
    const close = (): void => controller.abort(this.#end.signal.reason);
    if (this.#end.signal.aborted) close();
    this.#end.signal.addEventListener('abort', close, { once: true });
    try {
      await this.#bring({ ...patience, signal: controller.signal });
      this.#failure = undefined;
    } catch (error) {
      throw this.#note(error);
    } finally {
      clearTimeout(timer);
      this.#end.signal.removeEventListener('abort', close);
    }
  }

  /** What an earlier process has left: whether it is there. It may be stale; who takes it sees to that. */
  async #remember(): Promise<boolean> {
    if (this.#isRemembered) return false;
    this.#isRemembered = true;
    const record = this.#shelf.records.get(this.#source.key);
    const stocked = record && (await this.#shelf.find(record.digest));
    if (record === undefined || stocked === undefined) return false;
    this.#have(stocked);
    this.#checkedMs = record.checkedMs;
    return true;
  }

  async #bring(patience: Patience): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      patience.signal?.throwIfAborted();
      try {
        const version = await this.#source.version(patience);
        this.#have(await this.#shelf.bring(this.#source.kind, version, patience));
        this.#checkedMs = Date.now();
        this.#record(version.id);
        return;
      } catch (error) {
        if (!(error instanceof Changed) || attempt === ATTEMPTS) throw error;
      }
    }
  }

  #have(stocked: Stocked): void {
    if (stocked.digest !== this.#current?.digest) this.#sinceMs = Date.now();
    this.#current = stocked;
  }

  #record(version: string): void {
    if (this.#current === undefined) return;
    const record = { key: this.#source.key, version, digest: this.#current.digest, checkedMs: this.#checkedMs };
    this.#shelf.records.set(record);
  }

  #note(thrown: unknown): AppError {
    const error = meaningOf(thrown);
    if (error.code === 'shutting_down') return error;
    const failure = failureOf(error);
    const isClear = failure === 'missing' || failure === 'refused' || failure === 'invalid';
    if (isClear) {
      this.#current = undefined;
      this.#shelf.records.delete(this.#source.key);
    }
    const { refreshMs, refusalMs } = this.#options;
    const stormMs = Math.min(MAX_STORM_MS, (error.retryAfterS ?? 0) * 1000 || STORM_MS);
    this.#failure = { error, untilMs: performance.now() + (isClear ? refusalMs : stormMs) };
    this.#checkedMs = Date.now() - refreshMs + Math.min(refreshMs, TROUBLE_MS);
    this.#options.onFailure(this.place, this.#source.kind, failure, error);
    return error;
  }
}

/** So many at once, first come, first served. */
export class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(places: number) {
    this.#free = places;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}

/** What a failure of a look means to whoever asked for the adapter. */
function meaningOf(thrown: unknown): AppError {
  if (thrown instanceof Changed)
    return new AppError('source_unavailable', `${thrown.message}, ${ATTEMPTS} times in a row`, { retryAfterS: 5, cause: thrown });
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
  if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code))
    return new AppError('disk_full', `Expected room on the disk but there is none (${code})`, { cause: thrown });
  const error = AppError.from(thrown);
  const { cause } = error;
  if (error.code !== 'download_failed' || !(cause instanceof Transient)) return error;
  return new AppError('source_unavailable', error.message, { retryAfterS: Math.ceil((cause.waitMs ?? 1000) / 1000), cause });
}

function failureOf({ code }: AppError): Failure {
  switch (code) {
    case 'not_found':
      return 'missing';
    case 'invalid_config':
      return 'refused';
    case 'adapter_invalid':
    case 'adapter_too_large':
      return 'invalid';
    case 'source_unavailable':
      return 'unavailable';
    case 'source_timeout':
      return 'timeout';
    default:
      return 'failed';
  }
}
