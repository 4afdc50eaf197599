/** The routes, and what surrounds each: an id, headers, a log line, a count, and OpenAI's error body for everything that fails. */
import express, { type Express, type NextFunction, type Request, type RequestHandler, type Response } from 'express';
import helmet from 'helmet';
import { AppError } from '../errors.js';
import { captionRoute } from './captions.js';
import { chatRoute } from './chat.js';
import { completionRoute } from './completions.js';
import { ChatParser } from './dialect.js';
import { errorHandler } from './errors.js';
import { exchangeOf, openExchange } from './exchange.js';
import { liveRoute, metricsRoute, readyRoute } from './health.js';
import { IMAGE_PATH } from './messages.js';
import { adaptersRoute, modelRoute, modelsRoute } from './models.js';
import { imageBody, imageJsonBody, jsonBody } from './multipart.js';
import { playgroundRoutes } from './playground.js';
import { RequestParser } from './schema.js';
import type { Services } from './services.js';

export function createApp(services: Services): Express {
  const { config, admission } = services;
  const limits = {
    maxTokens: config.maxTokens,
    timeoutMs: config.requestTimeoutMs,
    maxBatch: config.maxBatch,
  };
  const parser = new RequestParser(limits);
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', 'simple');
  app.use(openExchange, observe(services), helmet());

  const route = (method: 'get' | 'post', path: string, ...handlers: RequestHandler[]): void => {
    app.all(path, (req, res, next) => {
      exchangeOf(res).route = path;
      const allowed = method === 'get' ? ['GET', 'HEAD'] : ['POST'];
      if (allowed.includes(req.method)) return next();
      res.set('allow', allowed.join(', '));
      throw new AppError('method_not_allowed', `Expected ${allowed.join(' or ')} for ${path} but received ${req.method}`);
    });
    app[method](path, ...handlers);
  };

  route('post', '/v1/captions', admission.middleware, ...imageBody(config.maxImageBytes), captionRoute(services, parser));
  route('post', '/v1/completions', admission.middleware, ...jsonBody(), completionRoute(services, parser));
  route(
    'post',
    '/v1/chat/completions',
    admission.middleware,
    ...imageJsonBody(config.maxImageBytes, IMAGE_PATH),
    chatRoute(services, new ChatParser(limits)),
  );
  route('get', '/v1/models', modelsRoute(services));
  route('get', '/v1/models/*name', modelRoute(services));
  route('get', '/v1/adapters', adaptersRoute(services));
  route('get', '/health/live', liveRoute);
  route('get', '/health/ready', readyRoute(services));
  route('get', '/metrics', metricsRoute(services));
  for (const [path, handler] of playgroundRoutes()) route('get', path, handler);

  app.use((req: Request) => {
    throw new AppError('not_found', `Expected a path of this server but received ${req.method} ${req.path.slice(0, 200)}`);
  });
  app.use(errorHandler);
  return app;
}

/** One log line and one count a request, when it is over. Neither ever holds an image or a prompt. */
function observe({ log, metrics, admission }: Services): RequestHandler {
  return (req: Request, res: Response, next: NextFunction): void => {
    // A connection that stays open would send its next request to a server that is going away.
    if (admission.draining) res.set('connection', 'close');
    res.once('close', () => {
      const { id, route, error, adapters, elapsedMs } = exchangeOf(res);
      const cancelled = error === undefined && !res.writableFinished;
      const outcome = cancelled ? 'cancelled' : (error?.code ?? 'ok');
      metrics.request({ route, outcome, generating: req.method === 'POST', seconds: elapsedMs / 1000 });
      const line = {
        id,
        method: req.method,
        route,
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
