/**
 * What the cache's tests share: a cache on a loader that is a real promise, which the test settles when it likes. What is under test is
 * the order of events, so no clock but the test's own has a say in it.
 */
import { setImmediate } from 'node:timers/promises';
import type { AdapterRef, LoadedAdapter } from '../../../src/adapter/adapter.js';
import { AdapterCache, type CacheOptions, type Lease } from '../../../src/adapter/cache.js';

export interface Load {
  readonly ref: AdapterRef;
  succeed(): void;
  fail(error: Error): void;
}

/** A cache whose adapters' sizes are in their names, `a:10`, and whose loads wait until the test settles them. */
export class Bench {
  readonly loads = new Set<Load>();
  readonly started: string[] = [];
  readonly cache: AdapterCache;
  nowMs = 0;

  constructor(maxBytes: number, options: Partial<CacheOptions> = {}) {
    const load = (ref: AdapterRef): Promise<LoadedAdapter> =>
      new Promise((resolve, reject) => {
        this.started.push(ref.name);
        const settle = (then: () => void): void => {
          this.loads.delete(pending);
          then();
        };
        const pending = {
          ref,
          succeed: () => settle(() => resolve(adapterOf(ref))),
          fail: (error: Error) => settle(() => reject(error)),
        };
        this.loads.add(pending);
      });
    this.cache = new AdapterCache({ maxBytes, load, now: () => this.nowMs, ...options });
  }

  /** The load that runs for longest. */
  get load(): Load {
    for (const load of this.loads) return load;
    throw new RangeError('Expected a load to run');
  }

  /** Lets all loads that can run succeed. */
  async settle(): Promise<void> {
    for (await setImmediate(); this.loads.size > 0; await setImmediate()) for (const load of this.loads) load.succeed();
  }

  /** A lease, with every load on the way to it. */
  async lease(name: string): Promise<Lease> {
    const lease = this.cache.acquire(refOf(name));
    await this.settle();
    return lease;
  }

  get residents(): string[] {
    return this.cache.resident().map(({ name }) => name);
  }
}

export function refOf(name: string): AdapterRef {
  return { name, digest: `digest of ${name}`, folder: `/adapters/${name}` };
}

export function adapterOf({ name, digest }: AdapterRef): LoadedAdapter {
  const bytes = Number(name.split(':')[1]);
  return { name, digest, method: 'none', groups: [], projector: null, matched: 3, targeted: 4, bytes };
}

/** What became of a promise so far; a rejection that nobody else handles is handled here. */
export function watch(promise: Promise<Lease>): { state: 'waiting' | 'granted' | 'refused'; lease?: Lease; error?: unknown } {
  const seen: ReturnType<typeof watch> = { state: 'waiting' };
  promise.then(
    (lease) => Object.assign(seen, { state: 'granted', lease }),
    (error: unknown) => Object.assign(seen, { state: 'refused', error }),
  );
  return seen;
}
