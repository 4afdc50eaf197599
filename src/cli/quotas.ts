/** The limits of tenants, with the store that they are counted in, and what is told of it. */
import type { Logger } from 'pino';
import type { Config } from '../config.js';
import { Quotas } from '../http/quotas.js';
import type { Metrics } from '../metrics.js';
import { Quota } from '../tenants/quota.js';
import { RedisStore } from '../tenants/redis.js';

/** Resolves soon, whether the store is there or not. */
export async function openQuotas({ redis, quotaFailure }: Config, metrics: Metrics, log: Logger): Promise<Quotas> {
  if (redis === null) return new Quotas(new Quota({ shared: null, failure: quotaFailure }), metrics);
  // Never the whole URL, which may have a password.
  const store = new URL(redis).host;
  const shared = await RedisStore.open(redis, {
    failed: () => metrics.quotaStoreFailed(),
    away: (reason) => log.warn({ store, reason, quotaFailure }, 'the store of quotas is away'),
    back: () => log.info({ store }, 'the store of quotas is back'),
  });
  return new Quotas(new Quota({ shared, failure: quotaFailure }), metrics);
}
