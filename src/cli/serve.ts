/** `graft serve`: puts the parts together, says when it is ready, and stops without dropping requests. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { type Logger, pino } from 'pino';
import { AdapterRegistry } from '../adapter/registry.js';
import { readBackbone } from '../backbone/manifest.js';
import { ChatTemplate } from '../backbone/template.js';
import { Tokenizer } from '../backbone/tokenizer.js';
import { readProcessor } from '../backbone/vision/processor.js';
import { type Config, isShipped } from '../config.js';
import { AppError } from '../errors.js';
import { Admission } from '../http/admission.js';
import { createApp } from '../http/app.js';
import { type AdapterDirectory, Catalogue } from '../http/catalogue.js';
import { HttpServer } from '../http/server.js';
import { ImageClient } from '../images/client.js';
import { RemoteImages } from '../images/remote.js';
import { Metrics } from '../metrics.js';
import { startEngine } from '../serving/client.js';
import type { SourceLibrary } from '../sources/library.js';
import { openSources } from '../sources/open.js';
import { OPEN, type Tenants } from '../tenants/tenants.js';
import { openTracing } from '../tracing.js';
import { checkFinetuning, createFinetuning } from './finetuning.js';
import { openQuotas } from './quotas.js';
import { openStore, startLifecycle } from './store.js';
import { type Access, openAccess } from './tenants.js';

/** Time for one image in its process; far above what a legal image takes. */
const IMAGE_TIMEOUT_MS = 10_000;
/** After the drain: for the replies that say that it is over. */
const FAREWELL_MS = 1_000;

export interface RunningServer {
  readonly url: string;
  /** Resolves when requests are welcome; rejects, after closing everything, where the backbone cannot be served. */
  readonly ready: Promise<{ readonly backbone: string; readonly adapters: number }>;
  readonly access: Pick<Access, 'words' | 'reload'>;
  /** Process ids of the engine, the image processes and those that train, for operators and tests. */
  readonly pids: {
    readonly engine: number | undefined;
    readonly images: readonly number[];
    readonly trainers: readonly number[];
  };
  /** Refuses new requests, finishes outstanding ones within `drainMs`, ends all processes. */
  close(): Promise<void>;
}

export interface ServerOptions {
  /** Whom it serves, where the configuration does not say it. */
  readonly tenants?: Tenants;
}

/**
 * Starts a server. It listens at once, and is ready later: see `ready`. The environment says how adapters from elsewhere are read. Throws
 * AppError for what cannot even begin.
 */
export async function startServer(
  config: Config,
  env: Readonly<Record<string, string | undefined>> = process.env,
  { tenants = OPEN }: ServerOptions = {},
): Promise<RunningServer> {
  const backbone = await readBackbone(config.backbone);
  const tokenizer = await Tokenizer.open(backbone.languageFolder);
  const processor = backbone.visionFolder === null ? null : await readProcessor(backbone.visionFolder);
  const log = pino({ level: config.logLevel, base: null });
  const template = await openTemplate(backbone.languageFolder, log);
  const metrics = new Metrics();
  const access = await openAccess(config, tenants, metrics, log);
  const tracing = await openTracing(config.traces, env, (reason) => log.warn(reason));
  const sources = await observeSources(config, env, metrics, log);
  const registry = await openAdapters(config.adapters);
  const store = await openStore(config);
  const catalogue = new Catalogue(registry ?? NO_ADAPTERS, sources, store);
  checkFinetuning(config, store, registry);

  const { maxBatch, contextLength, threads, weights, weightsCache, adapterCacheBytes, visionCacheBytes, prefillTokens } = config;
  const engine = startEngine({
    backbone: config.backbone,
    maxBatch,
    contextLength,
    threads,
    weights,
    weightsCache,
    adapterCacheBytes,
    visionCacheBytes,
    prefillTokens,
  });
  engine.whenReady.catch(() => undefined); // Awaited below; it may fail before that.
  engine.onCounts((counts) => metrics.counts(counts));
  engine.onLoaded(({ name: adapter, digest, method, matched, targeted, bytes, loadMs }) => {
    log.info({ adapter, digest, method, bytes, ms: Math.round(loadMs) }, `matched ${matched} of ${targeted} modules`);
  });
  engine.onRestart((reason) => {
    metrics.engineRestarted();
    log.error({ reason }, 'the engine process ended and is started again');
  });

  const images =
    processor &&
    new ImageClient({
      processes: config.imageProcesses,
      recipe: processor.recipe,
      limits: { maxPixels: config.maxImagePixels, timeoutMs: IMAGE_TIMEOUT_MS },
      maxWaiting: config.queueLimit,
    });
  let imagesStarted = images === null;
  images?.onRestart((reason) => {
    metrics.imageProcessRestarted();
    log.error({ reason }, 'an image process ended and is started again');
  });

  const { imageHosts, imageFetchMs, maxImageBytes } = config;
  const remoteImages = imageHosts && new RemoteImages({ hosts: imageHosts, maxBytes: maxImageBytes, timeoutMs: imageFetchMs });
  const admission = new Admission(engine, config.queueLimit);
  const lifecycle = store && startLifecycle(store, { config, engine, tokenizer, admission, metrics, log });
  const finetuning = createFinetuning(config, { seesImages: processor !== null, lifecycle, registry, env, metrics, log });
  const imagesReady = () => imagesStarted && (images === null || images.pids.length > 0);
  const quotas = await openQuotas(config, metrics, log);
  const app = createApp({
    config,
    backbone: backbone.name,
    engine,
    images,
    remoteImages,
    imagesReady,
    catalogue,
    sources,
    lifecycle,
    tenants: access.tenants,
    finetuning,
    quotas,
    tokenizer,
    template,
    metrics,
    tracing,
    admission,
    log,
  });

  let server: HttpServer | undefined;
  let closing: Promise<void> | undefined;
  const close = (drainMs: number): Promise<void> => {
    closing ??= (async () => {
      admission.drain();
      // What trains gets its time as requests do, and publishes nothing after that.
      await Promise.all([server?.drain(drainMs), finetuning?.close()]);
      await Promise.all([engine.close(0), images?.close(), registry?.close(), sources?.close(), access.close(), store?.close()]);
      await server?.drain(FAREWELL_MS);
      server?.close();
      await tracing?.close();
      quotas.close();
    })();
    return closing;
  };

  try {
    server = await HttpServer.listen(app, config);
    await finetuning?.start();
  } catch (error) {
    await close(0);
    throw error;
  }
  sources?.start();
  const starting = Promise.all([
    engine.whenReady,
    images?.start().then(() => {
      imagesStarted = true;
    }),
  ]);
  const ready = starting.then(
    () => ({ backbone: backbone.name, adapters: catalogue.size }),
    async (error: unknown) => {
      await close(0);
      throw error;
    },
  );
  ready.catch(() => undefined); // Whoever awaits it is told.
  return {
    url: server.url,
    ready,
    access,
    get pids() {
      return { engine: engine.pid, images: images?.pids ?? [], trainers: finetuning?.pids ?? [] };
    },
    close: () => close(config.drainMs),
  };
}

