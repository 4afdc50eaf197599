import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Quota } from '../../../src/tenants/quota.js';
import { RedisStore } from '../../../src/tenants/redis.js';
import { freePort, hasRedis, TestRedis, withRedis } from '../../support/redis.js';
import { until } from '../../support/server.js';

const OPENSSL = 'openssl';
const hasOpenssl = spawnSync(OPENSSL, ['version']).status === 0;

/** What a store's watch was told, in order; failures only counted. */
class Watch {
  readonly told: string[] = [];
  failures = 0;
  failed = (): void => {
    this.failures++;
  };
  away = (reason: string): void => {
    this.told.push(`away: ${reason}`);
  };
  back = (): void => {
    this.told.push('back');
  };
}

const stores: RedisStore[] = [];
async function open(url: string): Promise<{ store: RedisStore; watch: Watch }> {
  const watch = new Watch();
  const store = await RedisStore.open(url, watch);
  stores.push(store);
  return { store, watch };
}
afterEach(() => {
  for (const store of stores.splice(0)) store.close();
});

const perMinute = (points: number) => ({ points, seconds: 60 });
const take = (store: RedisStore, points: number, limit: number) =>
  store.use(({ tokens }) => tokens.take('acme', points, perMinute(limit)));
const level = (store: RedisStore, limit: number) => store.use(({ tokens }) => tokens.level('acme', perMinute(limit)));

describe.runIf(hasRedis)(`windows in Redis${withRedis}`, () => {
  let redis: TestRedis;
  let client: Redis;
  beforeAll(async () => {
    redis = await TestRedis.start();
    client = new Redis(redis.url);
  });
  beforeEach(async () => {
    await client.flushall();
  });
  afterAll(async () => {
    client.disconnect();
    await redis.kill();
  });

  test('are shared: one server’s takings are the other’s, refused ones take nothing', async () => {
    const [{ store: one, watch }, { store: other }] = await Promise.all([open(redis.url), open(redis.url)]);
    expect(await level(one, 100)).toEqual({ limit: 100, remaining: 100, resetMs: 0 });
    expect(await take(one, 60, 100)).toMatchObject({ isGranted: true, remaining: 40 });
    expect(await take(other, 50, 100)).toMatchObject({ isGranted: false, remaining: 40 });
    expect(await take(other, 40, 100)).toMatchObject({ isGranted: true, remaining: 0 });
    expect(await client.keys('*')).toEqual(['graft:tokens:acme']);
    expect(await client.get('graft:tokens:acme')).toBe('100');
    expect(await client.ttl('graft:tokens:acme')).toBeGreaterThan(0);
    expect(watch).toMatchObject({ told: [], failures: 0 });
  });

  test('many at once of two servers get no more than there is', async () => {
    const both = await Promise.all([open(redis.url), open(redis.url)]);
    const takings = await Promise.all(Array.from({ length: 60 }, (_, index) => take((both[index % 2] ?? both[0]).store, 3, 100)));
    expect(takings.filter(({ isGranted }) => isGranted)).toHaveLength(33);
    expect((await level(both[0].store, 100)).remaining).toBe(1);
  });

  test('what is given back is there again, for all; never more than was taken, and no window begins with it', async () => {
    const { store } = await open(redis.url);
    const taking = await take(store, 60, 100);
    await taking.giveBack(20);
    expect((await level(store, 100)).remaining).toBe(60);
    await taking.giveBack(1000);
    expect((await level(store, 100)).remaining).toBe(100);
    expect(await client.get('graft:tokens:acme')).toBe('0');
    await client.del('graft:tokens:acme');
    await taking.giveBack(10);
    expect(await client.exists('graft:tokens:acme')).toBe(0);
  });

  test('whatever is taken and given back, the count is what is held, between nothing and the limit', async () => {
    const { store } = await open(redis.url);
    const LIMIT = 100;
    const step = fc.record({ take: fc.integer({ min: 1, max: LIMIT }), used: fc.nat(LIMIT), settles: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
        await client.flushall();
        let held = 0;
        for (const { take: points, used, settles } of steps) {
          const taking = await take(store, points, LIMIT);
          expect(taking.isGranted).toBe(held + points <= LIMIT);
          if (!taking.isGranted) continue;
          const kept = settles ? Math.min(used, points) : points;
          await taking.giveBack(points - kept);
          held += kept;
          expect(Number(await client.get('graft:tokens:acme'))).toBe(held);
        }
      }),
      { numRuns: 40 },
    );
  });

  test('a limit that changes keeps the count', async () => {
    const { store } = await open(redis.url);
    await take(store, 60, 100);
    expect(await level(store, 80)).toMatchObject({ limit: 80, remaining: 20 });
    expect(await take(store, 30, 80)).toMatchObject({ isGranted: false });
    expect(await take(store, 30, 200)).toMatchObject({ isGranted: true, remaining: 110 });
  });

  test('another database is another count', async () => {
    const [{ store: one }, { store: other }] = await Promise.all([open(redis.url), open(`${redis.url}/3`)]);
    await take(one, 60, 100);
    expect((await level(other, 100)).remaining).toBe(100);
  });
});

