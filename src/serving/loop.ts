/**
 * The serving loop: takes commands at any time, and between them turns one crank after another:
 * look who is there, encode an image if one waits, admit what is ready, step the batch, tell what came of it.
 * Whose turn it is in all of that is scheduler.ts and shares.ts.
 * It runs by itself: no round trip to the front end a step. Everything a job holds (rows, lease, features, timer) is given back in one place, `#end`.
 */
import { setImmediate as macrotask } from 'node:timers/promises';
import type { AdapterCache } from '../adapter/cache.js';
import type { Outcome } from '../engine/batch.js';
import type { Engine } from '../engine/engine.js';
import type { Vocabulary } from '../engine/strategy.js';
import { AppError, type ErrorData } from '../errors.js';
import type { Pixels } from '../images/protocol.js';
import { checkJob } from './check.js';
import { Job, type JobLimits } from './job.js';
import type {
  EngineCommand,
  EngineCounts,
  EngineEvent,
  EngineGauges,
  GenerateRequest,
  GenerateResult,
  GenerateStart,
  StepEvent,
  TokenEvent,
} from './protocol.js';
import { admit } from './scheduler.js';
import { Shares } from './shares.js';

/** Gauges travel at most this often, unless asked for. */
const GAUGES_EVERY_MS = 250;

/** What is done between steps; checks are none of the loop's business. */
export type LoopCommand = Exclude<EngineCommand, { readonly type: 'check' }>;

export interface LoopOptions {
  readonly vocabulary: Vocabulary;
  /** Prompt tokens of one step. */
  readonly prefillTokens: number;
  readonly adapterCacheBytes: number;
}

interface ImageWork {
  readonly pixels: Pixels;
  readonly jobs: Job[];
}

