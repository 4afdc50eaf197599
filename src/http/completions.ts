/** POST /v1/completions: text alone, by the bare backbone or an adapter, in OpenAI's shape. */
import { randomUUID } from 'node:crypto';
import type { Request, Response } from 'express';
import { answer, type Writing } from './answer.js';
import { exchangeOf } from './exchange.js';
import { checkPrompt, type Generated, type Target, type TextPiece } from './generation.js';
import { completionLogprobs } from './logprobs.js';
import { bodyOf } from './multipart.js';
import type { CompletionAsk, RequestParser } from './schema.js';
import { adapterBody } from './selection.js';
import type { Services } from './services.js';
import { readyInfo, timingsBody } from './submission.js';

export function completionRoute(services: Services, parser: RequestParser) {
  return async (req: Request, res: Response): Promise<void> => {
    const info = readyInfo(services);
    const ask = services.quotas.clip(exchangeOf(res).tenant, parser.completion(bodyOf(req).value));
    checkPrompt(services, info, ask.prompt, false);
    const plan = () => ({ promptOf: () => ask.prompt, continues: true });
    const question = { ask, named: ask.named, user: ask.user, image: null, plan };
    await answer(services, res, question, (target) => new Completion(ask, target));
  };
}

class Completion implements Writing {
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
      choices: texts.map(({ index, text, finishReason, tokens }) => ({
        text,
        index,
        logprobs: completionLogprobs(tokens),
        finish_reason: finishReason,
      })),
      usage: { prompt_tokens: promptTokens, completion_tokens: completionTokens, total_tokens: promptTokens + completionTokens },
      timings: timingsBody(timings),
    };
  }

  piece({ index, text, tokens }: TextPiece): object[] {
    return [this.#chunk(index, text, null, completionLogprobs(tokens))];
  }

  end(generated: Generated): object[] {
    const ends = generated.texts.map(({ index, finishReason }) => this.#chunk(index, '', finishReason));
    return [...ends, { ...this.whole(generated), choices: [] }];
  }

  #chunk(index: number, text: string, finishReason: string | null, logprobs: object | null = null): object {
    return { ...this.#head(), choices: [{ text, index, logprobs, finish_reason: finishReason }] };
  }

  #head(): object {
    // Read when it is written: the version that served may be newer than the one that was asked for.
    const { adapter } = this.#target;
    return {
      id: this.#id,
      object: 'text_completion',
      created: this.#created,
      model: this.#ask.model,
      adapter: adapter && adapterBody(adapter),
    };
  }
}