describe.runIf(hasRedis)(`a Redis that is not there${withRedis}`, () => {
  let redis: TestRedis;
  beforeEach(async () => {
    redis = await TestRedis.start();
  });
  afterEach(() => redis.kill());

  test('killed and started again: told once each, counted every time, and used again without a restart', async () => {
    const { store, watch } = await open(redis.url);
    await take(store, 1, 100);
    await redis.kill();
    for (let attempt = 1; attempt <= 20; attempt++) await expect(take(store, 1, 100)).rejects.toThrow();
    expect(watch.failures).toBe(20);
    expect(watch.told).toEqual([expect.stringMatching(/^away: /)]);
    await redis.start();
    await until(() => watch.told.length === 2);
    expect(watch.told[1]).toBe('back');
    expect(await take(store, 1, 100)).toMatchObject({ isGranted: true, remaining: 99 });
  });

  test('one that hangs fails in its time, is not waited for again, and is used once it answers', async () => {
    const { store, watch } = await open(redis.url);
    redis.pause();
    // The first finds out; those that come then do not even ask.
    await expect(take(store, 1, 100)).rejects.toThrow('timed out');
    await expect(take(store, 1, 100)).rejects.toThrow('the store is away');
    expect(watch).toMatchObject({ failures: 2, told: [expect.stringMatching(/^away: .*timed out/)] });
    redis.resume();
    await until(async () => (await take(store, 1, 100).catch(() => null)) !== null);
    expect(watch.told.at(-1)).toBe('back');
  });

  test('one that was never there does not hold up the start', async () => {
    await redis.kill();
    const { store, watch } = await open(redis.url);
    expect(watch.told).toEqual([expect.stringMatching(/^away: .*ECONNREFUSED/)]);
    await expect(take(store, 1, 100)).rejects.toThrow();
    await redis.start();
    await until(() => watch.told.at(-1) === 'back');
    expect(await take(store, 1, 100)).toMatchObject({ isGranted: true });
  });

  test('what was reserved before it was lost is neither given back here nor in vain', async () => {
    const { store } = await open(redis.url);
    const quota = new Quota({ shared: store, failure: 'open' });
    const reservation = await quota.reserve('acme', 80, 100);
    await redis.kill();
    await reservation.settle(10);
    expect(await quota.reserve('acme', 100, 100)).toMatchObject({ isGranted: true, remaining: 0 });
  });
});

describe.runIf(hasRedis)(`a Redis with a password${withRedis}`, () => {
  test('is used with it; without it is away, and no word of it is told', async () => {
    const redis = await TestRedis.start('--requirepass', 'open-sesame');
    try {
      const right = await open(redis.url.replace('//', '//:open-sesame@'));
      expect(await take(right.store, 1, 100)).toMatchObject({ isGranted: true });
      const wrong = await open(redis.url.replace('//', '//:wrong-sesame@'));
      await expect(take(wrong.store, 1, 100)).rejects.toThrow();
      expect(wrong.watch.told).toEqual([expect.stringMatching(/^away: .*WRONGPASS/)]);
      expect(wrong.watch.told.join()).not.toContain('sesame');
    } finally {
      await redis.kill();
    }
  });
});

describe.runIf(hasRedis && hasOpenssl)(`a Redis behind TLS${withRedis || ' (skipped: openssl is not installed)'}`, () => {
  let folder: string;
  let redis: TestRedis;
  let url: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'graft-redis-'));
    const [key, certificate] = [path.join(folder, 'key.pem'), path.join(folder, 'cert.pem')];
    const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
    spawnSync(OPENSSL, [...request, ...subject, '-keyout', key, '-out', certificate]);
    const tlsPort = await freePort();
    const files = ['--tls-cert-file', certificate, '--tls-key-file', key, '--tls-auth-clients', 'no'];
    redis = await TestRedis.start('--tls-port', String(tlsPort), ...files);
    url = `rediss://127.0.0.1:${tlsPort}`;
  });
  afterAll(async () => {
    await redis.kill();
    await rm(folder, { recursive: true });
  });

  test('is not believed with a certificate that nobody vouches for', async () => {
    const { watch } = await open(url);
    expect(watch.told).toEqual([expect.stringMatching(/^away: .*self-signed certificate/)]);
  });

  test('is used where its authority is among NODE_EXTRA_CA_CERTS', () => {
    const program = `
      const { RedisStore } = await import(${JSON.stringify(new URL('../../../src/tenants/redis.ts', import.meta.url).href)});
      const store = await RedisStore.open(${JSON.stringify(url)}, { failed() {}, away: console.log, back() {} });
      console.log((await store.use(({ tokens }) => tokens.take('acme', 1, { points: 100, seconds: 60 }))).remaining);
      store.close();`;
    const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: path.join(folder, 'cert.pem') };
    const args = ['--import', tsx, '--input-type=module', '-e', program];
    const { stdout } = spawnSync(process.execPath, args, { env, encoding: 'utf8' });
    expect(stdout).toBe('99\n');
  });
});

test('a store that takes connections and never says a word does not hold up the start', async () => {
  const silent = createServer(() => undefined).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  try {
    const { store, watch } = await open(`redis://127.0.0.1:${(silent.address() as AddressInfo).port}`);
    await expect(take(store, 1, 100)).rejects.toThrow();
    expect(watch.failures).toBe(1);
  } finally {
    silent.close();
  }
});
