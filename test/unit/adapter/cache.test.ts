/**
 * The cache case by case; cache.property.test.ts does everything in any order.
 */
import { getEventListeners } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { AdapterCache } from '../../../src/adapter/cache.js';
import { AppError } from '../../../src/errors.js';
import { adapterOf, Bench, refOf, watch } from './bench.js';

describe('acquire', () => {
  it('loads once for all who ask, and hits afterwards', async () => {
    const bench = new Bench(100);
    const both = [bench.cache.acquire(refOf('a:10')), bench.cache.acquire(refOf('a:10'))];
    await bench.settle();
    const leases = await Promise.all(both);
    expect(bench.started).toEqual(['a:10']);
    expect(leases.map(({ hit }) => hit)).toEqual([false, false]);
    expect(leases[0]?.adapter).toBe(leases[1]?.adapter);
    const third = await bench.cache.acquire(refOf('a:10'));
    expect(third.hit).toBe(true);
    expect(bench.cache.stats()).toEqual({ hits: 1, misses: 2, loads: 1, failures: 0, evictions: 0, bytes: 10, leases: 3 });
  });

  it('goes by digest alone: another name for the same content is a hit', async () => {
    const bench = new Bench(100);
    const lease = await bench.lease('a:10');
    const other = await bench.cache.acquire({ ...refOf('a:10'), name: 'alias', folder: '/elsewhere' });
    expect(other.hit).toBe(true);
    expect(other.adapter).toBe(lease.adapter);
  });

  it('evicts the least recently used idle adapter, never a leased one', async () => {
    const bench = new Bench(30);
    const leased = await bench.lease('leased:10');
    (await bench.lease('old:10')).release();
    (await bench.lease('new:10')).release();
    (await bench.lease('old:10')).release();
    await bench.lease('more:10');
    expect(bench.residents.sort()).toEqual(['leased:10', 'more:10', 'old:10']);
    leased.release();
    expect(bench.cache.stats()).toMatchObject({ evictions: 1, bytes: 30, leases: 1 });
  });

  it('counts a lease once, however often it is released', async () => {
    const bench = new Bench(30);
    const first = await bench.lease('a:10');
    const second = await bench.lease('a:10');
    first.release();
    first.release();
    expect(bench.cache.resident()).toEqual([
      { name: 'a:10', digest: 'digest of a:10', bytes: 10, leases: 1, pinned: false, matched: 3, targeted: 4 },
    ]);
    second.release();
    expect(bench.cache.stats()).toMatchObject({ leases: 0, bytes: 10 });
  });

  it('does not let what is in use anyway starve a claim that waits for room', async () => {
    const bench = new Bench(20);
    // Two requests of one adapter follow each other without a gap, so it is never idle.
    let current = await bench.lease('busy:15');
    const cold = watch(bench.cache.acquire(refOf('cold:10')));
    await bench.settle();
    let turns = 0;
    for (; cold.state === 'waiting' && turns < 1000; turns++) {
      const next = watch(bench.cache.acquire(refOf('busy:15')));
      await bench.settle();
      current.release();
      await bench.settle();
      if (next.lease) current = next.lease;
    }
    expect(cold.state).toBe('granted');
    expect(turns).toBeGreaterThan(1); // a full batch of them may pass all the same
    cold.lease?.release();
    await bench.settle();
    expect(bench.cache.stats().bytes).toBeLessThanOrEqual(20);
  });

  it('starts loads by turns where tenants have claims, and each tenant’s in order', async () => {
    const bench = new Bench(1000);
    const ask = (name: string, tenant: string, weight = 1) => bench.cache.acquire(refOf(name), undefined, { tenant, weight });
    const all = [1, 2, 3, 4, 5, 6].map((index) => ask(`flood${index}:1`, 'flood'));
    bench.cache.prefetch(refOf('hint:1'), { tenant: 'late', weight: 1 });
    all.push(ask('late1:1', 'late'), ask('late2:1', 'late'));
    await bench.settle();
    await Promise.all(all);
    const [first, second, ...others] = bench.started.map((name) => name.replace(':1', ''));
    expect([first, second]).toEqual(['flood1', 'flood2']);
    expect(others).toEqual(['late1', 'flood3', 'late2', 'flood4', 'flood5', 'flood6', 'hint']);
  });

  it('waits for room in order of arrival; what is idle or small does not overtake', async () => {
    const bench = new Bench(30);
    const [x, y] = [await bench.lease('x:10'), await bench.lease('y:10')];
    (await bench.lease('idle:10')).release();
    const large = watch(bench.cache.acquire(refOf('large:20')));
    await bench.settle();
    const small = watch(bench.cache.acquire(refOf('small:5')));
    const idle = watch(bench.cache.acquire(refOf('idle:10')));
    await bench.settle();
    expect([large.state, small.state, idle.state]).toEqual(['waiting', 'waiting', 'waiting']);
    expect(bench.cache.tryAcquire(refOf('idle:10'))).toBeUndefined();
    expect(bench.cache.tryAcquire(refOf('x:10'))?.hit).toBe(true); // leased already: takes no room
    x.release();
    await bench.settle();
    expect(large.state).toBe('waiting'); // x is still leased by tryAcquire
    y.release();
    await bench.settle();
    expect([large.state, small.state, idle.state]).toEqual(['granted', 'waiting', 'waiting']);
    expect(bench.cache.stats().bytes).toBe(30);
    large.lease?.release();
    await bench.settle();
    expect([small.state, idle.state]).toEqual(['granted', 'granted']);
  });

  it('refuses what can never fit, with both numbers', async () => {
    const bench = new Bench(30);
    const huge = watch(bench.cache.acquire(refOf('huge:31')));
    await bench.settle();
    expect(huge.error).toMatchObject({
      code: 'adapter_too_large',
      message: 'Expected adapter huge:31 to fit into 30 bytes of cache but received 31 bytes',
    });
    await expect(bench.cache.acquire(refOf('huge:31'))).rejects.toMatchObject({ code: 'adapter_too_large' });
    expect(bench.started).toEqual(['huge:31']);
  });

  it('refuses what cannot fit beside the pinned, instead of waiting for ever', async () => {
    const bench = new Bench(30);
    bench.cache.setPinned(refOf('pin:20'), true);
    await bench.settle();
    const late = watch(bench.cache.acquire(refOf('late:11')));
    await bench.settle();
    expect(late.error).toMatchObject({
      code: 'adapter_too_large',
      message: expect.stringMatching(/30 bytes of cache, 20 of them pinned, .* 11 bytes/),
    });
  });

  it('refuses a waiter that a new pin leaves without room', async () => {
    const bench = new Bench(30);
    const lease = await bench.lease('a:20');
    const waiting = watch(bench.cache.acquire(refOf('b:15')));
    await bench.settle();
    expect(waiting.state).toBe('waiting');
    bench.cache.setPinned(refOf('a:20'), true);
    await setImmediate();
    expect(waiting.error).toMatchObject({ code: 'adapter_too_large' });
    lease.release();
    expect(bench.residents).toEqual(['a:20']);
  });

  it('runs two loads at a time, for those who wait before mere prefetches', async () => {
    const bench = new Bench(100);
    for (const name of ['p1:1', 'p2:1', 'p3:1']) bench.cache.prefetch(refOf(name));
    const waiting = watch(bench.cache.acquire(refOf('a:1')));
    expect(bench.started).toEqual(['p1:1', 'p2:1']);
    bench.load.succeed();
    await setImmediate();
    expect(bench.started).toEqual(['p1:1', 'p2:1', 'a:1']);
    await bench.settle();
    expect(waiting.state).toBe('granted');
    expect(bench.residents.sort()).toEqual(['a:1', 'p1:1', 'p2:1', 'p3:1']);
  });

  it('charges an adapter without arrays something, so that it can be kept', async () => {
    const bench = new Bench(10);
    (await bench.lease('bare:0')).release();
    expect((await bench.cache.acquire(refOf('bare:0'))).hit).toBe(true);
  });

  it('does not hand out what the loader returned for another digest', async () => {
    const cache = new AdapterCache({ maxBytes: 10, load: async () => adapterOf(refOf('other:1')) });
    await expect(cache.acquire(refOf('a:1'))).rejects.toMatchObject({ code: 'internal' });
    expect(cache.resident()).toEqual([]);
  });
});

