/** The routes, and what surrounds each: an id, headers, a log line, a count, and OpenAI's error body for everything that fails. */
import express, { type Express, type NextFunction, type Request, type RequestHandler, type Response } from 'express';
import helmet from 'helmet';
import {
  adaptersAbout,
  captionAbout,
  chatAbout,
  completionAbout,
  descriptionAbout,
  liveAbout,
  metricsAbout,
  modelAbout,
  modelsAbout,
  readyAbout,
} from './abouts.js';
import { type Access, ownNamesOnly, unknownPath } from './auth.js';
import { captionRoute } from './captions.js';
import { chatRoute } from './chat.js';
import { completionRoute } from './completions.js';
import { ChatParser } from './dialect.js';
import { docsRoutes } from './docs.js';
import { errorHandler } from './errors.js';
import { exchangeOf, openExchange } from './exchange.js';
import { fileRoutes } from './files.js';
import { finetuningRoutes } from './finetuning.js';
import { liveRoute, metricsRoute, readyRoute } from './health.js';
import { lifecycleRoutes } from './lifecycle.js';
import { loraRoutes } from './lora.js';
import { IMAGE_PATH } from './messages.js';
import { adaptersRoute, modelRoute, modelsRoute } from './models.js';
import { imageBody, imageJsonBody, jsonBody } from './multipart.js';
import { openApiRoute } from './openapi.js';
import { playgroundRoutes } from './playground.js';
import { traceOf, workOf } from './record.js';
import { type About, mount, type Route } from './route.js';
import { RequestParser } from './schema.js';
import type { Services } from './services.js';

/** Routes whose times are those of generated text. */
const GENERATING: ReadonlySet<string> = new Set(['/v1/captions', '/v1/completions', '/v1/chat/completions']);

export function createApp(services: Services): Express {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', 'simple');
  app.use(openExchange, observe(services), helmet());
  if (services.tenants.isOpen && !services.config.open) app.use(ownNamesOnly);

  mount(app, services.tenants, services.quotas.arrive, routes(services));
  app.use((req: Request) => {
    throw unknownPath(req);
  });
  app.use(errorHandler);
  return app;
}

/** Every route there is. */
export function routes(services: Services): Route[] {
  const { config, admission, quotas } = services;
  const limits = {
    maxTokens: config.maxTokens,
    timeoutMs: config.requestTimeoutMs,
    maxBatch: config.maxBatch,
  };
  const parser = new RequestParser(limits, services.backbone);
  const chatParser = new ChatParser(limits, services.backbone, services.template !== null);
  const admit = [quotas.enter, admission.middleware];
  const admitImage = [quotas.announce, ...admit];
  const table: Route[] = [
    post(
      '/v1/captions',
      captionAbout(parser.captionFields),
      ...admitImage,
      ...imageBody(config.maxImageBytes),
      captionRoute(services, parser),
    ),
    post('/v1/completions', completionAbout(parser.completionFields), ...admit, ...jsonBody(), completionRoute(services, parser)),
    post(
      '/v1/chat/completions',
      chatAbout(chatParser.fields),
      ...admitImage,
      ...imageJsonBody(config.maxImageBytes, IMAGE_PATH),
      chatRoute(services, chatParser),
    ),
    get('/v1/models', 'tenant', modelsAbout, modelsRoute(services)),
    get('/v1/models/*name', 'tenant', modelAbout, modelRoute(services)),
    get('/v1/adapters', 'tenant', adaptersAbout, adaptersRoute(services)),
    ...lifecycleRoutes(services),
    ...loraRoutes(services),
    ...fileRoutes(services),
    ...finetuningRoutes(services),
    get('/health/live', 'open', liveAbout, liveRoute),
    get('/health/ready', 'open', readyAbout, readyRoute(services)),
    get('/metrics', 'admin', metricsAbout, metricsRoute(services)),
    get(
      '/openapi.json',
      'open',
      descriptionAbout,
      openApiRoute(() => table, services.tenants),
    ),
    ...docsRoutes(),
    ...playgroundRoutes(),
  ];
  return table;
}

function get(path: string, access: Access, about: About, ...handlers: RequestHandler[]): Route {
  return { method: 'get', path, access, about, handlers };
}

function post(path: string, about: About, ...handlers: RequestHandler[]): Route {
  return { method: 'post', path, access: 'tenant', about, handlers };
}

/** One log line, one count and, where somebody takes them, one trace a request, when it is over. None ever holds an image, a text or a key. */
function observe({ log, metrics, tracing, admission }: Services): RequestHandler {
  return (req: Request, res: Response, next: NextFunction): void => {
    // A connection that stays open would send its next request to a server that is going away.
    if (admission.draining) res.set('connection', 'close');
    res.once('close', () => {
      const exchange = exchangeOf(res);
      const { id, route, tenantName, error, adapters, blends, parts, elapsedMs } = exchange;
      const cancelled = error === undefined && !res.writableFinished;
      const outcome = cancelled ? 'cancelled' : (error?.code ?? 'ok');
      const status = cancelled ? 499 : (error?.status ?? res.statusCode);
      metrics.request({ route, outcome, generating: GENERATING.has(route), seconds: elapsedMs / 1000 });
      if (tenantName) metrics.tenantRequest(tenantName, outcome);
      const isCall = route.startsWith('/v1/');
      const trace = isCall ? tracing?.record(traceOf(req, exchange, { status, outcome })) : undefined;
      const line = {
        id,
        ...(trace === undefined ? {} : { trace }),
        method: req.method,
        route,
        // Where nobody has a name there is nothing to tell.
        ...(tenantName ? { tenant: tenantName } : {}),
        status,
        ms: Math.round(elapsedMs * 10) / 10,
        adapters,
        ...(blends.length > 0 ? { blends } : {}),
        ...workOf(parts),
        outcome,
      };
      if (error?.status === 500) log.error({ ...line, err: error.cause ?? error }, error.message);
      else if (isCall) log.info(line, 'request');
      else log.debug(line, 'request');
    });
    next();
  };
}
