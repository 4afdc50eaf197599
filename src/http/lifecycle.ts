/**
 * The life of an adapter over HTTP: published, looked at, served by a version of one's choice, taken back, deleted. Tenants do this with what is
 * theirs (`TENANT/...`), operators with everything; what is not theirs is answered as what was never there.
 */
import type { Request, RequestHandler, Response } from 'express';
import { z } from 'zod';
import { AppError } from '../errors.js';
import type { Entry, Share } from '../store/entry.js';
import { isName, NAME_FORM, parseReference } from '../store/reference.js';
import type { AdapterStore, Published } from '../store/store.js';
import { unknownAdapter } from './catalogue.js';
import { exchangeOf } from './exchange.js';
import { adapterRoute } from './models.js';
import { bodyOf, jsonBody } from './multipart.js';
import { preload } from './residency.js';
import type { About, Route } from './route.js';
import { check, type Fields, type Values } from './schema.js';
import type { Lifecycle, Services } from './services.js';
import { nameIn, seconds, stateOf } from './state.js';
import { checkUpload, linger, receive } from './upload.js';
import { adapterAbout, deleteAbout, preloadAbout, uploadAbout, verbAbout } from './versions.js';

const MAX_SHARES = 16;
/** Part of the memory for adapters that pinned ones may take: the others need room to come and go. */
const PINNED_PART = 0.5;
/** Float16 on the disk is float32 in memory. */
const MEMORY_PER_BYTE = 2;

const number = z.int().min(1).max(999_999_999);
const version = { schema: number.nullish(), expected: 'the number of a version', form: 'text' as const };
const splitFields = {
  versions: {
    schema: z
      .record(z.string().regex(/^[1-9]\d{0,8}$/), z.int().min(0).max(100))
      .refine((shares) => Object.keys(shares).length <= MAX_SHARES)
      .refine((shares) => [0, 100].includes(Object.values(shares).reduce((sum, percent) => sum + percent, 0)))
      .nullish(),
    expected: `an object of at most ${MAX_SHARES} versions with whole percents that are 100 in sum, such as {"3": 90, "4": 10}`,
    form: 'text' as const,
  },
} satisfies Fields;
const versionFields = { version } satisfies Fields;

/** What happens to a name of the store; resolves to what is answered. */
type Verb = (lifecycle: Lifecycle, name: string, body: unknown) => Promise<Entry | undefined>;

export function lifecycleRoutes(services: Services): Route[] {
  const verb = (word: string, summary: string, fields: Fields | null, act: Verb): Route => ({
    method: 'post',
    path: `/v1/adapters/*name\\:${word}`,
    access: 'tenant',
    handlers: [...(fields ? optionalJson() : []), verbRoute(services, word, fields, act)],
    about: verbAbout(summary, fields),
  });
  const of = (method: Route['method'], about: About, handler: RequestHandler): Route => ({
    method,
    path: '/v1/adapters/*name',
    access: 'tenant',
    handlers: [handler],
    about,
  });
  return [
    verb(
      'rollback',
      'Back to the version that was current before, or to one of your choice',
      versionFields,
      ({ store }, name, body) => store.rollback(name, versionIn(body)),
    ),
    verb('split', 'Divide the requests of a name among its versions; {} ends it', splitFields, ({ store }, name, body) =>
      store.split(name, sharesIn(body)),
    ),
    verb('shadow', 'Run another version behind the one that answers; {} ends it', versionFields, ({ store }, name, body) =>
      store.shadow(name, versionIn(body) ?? null),
    ),
    verb('promote', 'Make the shadow current', null, ({ store }, name) => store.promote(name)),
    verb('pin', 'Keep what serves in memory', null, ({ store }, name) => {
      checkRoom(services, store, name);
      return store.pin(name, true);
    }),
    verb('unpin', 'Let it come and go as others do', null, ({ store }, name) => store.pin(name, false)),
    {
      method: 'post',
      path: '/v1/adapters/*name\\:preload',
      access: 'tenant',
      handlers: [preloadRoute(services)],
      about: preloadAbout,
    },
    of('get', adapterAbout, adapterRoute(services)),
    of('put', uploadAbout, uploadRoute(services)),
    of('delete', deleteAbout, deleteRoute(services)),
  ];
}

/** Throws `not_found` on a server without one. */
export function lifecycleOf({ lifecycle }: Services): Lifecycle {
  if (!lifecycle)
    throw new AppError('not_found', 'Expected a server with a store (--store) but this one only serves what is there');
  return lifecycle;
}

/** Throws `conflict` where the name means something else already, whatever is published under it. */
export function checkFree({ backbone, catalogue }: Services, name: string): void {
  if (name === backbone) throw new AppError('conflict', `Expected another name than the backbone's but received ${name}`);
  if (catalogue.isConfigured(name))
    throw new AppError('conflict', `Expected a name that the server is not configured with but ${name} comes from elsewhere`);
}