/** Serves until a signal says stop; a second one ends everything at once. */
export async function serve(config: Config): Promise<void> {
  const server = await startServer(config);
  let stopping = false;
  const stop = (signal: NodeJS.Signals): void => {
    if (stopping) process.exit(signal === 'SIGINT' ? 130 : 143);
    stopping = true;
    console.log('graft is stopping: outstanding requests are finished first, a second signal ends it at once');
    void server.close().then(() => process.exit(0));
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  // Without tenants it ends the process, as a terminal that closes wants it.
  if (config.tenants !== null) process.on('SIGHUP', () => void server.access.reload());
  const { backbone, adapters } = await server.ready.catch((error: unknown) => {
    // A signal during the start is no failure: the process ends when everything is closed.
    if (stopping) return new Promise<never>(() => undefined);
    throw error;
  });
  const counted = `${adapters} ${adapters === 1 ? 'adapter' : 'adapters'}`;
  console.log(`graft is ready on ${server.url} (backbone ${backbone}, ${counted}); ${server.access.words}`);
  if (isShipped(config))
    console.log('this backbone knows drawn scenes only; for photos name one of yours with --backbone (models/README.md)');
}

/** A template that cannot be read costs the conversations, and nothing else. */
function openTemplate(folder: string, log: Logger): Promise<ChatTemplate | null> {
  return ChatTemplate.open(folder).catch((error: unknown) => {
    log.warn({ code: AppError.from(error).code }, `there are no conversations: ${AppError.from(error).message}`);
    return null;
  });
}

/** Adapters from elsewhere, and what is told of them. */
function observeSources(
  config: Config,
  env: Readonly<Record<string, string | undefined>>,
  metrics: Metrics,
  log: Logger,
): Promise<SourceLibrary | null> {
  return openSources(config, env, {
    fetched: (kind, seconds, bytes) => metrics.adapterFetched(kind, seconds, bytes),
    failed: (kind, failure) => metrics.adapterFetchFailed(kind, failure),
    asked: (hit) => metrics.adapterAsked(hit),
    evicted: () => metrics.adapterEvictedFromDisk(),
    note: (source, error) => log.warn({ source, code: error.code }, error.message),
  });
}

/** No folder was named and the usual one is not there: only the bare backbone can be asked. */
const NO_ADAPTERS: AdapterDirectory = { list: () => [], get: () => undefined, rescan: () => Promise.resolve() };

async function openAdapters(folder: string | null): Promise<AdapterRegistry | null> {
  if (folder !== null) return AdapterRegistry.open(folder);
  const usual = path.resolve('adapters');
  const found = await stat(usual).catch(() => undefined);
  return found?.isDirectory() ? AdapterRegistry.open(usual) : null;
}
