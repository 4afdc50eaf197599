/** What belongs to one request and its reply, from first byte to last: its id, its clock, its end, and what the log will say. */
import { randomUUID } from 'node:crypto';
import type { NextFunction, Request, Response } from 'express';
import { AppError } from '../errors.js';
import type { Party } from '../fairness/turns.js';
import type { Tenant } from '../tenants/tenant.js';
import type { Part, Stage } from '../tracing.js';

const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;
const exchanges = new WeakMap<Response, Exchange>();

export class Exchange {
  readonly #res: Response;
  readonly id: string;
  readonly startMs = performance.now();
  /** What the client wants its requests to be told apart by. */
  readonly stickyKey: string | undefined;
  /** Aborted where the client goes away before the reply is complete. */
  readonly signal: AbortSignal;
  /** The route's template; stays `unknown` where no route matched. */
  route = 'unknown';
  #tenant: Tenant | undefined;
  /** What the request failed with, if it did. */
  error: AppError | undefined;
  /** Digests of the adapters that it asked for. */
  readonly adapters: string[] = [];
  /** Of those that are blends: what is mixed. */
  readonly blends: object[] = [];
  /** Where its time went, as far as this process spent it ... */
  readonly stages: Stage[] = [];
  /** ... and as the engine did: one for each adapter that answered. */
  readonly parts: Part[] = [];
  /** Called once the request waits nowhere in the front end any more. */
  arrived: () => void = () => {};

  constructor(req: Request, res: Response) {
    this.#res = res;
    const given = req.get('x-request-id');
    this.id = given !== undefined && REQUEST_ID.test(given) ? given : randomUUID();
    this.stickyKey = req.get('x-graft-sticky-key') || undefined;
    const controller = new AbortController();
    this.signal = controller.signal;
    res.once('close', () => {
      if (!res.writableFinished)
        controller.abort(new AppError('cancelled', 'The client went away before the reply was complete'));
    });
  }

  /** Whose request it is. Throws TypeError on a route that asks nobody for a key. */
  get tenant(): Tenant {
    if (!this.#tenant) throw new TypeError('Expected a route that authenticates');
    return this.#tenant;
  }

  set tenant(tenant: Tenant) {
    this.#tenant = tenant;
  }

  /** For the log; undefined before anybody was asked. */
  get tenantName(): string | undefined {
    return this.#tenant?.name;
  }

  /** Notes what has just ended. */
  spent(name: Stage['name'], ms: number): void {
    const endMs = performance.now();
    if (ms > 0) this.stages.push({ name, startMs: endMs - ms, endMs });
  }

  /** Sets headers of the reply, as long as it has not begun. */
  set(headers: Readonly<Record<string, string>>): void {
    if (!this.#res.headersSent) this.#res.set(headers);
  }

  get elapsedMs(): number {
    return performance.now() - this.startMs;
  }
}

/** What the parts that share something among tenants need to know of one. */
export function partyOf({ name, weight }: Tenant): Party {
  return { tenant: name, weight };
}

/** Express middleware, first of all: every reply has an x-request-id, the client's own where it is well-formed. */
export function openExchange(req: Request, res: Response, next: NextFunction): void {
  const exchange = new Exchange(req, res);
  exchanges.set(res, exchange);
  res.set('x-request-id', exchange.id);
  next();
}

/** Throws TypeError where `openExchange` did not run. */
export function exchangeOf(res: Response): Exchange {
  const exchange = exchanges.get(res);
  if (!exchange) throw new TypeError('openExchange must run before anything else');
  return exchange;
}