export class ServingLoop {
  readonly #engine: Engine<Job>;
  readonly #cache: AdapterCache;
  readonly #send: (event: EngineEvent) => void;
  readonly #options: LoopOptions;
  readonly #limits: JobLimits;
  readonly #shares: Shares;
  readonly #jobs = new Map<number, Job>();
  /** In order of arrival; not yet in the batch. */
  readonly #waiting = new Set<Job>();
  /** Images to encode, by digest. */
  readonly #images = new Map<string, ImageWork>();
  readonly #counts = {
    visionHits: 0,
    visionMisses: 0,
    promptTokens: 0,
    generatedTokens: 0,
    steps: 0,
    batchSizes: [] as number[],
    stepSeconds: [] as number[],
  };

  #started: { id: number; start: GenerateStart }[] = [];
  #tokens: TokenEvent[] = [];
  #finished: { id: number; result: GenerateResult }[] = [];
  #failed: { id: number; error: ErrorData }[] = [];
  #reportWanted = false;
  #gaugesSentMs = 0;
  #wake: () => void = () => {};
  #closed = false;

  constructor(engine: Engine<Job>, cache: AdapterCache, options: LoopOptions, send: (event: EngineEvent) => void) {
    this.#engine = engine;
    this.#cache = cache;
    this.#options = options;
    this.#send = send;
    this.#shares = new Shares(engine.decoder.kv.shape.rows);
    this.#limits = {
      vocabulary: options.vocabulary,
      imageTokens: engine.backbone.vision?.imageTokens ?? 0,
      contextLength: engine.contextLength,
    };
  }

  handle(command: LoopCommand): void {
    switch (command.type) {
      case 'generate':
        for (const request of command.requests) this.#accept(request, command.image);
        break;
      case 'cancel':
        for (const id of command.ids) this.#cancel(id);
        break;
      case 'prefetch':
        this.#shares.expect(command.party, performance.now());
        for (const adapter of command.adapters) this.#cache.prefetch(adapter, command.party);
        break;
      case 'pin':
        this.#cache.setPinned(command.adapter, command.pinned);
        break;
      case 'report':
        this.#reportWanted = true;
        break;
    }
    this.#wake();
  }

  /** Turns until `close`. */
  async run(): Promise<void> {
    while (!this.#closed) {
      this.#removeEnded();
      if (this.#idle()) {
        this.#flush();
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          // A command may have come while the last message was being written.
          if (!this.#idle() || this.#reportWanted || this.#closed) resolve();
        });
        continue;
      }
      this.#shares.look(performance.now(), this.#engine.batch.running, this.#waiting);
      await this.#encodeOne();
      await this.#step();
      this.#flush();
      // Messages, loaded adapters and timers get their turn between two steps.
      await macrotask();
    }
  }

  close(): void {
    this.#closed = true;
    this.#wake();
  }

  #idle(): boolean {
    if (this.#engine.batch.size > 0 || this.#images.size > 0) return false;
    for (const job of this.#waiting) if (job.ready || job.ended) return false;
    return this.#failed.length === 0;
  }

  #accept(request: GenerateRequest, pixels: Pixels | null): void {
    try {
      const job = new Job(request, pixels?.digest ?? null, this.#limits, () => this.#wake());
      this.#jobs.set(request.id, job);
      this.#waiting.add(job);
      checkJob(this.#engine, job);
      if (request.adapter) this.#lease(job);
      if (pixels) this.#want(job, pixels);
    } catch (error) {
      this.#end(request.id, AppError.from(error));
    }
  }

  #lease(job: Job): void {
    const ref = job.request.adapter as NonNullable<GenerateRequest['adapter']>;
    const lease = this.#cache.tryAcquire(ref);
    if (lease) {
      job.gotLease(lease);
      return;
    }
    this.#cache
      .acquire(ref, job.abort.signal, job)
      .then(
        (late) => {
          if (this.#jobs.get(job.request.id) !== job) late.release();
          else job.gotLease(late);
        },
        (error: unknown) => {
          // Where the job has ended by itself, this is only its own abort.
          if (this.#jobs.get(job.request.id) === job) this.#end(job.request.id, AppError.from(error));
        },
      )
      .finally(() => this.#wake());
  }

  #want(job: Job, pixels: Pixels): void {
    const features = this.#engine.vision?.cached(pixels.digest);
    if (features) {
      this.#counts.visionHits++;
      job.gotFeatures(features, true, 0);
      return;
    }
    const work = this.#images.get(pixels.digest);
    if (work) {
      // Somebody is already paying for this image.
      this.#counts.visionHits++;
      work.jobs.push(job);
    } else {
      this.#counts.visionMisses++;
      this.#images.set(pixels.digest, { pixels, jobs: [job] });
    }
  }

  /** One image of whoever's turn it is: what runs waits for it. */
  async #encodeOne(): Promise<void> {
    const next = this.#nextImage();
    const work = next && this.#images.get(next.image ?? '');
    if (!next || !work) return;
    const { pixels, jobs } = work;
    const startMs = performance.now();
    try {
      const features = await this.#engine.vision?.encode(pixels);
      const encodeMs = performance.now() - startMs;
      // Jobs may have joined while the encoder ran.
      jobs.forEach((job, index) => {
        if (features) job.gotFeatures(features, index > 0, encodeMs);
      });
    } catch (error) {
      for (const job of jobs) this.#end(job.request.id, AppError.from(error));
    }
    this.#images.delete(pixels.digest);
    this.#shares.spend([next], performance.now() - startMs);
  }

  /** The job whose image is encoded next. What nobody waits for any more is forgotten. */
  #nextImage(): Job | undefined {
    const wanting: Job[] = [];
    for (const [digest, { jobs }] of this.#images) {
      const alive = jobs.filter((job) => this.#jobs.has(job.request.id));
      if (alive.length === 0) this.#images.delete(digest);
      wanting.push(...alive);
    }
    return this.#shares.first(wanting.filter((job) => this.#shares.mayEncode(job)));
  }

  async #step(): Promise<void> {
    const { batch } = this.#engine;
    const joining: Job[] = [];
    const startMs = performance.now();
    for (const job of admit(this.#waiting, batch.freeRows, this.#options.prefillTokens, this.#shares)) {
      this.#waiting.delete(job);
      try {
        job.joined();
        await this.#engine.decoder.prepare(job.adapter);
        if (job.features && job.adapter) job.imageEmbeddings = await this.#engine.embedImage(job.adapter, job.features);
        joining.push(job);
      } catch (error) {
        this.#end(job.request.id, AppError.from(error));
      }
    }
    if (batch.size === 0 && joining.length === 0) return;
    const stepMs = performance.now();
    const resting = this.#shares.resting(batch.running);
    const stepping = [...batch.running, ...joining].filter((job) => !resting.has(job));
    const outcome = await batch.step(joining, resting);
    this.#counts.stepSeconds.push((performance.now() - stepMs) / 1000);
    this.#shares.spend(joining, stepMs - startMs + outcome.prefillMs);
    for (const job of stepping) this.#shares.charge(job, job.takeGenerated());
    this.#settle(outcome, joining);
  }

  #settle(outcome: Outcome<Job>, joining: readonly Job[]): void {
    this.#counts.steps++;
    this.#counts.batchSizes.push(outcome.decodedRows + joining.length);
    this.#counts.promptTokens += outcome.prefilledTokens;
    for (const job of outcome.started) {
      job.gotFirstToken();
      this.#started.push({ id: job.request.id, start: job.start() });
    }
    for (const { member, choice, tokenId, logprobs } of outcome.emitted) {
      const { id } = member.request;
      this.#tokens.push(logprobs ? [id, choice, tokenId, logprobs] : [id, choice, tokenId]);
    }
    for (const job of outcome.finished) {
      const result = job.result();
      this.#finished.push({ id: job.request.id, result });
      this.#forget(job);
    }
    for (const { member, error } of outcome.failed) this.#end(member.request.id, error);
  }

  #cancel(id: number): void {
    const job = this.#jobs.get(id);
    if (job) job.ended ??= 'cancelled';
  }

  /** Between steps: takes out what has been cancelled or has run out of time. */
  #removeEnded(): void {
    for (const job of this.#jobs.values()) {
      if (job.ended === null) continue;
      const error =
        job.ended === 'cancelled'
          ? new AppError('cancelled', 'The request was cancelled')
          : new AppError(
              'deadline_exceeded',
              `Expected the request to finish within ${job.request.deadlineMs} ms but it did not`,
            );
      this.#engine.batch.remove(job);
      this.#end(job.request.id, error);
    }
  }

  /** A request that does not end well. */
  #end(id: number, error: AppError): void {
    const job = this.#jobs.get(id);
    if (job) this.#forget(job);
    this.#failed.push({ id, error: error.toData() });
  }

  #forget(job: Job): void {
    this.#jobs.delete(job.request.id);
    this.#waiting.delete(job);
    this.#counts.generatedTokens += job.generated;
    job.release();
  }

  #flush(): void {
    const now = performance.now();
    const something = this.#started.length + this.#tokens.length + this.#finished.length + this.#failed.length > 0;
    const gauges = this.#reportWanted || (something && now - this.#gaugesSentMs > GAUGES_EVERY_MS) ? this.#gauges() : null;
    if (!something && !gauges) return;
    if (gauges) this.#gaugesSentMs = now;
    const event: StepEvent = {
      type: 'step',
      started: this.#started,
      tokens: this.#tokens,
      finished: this.#finished,
      failed: this.#failed,
      counts: this.#takeCounts(),
      gauges,
    };
    this.#started = [];
    this.#tokens = [];
    this.#finished = [];
    this.#failed = [];
    this.#reportWanted = false;
    this.#send(event);
  }

  #takeCounts(): EngineCounts {
    const counts = { ...this.#counts, ...this.#cache.takeCounts() };
    Object.assign(this.#counts, {
      visionHits: 0,
      visionMisses: 0,
      promptTokens: 0,
      generatedTokens: 0,
      steps: 0,
      batchSizes: [],
      stepSeconds: [],
    });
    return counts;
  }

  #gauges(): EngineGauges {
    const { batch, vision, decoder } = this.#engine;
    const { bytes, leases } = this.#cache.stats();
    const resident = this.#cache.resident();
    return {
      runningRows: batch.size,
      runningRequests: batch.members,
      waitingRequests: this.#waiting.size,
      runningAdapters: adaptersOf([...this.#jobs.values()].filter(({ hasJoined }) => hasJoined)),
      waitingAdapters: adaptersOf([...this.#jobs.values()].filter(({ hasJoined }) => !hasJoined)),
      adapterBytes: bytes,
      adapterCapacityBytes: this.#options.adapterCacheBytes,
      adapterResident: resident.length,
      adapterLeases: leases,
      visionBytes: vision?.bytes ?? 0,
      visionEntries: vision?.entries ?? 0,
      kvUsage: batch.usedTokens / (decoder.kv.shape.rows * decoder.kv.shape.maxLength),
      resident,
    };
  }
}

/** Names of the adapters of some jobs, sorted, each once. */
function adaptersOf(jobs: readonly Job[]): string[] {
  return [...new Set(jobs.flatMap(({ request: { adapter } }) => adapter?.name ?? []))].sort();
}
