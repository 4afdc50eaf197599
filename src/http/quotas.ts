/**
 * The limits of tenants, as their requests meet them: who is counted, what is refused and with which words, and what every reply says of what is
 * left. Operators' routes are not counted, since one wants to read metrics just when counting does not work.
 */
import type { Request, RequestHandler, Response } from 'express';
import { AppError } from '../errors.js';
import type { Metrics } from '../metrics.js';
import type { Quota, Reservation } from '../tenants/quota.js';
import type { Limits, Tenant } from '../tenants/tenant.js';
import type { Level } from '../tenants/window.js';
import { type Exchange, exchangeOf } from './exchange.js';
import { bodyBytes } from './multipart.js';
import type { Ask } from './schema.js';

/** Tokens of one answer, or of the part of it that was made. */
export interface Used {
  readonly imageTokens: number;
  readonly promptTokens: number;
  readonly completionTokens: number;
}

export class Quotas {
  readonly #quota: Quota;
  readonly #metrics: Metrics;

  constructor(quota: Quota, metrics: Metrics) {
    this.#quota = quota;
    this.#metrics = metrics;
  }

  /** Express middleware of every route of tenants, once it is known who asks. */
  readonly arrive: RequestHandler = async (_req, res, next): Promise<void> => {
    const exchange = exchangeOf(res);
    const { tenant } = exchange;
    const { requests, tokens } = await this.#quota.arrive(tenant);
    // Nobody would say of one who has left meanwhile that it has.
    exchange.signal.throwIfAborted();
    if (requests) tell(exchange, 'requests', requests);
    if (tokens) tell(exchange, 'tokens', tokens);
    if (requests && !requests.isGranted) {
      const retryAfterS = secondsOf(requests);
      throw this.#refused(
        tenant,
        'requestsPerSecond',
        new AppError(
          'rate_limit_exceeded',
          `Expected at most ${tenant.limits.requestsPerSecond} requests a second of tenant ${tenant.name} but received more: please retry in ${retryAfterS} s`,
          { retryAfterS },
        ),
      );
    }
    next();
  };

  /** Express middleware before a request is let in that is to be worked on. */
  readonly enter: RequestHandler = (_req, res, next): void => {
    const { tenant } = exchangeOf(res);
    const leave = this.#quota.enter(tenant);
    if (!leave)
      throw this.#refused(
        tenant,
        'concurrent',
        new AppError(
          'rate_limit_exceeded',
          `Expected at most ${tenant.limits.concurrent} requests of tenant ${tenant.name} at once but received one more: please retry when one of them has ended`,
        ),
      );
    res.once('close', leave);
    next();
  };

  /** Express middleware before a body with an image is read: what is certainly too large is told from its length. */
  readonly announce: RequestHandler = (req: Request, res: Response, next): void => {
    const { tenant } = exchangeOf(res);
    const { imageBytes } = tenant.limits;
    const announcedBytes = Number(req.get('content-length') ?? 0);
    if (imageBytes !== null && announcedBytes > bodyBytes(imageBytes))
      throw this.#tooLarge(tenant, imageBytes, `a body of ${announcedBytes}`);
    next();
  };

  /** Throws `payload_too_large` for an image that is larger than its tenant's may be. */
  weigh(tenant: Tenant, bytes: number): void {
    const { imageBytes } = tenant.limits;
    if (imageBytes !== null && bytes > imageBytes) throw this.#tooLarge(tenant, imageBytes, String(bytes));
  }

  /** A request within its tenant's bound of max_tokens: what was asked for above it is refused, what was not said is clipped. */
  clip<Kind extends Ask>(tenant: Tenant, ask: Kind): Kind {
    const { maxTokens } = tenant.limits;
    const { sampling, maxTokensField: param } = ask;
    if (maxTokens === null || sampling.maxTokens <= maxTokens) return ask;
    if (param === null) return { ...ask, sampling: { ...sampling, maxTokens } };
    throw this.#refused(
      tenant,
      'maxTokens',
      new AppError(
        'invalid_request',
        `${param}: Expected an integer from 1 to ${maxTokens} (the limit of tenant ${tenant.name}) but received ${sampling.maxTokens}`,
        { param },
      ),
    );
  }

  /**
   * Reserves what a request can take at most; `mostOf` counts it where anybody wants to know. Throws `rate_limit_exceeded`, `quota_unavailable`, and
   * `invalid_request` for what no minute has.
   */
  async reserve(exchange: Exchange, { maxTokensField }: Ask, mostOf: () => number): Promise<Charge> {
    const { tenant } = exchange;
    const limit = tenant.limits.tokensPerMinute;
    if (limit === null) return new Charge(tenant, this.#metrics, null);
    const most = mostOf();
    if (most > limit) {
      const param = maxTokensField ?? 'max_tokens';
      throw this.#refused(
        tenant,
        'tokensPerMinute',
        new AppError(
          'invalid_request',
          `${param}: Expected a request of at most ${limit} tokens (what tenant ${tenant.name} has in a minute) but received one that may take ${most}, prompts, images and all answers together`,
          { param },
        ),
      );
    }
    const reservation = await this.#quota.reserve(tenant.name, most, limit);
    tell(exchange, 'tokens', reservation);
    if (reservation.isGranted) return new Charge(tenant, this.#metrics, reservation);
    const retryAfterS = secondsOf(reservation);
    throw this.#refused(
      tenant,
      'tokensPerMinute',
      new AppError(
        'rate_limit_exceeded',
        `Expected at most ${limit} tokens a minute of tenant ${tenant.name}, of which ${reservation.remaining} are left, but received a request that may take ${most}: please retry in ${retryAfterS} s`,
        { retryAfterS },
      ),
    );
  }

  close(): void {
    this.#quota.close();
  }

  #tooLarge(tenant: Tenant, limit: number, received: string): AppError {
    return this.#refused(
      tenant,
      'imageBytes',
      new AppError(
        'payload_too_large',
        `image: Expected at most ${limit} bytes (the limit of tenant ${tenant.name}) but received ${received}`,
        { param: 'image' },
      ),
    );
  }

  #refused({ name }: Tenant, limit: keyof Limits, error: AppError): AppError {
    this.#metrics.quotaRefused(name, limit);
    return error;
  }
}