function uploadRoute(services: Services): RequestHandler {
  return async (req: Request, res: Response): Promise<void> => {
    try {
      const { publisher } = lifecycleOf(services);
      const name = ownName(req, res);
      if (services.admission.draining)
        throw new AppError('shutting_down', 'The server is shutting down: please publish this later');
      if (!isName(name))
        throw new AppError('invalid_request', `Expected ${NAME_FORM} but received ${JSON.stringify(name.slice(0, 200))}`);
      checkFree(services, name);
      const isCurrent = flag(req, 'current');
      checkUpload(req, services.config.maxAdapterBytes);
      const publication = { name, by: exchangeOf(res).tenant.name, isCurrent };
      const published = await publisher.publish(publication, (intake) => receive(req, res, intake));
      note(services, res, name, 'publish', { version: published.version.version, digest: published.version.digest });
      res.status(published.isNew ? 201 : 200).json(publishedBody(name, published));
    } catch (error) {
      linger(req);
      throw error;
    }
  };
}

function deleteRoute(services: Services): RequestHandler {
  return async (req: Request, res: Response): Promise<void> => {
    const { store } = lifecycleOf(services);
    const reference = nameIn(req);
    const { name, version: at, digest } = parseReference(reference);
    if (!exchangeOf(res).tenant.owns(name)) throw unknownAdapter(reference);
    const entry = store.get(name);
    const known = digest === undefined ? at : (entry?.versions.find((one) => one.digest === digest)?.version ?? 0);
    const isDone = known === undefined ? await store.delete(name) : (await store.deleteVersion(name, known)) !== undefined;
    if (!isDone) throw absent(services, res, name, reference);
    note(services, res, name, 'delete', { version: known });
    res.json({ name: reference, object: 'adapter.deleted', deleted: true });
  };
}

function verbRoute(services: Services, word: string, fields: Fields | null, act: Verb): RequestHandler {
  return async (req: Request, res: Response): Promise<void> => {
    const lifecycle = lifecycleOf(services);
    const name = ownName(req, res);
    const body = fields ? check(fields, bodyOf(req).value, false) : {};
    const entry = await act(lifecycle, name, body);
    if (entry === undefined) throw absent(services, res, name, name);
    const { current, split, shadow, pinned } = entry;
    note(services, res, name, word, { current, split, shadow, pinned });
    res.json({ name, object: 'adapter', ...stateOf(entry) });
  };
}

function preloadRoute(services: Services): RequestHandler {
  return async (req: Request, res: Response): Promise<void> => {
    lifecycleOf(services);
    const reference = nameIn(req);
    if (!exchangeOf(res).tenant.owns(parseReference(reference).name)) throw unknownAdapter(reference);
    const resident = await preload(services, exchangeOf(res), reference);
    res.json({ name: reference, object: 'adapter.residency', resident });
  };
}

/** Throws `adapter_not_found` for what is not the tenant's, as for what is not there. */
function ownName(req: Request, res: Response): string {
  const name = nameIn(req);
  if (!exchangeOf(res).tenant.owns(name)) throw unknownAdapter(name);
  return name;
}

/** What an owner is told of a name that the store does not have. */
function absent({ catalogue }: Services, res: Response, name: string, reference: string): AppError {
  if (catalogue.list(exchangeOf(res).tenant).every((listed) => listed.name !== name)) return unknownAdapter(reference);
  return new AppError(
    'conflict',
    `Expected an adapter that was published to this server but ${name} lies elsewhere, and is changed there`,
  );
}

/** Throws `conflict` where what is pinned would leave the others too little. */
function checkRoom({ config }: Services, store: AdapterStore, name: string): void {
  const current = store.list().filter((adapter) => adapter.name === name);
  const bytes = new Map([...store.pinned(), ...current].map((adapter) => [adapter.ref.digest, adapter.bytes]));
  const needed = MEMORY_PER_BYTE * [...bytes.values()].reduce((sum, one) => sum + one, 0);
  const most = Math.floor(PINNED_PART * config.adapterCacheBytes);
  if (needed > most)
    throw new AppError(
      'conflict',
      `Expected pinned adapters to take at most ${most} bytes of memory but with ${name} they may take ${needed}`,
    );
}

/** Of what `check` has seen. */
function sharesIn(body: unknown): Share[] {
  const { versions } = body as Values<typeof splitFields>;
  return Object.entries(versions ?? {}).map(([at, percent]) => ({ version: Number(at), percent }));
}

function versionIn(body: unknown): number | undefined {
  return (body as Values<typeof versionFields>).version ?? undefined;
}

function publishedBody(name: string, { version: { version: at, digest, bytes, createdMs } }: Published): object {
  return { name, object: 'adapter.version', version: at, digest, bytes, created_at: seconds(createdMs) };
}

/** A query's yes or no; yes where nothing is said. Throws `invalid_request`. */
function flag(req: Request, key: string): boolean {
  const value = req.query[key] ?? 'true';
  if (value === 'true' || value === 'false') return value === 'true';
  throw new AppError('invalid_request', `${key}: Expected true or false but received ${JSON.stringify(value).slice(0, 80)}`, {
    param: key,
  });
}

/** JSON, or no body at all. */
function optionalJson(): RequestHandler[] {
  return jsonBody().map((handler): RequestHandler => {
    return (req, res, next) => {
      const isEmpty = req.get('transfer-encoding') === undefined && Number(req.get('content-length') ?? 0) === 0;
      return isEmpty ? next() : handler(req, res, next);
    };
  });
}

/** Who changed what: the request's own line does not have its path. */
export function note({ log }: Services, res: Response, name: string, action: string, after: object): void {
  const { id, tenantName } = exchangeOf(res);
  log.info({ id, ...(tenantName ? { tenant: tenantName } : {}), adapter: name, action, ...after }, 'adapter changed');
}