describe('an abort', () => {
  it('leaves, and disturbs nobody else', async () => {
    const bench = new Bench(100);
    const leaving = new AbortController();
    const staying = new AbortController();
    const first = watch(bench.cache.acquire(refOf('a:10'), leaving.signal));
    const second = watch(bench.cache.acquire(refOf('a:10'), staying.signal));
    leaving.abort();
    await setImmediate();
    expect(first.error).toMatchObject({ code: 'cancelled' });
    await bench.settle();
    expect(second.state).toBe('granted');
    expect(getEventListeners(staying.signal, 'abort')).toEqual([]);
    expect(bench.started).toEqual(['a:10']);
    expect(bench.cache.stats().leases).toBe(1);
  });

  it('of the last who waits lets a running load finish into the cache, and drops one that has not begun', async () => {
    const bench = new Bench(100, { maxConcurrentLoads: 1 });
    const leaving = new AbortController();
    const both = [bench.cache.acquire(refOf('a:10'), leaving.signal), bench.cache.acquire(refOf('b:10'), leaving.signal)].map(
      watch,
    );
    leaving.abort();
    await bench.settle();
    expect(both.map(({ state }) => state)).toEqual(['refused', 'refused']);
    expect(bench.started).toEqual(['a:10']);
    expect(bench.cache.stats()).toMatchObject({ bytes: 10, leases: 0 });
  });

  it('of the first in the queue lets the next one in', async () => {
    const bench = new Bench(30);
    await bench.lease('a:20');
    const leaving = new AbortController();
    const large = watch(bench.cache.acquire(refOf('b:20'), leaving.signal));
    const small = watch(bench.cache.acquire(refOf('c:10')));
    await bench.settle();
    expect(small.state).toBe('waiting');
    leaving.abort();
    await setImmediate();
    expect([large.state, small.state]).toEqual(['refused', 'granted']);
  });

  it('before the call refuses at once, for the reason that the signal gives', async () => {
    const bench = new Bench(30);
    const reason = new AppError('deadline_exceeded', 'too late');
    await expect(bench.cache.acquire(refOf('a:1'), AbortSignal.abort(reason))).rejects.toBe(reason);
    await expect(bench.cache.acquire(refOf('a:1'), AbortSignal.abort())).rejects.toMatchObject({ code: 'cancelled' });
    expect(bench.started).toEqual([]);
  });
});

