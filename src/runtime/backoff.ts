/**
 * How long to wait before a process that died is started again. The first restart is immediate, since most deaths are one-offs;
 * a process that keeps dying is started less and less often, and one that then lives long enough has earned a clean record.
 */

export interface BackoffOptions {
  /** The wait before the second restart; it doubles from there. */
  readonly firstMs: number;
  readonly capMs: number;
  /** Time in good health after which earlier deaths are forgotten. */
  readonly forgetAfterMs: number;
}

export class Backoff {
  readonly #options: BackoffOptions;
  #deaths = 0;

  constructor(options: BackoffOptions = { firstMs: 200, capMs: 10_000, forgetAfterMs: 30_000 }) {
    this.#options = options;
  }

  /** Notes a death after `healthyMs` in good health (0 where it was never ready) and says how long to wait now, in milliseconds. */
  next(healthyMs: number): number {
    const { firstMs, capMs, forgetAfterMs } = this.#options;
    if (healthyMs >= forgetAfterMs) this.#deaths = 0;
    this.#deaths += 1;
    if (this.#deaths === 1) return 0;
    return Math.min(capMs, firstMs * 2 ** (this.#deaths - 2));
  }
}
