/**
 * From a checked request to text: hands requests to the engine, follows their streams, turns tokens into text, ends at stop strings,
 * and tries once more where an adapter was replaced (or broken) on disk between the registry's look and the engine's.
 */
import { setMaxListeners } from 'node:events';
import type { RegisteredAdapter } from '../adapter/registry.js';
import { AppError } from '../errors.js';
import type { Pixels } from '../images/protocol.js';
import type {
  EngineInfo,
  FinishReason,
  GenerateInput,
  GenerateResult,
  GenerateStart,
  GenerationEvent,
  Timings,
} from '../serving/protocol.js';
import { TextStream } from '../serving/text.js';
import type { Tenant } from '../tenants/tenant.js';
import type { Keeper } from './catalogue.js';
import { type Exchange, partyOf } from './exchange.js';
import type { Ask } from './schema.js';
import type { Services } from './services.js';

/** The time a request has, what ends it early, and what it holds until then. */
export class Scope implements Keeper {
  readonly #startMs: number;
  readonly #timeoutMs: number;
  readonly #timer: NodeJS.Timeout;
  readonly #kept: (() => void)[] = [];
  readonly tenant: Tenant;
  /** Aborted with an AppError: `cancelled` where the client is gone, `deadline_exceeded` where the time is up. */
  readonly signal: AbortSignal;

  constructor(exchange: Exchange, timeoutMs: number) {
    this.#startMs = exchange.startMs;
    this.#timeoutMs = timeoutMs;
    this.tenant = exchange.tenant;
    const controller = new AbortController();
    this.signal = controller.signal;
    // As many wait for it as the request names adapters.
    setMaxListeners(0, this.signal);
    this.#timer = setTimeout(() => controller.abort(this.#tooLate()), this.remainingMs);
    // Not AbortSignal.any: Node keeps what that returns, and all that it leads to, for ever if a listener is left on it.
    const leave = (): void => controller.abort(exchange.signal.reason);
    if (exchange.signal.aborted) leave();
    else exchange.signal.addEventListener('abort', leave, { once: true });
  }

  get elapsedMs(): number {
    return performance.now() - this.#startMs;
  }

