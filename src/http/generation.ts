/**
 * From a checked request to text: hands requests to the engine, follows their streams, turns tokens into text, ends at stop strings,
 * and tries once more where an adapter was replaced (or broken) on disk between the registry's look and the engine's.
 */
import type { RegisteredAdapter } from '../adapter/registry.js';
import type { Tokenizer } from '../backbone/tokenizer.js';
import { AppError } from '../errors.js';
import type { Pixels } from '../images/protocol.js';
import { LikelihoodStream, type TokenLikelihood } from '../serving/likelihood.js';
import type {
  EngineInfo,
  FinishReason,
  GenerateInput,
  GenerateResult,
  GenerateStart,
  GenerationEvent,
  Timings,
  TokenLogprobs,
} from '../serving/protocol.js';
import { TextStream } from '../serving/text.js';
import { partyOf } from './exchange.js';
import { noteFirstToken, noteGenerated, noteHandedOver, noteTokens } from './note.js';
import type { Charge, Used } from './quotas.js';
import type { Ask } from './schema.js';
import type { Scope } from './scope.js';
import { reselect } from './selection.js';
import type { Services } from './services.js';

/** One adapter's part of a request (or the bare backbone's). */
export interface Target {
  /** The version that is asked for; follows the registry where it was replaced meanwhile. */
  adapter: RegisteredAdapter | null;
  /** As it was asked for; null for the bare backbone. */
  readonly reference: string | null;
  /** How long its source was waited for: part of the time that the adapter took. */
  fetchMs: number;
  /** The text to continue, which may be the adapter's own. */
  readonly promptOf: (adapter: RegisteredAdapter | null) => string;
  /** Whether the text goes on from the prompt (its spacing included) or stands alone. */
  readonly continues: boolean;
  /** The prompt says itself how it begins, and names special tokens. */
  readonly isWhole?: boolean;
}

export interface GeneratedText {
  readonly index: number;
  readonly text: string;
  readonly finishReason: FinishReason;
  /** The text's tokens; absent where nobody asked how likely they were. */
  readonly tokens?: readonly TokenLikelihood[];
}

/** A part of a text that has become final, and the tokens that begin in it where they are asked for. */
export interface TextPiece {
  readonly index: number;
  readonly text: string;
  readonly tokens?: readonly TokenLikelihood[];
}

export interface Generated {
  readonly texts: readonly GeneratedText[];
  readonly imageTokens: number;
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly timings: Timings;
}

export type OnText = (piece: TextPiece) => void | Promise<void>;

interface Job {
  readonly target: Target;
  readonly input: GenerateInput;
  readonly events: AsyncIterableIterator<GenerationEvent>;
  /** Until it is complete: what it has used so far. */
  readonly used: { -readonly [Kind in keyof Used]: number };
}

const NOTHING: Used = { imageTokens: 0, promptTokens: 0, completionTokens: 0 };

export class Generation {
  readonly #services: Services;
  readonly #ask: Ask;
  readonly #scope: Scope;
  readonly #charge: Charge;
  readonly #pixels: Pixels | null;
  readonly #jobs: ReadonlyMap<Target, Job>;
  /** When the engine got it. */
  readonly #startMs = performance.now();

  private constructor(
    services: Services,
    ask: Ask,
    scope: Scope,
    charge: Charge,
    pixels: Pixels | null,
    jobs: ReadonlyMap<Target, Job>,
  ) {
    this.#services = services;
    this.#ask = ask;
    this.#scope = scope;
    this.#charge = charge;
    this.#pixels = pixels;
    this.#jobs = jobs;
  }

