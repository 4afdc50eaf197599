/**
 * A route as data: its path, who may come, what runs, and what the API's description says of it. One table of them is the whole surface of the
 * server: what is served and what is described cannot differ.
 */
import type { Express, RequestHandler } from 'express';
import type { z } from 'zod';
import { AppError, type ErrorCode } from '../errors.js';
import type { Tenants } from '../tenants/tenants.js';
import { type Access, authenticate } from './auth.js';
import { exchangeOf } from './exchange.js';
import type { Fields } from './schema.js';

export interface Route {
  readonly method: 'get' | 'post' | 'put' | 'delete';
  /** As express writes it: `/v1/models/*name`. */
  readonly path: string;
  readonly access: Access;
  readonly handlers: readonly RequestHandler[];
  readonly about: About;
}

export type Tag = 'captions' | 'openai' | 'adapters' | 'fine-tuning' | 'operations' | 'page';

/** What the description of the API says of a route, besides what the table knows itself. */
export interface About {
  readonly tag: Tag;
  readonly summary: string;
  /** What a reader has to know besides, in Markdown. */
  readonly description?: string;
  /** What stands for the names in the path. */
  readonly parameters?: Readonly<Record<string, string>>;
  /** Fields after the question mark. */
  readonly query?: Fields;
  /** Several where several types of body are read. */
  readonly body?: AboutBody | readonly AboutBody[];
  /** Several where what is answered depends on the request. */
  readonly reply: AboutReply | readonly AboutReply[];
  /** An event of the stream that is answered where `stream` is true. */
  readonly events?: z.ZodType;
  /**
   * What this route can fail with, besides what every route can that asks for a key: `invalid_api_key`, a tenant's also `rate_limit_exceeded` and
   * `quota_unavailable`; and every route: `internal`. Other methods of its path are no failures of its own.
   */
  readonly errors: readonly ErrorCode[];
}

/** The fields of a JSON body (and of a form where `form` is set), or a schema of one's own. */
export type AboutBody =
  | {
      readonly fields: Fields;
      readonly form?: true;
      /** Fields that must be there although their schemas do without, for code sees to it. */
      readonly required?: readonly string[];
      readonly example?: object;
    }
  | { readonly schema: z.ZodType; readonly type: string };

/** Status 200 and JSON unless said otherwise; nothing at all without a schema. */
export interface AboutReply {
  readonly status?: number;
  readonly type?: string;
  readonly schema?: z.ZodType;
}

/**
 * Mounts a table. Paths are tried in its order; a method that a path does not have is refused with those that it has. `arrive` runs once it is known
 * which tenant asks.
 */
export function mount(app: Express, tenants: Tenants, arrive: RequestHandler, routes: readonly Route[]): void {
  for (const path of new Set(routes.map((route) => route.path))) {
    const own = routes.filter((route) => route.path === path);
    const allowed = own.flatMap(({ method }) => (method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()]));
    // A colon that is only one is written with a backslash for express.
    const shown = path.replaceAll('\\', '');
    app.all(path, (req, res, next) => {
      exchangeOf(res).route = shown;
      if (allowed.includes(req.method)) return next();
      res.set('allow', allowed.join(', '));
      throw new AppError('method_not_allowed', `Expected ${allowed.join(' or ')} for ${shown} but received ${req.method}`);
    });
    for (const { method, access, handlers } of own) {
      const counted = access === 'tenant' ? [arrive] : [];
      app[method](path, authenticate(tenants, access), ...counted, ...handlers);
    }
  }
}