describe('a failed load', () => {
  it('gives all the same error, answers for its time, and is then tried again', async () => {
    const bench = new Bench(100, { failureTtlMs: 1000 });
    const error = new AppError('adapter_invalid', 'broken');
    const all = [bench.cache.acquire(refOf('a:10')), bench.cache.acquire(refOf('a:10'))].map(watch);
    bench.load.fail(error);
    await setImmediate();
    expect(all.map((seen) => seen.error)).toEqual([error, error]);
    bench.nowMs = 999;
    bench.cache.prefetch(refOf('a:10'));
    await expect(bench.cache.acquire(refOf('a:10'))).rejects.toBe(error);
    expect(bench.started).toHaveLength(1);
    bench.nowMs = 1000;
    expect((await bench.lease('a:10')).hit).toBe(false);
    expect(bench.cache.stats()).toMatchObject({ failures: 1, loads: 1, misses: 4 });
  });

  it.each(['adapter_changed', 'cancelled'] as const)('is not remembered where it is %s', async (code) => {
    const bench = new Bench(100);
    const first = watch(bench.cache.acquire(refOf('a:10')));
    bench.load.fail(new AppError(code, 'another try may work'));
    await setImmediate();
    expect(first.error).toMatchObject({ code });
    expect((await bench.lease('a:10')).adapter.name).toBe('a:10');
  });

  it('is an AppError, even where the loader throws something else before it returns', async () => {
    const load = (): never => {
      throw new TypeError('boom');
    };
    const cache = new AdapterCache({ maxBytes: 10, load });
    const all = ['a:1', 'b:1', 'c:1'].map((name) => watch(cache.acquire(refOf(name))));
    await setImmediate();
    for (const { error } of all) expect(error).toMatchObject({ code: 'internal', message: 'boom' });
  });
});

