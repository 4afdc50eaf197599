/** One request inside the engine process: what it holds, how far it is, and how long each part took. */
import type { LoadedAdapter } from '../adapter/adapter.js';
import type { Lease } from '../adapter/cache.js';
import type { Member } from '../engine/batch.js';
import { type Strategy, strategyFor, type Vocabulary, widthOf } from '../engine/strategy.js';
import type { GenerateRequest, GenerateResult, GenerateStart } from './protocol.js';
import type { Candidate } from './shares.js';

export interface JobLimits {
  readonly vocabulary: Vocabulary;
  readonly imageTokens: number;
  readonly contextLength: number;
}

export class Job implements Member, Candidate {
  readonly request: GenerateRequest;
  /** Digest of its image; null for a text request. */
  readonly image: string | null;
  readonly imageTokens: number;
  readonly abort = new AbortController();
  lease: Lease | null = null;
  features: Float32Array | null = null;
  imageEmbeddings: Float32Array | null = null;
  /** Set by a cancel or a deadline; honoured between steps. */
  ended: 'cancelled' | 'deadline_exceeded' | null = null;
  visionHit = false;

  readonly #limits: JobLimits;
  #strategy: Strategy | undefined;
  readonly #arrivedMs = performance.now();
  #adapterMs = 0;
  #visionMs = 0;
  #readyMs = 0;
  #startedMs = 0;
  #firstTokenMs = 0;
  /** Generated tokens that have been counted as served. */
  #counted = 0;
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(request: GenerateRequest, image: string | null, limits: JobLimits, onDeadline: (job: Job) => void) {
    this.request = request;
    this.image = image;
    this.imageTokens = image === null ? 0 : limits.imageTokens;
    this.#limits = limits;
    if (request.deadlineMs !== null) {
      this.#timer = setTimeout(() => {
        this.ended ??= 'deadline_exceeded';
        onDeadline(this);
      }, request.deadlineMs);
    }
  }

  get adapter(): LoadedAdapter | null {
    return this.lease?.adapter ?? null;
  }

  get tenant(): string {
    return this.request.tenant;
  }

  get weight(): number {
    return this.request.weight;
  }

  get promptIds(): readonly number[] {
    return this.request.promptIds;
  }

  get strategy(): Strategy {
    if (!this.#strategy) throw new TypeError('Expected a job that has joined the batch but it still waits');
    return this.#strategy;
  }

  /** Whether it has been in the batch. */
  get hasJoined(): boolean {
    return this.#strategy !== undefined;
  }

  get width(): number {
    return widthOf(this.request.sampling);
  }

  /** Tokens drawn so far. */
  get generated(): number {
    return this.#strategy?.generated ?? 0;
  }

  get tokens(): number {
    return this.request.promptIds.length + this.imageTokens;
  }

  get ready(): boolean {
    return (this.request.adapter === null || this.lease !== null) && (this.image === null || this.features !== null);
  }

  get wantsImage(): boolean {
    return this.image !== null && this.features === null;
  }

  /** Tokens drawn since this was last asked. */
  takeGenerated(): number {
    const fresh = this.generated - this.#counted;
    this.#counted += fresh;
    return fresh;
  }

  gotLease(lease: Lease): void {
    this.lease = lease;
    this.#adapterMs = lease.hit ? 0 : performance.now() - this.#arrivedMs;
    this.#markReady();
  }

  gotFeatures(features: Float32Array, hit: boolean, encodeMs: number): void {
    this.features = features;
    this.visionHit = hit;
    this.#visionMs = encodeMs;
    this.#markReady();
  }

  /** Only now gets its strategy: a sampler has buffers as long as the vocabulary, and hundreds of jobs may wait. Throws RangeError as that does. */
  joined(): void {
    const { vocabulary, contextLength } = this.#limits;
    const { sampling, promptIds } = this.request;
    const maxTokens = Math.min(sampling.maxTokens, contextLength - this.tokens);
    this.#strategy = strategyFor({ ...sampling, maxTokens }, vocabulary, promptIds);
    this.#startedMs = performance.now();
    if (this.#readyMs === 0) this.#readyMs = this.#arrivedMs;
  }

  gotFirstToken(): void {
    this.#firstTokenMs = performance.now();
  }

  /** Frees what the job holds; safe to call twice. */
  release(): void {
    clearTimeout(this.#timer);
    this.abort.abort();
    this.lease?.release();
    this.features = this.imageEmbeddings = null;
  }

  start(): GenerateStart {
    return {
      imageTokens: this.imageTokens,
      promptTokens: this.request.promptIds.length,
      timings: {
        queueMs: this.#startedMs - this.#readyMs,
        adapterMs: this.#adapterMs,
        visionMs: this.#visionMs,
        prefillMs: this.#firstTokenMs - this.#startedMs,
      },
      adapterCache: this.lease === null ? 'none' : this.lease.hit ? 'hit' : 'miss',
      visionCache: this.image === null ? 'none' : this.visionHit ? 'hit' : 'miss',
    };
  }

  result(): GenerateResult {
    const start = this.start();
    const choices = this.strategy.choices();
    return {
      ...start,
      choices,
      completionTokens: choices.reduce((total, { tokenIds }) => total + tokenIds.length, 0),
      timings: { ...start.timings, decodeMs: performance.now() - this.#firstTokenMs },
    };
  }

  #markReady(): void {
    if (this.ready) this.#readyMs = performance.now();
  }
}
