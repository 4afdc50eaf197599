/**
 * Who asks. Every route says who may come, and nothing of it runs before that is known. To a tenant, a route of the operator's is no route at all:
 * the same 404 as for a path that never was.
 */
import type { NextFunction, Request, RequestHandler, Response } from 'express';
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

export function unknownPath({ method, path }: Request): AppError {
  return new AppError('not_found', `Expected a path of this server but received ${method} ${path.slice(0, 200)}`);
}

/** As OpenAI's clients send it, or in the header that others use. */
function keyOf(req: Request): string | undefined {
  return /^Bearer +(\S+)$/i.exec(req.get('authorization') ?? '')?.[1] ?? req.get('x-api-key');
}