describe('prefetch', () => {
  it('makes the next acquire a hit', async () => {
    const bench = new Bench(100);
    bench.cache.prefetch(refOf('a:10'));
    await bench.settle();
    bench.cache.prefetch(refOf('a:10'));
    expect(bench.cache.tryAcquire(refOf('a:10'))?.hit).toBe(true);
    expect(bench.started).toHaveLength(1);
  });

  it('never waits for room: what does not fit beside the leased is dropped', async () => {
    const bench = new Bench(30);
    await bench.lease('a:25');
    bench.cache.prefetch(refOf('b:10'));
    await bench.settle();
    expect(bench.residents).toEqual(['a:25']);
    expect(bench.cache.tryAcquire(refOf('a:25'))).toBeDefined();
  });

  it('leaves no unhandled rejection', async () => {
    const bench = new Bench(30);
    bench.cache.prefetch(refOf('a:1'));
    bench.load.fail(new Error('boom')); // vitest fails a run with an unhandled rejection
    await setImmediate();
    await expect(bench.cache.acquire(refOf('a:1'))).rejects.toThrow('boom');
  });
});

describe('a pin', () => {
  it('loads, and keeps until it is taken away', async () => {
    const bench = new Bench(30);
    bench.cache.setPinned(refOf('pin:10'), true);
    await bench.settle();
    for (const name of ['a:20', 'b:20', 'c:20']) (await bench.lease(name)).release();
    expect(bench.residents.sort()).toEqual(['c:20', 'pin:10']);
    expect(bench.cache.resident()[0]).toMatchObject({ pinned: true, leases: 0 });
    bench.cache.setPinned(refOf('pin:10'), false);
    await bench.lease('d:30');
    expect(bench.residents).toEqual(['d:30']);
  });

  it('serves those who wait for an idle adapter behind a full cache', async () => {
    const bench = new Bench(30);
    await bench.lease('a:15');
    (await bench.lease('idle:10')).release();
    watch(bench.cache.acquire(refOf('large:20')));
    await bench.settle();
    const waiting = watch(bench.cache.acquire(refOf('idle:10')));
    await bench.settle();
    expect(waiting.state).toBe('waiting');
    bench.cache.setPinned(refOf('idle:10'), true);
    await bench.settle();
    expect(waiting.state).toBe('granted');
    expect(bench.started.filter((name) => name === 'idle:10')).toHaveLength(1);
  });
});

describe('takeCounts', () => {
  it('gives what happened since the last call', async () => {
    const bench = new Bench(10);
    const first = bench.cache.acquire(refOf('a:10'));
    bench.nowMs = 250;
    await bench.settle();
    (await first).release();
    (await bench.cache.acquire(refOf('a:10'))).release();
    const counts = { adapterHits: 1, adapterMisses: 1, adapterLoads: 1, adapterLoadFailures: 0, adapterEvictions: 0 };
    expect(bench.cache.takeCounts()).toEqual({ ...counts, adapterLoadSeconds: [0.25] });
    await bench.lease('b:10');
    expect(bench.cache.takeCounts()).toEqual({ ...counts, adapterHits: 0, adapterEvictions: 1, adapterLoadSeconds: [0] });
  });
});

it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])('refuses a bound of %d bytes', (maxBytes) => {
  expect(() => new Bench(maxBytes)).toThrow(RangeError);
});
