/** What orchestrators ask: is it alive, may it get requests, and its metrics. */
import type { Request, Response } from 'express';
import type { Services } from './services.js';

const REPORT_TIMEOUT_MS = 500;

export function liveRoute(_req: Request, res: Response): void {
  res.json({ status: 'ok' });
}

export function readyRoute(services: Services) {
  return (_req: Request, res: Response): void => {
    const reason = unready(services);
    // Asked without a key: what tenants have is not for everybody to count.
    const adapters = services.tenants.isOpen ? { adapters: services.catalogue.size } : {};
    if (reason === null) res.json({ status: 'ready', backbone: services.backbone, ...adapters });
    else res.status(503).set('retry-after', '1').json({ status: 'not_ready', reason });
  };
}

export function metricsRoute(services: Services) {
  const { config, metrics, engine, admission, catalogue, sources, lifecycle } = services;
  return async (_req: Request, res: Response): Promise<void> => {
    const gauges = await engine.report(REPORT_TIMEOUT_MS);
    const front = {
      queueLength: admission.queueLength,
      adaptersRegistered: catalogue.size,
      maxBatch: config.maxBatch,
      disk: sources && { bytes: sources.bytes, maxBytes: sources.maxBytes },
      storeBytes: lifecycle?.store.bytes ?? 0,
    };
    res.type(metrics.contentType).send(await metrics.render(gauges, front));
  };
}

/** Why requests should go elsewhere for now; null where they are welcome. */
function unready({ engine, imagesReady, admission }: Services): string | null {
  if (admission.draining) return 'the server is shutting down';
  if (engine.state !== 'ready') return `the engine is ${engine.state}`;
  if (!imagesReady()) return 'no image process is ready';
  return null;
}