  get remainingMs(): number {
    return Math.max(1, Math.ceil(this.#timeoutMs - this.elapsedMs));
  }

  /** The error that a failure means to the client: the engine's own deadline says how much was left when it got the request. */
  explain(thrown: unknown): AppError {
    const error = AppError.from(thrown);
    if (error.code === 'deadline_exceeded') return this.#tooLate();
    return error.code === 'cancelled' && this.signal.aborted ? AppError.from(this.signal.reason) : error;
  }

  keep(release: () => void): void {
    this.#kept.push(release);
  }

  end(): void {
    clearTimeout(this.#timer);
    for (const release of this.#kept.splice(0)) release();
  }

  #tooLate(): AppError {
    return new AppError('deadline_exceeded', `Expected the request to finish within ${this.#timeoutMs} ms but it did not`);
  }
}

/** One adapter's part of a request (or the bare backbone's). */
export interface Target {
  /** The version that is asked for; follows the registry where it was replaced meanwhile. */
  adapter: RegisteredAdapter | null;
  /** How long its source was waited for: part of the time that the adapter took. */
  fetchMs: number;
  /** The text to continue, which may be the adapter's own. */
  readonly promptOf: (adapter: RegisteredAdapter | null) => string;
  /** Whether the text goes on from the prompt (its spacing included) or stands alone. */
  readonly continues: boolean;
}

export interface GeneratedText {
  readonly index: number;
  readonly text: string;
  readonly finishReason: FinishReason;
}

export interface Generated {
  readonly texts: readonly GeneratedText[];
  readonly imageTokens: number;
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly timings: Timings;
}

export type OnText = (piece: { readonly index: number; readonly text: string }) => void | Promise<void>;

interface Job {
  readonly target: Target;
  readonly input: GenerateInput;
  readonly events: AsyncIterableIterator<GenerationEvent>;
}

export class Generation {
  readonly #services: Services;
  readonly #ask: Ask;
  readonly #scope: Scope;
  readonly #pixels: Pixels | null;
  readonly #jobs: ReadonlyMap<Target, Job>;

  private constructor(services: Services, ask: Ask, scope: Scope, pixels: Pixels | null, jobs: ReadonlyMap<Target, Job>) {
    this.#services = services;
    this.#ask = ask;
    this.#scope = scope;
    this.#pixels = pixels;
    this.#jobs = jobs;
  }

  /** Hands all targets to the engine, in one message: they share the image. Each must then be followed. */
  static submit(services: Services, ask: Ask, scope: Scope, pixels: Pixels | null, targets: readonly Target[]): Generation {
    const inputs = targets.map((target) => inputOf(services, ask, scope, target));
    const streams = services.engine.generate(pixels, inputs, scope.signal);
    const jobs = targets.map(
      (target, index) => [target, { target, input: inputs[index], events: streams[index] } as Job] as const,
    );
    return new Generation(services, ask, scope, pixels, new Map(jobs));
  }

  /** Follows one target to its end; text is told as it becomes final. Throws AppError. */
  async follow(target: Target, onText: OnText): Promise<Generated> {
    const job = this.#jobs.get(target);
    if (!job) throw new TypeError('Expected a target that was submitted');
    try {
      const generated = await this.#follow(job, onText);
      for (const { finishReason } of generated.texts) this.#services.metrics.finished(finishReason);
      return generated;
    } catch (error) {
      throw this.#scope.explain(error);
    }
  }

  async #follow(job: Job, onText: OnText): Promise<Generated> {
    const { tokenizer, metrics } = this.#services;
    const prefixIds = job.target.continues ? job.input.promptIds : [];
    const voices = Array.from(
      { length: this.#ask.sampling.n },
      () => new Voice(new TextStream(tokenizer, { stop: this.#ask.stop, prefixIds })),
    );
    let tokens = 0;
    let start: GenerateStart | undefined;
    for await (const event of this.#events(job)) {
      if (event.type === 'started') {
        start = withFetch(event.start, job.target);
      } else if (event.type === 'token') {
        const voice = voices[event.choice];
        if (!voice || tokenizer.eosIds.includes(event.tokenId)) continue;
        if (tokens++ === 0) metrics.firstToken(this.#scope.elapsedMs / 1000);
        const gapMs = voice.gapMs();
        if (gapMs !== null) metrics.nextToken(gapMs / 1000);
        const text = voice.push(event.tokenId);
        if (text !== '') await onText({ index: event.choice, text });
        // Leaving the loop cancels the request.
        if (start && voices.every(({ stopped }) => stopped)) return this.#stopped(start, voices);
      } else {
        const result = withFetch(event.result, job.target);
        metrics.generated(result);
        return this.#done(result, voices, onText);
      }
    }
    throw this.#scope.signal.aborted
      ? AppError.from(this.#scope.signal.reason)
      : new AppError('cancelled', 'The request was cancelled');
  }

  /** The engine's events; from the start again where the adapter had been replaced. */
  async *#events(job: Job): AsyncGenerator<GenerationEvent> {
    try {
      yield* job.events;
      return;
    } catch (error) {
      const { adapter } = job.target;
      if (!adapter || !(error instanceof AppError) || error.code !== 'adapter_changed') throw error;
      const { catalogue } = this.#services;
      await catalogue.refresh(adapter);
      const selected = await catalogue.select(adapter.name, this.#scope);
      job.target.adapter = selected.adapter;
      job.target.fetchMs += selected.fetchMs;
    }
    const input = inputOf(this.#services, this.#ask, this.#scope, job.target);
    for (const events of this.#services.engine.generate(this.#pixels, [input], this.#scope.signal)) yield* events;
  }

  async #done(result: GenerateResult, voices: readonly Voice[], onText: OnText): Promise<Generated> {
    const texts: GeneratedText[] = [];
    for (const { index, tokenIds, finishReason } of result.choices) {
      const voice = voices[index];
      if (!voice) throw new AppError('internal', `Expected ${voices.length} choices but the engine sent choice ${index}`);
      // A beam search tells its tokens only now.
      let rest = voice.tokens === 0 ? tokenIds.map((id) => voice.push(id)).join('') : '';
      rest += voice.finish();
      if (rest !== '') await onText({ index, text: rest });
      texts.push({ index, text: voice.text, finishReason: voice.stopped ? 'stop' : finishReason });
    }
    const { imageTokens, promptTokens, completionTokens, timings } = result;
    return { texts, imageTokens, promptTokens, completionTokens, timings };
  }

  /** Every sequence came to a stop string: the engine is told to end, and what it would still say is known here. */
  #stopped(start: GenerateStart, voices: readonly Voice[]): Generated {
    const generated = {
      ...start,
      completionTokens: voices.reduce((total, { tokens }) => total + tokens, 0),
      timings: { ...start.timings, decodeMs: Math.max(...voices.map((voice) => voice.elapsedMs())) },
    };
    this.#services.metrics.generated(generated);
    return { ...generated, texts: voices.map(({ text }, index) => ({ index, text, finishReason: 'stop' })) };
  }
}

/** Throws `context_length_exceeded` where the prompt leaves no room; called before an image is decoded for nothing. */
export function checkPrompt(
  { tokenizer }: Services,
  { contextLength, imageTokens }: EngineInfo,
  prompt: string,
  hasImage: boolean,
): void {
  const tokens = tokenizer.encode(prompt).length + (hasImage ? imageTokens : 0);
  if (tokens < contextLength) return;
  const parts = hasImage ? ` (${imageTokens} of them the image's)` : '';
  throw new AppError(
    'context_length_exceeded',
    `prompt: Expected fewer than ${contextLength} tokens, so that one can follow, but received ${tokens}${parts}`,
    { param: 'prompt' },
  );
}

function inputOf({ tokenizer }: Services, { sampling }: Ask, scope: Scope, { adapter, promptOf }: Target): GenerateInput {
  return {
    ...partyOf(scope.tenant),
    adapter: adapter?.ref ?? null,
    promptIds: tokenizer.encode(promptOf(adapter)),
    sampling,
    deadlineMs: scope.remainingMs,
  };
}

/** The engine knows nothing of what came before it. */
function withFetch<Start extends GenerateStart>(start: Start, { fetchMs }: Target): Start {
  if (fetchMs === 0) return start;
  return { ...start, timings: { ...start.timings, adapterMs: start.timings.adapterMs + fetchMs } };
}

/** One sequence's text so far. */
class Voice {
  readonly #stream: TextStream;
  #firstMs: number | null = null;
  #lastMs: number | null = null;
  text = '';
  tokens = 0;

  constructor(stream: TextStream) {
    this.#stream = stream;
  }

  get stopped(): boolean {
    return this.#stream.stopped;
  }

  /** Milliseconds since the token before; null at the first. */
  gapMs(): number | null {
    const now = performance.now();
    const gap = this.#lastMs === null ? null : now - this.#lastMs;
    this.#firstMs ??= now;
    this.#lastMs = now;
    return gap;
  }

  /** Milliseconds since the first token; 0 before it. */
  elapsedMs(): number {
    return this.#firstMs === null ? 0 : performance.now() - this.#firstMs;
  }

  push(tokenId: number): string {
    if (!this.stopped) this.tokens++;
    return this.#take(this.#stream.push(tokenId));
  }

  finish(): string {
    return this.#take(this.#stream.finish());
  }

  #take(text: string): string {
    this.text += text;
    return text;
  }
}
