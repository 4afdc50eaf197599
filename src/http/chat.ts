/** POST /v1/chat/completions: a caption, or text, as one message in OpenAI's shape, so that its clients need no change. */
import { randomUUID } from 'node:crypto';
import type { Request, Response } from 'express';
import type { RegisteredAdapter } from '../adapter/registry.js';
import { AppError } from '../errors.js';
import type { EngineInfo } from '../serving/protocol.js';
import type { Tenant } from '../tenants/tenant.js';
import { answer, type Writing } from './answer.js';
import type { ChatAsk, ChatParser } from './dialect.js';
import { exchangeOf } from './exchange.js';
import { checkPrompt, type Generated, type GeneratedText, type Target, type TextPiece } from './generation.js';
import { chatLogprobs } from './logprobs.js';
import { bodyOf } from './multipart.js';
import { adapterBody } from './selection.js';
import type { Services } from './services.js';
import { readyInfo, timingsBody } from './submission.js';

export function chatRoute(services: Services, parser: ChatParser) {
  return async (req: Request, res: Response): Promise<void> => {
    const info = readyInfo(services);
    const { tenant } = exchangeOf(res);
    const ask = services.quotas.clip(tenant, parser.parse(bodyOf(req).value));
    const { named, user, image } = ask;
    const plan = (adapter: RegisteredAdapter | null) => planOf(services, tenant, info, ask, adapter);
    const writingOf = (target: Target) => new ChatCompletion(ask, target, services.backbone);
    await answer(services, res, { ask, named, user, image, plan }, writingOf).catch((error: unknown) => {
      throw inPlace(error, ask);
    });
  };
}

/** The same text as the other routes give: that of captions about an image, and that of completions without one. */
function planOf(services: Services, tenant: Tenant, info: EngineInfo, ask: ChatAsk, adapter: RegisteredAdapter | null) {
  const hasImage = ask.image !== null;
  if (hasImage && adapter === null)
    throw services.catalogue.required(tenant, ask.modelField, `the backbone (${services.backbone})`);
  if (!hasImage && adapter?.summary.seesImages)
    throw new AppError(
      'invalid_request',
      `messages: Expected an image_url part for adapter ${adapter.name}, which is made for images, but received text alone`,
      { param: 'messages' },
    );
  if (ask.turns !== null && takesTurns(adapter)) {
    const text = services.template?.render(ask.turns) ?? '';
    checkPrompt(services, info, text, false, true);
    return { promptOf: () => text, continues: false, isWhole: true };
  }
  if (ask.turns !== null && ask.prompt === null)
    throw new AppError(
      'invalid_request',
      `messages: Expected one user message for adapter ${adapter?.name}, which is made for a prompt and not for turns, but received a conversation`,
      { param: 'messages' },
    );
  const promptOf = (version: RegisteredAdapter | null): string => ask.prompt ?? version?.summary.prompt ?? '';
  checkPrompt(services, info, promptOf(adapter), hasImage);
  return { promptOf, continues: !hasImage };
}

/** The backbone, and adapters that others have trained on it, know its template. Graft's own trainer has none: its adapters go on from their prompt. */
function takesTurns(adapter: RegisteredAdapter | null): boolean {
  if (adapter === null) return true;
  const parts = adapter.blend?.map((part) => part.adapter) ?? [adapter];
  return parts.every(({ summary }) => summary.format === 'peft');
}

/** An error whose field is where this route has it: others call it image, prompt or adapter. */
function inPlace(thrown: unknown, { imageParam, modelField }: ChatAsk): AppError {
  const error = AppError.from(thrown);
  const places = new Map([
    ['image', imageParam],
    ['prompt', 'messages'],
    ['adapter', modelField],
  ]);
  const param = places.get(error.param ?? '');
  if (param === undefined) return error;
  const prefix = `${error.param}: `;
  const message = error.message.startsWith(prefix) ? `${param}: ${error.message.slice(prefix.length)}` : error.message;
  return AppError.fromData({ ...error.toData(), message, param });
}

class ChatCompletion implements Writing {
  readonly #id = `chatcmpl-${randomUUID()}`;
  readonly #created = Math.floor(Date.now() / 1000);
  readonly #ask: ChatAsk;
  readonly #target: Target;
  readonly #backbone: string;
  /** Choices whose first chunk is out. */
  readonly #begun = new Set<number>();

  constructor(ask: ChatAsk, target: Target, backbone: string) {
    this.#ask = ask;
    this.#target = target;
    this.#backbone = backbone;
  }

  whole(generated: Generated): object {
    return {
      ...this.#head('chat.completion'),
      choices: generated.texts.map(({ index, text, finishReason, tokens }) => ({
        index,
        message: { role: 'assistant', content: text, refusal: null },
        logprobs: chatLogprobs(tokens),
        finish_reason: finishReason,
      })),
      usage: usageOf(generated),
      timings: timingsBody(generated.timings),
    };
  }

  piece({ index, text, tokens }: TextPiece): object[] {
    return [...this.#begin(index), this.#chunk(index, { content: text }, null, chatLogprobs(tokens))];
  }

  /** The very last event has the timings. */
  end(generated: Generated): object[] {
    const ends = generated.texts.flatMap(({ index, finishReason }) => [
      ...this.#begin(index),
      this.#chunk(index, {}, finishReason),
    ]);
    if (this.#ask.includeUsage) ends.push({ ...this.#head('chat.completion.chunk'), choices: [], usage: usageOf(generated) });
    return ends.map((event, at) => (at < ends.length - 1 ? event : { ...event, timings: timingsBody(generated.timings) }));
  }

  #begin(index: number): object[] {
    if (this.#begun.has(index)) return [];
    this.#begun.add(index);
    return [this.#chunk(index, { role: 'assistant', content: '', refusal: null })];
  }

  #chunk(
    index: number,
    delta: object,
    finishReason: GeneratedText['finishReason'] | null = null,
    logprobs: object | null = null,
  ): object {
    return {
      ...this.#head('chat.completion.chunk'),
      choices: [{ index, delta, logprobs, finish_reason: finishReason }],
      ...(this.#ask.includeUsage ? { usage: null } : {}),
    };
  }

  #head(object: 'chat.completion' | 'chat.completion.chunk'): object {
    // Read when it is written: the version that served may be newer than the one that was asked for.
    const { adapter } = this.#target;
    return {
      id: this.#id,
      object,
      created: this.#created,
      model: this.#ask.model,
      // What the answer depends on besides the adapter.
      system_fingerprint: this.#backbone,
      service_tier: 'default',
      adapter: adapter && adapterBody(adapter),
    };
  }
}

/** OpenAI counts an image's tokens among the prompt's; captions count them apart. */
function usageOf({ imageTokens, promptTokens, completionTokens }: Generated): object {
  const together = imageTokens + promptTokens;
  return {
    prompt_tokens: together,
    completion_tokens: completionTokens,
    total_tokens: together + completionTokens,
    prompt_tokens_details: { image_tokens: imageTokens },
  };
}
