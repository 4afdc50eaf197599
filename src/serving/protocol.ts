/**
 * Messages between the front end and the engine process, and what the front end's client offers. Structured-clone data only.
 * Requests go in with pixels and token ids; tokens come out in one message a step; metrics come out as counts to add.
 */
import type { AdapterRef } from '../adapter/adapter.js';
import type { TokenLogprobs } from '../engine/logprobs.js';
import type { ErrorData } from '../errors.js';
import type { Crowd } from '../fairness/crowd.js';
import type { Party } from '../fairness/turns.js';
import type { Pixels } from '../images/protocol.js';

export interface SamplingParams {
  readonly maxTokens: number;
  /** 0 = greedy. */
  readonly temperature: number;
  /** 0 = off. */
  readonly topK: number;
  /** 1 = off. */
  readonly topP: number;
  /** 1 = off; over prompt and generated tokens, as transformers does. */
  readonly repetitionPenalty: number;
  /** Same seed, same request, same tokens. null draws one. */
  readonly seed: number | null;
  /** Independent samples of one request; with beams, how many of the best are returned. */
  readonly n: number;
  /** 1 = no beam search. */
  readonly numBeams: number;
  readonly lengthPenalty: number;
  readonly earlyStopping: boolean;
  /** How many of the most likely tokens are told with each token; absent: nothing is. Not for beams. */
  readonly logprobs?: number;
}

export type { TokenLogprobs } from '../engine/logprobs.js';

/** One adapter's answer to one prompt (and image), for a tenant that the engine knows by an id and a weight alone. */
export interface GenerateRequest extends Party {
  /** Unique in the front end's life. */
  readonly id: number;
  /** null: the bare backbone, text only. */
  readonly adapter: AdapterRef | null;
  /** BOS first, then the prompt; image tokens go between them. */
  readonly promptIds: readonly number[];
  readonly sampling: SamplingParams;
  /** Milliseconds this request may take from now; null: no limit. */
  readonly deadlineMs: number | null;
}

export type EngineCommand =
  /** Requests that share one image (or none): encoded once. */
  | { readonly type: 'generate'; readonly image: Pixels | null; readonly requests: readonly GenerateRequest[] }
  | { readonly type: 'cancel'; readonly ids: readonly number[] }
  /** Start loading: the image is still being decoded elsewhere. */
  | { readonly type: 'prefetch'; readonly party: Party; readonly adapters: readonly AdapterRef[] }
  | { readonly type: 'pin'; readonly adapter: AdapterRef; readonly pinned: boolean }
  /** Load it, beside all that serves, only to say whether that can be done. */
  | { readonly type: 'check'; readonly id: number; readonly adapter: AdapterRef }
  /** Ask for one `step` message now, for a scrape. */
  | { readonly type: 'report' };

export type FinishReason = 'stop' | 'length';

export interface Timings {
  /** Waiting for a row, after everything else was there. */
  readonly queueMs: number;
  /** Waiting for adapter bytes; 0 on a cache hit. */
  readonly adapterMs: number;
  /** Vision encoder; 0 on a feature cache hit. */
  readonly visionMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
}

export interface Choice {
  readonly index: number;
  /** Generated ids without the end-of-sequence token. */
  readonly tokenIds: readonly number[];
  readonly finishReason: FinishReason;
}

/** What is known of a request once it has its first token: a client that stops listening early has it already. */
export interface GenerateStart {
  readonly imageTokens: number;
  readonly promptTokens: number;
  readonly timings: Omit<Timings, 'decodeMs'>;
  /** Where the adapter was: 'none' for base rows. */
  readonly adapterCache: 'hit' | 'miss' | 'none';
  readonly visionCache: 'hit' | 'miss' | 'none';
}

export interface GenerateResult extends GenerateStart {
  readonly choices: readonly Choice[];
  readonly completionTokens: number;
  readonly timings: Timings;
}

/** Counts since the last message: the front end adds them to its counters, so an engine's restart loses nothing. */
export interface EngineCounts {
  adapterHits: number;
  adapterMisses: number;
  adapterLoads: number;
  adapterLoadFailures: number;
  adapterEvictions: number;
  visionHits: number;
  visionMisses: number;
  promptTokens: number;
  generatedTokens: number;
  steps: number;
  /** Observations to put into histograms. */
  adapterLoadSeconds: number[];
  batchSizes: number[];
  stepSeconds: number[];
}

