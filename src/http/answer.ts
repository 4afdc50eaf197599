/** One model's answer to one request, whole or as a stream of chunks: what OpenAI's dialects (completions, chat) have in common. */
import type { Response } from 'express';
import type { RegisteredAdapter } from '../adapter/registry.js';
import { AppError } from '../errors.js';
import type { Named } from './blend.js';
import { errorBody } from './errors.js';
import { exchangeOf } from './exchange.js';
import type { Generated, Generation, Target, TextPiece } from './generation.js';
import type { Ask } from './schema.js';
import { Scope } from './scope.js';
import { note, select } from './selection.js';
import type { Services } from './services.js';
import { EventWriter } from './sse.js';
import { submit } from './submission.js';

/** What is asked of one model. */
export interface Question {
  readonly ask: Ask;
  /** The backbone's name, an adapter's, or a blend. */
  readonly named: Named;
  /** Who sends it, in the client's own words. */
  readonly user: string | null;
  readonly image: string | Uint8Array | null;
  /** What is continued; throws where the adapter and the request do not go together. */
  readonly plan: (adapter: RegisteredAdapter | null) => Pick<Target, 'promptOf' | 'continues' | 'isWhole'>;
}

/** How a dialect writes an answer. */
export interface Writing {
  whole(generated: Generated): object;
  /** Events for a piece of text. */
  piece(piece: TextPiece): readonly object[];
  /** Events after the last piece. */
  end(generated: Generated): readonly object[];
}

const NOTHING = { adapter: null, reference: null, fetchMs: 0 };

export async function answer(
  services: Services,
  res: Response,
  { ask, named, user, image, plan }: Question,
  writingOf: (target: Target) => Writing,
): Promise<void> {
  if (ask.sampling.logprobs !== undefined && services.tokenizer.pieces === null)
    throw new AppError(
      'invalid_request',
      'logprobs: Expected none (the tokenizer of this backbone does not say which bytes a token is) but received some',
      { param: 'logprobs' },
    );
  const exchange = exchangeOf(res);
  const scope = new Scope(exchange, ask.timeoutMs, user);
  try {
    const selected = named === services.backbone ? NOTHING : await select(services.catalogue, named, scope);
    exchange.spent('adapter fetch', selected.fetchMs);
    const target: Target = { ...selected, ...plan(selected.adapter) };
    if (target.adapter) note(exchange, target.adapter);
    const generation = await submit(services, ask, scope, exchange, { image, targets: [target] });
    const writing = writingOf(target);
    if (ask.stream)
      await stream(generation, target, writing, new EventWriter(res, scope.signal), (error) => (exchange.error = error));
    else res.json(writing.whole(await generation.follow(target, () => {})));
  } finally {
    scope.end();
  }
}

async function stream(
  generation: Generation,
  target: Target,
  writing: Writing,
  writer: EventWriter,
  onError: (error: AppError) => void,
): Promise<void> {
  try {
    const generated = await generation.follow(target, async (piece) => {
      for (const event of writing.piece(piece)) await writer.send(event);
    });
    for (const event of writing.end(generated)) await writer.send(event);
  } catch (error) {
    // Before the first event this is an ordinary error reply.
    if (!writer.opened) throw error;
    onError(AppError.from(error));
    await writer.send({ object: 'error', ...errorBody(AppError.from(error)) });
  }
  await writer.end();
}
