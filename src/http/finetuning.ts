/** /v1/fine_tuning/jobs: jobs in OpenAI's dialect, for its clients as they are. What is ours beside it stands under `graft`. */
import { randomInt } from 'node:crypto';
import type { Request, RequestHandler, Response } from 'express';
import { AppError } from '../errors.js';
import type { Finetuning, Order } from '../finetuning/finetuning.js';
import type { Job, JobEvent } from '../finetuning/job.js';
import { exchangeOf } from './exchange.js';
import { fileOf, idOf, isOf, required } from './files.js';
import { type JobAsk, parseJob } from './hyperparameters.js';
import { jsonBody } from './multipart.js';
import { listBody, type PageQuery, page } from './page.js';
import type { Route } from './route.js';
import { check, show, type Values } from './schema.js';
import { Scope } from './scope.js';
import type { Services } from './services.js';
import { cancelAbout, createAbout, eventsAbout, JOBS_QUERY, jobAbout, listJobsAbout } from './tuning.js';

/** A page of jobs or events, unless told. */
const PAGE = 20;

export function finetuningRoutes(services: Services): Route[] {
  const access = 'tenant';
  const place = '/v1/fine_tuning/jobs';
  // Before a body is looked at.
  const available: RequestHandler = (_req, _res, next) => {
    required(services).jobs();
    next();
  };
  return [
    { method: 'get', path: place, access, about: listJobsAbout, handlers: [listRoute(services)] },
    { method: 'post', path: place, access, about: createAbout, handlers: [available, ...jsonBody(), createRoute(services)] },
    { method: 'get', path: `${place}/:id`, access, about: jobAbout, handlers: [retrieveRoute(services)] },
    { method: 'post', path: `${place}/:id/cancel`, access, about: cancelAbout, handlers: [cancelRoute(services)] },
    { method: 'get', path: `${place}/:id/events`, access, about: eventsAbout, handlers: [eventsRoute(services)] },
  ];
}

function createRoute(services: Services): RequestHandler {
  return async (req: Request, res: Response): Promise<void> => {
    const finetuning = required(services);
    const exchange = exchangeOf(res);
    const { tenant } = exchange;
    const ask = parseJob(req.body);
    const training = fileOf(finetuning.files, tenant, ask.trainingFile, 'training_file');
    const validation =
      ask.validationFile === null ? null : fileOf(finetuning.files, tenant, ask.validationFile, 'validation_file');
    // What it holds of an adapter from elsewhere is let go once the job has its own copy.
    const scope = new Scope(exchange, services.config.requestTimeoutMs);
    try {
      const order: Order = {
        model: ask.model,
        from: await beginning(services, scope, ask),
        training,
        validation,
        suffix: ask.suffix,
        seed: ask.seed ?? randomInt(2 ** 31),
        wishes: ask.wishes,
        graft: ask.graft,
        metadata: ask.metadata,
      };
      res.json(jobBody(finetuning, await finetuning.create(tenant.name, order)));
    } finally {
      scope.end();
    }
  };
}

/** The adapter that a job begins with; null for the backbone. */
async function beginning({ catalogue, backbone }: Services, scope: Scope, { model }: JobAsk): Promise<Order['from']> {
  if (model === backbone) return null;
  const { adapter } = await catalogue.select(model, scope).catch((error: unknown) => {
    throw error instanceof AppError && error.param === 'adapter'
      ? AppError.fromData({ ...error.toData(), param: 'model' })
      : error;
  });
  const { name, ref, summary } = adapter;
  return { name, digest: ref.digest, folder: ref.folder, seesImages: summary.seesImages };
}

function listRoute(services: Services): RequestHandler {
  return (req: Request, res: Response): void => {
    const finetuning = required(services);
    const { tenant } = exchangeOf(res);
    const own = finetuning.jobs().filter((job) => isOf(tenant, job));
    const { items, hasMore } = page(own.reverse(), queryOf(req), PAGE);
    res.json(
      listBody(
        items.map((job) => jobBody(finetuning, job)),
        hasMore,
      ),
    );
  };
}

function retrieveRoute(services: Services): RequestHandler {
  return (req: Request, res: Response): void => {
    const finetuning = required(services);
    res.json(jobBody(finetuning, jobOf(finetuning, req, res)));
  };
}

function cancelRoute(services: Services): RequestHandler {
  return async (req: Request, res: Response): Promise<void> => {
    const finetuning = required(services);
    res.json(jobBody(finetuning, await finetuning.cancel(jobOf(finetuning, req, res))));
  };
}

function eventsRoute(services: Services): RequestHandler {
  return async (req: Request, res: Response): Promise<void> => {
    const finetuning = required(services);
    const events = await finetuning.events(jobOf(finetuning, req, res).id);
    const { items, hasMore } = page(events.reverse(), queryOf(req), PAGE);
    res.json(listBody(items.map(eventBody), hasMore));
  };
}

/** Throws `invalid_request` or `unknown_field`. */
function queryOf(req: Request): PageQuery {
  return check(JOBS_QUERY, req.query, true) as Values<typeof JOBS_QUERY>;
}

/** The job that a path names. Throws `not_found`, the same for another's and for one that never was. */
function jobOf(finetuning: Finetuning, req: Request, res: Response): Job {
  const id = idOf(req);
  const job = finetuning.job(id);
  if (job && isOf(exchangeOf(res).tenant, job)) return job;
  throw new AppError('not_found', `Expected the id of a job (GET /v1/fine_tuning/jobs lists them) but received ${show(id)}`);
}

function jobBody(finetuning: Finetuning, job: Job) {
  const hyperparameters = { n_epochs: job.epochs, batch_size: job.batch, learning_rate_multiplier: job.rateMultiplier };
  const { method, contexts, rank } = job.graft;
  return {
    id: job.id,
    object: 'fine_tuning.job',
    created_at: seconds(job.createdAt),
    finished_at: seconds(job.finishedAt),
    estimated_finish: seconds(finetuning.estimate(job.id)),
    status: job.status,
    error: job.error,
    model: job.model,
    fine_tuned_model: job.published && job.result,
    organization_id: job.tenant,
    training_file: job.trainingFile,
    validation_file: job.validationFile,
    result_files: [],
    trained_tokens: job.trainedTokens,
    hyperparameters,
    method: { type: 'supervised', supervised: { hyperparameters } },
    seed: job.seed,
    integrations: [],
    metadata: job.metadata,
    graft: {
      method,
      contexts,
      rank,
      steps: job.steps,
      from: job.from,
      version: job.published?.version ?? null,
      digest: job.published?.digest ?? null,
    },
  };
}

function eventBody({ id, createdAt, level, message, data }: JobEvent) {
  const type = data === null ? 'message' : 'metrics';
  return { id, object: 'fine_tuning.job.event', created_at: seconds(createdAt), level, message, type, data };
}

function seconds(ms: number): number;
function seconds(ms: number | null): number | null;
function seconds(ms: number | null): number | null {
  return ms === null ? null : Math.floor(ms / 1000);
}