/** How things are now. */
export interface EngineGauges {
  runningRows: number;
  runningRequests: number;
  waitingRequests: number;
  /** Names of the adapters of those that run, and of those that wait; sorted, each once. */
  runningAdapters: readonly string[];
  waitingAdapters: readonly string[];
  adapterBytes: number;
  adapterCapacityBytes: number;
  adapterResident: number;
  adapterLeases: number;
  visionBytes: number;
  visionEntries: number;
  /** Used part of all KV rows, 0 to 1. */
  kvUsage: number;
  /** Digest, name, bytes, leases, pinned of every resident adapter. */
  resident: readonly ResidentAdapter[];
}

export interface ResidentAdapter {
  readonly name: string;
  readonly digest: string;
  readonly bytes: number;
  readonly leases: number;
  readonly pinned: boolean;
  readonly matched: number;
  readonly targeted: number;
}

/** What the engine says of itself once it can serve. */
export interface EngineInfo {
  readonly backbone: string;
  readonly contextLength: number;
  /** Tokens an image takes; 0 without a vision encoder. */
  readonly imageTokens: number;
  readonly maxBatch: number;
  readonly vocabSize: number;
  readonly threads: number;
  readonly loadMs: number;
}

/** Request id, choice index, token id, and how likely it was where the request asks. */
export type TokenEvent = readonly [number, number, number, TokenLogprobs?];

export interface StepEvent {
  readonly type: 'step';
  /** Requests that got their rows, and their first token, in this step. */
  readonly started: readonly { readonly id: number; readonly start: GenerateStart }[];
  /** Every new token; beams report only when they finish. */
  readonly tokens: readonly TokenEvent[];
  readonly finished: readonly { readonly id: number; readonly result: GenerateResult }[];
  readonly failed: readonly { readonly id: number; readonly error: ErrorData }[];
  readonly counts: EngineCounts;
  /** Sent a few times a second and on `report`, not with every step: the list of resident adapters can be long. */
  readonly gauges: EngineGauges | null;
}

/** An adapter came into memory: an operator wants to see that all of it found its place. */
export interface LoadedEvent {
  readonly type: 'loaded';
  readonly name: string;
  readonly digest: string;
  readonly method: string;
  readonly matched: number;
  readonly targeted: number;
  readonly bytes: number;
  readonly loadMs: number;
}

/** The answer to `check`. */
export interface CheckedEvent {
  readonly type: 'checked';
  readonly id: number;
  readonly error: ErrorData | null;
}

export type EngineEvent = { readonly type: 'ready'; readonly info: EngineInfo } | LoadedEvent | CheckedEvent | StepEvent;

/** What one request's stream yields; it throws AppError where the request fails. */
export type GenerationEvent =
  | { readonly type: 'started'; readonly start: GenerateStart }
  | { readonly type: 'token'; readonly choice: number; readonly tokenId: number; readonly logprobs?: TokenLogprobs }
  | { readonly type: 'done'; readonly result: GenerateResult };

export type GenerateInput = Omit<GenerateRequest, 'id'>;

/** The engine as the front end sees it (serving/client.ts implements it over a supervised child). */
export interface EngineClient {
  /** null until the first `ready`. */
  readonly info: EngineInfo | null;
  readonly state: 'starting' | 'ready' | 'restarting' | 'stopped';
  /** One stream a request, in order. Ending a stream early (return, or the signal) cancels its request and frees row, KV and lease. */
  generate(
    image: Pixels | null,
    requests: readonly GenerateInput[],
    signal: AbortSignal,
  ): AsyncIterableIterator<GenerationEvent>[];
  /** A request of this tenant is on its way. */
  prefetch(party: Party, adapters: readonly AdapterRef[]): void;
  /** A pinned adapter is loaded and never evicted, also by the engine process that comes after a crash. */
  pin(adapter: AdapterRef, pinned: boolean): void;
  /**
   * Resolves where the engine can serve the adapter, which stays in no cache. Throws AppError: `adapter_invalid`, `adapter_changed`, `adapter_too_large`,
   * `engine_unavailable` where no engine is there to say it.
   */
  check(adapter: AdapterRef): Promise<void>;
  /** Requests submitted and not yet started. */
  readonly waiting: Crowd;
  /** Requests submitted and not yet finished. */
  readonly outstanding: number;
  /** The newest gauges, asked for now; the last ones known if the engine does not answer within the time. */
  report(timeoutMs: number): Promise<EngineGauges>;
  /** Every `step` message's counts. */
  onCounts(listener: (counts: EngineCounts) => void): void;
  onLoaded(listener: (event: LoadedEvent) => void): void;
  onRestart(listener: (reason: string) => void): void;
  readonly restarts: number;
  /** The child's process id, for operators and tests. */
  readonly pid: number | undefined;
  /** Waits for outstanding requests, at most this long, then stops the process. */
  close(drainMs: number): Promise<void>;
}
