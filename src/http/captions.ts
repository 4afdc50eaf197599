/** POST /v1/captions: an image and an adapter (or several, which share the image's decoding and encoding) to captions. */
import { randomUUID } from 'node:crypto';
import type { Request, Response } from 'express';
import type { RegisteredAdapter } from '../adapter/registry.js';
import { AppError } from '../errors.js';
import type { EngineInfo } from '../serving/protocol.js';
import type { Tenant } from '../tenants/tenant.js';
import { type Named, nameOf } from './blend.js';
import { type ErrorBody, errorBody } from './errors.js';
import { type Exchange, exchangeOf } from './exchange.js';
import { checkPrompt, type Generated, type Generation, type Target } from './generation.js';
import { bodyOf } from './multipart.js';
import type { CaptionAsk, RequestParser } from './schema.js';
import { Scope } from './scope.js';
import { adapterBody, note, select } from './selection.js';
import type { Services } from './services.js';
import { EventWriter } from './sse.js';
import { readyInfo, submit, timingsBody } from './submission.js';

/** One adapter's part of the request: what is to be generated, or why not. */
interface Part {
  readonly name: string;
  readonly target: Target | AppError;
}

interface Caption {
  readonly id: string;
  readonly object: 'caption';
  readonly [key: string]: unknown;
}

export function captionRoute(services: Services, parser: RequestParser) {
  return async (req: Request, res: Response): Promise<void> => {
    const { value, form } = bodyOf(req);
    const info = readyInfo(services);
    const exchange = exchangeOf(res);
    const ask = services.quotas.clip(exchange.tenant, parser.caption(value, form));
    const scope = new Scope(exchange, ask.timeoutMs);
    try {
      const captioning = await Captioning.open(services, info, ask, scope, exchange);
      if (ask.stream) await captioning.stream(new EventWriter(res, scope.signal));
      else res.json(await captioning.reply());
    } finally {
      scope.end();
    }
  };
}

class Captioning {
  readonly #services: Services;
  readonly #ask: CaptionAsk;
  readonly #scope: Scope;
  readonly #exchange: Exchange;
  readonly #parts: readonly Part[];
  readonly #id = `cap_${randomUUID()}`;
  readonly #created = Math.floor(Date.now() / 1000);

  private constructor(services: Services, ask: CaptionAsk, scope: Scope, exchange: Exchange, parts: readonly Part[]) {
    this.#services = services;
    this.#ask = ask;
    this.#scope = scope;
    this.#exchange = exchange;
    this.#parts = parts;
    this.#throwIfAllFailed(parts.map(({ target }) => target));
    for (const { target } of parts) if (!(target instanceof AppError) && target.adapter) note(exchange, target.adapter);
  }

  /** Resolves when every adapter is chosen, and fetched where it has to be. Throws where none can be. */
  static async open(
    services: Services,
    info: EngineInfo,
    ask: CaptionAsk,
    scope: Scope,
    exchange: Exchange,
  ): Promise<Captioning> {
    const choose = async (named: Named): Promise<Part> => ({
      name: nameOf(named),
      target: await targetOf(services, info, ask, scope, named),
    });
    const parts = await Promise.all(namedOf(services, ask, scope.tenant).map(choose));
    return new Captioning(services, ask, scope, exchange, parts);
  }

  async reply(): Promise<object> {
    const generation = await this.#submit();
    const results = await Promise.all(this.#parts.map(async (part) => ({ part, result: await this.#attempt(generation, part) })));
    this.#throwIfAllFailed(results.map(({ result }) => result));
    const data = results.map(({ part, result }) => (result instanceof AppError ? this.#failure(part, result) : result));
    return this.#ask.list ? { object: 'caption.list', data } : (data[0] as object);
  }

  /** Tells text as it comes, each caption when it is complete, each failure in its place. */
  async stream(writer: EventWriter): Promise<void> {
    const generation = await this.#submit();
    const unsent: object[] = [];
    const results = this.#parts.map(async (part) => {
      const result = await this.#attempt(generation, part, writer);
      const event = result instanceof AppError ? this.#failure(part, result) : result;
      // While nothing has been sent, a failure may yet turn out to be the whole reply, with a status of its own.
      if (result instanceof AppError && !writer.opened) unsent.push(event);
      else await writer.send(event);
      return result;
    });
    const settled = await Promise.all(results);
    if (!writer.opened) this.#throwIfAllFailed(settled);
    for (const event of unsent) await writer.send(event);
    this.#note(settled);
    await writer.end();
  }

  #submit(): Promise<Generation> {
    const targets = this.#parts.flatMap(({ target }) => (target instanceof AppError ? [] : [target]));
    return submit(this.#services, this.#ask, this.#scope, this.#exchange, { image: this.#ask.image, targets });
  }

  async #attempt(generation: Generation, { name, target }: Part, writer?: EventWriter): Promise<Caption | AppError> {
    if (target instanceof AppError) return target;
    try {
      const generated = await generation.follow(target, ({ index, text }) =>
        writer?.send({ object: 'caption.delta', id: this.#id, index, adapter: name, text }),
      );
      return this.#caption(target, generated);
    } catch (error) {
      return AppError.from(error);
    }
  }

  #caption({ adapter }: Target, { texts, imageTokens, promptTokens, completionTokens, timings }: Generated): Caption {
    return {
      id: this.#id,
      object: 'caption',
      created: this.#created,
      backbone: this.#services.backbone,
      adapter: adapter && adapterBody(adapter),
      captions: texts.map(({ text, finishReason }) => ({ text, finish_reason: finishReason })),
      usage: { image_tokens: imageTokens, prompt_tokens: promptTokens, completion_tokens: completionTokens },
      timings: timingsBody(timings),
    };
  }

  #failure({ name, target }: Part, error: AppError): ErrorBody & { readonly object: 'error'; readonly adapter: object } {
    const adapter = target instanceof AppError ? null : target.adapter;
    return { object: 'error', adapter: adapter ? adapterBody(adapter) : { name }, ...errorBody(error) };
  }

  #throwIfAllFailed(results: readonly unknown[]): void {
    const errors = results.filter((result) => result instanceof AppError);
    if (errors[0] && errors.length === results.length) throw errors[0];
  }

  /** A reply that has begun has its status; the log and the metrics still learn of a failure that was all of it. */
  #note(results: readonly unknown[]): void {
    const errors = results.filter((result) => result instanceof AppError);
    if (errors[0] && errors.length === results.length) this.#exchange.error = errors[0];
  }
}

/** Throws `adapter_required` where the request names none and there is no usual one. */
function namedOf({ catalogue, config }: Services, { adapters }: CaptionAsk, tenant: Tenant): readonly Named[] {
  if (adapters.length > 0) return adapters;
  const { defaultAdapter } = config;
  // To who does not see it there is none: its name is not told either.
  if (defaultAdapter !== null && catalogue.isVisible(defaultAdapter, tenant)) return [defaultAdapter];
  throw catalogue.required(tenant, 'adapter', 'none');
}

async function targetOf(
  services: Services,
  info: EngineInfo,
  ask: CaptionAsk,
  scope: Scope,
  named: Named,
): Promise<Target | AppError> {
  try {
    const selected = await select(services.catalogue, named, scope);
    scope.exchange.spent('adapter fetch', selected.fetchMs);
    const promptOf = (version: RegisteredAdapter | null): string => ask.prompt ?? version?.summary.prompt ?? '';
    checkPrompt(services, info, promptOf(selected.adapter), true);
    return { ...selected, promptOf, continues: false };
  } catch (error) {
    return AppError.from(error);
  }
}