  /** Hands all targets to the engine, in one message: they share the image. Each must then be followed, and is charged for what it used. */
  static submit(
    services: Services,
    ask: Ask,
    scope: Scope,
    charge: Charge,
    pixels: Pixels | null,
    targets: readonly Target[],
  ): Generation {
    const inputs = targets.map((target) => inputOf(services, ask, scope, target));
    const streams = services.engine.generate(pixels, inputs, scope.signal);
    for (const target of targets) noteHandedOver(services, target);
    const jobs = targets.map(
      (target, index) => [target, { target, input: inputs[index], events: streams[index], used: { ...NOTHING } } as Job] as const,
    );
    return new Generation(services, ask, scope, charge, pixels, new Map(jobs));
  }

  /** Follows one target to its end; text is told as it becomes final. Throws AppError. */
  async follow(target: Target, onText: OnText): Promise<Generated> {
    const job = this.#jobs.get(target);
    if (!job) throw new TypeError('Expected a target that was submitted');
    let used: Used = job.used;
    try {
      const generated = await this.#follow(job, onText);
      used = generated;
      for (const { finishReason } of generated.texts) this.#services.metrics.finished(finishReason);
      this.#shade(job, generated.texts);
      return generated;
    } catch (error) {
      throw this.#scope.explain(error);
    } finally {
      this.#charge.add(used);
      noteTokens(this.#services, target, used.completionTokens);
    }
  }

  /** When the reply is over, so that nothing of it waits. */
  #shade({ target, input }: Job, texts: readonly GeneratedText[]): void {
    const shadows = this.#services.lifecycle?.shadows;
    if (!shadows) return;
    const answered = { requestId: this.#scope.exchange.id, target, pixels: this.#pixels, input, stop: this.#ask.stop, texts };
    this.#scope.keep(() => shadows.offer(answered));
  }

  async #follow(job: Job, onText: OnText): Promise<Generated> {
    const { tokenizer, metrics } = this.#services;
    const prefixIds = job.target.continues ? job.input.promptIds : [];
    const { sampling, stop } = this.#ask;
    const voices = Array.from(
      { length: sampling.n },
      (_, index) =>
        new Voice(
          index,
          new TextStream(tokenizer, { stop, prefixIds }),
          sampling.logprobs === undefined ? null : new LikelihoodStream(tokenizer, prefixIds),
        ),
    );
    let tokens = 0;
    let start: GenerateStart | undefined;
    for await (const event of this.#events(job)) {
      if (event.type === 'started') {
        start = withFetch(event.start, job.target);
        Object.assign(job.used, { imageTokens: start.imageTokens, promptTokens: start.promptTokens });
      } else if (event.type === 'token') {
        const voice = voices[event.choice];
        if (!voice || tokenizer.eosIds.includes(event.tokenId)) continue;
        job.used.completionTokens = ++tokens;
        if (tokens === 1) noteFirstToken(this.#services, job.target, this.#scope.elapsedMs / 1000);
        const gapMs = voice.gapMs();
        if (gapMs !== null) metrics.nextToken(gapMs / 1000);
        const piece = voice.push(event.tokenId, event.logprobs);
        if (isSomething(piece)) await onText(piece);
        // Leaving the loop cancels the request.
        if (start && voices.every(({ stopped }) => stopped)) return this.#stopped(job.target, start, voices);
      } else {
        const result = withFetch(event.result, job.target);
        noteGenerated(this.#services, this.#scope.exchange, job.target, this.#startMs, result);
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
      const { target } = job;
      const selected = await reselect(this.#services.catalogue, adapter, target.reference ?? adapter.name, this.#scope);
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
      const before = voice.tokens === 0 ? tokenIds.map((id) => voice.push(id).text).join('') : '';
      const last = voice.finish();
      const rest = { ...last, text: before + last.text };
      if (isSomething(rest)) await onText(rest);
      texts.push(voice.whole(voice.stopped ? 'stop' : finishReason));
    }
    const { imageTokens, promptTokens, completionTokens, timings } = result;
    return { texts, imageTokens, promptTokens, completionTokens, timings };
  }

  /** Every sequence came to a stop string: the engine is told to end, and what it would still say is known here. */
  #stopped(target: Target, start: GenerateStart, voices: readonly Voice[]): Generated {
    const generated = {
      ...start,
      completionTokens: voices.reduce((total, { tokens }) => total + tokens, 0),
      timings: { ...start.timings, decodeMs: Math.max(...voices.map((voice) => voice.elapsedMs())) },
    };
    noteGenerated(this.#services, this.#scope.exchange, target, this.#startMs, generated);
    return { ...generated, texts: voices.map((voice) => voice.whole('stop')) };
  }
}

/** Throws `context_length_exceeded` where the prompt leaves no room; called before an image is decoded for nothing. */
export function checkPrompt(
  { tokenizer }: Services,
  { contextLength, imageTokens }: EngineInfo,
  prompt: string,
  hasImage: boolean,
  isWhole = false,
): void {
  const tokens = encode(tokenizer, prompt, isWhole).length + (hasImage ? imageTokens : 0);
  if (tokens < contextLength) return;
  const parts = hasImage ? ` (${imageTokens} of them the image's)` : '';
  throw new AppError(
    'context_length_exceeded',
    `prompt: Expected fewer than ${contextLength} tokens, so that one can follow, but received ${tokens}${parts}`,
    { param: 'prompt' },
  );
}

/** The ids of what a target continues. */
export function promptIdsOf({ tokenizer }: Services, { adapter, promptOf, isWhole = false }: Target): number[] {
  return encode(tokenizer, promptOf(adapter), isWhole);
}

function encode(tokenizer: Tokenizer, prompt: string, isWhole: boolean): number[] {
  return isWhole ? tokenizer.encodeWhole(prompt) : tokenizer.encode(prompt);
}

function inputOf(services: Services, { sampling }: Ask, scope: Scope, target: Target): GenerateInput {
  return {
    ...partyOf(scope.tenant),
    adapter: target.adapter?.ref ?? null,
    promptIds: promptIdsOf(services, target),
    sampling,
    deadlineMs: scope.remainingMs,
  };
}

/** The engine knows nothing of what came before it. */
function withFetch<Start extends GenerateStart>(start: Start, { fetchMs }: Target): Start {
  if (fetchMs === 0) return start;
  return { ...start, timings: { ...start.timings, adapterMs: start.timings.adapterMs + fetchMs } };
}

function isSomething({ text, tokens = [] }: TextPiece): boolean {
  return text !== '' || tokens.length > 0;
}

/** One sequence's text so far. */
class Voice {
  readonly #index: number;
  readonly #stream: TextStream;
  readonly #likelihoods: LikelihoodStream | null;
  readonly #told: TokenLikelihood[] = [];
  #firstMs: number | null = null;
  #lastMs: number | null = null;
  #text = '';
  tokens = 0;

  constructor(index: number, stream: TextStream, likelihoods: LikelihoodStream | null) {
    this.#index = index;
    this.#stream = stream;
    this.#likelihoods = likelihoods;
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

  push(tokenId: number, logprobs?: TokenLogprobs): TextPiece {
    if (!this.stopped) {
      this.tokens++;
      if (logprobs) this.#likelihoods?.push(tokenId, logprobs);
    }
    const text = this.#stream.push(tokenId);
    return this.#piece(text, this.#likelihoods?.take(text));
  }

  finish(): TextPiece {
    const text = this.#stream.finish();
    const tokens = this.#likelihoods?.take(text);
    if (!this.stopped) tokens?.push(...(this.#likelihoods?.finish() ?? []));
    return this.#piece(text, tokens);
  }

  whole(finishReason: FinishReason): GeneratedText {
    const tokens = this.#likelihoods ? { tokens: this.#told } : {};
    return { index: this.#index, text: this.#text, finishReason, ...tokens };
  }

  #piece(text: string, tokens: TokenLikelihood[] | undefined): TextPiece {
    this.#text += text;
    if (tokens === undefined) return { index: this.#index, text };
    this.#told.push(...tokens);
    return { index: this.#index, text, tokens };
  }
}
