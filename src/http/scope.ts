/** What one request's work goes by: the time that it has, what ends it early, and what it holds until then. */
import { setMaxListeners } from 'node:events';
import { AppError } from '../errors.js';
import type { Tenant } from '../tenants/tenant.js';
import type { Keeper } from './catalogue.js';
import type { Exchange } from './exchange.js';

export class Scope implements Keeper {
  readonly #startMs: number;
  readonly #timeoutMs: number;
  readonly #timer: NodeJS.Timeout;
  readonly #kept: (() => void)[] = [];
  readonly exchange: Exchange;
  readonly tenant: Tenant;
  readonly stickyKey: string;
  /** Aborted with an AppError: `cancelled` where the client is gone, `deadline_exceeded` where the time is up. */
  readonly signal: AbortSignal;

  /** `user` is what the request says of its sender, if it does. */
  constructor(exchange: Exchange, timeoutMs: number, user: string | null = null) {
    this.exchange = exchange;
    this.#startMs = exchange.startMs;
    this.#timeoutMs = timeoutMs;
    this.tenant = exchange.tenant;
    this.stickyKey = exchange.stickyKey ?? user ?? exchange.id;
    const controller = new AbortController();
    this.signal = controller.signal;
    // As many wait for it as the request names adapters.
    setMaxListeners(0, this.signal);
    this.#timer = setTimeout(() => controller.abort(this.#tooLate()), this.remainingMs);
    // Not AbortSignal.any: Node keeps what that returns, and all that it leads to, for ever if a listener is left on it.
    const leave = (): void => controller.abort(exchange.signal.reason);
    if (exchange.signal.aborted) leave();
    else exchange.signal.addEventListener('abort', leave, { once: true });
  }

  get elapsedMs(): number {
    return performance.now() - this.#startMs;
  }

  get remainingMs(): number {
    return Math.max(1, Math.ceil(this.#timeoutMs - this.elapsedMs));
  }

  /** The error that a failure means to the client: the engine's own deadline says how much was left when it got the request. */
  explain(thrown: unknown): AppError {
    const error = AppError.from(thrown);
    if (error.code === 'deadline_exceeded') return this.#tooLate();
    return error.code === 'cancelled' && this.signal.aborted ? AppError.from(this.signal.reason) : error;
  }

  keep(release: () => void): void {
    this.#kept.push(release);
  }

  end(): void {
    clearTimeout(this.#timer);
    for (const release of this.#kept.splice(0)) release();
  }

  #tooLate(): AppError {
    return new AppError('deadline_exceeded', `Expected the request to finish within ${this.#timeoutMs} ms but it did not`);
  }
}
