/**
 * Who asks. Every route says who may come, and nothing of it runs before that is known. To a tenant, a route of the operator's is no route at all:
 * the same 404 as for a path that never was.
 */
import type { NextFunction, Request, RequestHandler, Response } from 'express';
import { isLoopback } from '../config.js';
import { AppError } from '../errors.js';
import type { Tenants } from '../tenants/tenants.js';
import { exchangeOf } from './exchange.js';

/** `open` to all, `tenant` with anybody's key, `admin` with an operator's. */
export type Access = 'open' | 'tenant' | 'admin';

/** Express middleware before everything else of a route. Throws `invalid_api_key` or `not_found`. */
export function authenticate(tenants: Tenants, access: Access): RequestHandler {
  return (req: Request, res: Response, next: NextFunction): void => {
    if (access === 'open') {
      next();
      return;
    }
    const tenant = tenants.authenticate(keyOf(req));
    exchangeOf(res).tenant = tenant;
    if (access === 'admin' && !tenant.isAdmin) throw unknownPath(req);
    next();
  };
}

/**
 * A server for its own machine alone answers to that machine's names alone. Any page that the user visits may have a name that leads here, and would
 * else be as good as this server's own page. Throws `foreign_host`.
 */
export function ownNamesOnly(req: Request, _res: Response, next: NextFunction): void {
  const host = req.hostname?.replace(/^\[|\]$/g, '') ?? '';
  if (!isLoopback(host))
    throw new AppError(
      'foreign_host',
      `Expected a request to this machine (127.0.0.1, localhost) but received one to ${host.slice(0, 200)}: a server that others may ask has --tenants, or --open`,
    );
  next();
}

export function unknownPath({ method, path }: Request): AppError {
  return new AppError('not_found', `Expected a path of this server but received ${method} ${path.slice(0, 200)}`);
}

/** As OpenAI's clients send it, or in the header that others use. */
function keyOf(req: Request): string | undefined {
  return /^Bearer +(\S+)$/i.exec(req.get('authorization') ?? '')?.[1] ?? req.get('x-api-key');
}
