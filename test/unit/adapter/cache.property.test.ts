/**
 * The cache under random sequences of everything that can be done to it.
 */
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Lease } from '../../../src/adapter/cache.js';
import { AppError } from '../../../src/errors.js';
import { Bench, refOf, watch } from './bench.js';

const NAMES = ['a:3', 'b:4', 'c:6', 'd:8', 'e:12', 'f:20', 'huge:21'];
const MAX_BYTES = 20;

const name = fc.constantFrom(...NAMES);
const pick = fc.nat(1000);
const command = fc.oneof(
  { weight: 6, arbitrary: fc.record({ type: fc.constant('acquire'), name }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('try'), name }) },
  { weight: 6, arbitrary: fc.record({ type: fc.constant('release'), pick }) },
  { weight: 6, arbitrary: fc.record({ type: fc.constant('succeed'), pick }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('fail'), pick }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('change'), pick }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('abort'), pick }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('prefetch'), name }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('pin'), name }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('unpin'), name }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('advance') }) },
);
type Command = { type: string; name?: string; pick?: number };

/** Does one thing after another to a cache, and checks after each what must always hold. */
class World {
  readonly bench = new Bench(MAX_BYTES, { failureTtlMs: 100 });
  readonly asked: { seen: ReturnType<typeof watch>; leaving: AbortController }[] = [];
  readonly tried: Lease[] = [];
  readonly pins = new Set<string>();
  readonly released = new Set<Lease>();
  residentPins = new Set<string>();

  get leases(): Lease[] {
    const granted = this.asked.flatMap(({ seen }) => seen.lease ?? []);
    return [...granted, ...this.tried].filter((lease) => !this.released.has(lease));
  }

  release(lease: Lease | undefined): void {
    if (lease === undefined) return;
    this.released.add(lease);
    lease.release();
  }

  async run({ type, name = '', pick = 0 }: Command): Promise<void> {
    const { bench } = this;
    const { cache, loads } = bench;
    const load = [...loads][pick % loads.size];
    const { leases } = this;
    const waiting = this.asked.filter(({ seen }) => seen.state === 'waiting');
    switch (type) {
      case 'acquire': {
        const leaving = new AbortController();
        this.asked.push({ leaving, seen: watch(cache.acquire(refOf(name), leaving.signal)) });
        break;
      }
      case 'try': {
        const lease = cache.tryAcquire(refOf(name));
        if (lease !== undefined) this.tried.push(lease);
        break;
      }
      case 'release':
        this.release(leases[pick % leases.length]);
        break;
      case 'succeed':
        load?.succeed();
        break;
      case 'fail':
        load?.fail(new AppError('adapter_invalid', 'broken'));
        break;
      case 'change':
        load?.fail(new AppError('adapter_changed', 'changed'));
        break;
      case 'abort':
        waiting[pick % waiting.length]?.leaving.abort();
        break;
      case 'prefetch':
        cache.prefetch(refOf(name));
        break;
      case 'pin':
        this.pins.add(name);
        cache.setPinned(refOf(name), true);
        break;
      case 'unpin':
        this.pins.delete(name);
        cache.setPinned(refOf(name), false);
        break;
      case 'advance':
        bench.nowMs += 60;
        break;
    }
    await setImmediate();
    this.check();
  }

  check(): void {
    const { cache, loads } = this.bench;
    const resident = new Map(cache.resident().map((adapter) => [adapter.name, adapter]));
    const stats = cache.stats();
    const sum = [...resident.values()].reduce((bytes, adapter) => bytes + adapter.bytes, 0);
    expect(stats.bytes).toBe(sum);
    expect(sum).toBeLessThanOrEqual(MAX_BYTES);
    expect(stats.hits).toBe([...this.asked.map(({ seen }) => seen.lease), ...this.tried].filter((lease) => lease?.hit).length);
    expect(stats.hits + stats.misses).toBe(this.asked.length + this.tried.length);

    // Leased adapters are there, with as many leases as the world holds.
    expect(stats.leases).toBe(this.leases.length);
    const leased = (name: string): number => this.leases.filter((lease) => lease.adapter.name === name).length;
    expect(NAMES.map((name) => resident.get(name)?.leases ?? 0)).toEqual(NAMES.map(leased));

    // One load a digest, two in all.
    const loading = [...loads].map(({ ref }) => ref.name);
    expect(new Set(loading).size).toBe(loading.length);
    expect(loading.length).toBeLessThanOrEqual(2);
    expect(loading.filter((name) => resident.has(name))).toEqual([]);

    // A pinned adapter that was there is still there.
    const pinned = [...resident.values()].filter((adapter) => adapter.pinned).map(({ name }) => name);
    expect(pinned).toEqual([...resident.keys()].filter((name) => this.pins.has(name)));
    expect(pinned).toEqual(expect.arrayContaining([...this.residentPins].filter((name) => this.pins.has(name))));
    this.residentPins = new Set(pinned);

    // Nobody waits without a cause: a load to wait for, or others' leases in the way.
    if (this.asked.some(({ seen }) => seen.state === 'waiting') && loads.size === 0)
      expect(this.leases.length).toBeGreaterThan(0);
  }

  /** With pins gone, loads done and leases given back, everybody must get an answer. */
  async drain(): Promise<void> {
    for (const name of this.pins) await this.run({ type: 'unpin', name });
    while (this.bench.loads.size > 0 || this.leases.length > 0) {
      for (const load of this.bench.loads) load.succeed();
      await setImmediate();
      this.check();
      for (const lease of this.leases) this.release(lease);
      await setImmediate();
      this.check();
    }
    expect(this.asked.filter(({ seen }) => seen.state === 'waiting')).toEqual([]);
    expect(this.bench.cache.stats().leases).toBe(0);
    // Nothing is stuck: whatever fits can still be had.
    this.bench.nowMs += 1000;
    for (const name of NAMES.slice(0, -1)) {
      const lease = await this.bench.lease(name);
      expect(lease.adapter.name).toBe(name);
      lease.release();
    }
  }
}

it('keeps its promises whatever is done to it, in whatever order', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { maxLength: 60, size: 'max' }), async (commands) => {
      const world = new World();
      for (const each of commands) await world.run(each);
      await world.drain();
    }),
    { numRuns: 200 },
  );
});
