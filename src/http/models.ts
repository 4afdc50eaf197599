/** GET /v1/models (OpenAI's list: the backbone and what hangs on it) and GET /v1/adapters (what is known of each, and where it is). */
import type { Request, Response } from 'express';
import type { RegisteredAdapter } from '../adapter/registry.js';
import { AppError } from '../errors.js';
import type { ResidentAdapter } from '../serving/protocol.js';
import type { Tenant } from '../tenants/tenant.js';
import { isStored, type Listed, unknownAdapter } from './catalogue.js';
import { exchangeOf } from './exchange.js';
import type { Services } from './services.js';
import { nameIn, stateOf } from './state.js';

/** How long a reply waits for the engine's newest figures. */
const REPORT_TIMEOUT_MS = 500;
/** When this process started: the backbone has no date of its own. */
const STARTED_MS = Date.now();

export function modelsRoute(services: Services) {
  const { backbone, catalogue } = services;
  return (_req: Request, res: Response): void => {
    const data = [
      model(backbone, STARTED_MS, null),
      ...catalogue.list(exchangeOf(res).tenant).map((adapter) => model(adapter.name, createdMs(adapter), backbone)),
    ];
    res.json({ object: 'list', data });
  };
}

export function modelRoute(services: Services) {
  const { backbone, catalogue } = services;
  return (req: Request, res: Response): void => {
    const name = nameIn(req);
    if (name === backbone) {
      res.json(model(backbone, STARTED_MS, null));
      return;
    }
    const adapter = catalogue.list(exchangeOf(res).tenant).find((listed) => listed.name === name);
    if (!adapter)
      throw new AppError('adapter_not_found', `Expected the backbone (${backbone}) or an adapter but received ${name}`, {
        param: 'model',
      });
    res.json(model(name, createdMs(adapter), backbone));
  };
}

export function adaptersRoute(services: Services) {
  return async (_req: Request, res: Response): Promise<void> => {
    const { resident } = await services.engine.report(REPORT_TIMEOUT_MS);
    const byDigest = new Map(resident.map((adapter) => [adapter.digest, adapter]));
    const { tenant } = exchangeOf(res);
    const data = services.catalogue.list(tenant).map((listed) => {
      const adapter = thereOf(listed);
      const whole = adapter ? describe(adapter, byDigest.get(adapter.ref.digest)) : describeAbsent(listed);
      return { ...whole, ...withheld(tenant) };
    });
    res.json({ object: 'list', data });
  };
}

/** One of them, with its versions where it was published to this server. */
export function adapterRoute(services: Services) {
  return async (req: Request, res: Response): Promise<void> => {
    const name = nameIn(req);
    const { tenant } = exchangeOf(res);
    const listed = services.catalogue.list(tenant).find((one) => one.name === name);
    if (!listed) throw unknownAdapter(name);
    const { resident } = await services.engine.report(REPORT_TIMEOUT_MS);
    const adapter = thereOf(listed);
    const known = adapter && resident.find(({ digest }) => digest === adapter.ref.digest);
    const entry = adapter && isStored(adapter) ? services.lifecycle?.store.get(name) : undefined;
    const body = adapter ? describe(adapter, known) : describeAbsent(listed);
    const state = entry ? stateOf(entry) : { versions: [], current: null, split: null, shadow: null };
    res.json({ ...body, ...state, ...withheld(tenant) });
  };
}

/** A listed adapter as far as it is there. */
function thereOf(listed: Listed): RegisteredAdapter | undefined {
  return 'ref' in listed ? listed : listed.adapter;
}

/** What is still to be fetched has no date either. */
function createdMs(listed: Listed): number {
  return thereOf(listed)?.registeredAt ?? STARTED_MS;
}

function model(id: string, createdMs: number, parent: string | null): object {
  return { id, object: 'model', created: Math.floor(createdMs / 1000), owned_by: 'graft', root: id, parent };
}

/** Where operators keep an adapter, and how many of all tenants' requests use it, is the operators' to know. */
function withheld({ isAdmin }: Tenant): object {
  return isAdmin ? {} : { source: null, leases: null };
}

function describe(adapter: RegisteredAdapter, resident: ResidentAdapter | undefined): object {
  const { name, ref, bytes, summary, registeredAt, source, fault } = adapter;
  const { method, contexts, task, prompt, rank, format } = summary;
  return {
    name,
    object: 'adapter',
    digest: ref.digest,
    format,
    method,
    contexts,
    task: task ?? null,
    prompt,
    rank: rank ?? null,
    bytes,
    source: source ?? null,
    version: isStored(adapter) ? adapter.version : null,
    versions: isStored(adapter) ? adapter.versions : null,
    registered_at: Math.floor(registeredAt / 1000),
    resident: resident !== undefined,
    resident_bytes: resident?.bytes ?? 0,
    leases: resident?.leases ?? 0,
    pinned: resident?.pinned ?? false,
    modules: resident ? { matched: resident.matched, targeted: resident.targeted } : null,
    fault: fault ?? null,
  };
}

/** Of what has not come yet, only its name and its place are known. */
function describeAbsent({ name, source, fault }: Listed): object {
  return {
    name,
    object: 'adapter',
    digest: null,
    format: null,
    method: null,
    contexts: [],
    task: null,
    prompt: null,
    rank: null,
    bytes: 0,
    source,
    version: null,
    versions: null,
    registered_at: null,
    resident: false,
    resident_bytes: 0,
    leases: 0,
    pinned: false,
    modules: null,
    fault: fault ?? null,
  };
}