/** What one request takes of its tenant's tokens: what its answers used, whatever became of them. */
export class Charge {
  readonly #tenant: Tenant;
  readonly #metrics: Metrics;
  readonly #reservation: Reservation | null;
  #tokens = 0;

  constructor(tenant: Tenant, metrics: Metrics, reservation: Reservation | null) {
    this.#tenant = tenant;
    this.#metrics = metrics;
    this.#reservation = reservation;
  }

  add(used: Used): void {
    this.#tokens += used.imageTokens + used.promptTokens + used.completionTokens;
    if (this.#tenant.name !== '') this.#metrics.tenantTokens(this.#tenant.name, used);
  }

  /** Gives back what was reserved and not used. */
  settle(): void {
    void this.#reservation?.settle(this.#tokens);
  }
}

/** OpenAI's headers, which its clients and their users know. */
function tell(exchange: Exchange, kind: 'requests' | 'tokens', { limit, remaining, resetMs }: Level): void {
  exchange.set({
    [`x-ratelimit-limit-${kind}`]: String(limit),
    [`x-ratelimit-remaining-${kind}`]: String(remaining),
    [`x-ratelimit-reset-${kind}`]: durationOf(resetMs),
  });
}

/** As OpenAI writes it: 120ms, 1.5s, 1m0s. */
export function durationOf(milliseconds: number): string {
  const ms = Math.ceil(milliseconds);
  if (ms > 0 && ms < 1000) return `${ms}ms`;
  const minutes = Math.floor(ms / 60_000);
  return `${minutes > 0 ? `${minutes}m` : ''}${(ms % 60_000) / 1000}s`;
}

function secondsOf({ resetMs }: Level): number {
  return Math.max(1, Math.ceil(resetMs / 1000));
}
