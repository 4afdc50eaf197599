/**
 * Windows: counts that begin anew. The first taking of a name opens its window, which ends a fixed time later and takes the count along, so that
 * no two clocks have to agree. The counting is rate-limiter-flexible's. What this adds: a taking is all or nothing, and what is given back goes
 * to the window that it was taken from, or nowhere.
 */
import { type RateLimiterAbstract, RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';

/** Longest time that a store may take to answer. In its last moment a window gets nothing back: that could arrive in the one after it. */
export const ANSWER_MS = 250;

/** So many points in so many seconds. Whole numbers. */
export interface Rate {
  readonly points: number;
  readonly seconds: number;
}

/** How full a window is. */
export interface Level {
  readonly limit: number;
  readonly remaining: number;
  /** Until all of it is there again; 0 where nothing is taken. */
  readonly resetMs: number;
}

export interface Taking extends Level {
  /** Where it is not, nothing was taken; what was asked for is there after `resetMs`. */
  readonly isGranted: boolean;
  giveBack(points: number): Promise<void>;
}

export class Windows {
  readonly #limiterOf: (rate: Rate) => RateLimiterAbstract;
  /** By rate: a limiter has one for all its names. */
  readonly #limiters = new Map<string, RateLimiterAbstract>();

  /** `limiterOf`: a limiter that takes all or nothing. */
  constructor(limiterOf: (rate: Rate) => RateLimiterAbstract) {
    this.#limiterOf = limiterOf;
  }

  /** Takes points, at most those of the rate. Throws what the store throws. */
  async take(name: string, points: number, rate: Rate): Promise<Taking> {
    const limiter = this.#limiter(rate);
    const askedMs = performance.now();
    let isGranted = true;
    const result = await limiter.consume(name, points).catch((refusal: unknown) => {
      if (!(refusal instanceof RateLimiterRes)) throw refusal;
      isGranted = false;
      return refusal;
    });
    const endMs = askedMs + result.msBeforeNext;
    const giveBack = async (unused: number): Promise<void> => {
      if (isGranted && performance.now() < endMs - ANSWER_MS) await limiter.reward(name, unused);
    };
    // A refusal says what would have been taken.
    const spent = isGranted ? result.consumedPoints : result.consumedPoints - points;
    return { ...levelOf(rate, spent, result), isGranted, giveBack };
  }

  async level(name: string, rate: Rate): Promise<Level> {
    const result = await this.#limiter(rate).get(name);
    return result ? levelOf(rate, result.consumedPoints, result) : { limit: rate.points, remaining: rate.points, resetMs: 0 };
  }

  #limiter(rate: Rate): RateLimiterAbstract {
    const key = `${rate.points}/${rate.seconds}`;
    const limiter = this.#limiters.get(key) ?? this.#limiterOf(rate);
    this.#limiters.set(key, limiter);
    return limiter;
  }
}

/** Windows of this process alone. */
export function memoryWindows(): Windows {
  return new Windows(({ points, seconds }) => new MemoryLimiter({ points, duration: seconds }));
}

class MemoryLimiter extends RateLimiterMemory {
  override async consume(name: string | number, points = 1): Promise<RateLimiterRes> {
    try {
      return await super.consume(name, points);
    } catch (refusal) {
      await this.reward(name, points);
      throw refusal;
    }
  }
}

function levelOf({ points: limit }: Rate, spent: number, { msBeforeNext }: RateLimiterRes): Level {
  return { limit, remaining: Math.max(0, limit - spent), resetMs: Math.max(0, msBeforeNext) };
}
