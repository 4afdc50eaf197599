/** POST /v1/completions: text alone, by the bare backbone or an adapter, in OpenAI's shape. */
import { randomUUID } from 'node:crypto';
import type { Request, Response } from 'express';
import { AppError } from '../errors.js';
import { readyInfo, timingsBody } from './captions.js';
import { errorBody } from './errors.js';
import { exchangeOf } from './exchange.js';
import { checkPrompt, type Generated, Generation, Scope, type Target } from './generation.js';
import { bodyOf } from './multipart.js';
import type { CompletionAsk, RequestParser } from './schema.js';
import { type Services, selectAdapter } from './services.js';
import { EventWriter } from './sse.js';

const NOTHING = { adapter: null, fetchMs: 0 };

export function completionRoute(services: Services, parser: RequestParser) {
  return async (req: Request, res: Response): Promise<void> => {
    const info = readyInfo(services);
    const ask = parser.completion(bodyOf(req).value);
    checkPrompt(services, info, ask.prompt, false);
    const exchange = exchangeOf(res);
    const scope = new Scope(exchange, ask.timeoutMs);
    try {
      const selected = ask.model === services.backbone ? NOTHING : await selectAdapter(services, ask.model, scope);
      const target: Target = { ...selected, promptOf: () => ask.prompt, continues: true };
      if (target.adapter) exchange.adapters.push(target.adapter.ref.digest);
      const generation = Generation.submit(services, ask, scope, null, [target]);
      exchange.arrived();
      const reply = new Reply(ask, target);
      if (ask.stream)
        await stream(generation, target, reply, new EventWriter(res, scope.signal), (error) => (exchange.error = error));
      else res.json(reply.whole(await generation.follow(target, () => {})));
    } finally {
      scope.end();
    }
  };
}

async function stream(
  generation: Generation,
  target: Target,
  reply: Reply,
  writer: EventWriter,
  onError: (error: AppError) => void,
): Promise<void> {
  try {
    const generated = await generation.follow(target, (piece) => writer.send(reply.chunk(piece.index, piece.text)));
    for (const { index, finishReason } of generated.texts) await writer.send(reply.chunk(index, '', finishReason));
    await writer.send({ ...reply.whole(generated), choices: [] });
  } catch (error) {
    // Before the first event this is an ordinary error reply.
    if (!writer.opened) throw error;
    onError(AppError.from(error));
    await writer.send({ object: 'error', ...errorBody(AppError.from(error)) });
  }
  await writer.end();
}

class Reply {
  readonly #id = `cmpl_${randomUUID()}`;
  readonly #created = Math.floor(Date.now() / 1000);
  readonly #ask: CompletionAsk;
  readonly #target: Target;

  constructor(ask: CompletionAsk, target: Target) {
    this.#ask = ask;
    this.#target = target;
  }

  whole({ texts, promptTokens, completionTokens, timings }: Generated): object {
    return {
      ...this.#head(),
      choices: texts.map(({ index, text, finishReason }) => ({ text, index, logprobs: null, finish_reason: finishReason })),
      usage: { prompt_tokens: promptTokens, completion_tokens: completionTokens, total_tokens: promptTokens + completionTokens },
      timings: timingsBody(timings),
    };
  }

  chunk(index: number, text: string, finishReason: string | null = null): object {
    return { ...this.#head(), choices: [{ text, index, logprobs: null, finish_reason: finishReason }] };
  }

  #head(): object {
    // Read when it is written: the version that served may be newer than the one that was asked for.
    const { adapter } = this.#target;
    return {
      id: this.#id,
      object: 'text_completion',
      created: this.#created,
      model: this.#ask.model,
      adapter: adapter && { name: adapter.name, digest: adapter.ref.digest },
    };
  }
}
