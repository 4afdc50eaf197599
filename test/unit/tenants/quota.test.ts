import { describe, expect, test } from 'vitest';
import { type Counters, Quota, rateOf, type Store } from '../../../src/tenants/quota.js';
import { memoryWindows } from '../../../src/tenants/window.js';
import { limited } from '../../support/keys.js';

/** A store that can be away. */
class FakeStore implements Store {
  readonly counters: Counters = { requests: memoryWindows(), tokens: memoryWindows() };
  isAway = false;
  closed = 0;

  use<T>(work: (counters: Counters) => Promise<T>): Promise<T> {
    return this.isAway ? Promise.reject(new Error('away')) : work(this.counters);
  }

  close(): void {
    this.closed++;
  }
}

const alone = () => new Quota({ shared: null, failure: 'open' });
const remaining = async (store: Store, name: string, points: number): Promise<number> =>
  store.use(async ({ tokens }) => (await tokens.level(name, { points, seconds: 60 })).remaining);

describe('requests and tokens', () => {
  test('a tenant without limits is not counted, whatever becomes of the store', async () => {
    const store = new FakeStore();
    store.isAway = true;
    const quota = new Quota({ shared: store, failure: 'closed' });
    expect(await quota.arrive(limited('a', { concurrent: 1, imageBytes: 1, maxTokens: 1 }))).toEqual({
      requests: null,
      tokens: null,
    });
  });

  test('requests are counted by tenant, tokens are only looked at', async () => {
    const quota = alone();
    const tenant = limited('a', { requestsPerSecond: 1, tokensPerMinute: 100 });
    expect(await quota.arrive(tenant)).toMatchObject({
      requests: { isGranted: true, remaining: 0 },
      tokens: { limit: 100, remaining: 100, resetMs: 0 },
    });
    expect(await quota.arrive(limited('b', { requestsPerSecond: 1 }))).toMatchObject({
      requests: { isGranted: true },
      tokens: null,
    });
  });

  test('a reservation gives back what was not used, once', async () => {
    const quota = alone();
    const tenant = limited('a', { tokensPerMinute: 100 });
    const left = async () => (await quota.arrive(tenant)).tokens?.remaining;
    const first = await quota.reserve('a', 60, 100);
    expect(first).toMatchObject({ isGranted: true, remaining: 40 });
    const refused = await quota.reserve('a', 50, 100);
    expect(refused).toMatchObject({ isGranted: false, remaining: 40 });
    await refused.settle(0);
    expect(await left()).toBe(40);
    await Promise.all([first.settle(10), first.settle(0), first.settle(10)]);
    expect(await left()).toBe(90);
  });

  test('one that used more than was thought gives nothing back', async () => {
    const quota = alone();
    const reservation = await quota.reserve('a', 60, 100);
    await reservation.settle(70);
    expect((await quota.arrive(limited('a', { tokensPerMinute: 100 }))).tokens?.remaining).toBe(40);
  });
});

describe('requests at once', () => {
  test('as many as may be, by tenant; who leaves makes room once', () => {
    const quota = alone();
    const tenant = limited('a', { concurrent: 2 });
    const first = quota.enter(tenant);
    const second = quota.enter(tenant);
    expect([typeof first, typeof second, quota.enter(tenant)]).toEqual(['function', 'function', null]);
    expect(quota.enter(limited('b', { concurrent: 1 }))).not.toBeNull();
    first?.();
    first?.();
    expect(quota.enter(tenant)).not.toBeNull();
    expect(quota.enter(tenant)).toBeNull();
  });

  test('a limit that comes later counts those who are there', () => {
    const quota = alone();
    const leave = quota.enter(limited('a', {}));
    expect(quota.enter(limited('a', { concurrent: 1 }))).toBeNull();
    leave?.();
    expect(quota.enter(limited('a', { concurrent: 1 }))).not.toBeNull();
  });
});

describe('a store that several servers share', () => {
  const tenant = limited('a', { requestsPerSecond: 10, tokensPerMinute: 100 });

  test('has the counts of all of them', async () => {
    const shared = new FakeStore();
    const quotas = [1, 2].map(() => new Quota({ shared, failure: 'closed' }));
    for (const quota of quotas) await quota.reserve('a', 30, 100);
    expect(await remaining(shared, 'a', 100)).toBe(40);
    for (const quota of quotas) quota.close();
    expect(shared.closed).toBe(2);
  });

  test('open: while it is away this server counts alone, and each reservation goes back to where it is from', async () => {
    const shared = new FakeStore();
    const quota = new Quota({ shared, failure: 'open' });
    const before = await quota.reserve('a', 90, 100);
    shared.isAway = true;
    const meanwhile = await quota.reserve('a', 80, 100);
    expect(meanwhile).toMatchObject({ isGranted: true, remaining: 20 });
    expect((await quota.reserve('a', 30, 100)).isGranted).toBe(false);
    shared.isAway = false;
    await meanwhile.settle(0);
    expect(await remaining(shared, 'a', 100)).toBe(10);
    await before.settle(5);
    expect(await remaining(shared, 'a', 100)).toBe(95);
  });

  test('open: what was reserved there is not given back here', async () => {
    const shared = new FakeStore();
    const quota = new Quota({ shared, failure: 'open' });
    const reservation = await quota.reserve('a', 90, 100);
    shared.isAway = true;
    await quota.reserve('a', 50, 100);
    await reservation.settle(0);
    expect((await quota.arrive(tenant)).tokens?.remaining).toBe(50);
  });

  test('closed: requests of a limited tenant are refused, and let in again when it is back', async () => {
    const shared = new FakeStore();
    const quota = new Quota({ shared, failure: 'closed' });
    shared.isAway = true;
    await expect(quota.arrive(tenant)).rejects.toMatchObject({ code: 'quota_unavailable', status: 503, retryable: true });
    await expect(quota.reserve('a', 1, 100)).rejects.toMatchObject({ code: 'quota_unavailable' });
    // Its tokens are only told, not counted.
    expect(await quota.arrive(limited('a', { tokensPerMinute: 100 }))).toEqual({ requests: null, tokens: null });
    shared.isAway = false;
    expect(await quota.arrive(tenant)).toMatchObject({ requests: { isGranted: true } });
  });
});

test.each([
  [1, 1, 1],
  [10, 10, 1],
  [2.5, 5, 2],
  [0.5, 1, 2],
  [0.1, 1, 10],
  [0.3, 3, 10],
  [1 / 3, 1, 3],
  [Math.PI, 3, 1],
  [0.001, 1, 1000],
  [1e-9, 1, 86_400],
])('%d requests a second are %d in %d s', (perSecond, points, seconds) => {
  expect(rateOf(perSecond)).toEqual({ points, seconds });
});
