/**
 * Every route with what it is asked: calls that it answers, and one for each error that it lists. A new route needs an entry; the tests name what
 * is missing.
 */
import type { ErrorCode } from '../../../src/errors.js';
import { routes } from '../../../src/http/app.js';
import { type Described, templateOf } from './contract.js';
import { PUBLISHED_CALLS } from './published.js';
import { partsOf, type Stage, TENANT_KEY } from './stage.js';
import { TEXT_CALLS } from './text.js';
import { TUNING_CALLS } from './tuning.js';

export interface Ask {
  readonly url: string;
  /** JSON where it is neither a form nor bytes. */
  readonly body?: object | FormData | Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
}

export type Call = (stage: Stage) => Ask | Promise<Ask>;

export type Refusals = Readonly<Partial<Record<ErrorCode, Call>>>;

export interface Calls {
  /** Each is answered as described, and all that is described comes. */
  readonly replies: readonly Call[];
  /** How each error comes that does not come alike everywhere. */
  readonly refusals?: Refusals;
}

const TABLE = routes(partsOf({}));

const get =
  (route: string, server: Parameters<Stage['at']>[0] = 'main'): Call =>
  (stage) => ({ url: stage.at(server, route) });

/** A file, once whole and once from the browser's cache. */
const file = (route: string): Calls => ({
  replies: [
    get(route),
    async (stage) => {
      const url = stage.at('main', route);
      const etag = (await fetch(url)).headers.get('etag') ?? '';
      return { url, headers: { 'if-none-match': etag, 'cache-control': 'max-age=0' } };
    },
  ],
});

const pages = TABLE.filter(({ about }) => about.tag === 'page');

export const CALLS: Readonly<Record<string, Calls>> = {
  ...TEXT_CALLS,
  ...PUBLISHED_CALLS,
  ...TUNING_CALLS,
  'GET /v1/models': { replies: [get('/v1/models')] },
  'GET /v1/models/{name}': {
    replies: [get('/v1/models/tiny'), get('/v1/models/english')],
    refusals: { adapter_not_found: get('/v1/models/no/body'), invalid_request: get('/v1/models/%zz') },
  },
  'GET /v1/adapters': { replies: [get('/v1/adapters')] },
  'GET /health/live': { replies: [get('/health/live')] },
  'GET /health/ready': { replies: [get('/health/ready'), get('/health/ready', 'loading')] },
  'GET /metrics': { replies: [get('/metrics')] },
  'GET /openapi.json': file('/openapi.json'),
  ...Object.fromEntries(pages.map(({ path }) => [`GET ${path}`, file(path)])),
};

/** Errors that come alike wherever they are listed. */
const ALIKE: Readonly<Partial<Record<ErrorCode, (route: string) => Call>>> = {
  invalid_api_key: (route) => get(route, 'locked'),
  queue_full: (route) => get(route, 'full'),
  engine_unavailable: (route) => get(route, 'loading'),
  shutting_down: (route) => get(route, 'stopping'),
  quota_unavailable: (route) => get(route, 'uncounted'),
  rate_limit_exceeded: (route) => async (stage) => {
    await fetch(stage.at('limited', '/v1/models'));
    return get(route, 'limited')(stage);
  },
};

/** Errors that no test can provoke, and why. */
export const UNPROVOKED: readonly { readonly code: ErrorCode; readonly where?: RegExp; readonly reason: string }[] = [
  { code: 'internal', where: /^GET \/($|health|openapi|docs|playground)/, reason: 'there is nothing in it that could fail' },
  { code: 'not_found', where: /^GET \/($|playground)/, reason: 'only a tree without a build has no playground' },
  { code: 'images_unavailable', reason: 'the process would have to die at the right moment (crashes.test.ts tries)' },
  { code: 'adapter_changed', reason: 'the files would have to change twice, each time between a look and the next' },
  { code: 'disk_full', reason: 'the disk would have to be full' },
  { code: 'adapter_too_large', where: /fine_tuning/, reason: 'a source would have to offer more than any test has' },
  { code: 'deadline_exceeded', where: /fine_tuning/, reason: 'the time of a source is up before that of its request' },
];

/** The errors that a route lists, but for those that cannot be provoked, each with how it comes; undefined where nobody knows. */
export function provocations({ key, path, method, codes }: Described): [ErrorCode, Call | undefined][] {
  const filled = path.replace(/\{\w+\}/g, 'x');
  const access = TABLE.find((route) => templateOf(route.path) === path && route.method.toUpperCase() === method)?.access;
  const byAccess: Refusals = {
    ...(access !== 'open' && { internal: get(filled, 'broken') }),
    ...(access === 'admin' && {
      not_found: (stage: Stage) => ({ url: stage.at('locked', filled), headers: { 'x-api-key': TENANT_KEY } }),
    }),
  };
  return codes
    .filter((code) => !UNPROVOKED.some((known) => known.code === code && (known.where?.test(key) ?? true)))
    .map((code) => [code, CALLS[key]?.refusals?.[code] ?? byAccess[code] ?? ALIKE[code]?.(filled)]);
}
