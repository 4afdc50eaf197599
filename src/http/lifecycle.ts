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
import type { Route } from './route.js';
import { check, type Fields, type Values } from './schema.js';
import type { Lifecycle, Services } from './services.js';
import { nameIn, seconds, stateOf } from './state.js';
import { checkUpload, linger, receive } from './upload.js';

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
const noFields: Fields = {};

const publishedSchema = z.object({
  name: z.string(),
  object: z.literal('adapter.version'),
  version: z.int(),
  digest: z.string(),
  bytes: z.int(),
  created_at: z.int(),
});
const deletedSchema = z.object({ name: z.string(), object: z.literal('adapter.deleted'), deleted: z.literal(true) });
const stateSchema = z.object({
  name: z.string(),
  object: z.literal('adapter'),
  versions: z.array(z.object({ version: z.int(), digest: z.string(), bytes: z.int(), created_at: z.int() })),
  current: z.int(),
  split: z.record(z.string(), z.int()).nullable(),
  shadow: z.int().nullable(),
  pinned: z.boolean(),
});
const residencySchema = z.object({ name: z.string(), object: z.literal('adapter.residency'), resident: z.boolean() });

/** What happens to a name of the store; resolves to what is answered. */
type Verb = (lifecycle: Lifecycle, name: string, body: unknown) => Promise<Entry | undefined>;

export function lifecycleRoutes(services: Services): Route[] {
  const verb = (word: string, summary: string, fields: Fields, act: Verb): Route => ({
    method: 'post',
    path: `/v1/adapters/*name\\:${word}`,
    access: 'tenant',
    handlers: [...optionalJson(), verbRoute(services, word, fields, act)],
    about: {
      tag: 'adapters',
      summary,
      ...(fields === noFields ? {} : { body: { fields } }),
      reply: { schema: stateSchema },
      errors: ['adapter_not_found', 'not_found', 'conflict', 'invalid_request', 'unknown_field'],
    },
  });
  return [
    verb(
      'rollback',
      'Back to the version that was current before, or to one of your choice',
      versionFields,
      ({ store }, name, body) =>
        store.rollback(name, (check(versionFields, body, false) as Values<typeof versionFields>).version ?? undefined),
    ),
    verb('split', 'Divide the requests of a name among its versions; {} ends it', splitFields, ({ store }, name, body) =>
      store.split(name, sharesOf(body)),
    ),
    verb(
      'shadow',
      'Run another version behind the one that answers, and log both; {} ends it',
      versionFields,
      ({ store }, name, body) =>
        store.shadow(name, (check(versionFields, body, false) as Values<typeof versionFields>).version ?? null),
    ),
    verb('promote', 'Make the shadow current', noFields, ({ store }, name) => store.promote(name)),
    verb('pin', 'Keep what serves in memory', noFields, ({ store }, name) => {
      checkRoom(services, store, name);
      return store.pin(name, true);
    }),
    verb('unpin', 'Let it come and go as others', noFields, ({ store }, name) => store.pin(name, false)),
    {
      method: 'post',
      path: '/v1/adapters/*name\\:preload',
      access: 'tenant',
      handlers: [preloadRoute(services)],
      about: {
        tag: 'adapters',
        summary: 'Bring it into memory before the first request does',
        reply: { schema: residencySchema },
        errors: ['adapter_not_found', 'not_found', 'adapter_invalid', 'source_unavailable', 'source_timeout', 'download_failed'],
      },
    },
    {
      method: 'get',
      path: '/v1/adapters/*name',
      access: 'tenant',
      handlers: [adapterRoute(services)],
      about: {
        tag: 'adapters',
        summary: 'One adapter, with its versions where it was published to this server',
        reply: { schema: stateSchema.partial() },
        errors: ['adapter_not_found'],
      },
    },
    {
      method: 'put',
      path: '/v1/adapters/*name',
      access: 'tenant',
      handlers: [uploadRoute(services)],
      about: {
        tag: 'adapters',
        summary: 'Publish a version: a tar (application/x-tar), or a form whose fields are named as the files are',
        body: { schema: z.string(), type: 'application/x-tar' },
        reply: { status: 201, schema: publishedSchema },
        errors: [
          'adapter_not_found',
          'not_found',
          'adapter_invalid',
          'adapter_too_large',
          'payload_too_large',
          'unsupported_media_type',
          'invalid_request',
          'conflict',
          'queue_full',
          'engine_unavailable',
          'shutting_down',
          'disk_full',
        ],
      },
    },
    {
      method: 'delete',
      path: '/v1/adapters/*name',
      access: 'tenant',
      handlers: [deleteRoute(services)],
      about: {
        tag: 'adapters',
        summary: 'Delete a version that is not in use (NAME@3), or all of a name',
        reply: { schema: deletedSchema },
        errors: ['adapter_not_found', 'not_found', 'conflict'],
      },
    },
  ];
}

/** Throws `not_found` on a server without one. */
export function lifecycleOf({ lifecycle }: Services): Lifecycle {
  if (lifecycle === null)
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

function verbRoute(services: Services, word: string, fields: Fields, act: Verb): RequestHandler {
  return async (req: Request, res: Response): Promise<void> => {
    const lifecycle = lifecycleOf(services);
    const name = ownName(req, res);
    const body = bodyOf(req).value;
    check(fields, body, false);
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

function sharesOf(body: unknown): Share[] {
  const { versions } = check(splitFields, body, false) as Values<typeof splitFields>;
  return Object.entries(versions ?? {}).map(([at, percent]) => ({ version: Number(at), percent }));
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
