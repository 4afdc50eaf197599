/**
 * Windows in Redis, which several servers share. Redis may be away, slow, or lost between two words: nobody waits longer than ANSWER_MS for it,
 * who comes while it is away does not wait at all, and it is asked again every now and then until it is back.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import type { Counters, Store } from './quota.js';
import { ANSWER_MS, Windows } from './window.js';

const CONNECT_MS = 2_000;
/** Between two looks at a store that is away. */
const RETRY_MS = 1_000;
const PREFIX = 'graft';

/**
 * All or nothing, in one step: KEYS[1] the count; ARGV[1] points (below 0: given back), ARGV[2] the window's seconds, ARGV[3] the limit. Returns the
 * count (of a refusal: what it would have been) and the milliseconds until the window ends. What is given back makes no count negative, and no
 * window.
 */
const TAKE = `
local points = tonumber(ARGV[1])
local left = redis.call('pttl', KEYS[1])
if left < 0 then
  if points < 0 then return {0, 0} end
  redis.call('set', KEYS[1], 0, 'EX', ARGV[2])
  left = 1000 * tonumber(ARGV[2])
end
local spent = tonumber(redis.call('get', KEYS[1]))
if points < 0 then points = math.max(points, -spent) end
if points > 0 and spent + points > tonumber(ARGV[3]) then return {spent + points, left} end
return {redis.call('incrby', KEYS[1], points), left}`;

/** What is told of a store. */
export interface StoreWatch {
  /** A question that it did not answer. */
  failed(): void;
  /** It is away: told once, until it is back. */
  away(reason: string): void;
  back(): void;
}

export class RedisStore implements Store {
  readonly #client: Redis;
  readonly #counters: Counters;
  readonly #watch: StoreWatch;
  #isAway = false;
  #nextLookMs = 0;

  private constructor(url: string, watch: StoreWatch) {
    this.#client = new Redis(url, {
      lazyConnect: true,
      connectTimeout: CONNECT_MS,
      commandTimeout: ANSWER_MS,
      retryStrategy: (attempts) => Math.min(100 * attempts, RETRY_MS),
      // What cannot be asked now is not asked later: somebody else has decided by then.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
    });
    this.#watch = watch;
    this.#client.on('error', (error: unknown) => this.#lost(error));
    this.#client.on('ready', () => this.#found());
    this.#counters = { requests: this.#windows('requests'), tokens: this.#windows('tokens') };
  }

  /** Resolves when it is connected, or is not in time; it goes on trying. `url`: redis://... or rediss://... */
  static async open(url: string, watch: StoreWatch): Promise<RedisStore> {
    const store = new RedisStore(url, watch);
    // Why it did not work is told by the event.
    await Promise.race([store.#client.connect().catch(() => undefined), sleep(CONNECT_MS, undefined, { ref: false })]);
    return store;
  }

  async use<T>(work: (counters: Counters) => Promise<T>): Promise<T> {
    try {
      if (this.#isAway) this.#look();
      const result = await work(this.#counters);
      this.#found();
      return result;
    } catch (error) {
      this.#watch.failed();
      this.#lost(error);
      throw error;
    }
  }

  close(): void {
    this.#client.disconnect();
  }

  /** Lets one through where it is time to look again; throws otherwise. */
  #look(): void {
    const now = performance.now();
    if (now < this.#nextLookMs) throw new Error('the store is away');
    this.#nextLookMs = now + RETRY_MS;
  }

  #lost(error: unknown): void {
    if (this.#isAway) return;
    this.#isAway = true;
    this.#nextLookMs = performance.now() + RETRY_MS;
    this.#watch.away(reasonOf(error));
  }

  #found(): void {
    if (!this.#isAway) return;
    this.#isAway = false;
    this.#watch.back();
  }

  #windows(kind: keyof Counters): Windows {
    return new Windows(
      ({ points, seconds }) =>
        new RateLimiterRedis({
          storeClient: this.#client,
          keyPrefix: `${PREFIX}:${kind}`,
          points,
          duration: seconds,
          customIncrTtlLuaScript: TAKE,
          rejectIfRedisNotReady: true,
        }),
    );
  }
}

/** Only the message: the error has the command with its arguments, and one of those is the password. */
function reasonOf(error: unknown): string {
  const { message, code } = error as { readonly message?: string; readonly code?: string };
  return message || code || 'unknown';
}
