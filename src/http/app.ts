/** The routes, and what surrounds each: an id, headers, a log line, a count, and OpenAI's error body for everything that fails. */
import express, { type Express, type NextFunction, type Request, type RequestHandler, type Response } from 'express';
import helmet from 'helmet';
import { type Access, unknownPath } from './auth.js';
import { captionRoute } from './captions.js';
import { chatRoute } from './chat.js';
import { completionRoute } from './completions.js';
import { ChatParser } from './dialect.js';
import { errorHandler } from './errors.js';
import { exchangeOf, openExchange } from './exchange.js';
import { fileRoutes } from './files.js';
import { finetuningRoutes } from './finetuning.js';
import { liveRoute, metricsRoute, readyRoute } from './health.js';
import { IMAGE_PATH } from './messages.js';
import { adaptersRoute, modelRoute, modelsRoute } from './models.js';
import { imageBody, imageJsonBody, jsonBody } from './multipart.js';
import { playgroundRoutes } from './playground.js';
import { mount, type Route } from './route.js';
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

  mount(app, services.tenants, routes(services));
  app.use((req: Request) => {
    throw unknownPath(req);
  });
  app.use(errorHandler);
  return app;
}

/** Every route there is. */
export function routes(services: Services): Route[] {
  const { config, admission } = services;
  const limits = {
    maxTokens: config.maxTokens,
    timeoutMs: config.requestTimeoutMs,
    maxBatch: config.maxBatch,
  };
  const parser = new RequestParser(limits);
  const pages = [...playgroundRoutes()].map(([path, handler]): Route => get(path, 'open', handler));
  return [
    post('/v1/captions', admission.middleware, ...imageBody(config.maxImageBytes), captionRoute(services, parser)),
    post('/v1/completions', admission.middleware, ...jsonBody(), completionRoute(services, parser)),
    post(
      '/v1/chat/completions',
      admission.middleware,
      ...imageJsonBody(config.maxImageBytes, IMAGE_PATH),
      chatRoute(services, new ChatParser(limits)),
    ),
    get('/v1/models', 'tenant', modelsRoute(services)),
    get('/v1/models/*name', 'tenant', modelRoute(services)),
    get('/v1/adapters', 'tenant', adaptersRoute(services)),
    ...fileRoutes(services),
    ...finetuningRoutes(services),
    get('/health/live', 'open', liveRoute),
    get('/health/ready', 'open', readyRoute(services)),
    get('/metrics', 'admin', metricsRoute(services)),
    ...pages,
  ];
}

function get(path: string, access: Access, ...handlers: RequestHandler[]): Route {
  return { method: 'get', path, access, handlers };
}

function post(path: string, ...handlers: RequestHandler[]): Route {
  return { method: 'post', path, access: 'tenant', handlers };
}

/** One log line and one count a request, when it is over. Neither ever holds an image or a prompt. */
function observe({ log, metrics, admission }: Services): RequestHandler {
  return (req: Request, res: Response, next: NextFunction): void => {
    // A connection that stays open would send its next request to a server that is going away.
    if (admission.draining) res.set('connection', 'close');
    res.once('close', () => {
      const { id, route, tenantName, error, adapters, elapsedMs } = exchangeOf(res);
      const cancelled = error === undefined && !res.writableFinished;
      const outcome = cancelled ? 'cancelled' : (error?.code ?? 'ok');
      metrics.request({ route, outcome, generating: GENERATING.has(route), seconds: elapsedMs / 1000 });
      const line = {
        id,
        method: req.method,
        route,
        // Where nobody has a name there is nothing to tell.
        ...(tenantName ? { tenant: tenantName } : {}),
        status: cancelled ? 499 : (error?.status ?? res.statusCode),
        ms: Math.round(elapsedMs * 10) / 10,
        adapters,
        outcome,
      };
      if (error?.status === 500) log.error({ ...line, err: error.cause ?? error }, error.message);
      else if (route.startsWith('/v1/')) log.info(line, 'request');
      else log.debug(line, 'request');
    });
    next();
  };
}
