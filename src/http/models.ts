/** GET /v1/models (OpenAI's list: the backbone and what hangs on it) and GET /v1/adapters (what is known of each, and where it is). */
import type { Request, Response } from 'express';
import type { RegisteredAdapter } from '../adapter/registry.js';
import { AppError } from '../errors.js';
import type { ResidentAdapter } from '../serving/protocol.js';
import type { Services } from './services.js';

/** How long a reply waits for the engine's newest figures. */
const REPORT_TIMEOUT_MS = 500;
/** When this process started: the backbone has no date of its own. */
const STARTED_MS = Date.now();

export function modelsRoute({ backbone, adapters }: Services) {
  return (_req: Request, res: Response): void => {
    const data = [
      model(backbone, STARTED_MS, null),
      ...adapters.list().map(({ name, registeredAt }) => model(name, registeredAt, backbone)),
    ];
    res.json({ object: 'list', data });
  };
}

export function modelRoute({ backbone, adapters }: Services) {
  return (req: Request, res: Response): void => {
    const name = [req.params['name'] ?? []].flat().join('/');
    if (name === backbone) {
      res.json(model(backbone, STARTED_MS, null));
      return;
    }
    const adapter = adapters.get(name);
    if (!adapter)
      throw new AppError('adapter_not_found', `Expected the backbone (${backbone}) or an adapter but received ${name}`, {
        param: 'model',
      });
    res.json(model(name, adapter.registeredAt, backbone));
  };
}

export function adaptersRoute({ adapters, engine }: Services) {
  return async (_req: Request, res: Response): Promise<void> => {
    const { resident } = await engine.report(REPORT_TIMEOUT_MS);
    const byDigest = new Map(resident.map((adapter) => [adapter.digest, adapter]));
    res.json({ object: 'list', data: adapters.list().map((adapter) => describe(adapter, byDigest.get(adapter.ref.digest))) });
  };
}

function model(id: string, createdMs: number, parent: string | null): object {
  return { id, object: 'model', created: Math.floor(createdMs / 1000), owned_by: 'graft', root: id, parent };
}

function describe(
  { name, ref, bytes, summary, registeredAt, fault }: RegisteredAdapter,
  resident: ResidentAdapter | undefined,
): object {
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
    registered_at: Math.floor(registeredAt / 1000),
    resident: resident !== undefined,
    resident_bytes: resident?.bytes ?? 0,
    leases: resident?.leases ?? 0,
    pinned: resident?.pinned ?? false,
    modules: resident ? { matched: resident.matched, targeted: resident.targeted } : null,
    fault: fault ?? null,
  };
}
