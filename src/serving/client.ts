/**
 * The engine as the front end holds it: a supervised child process, a stream a request.
 * While the process is starting (again), requests wait here; when it dies, those that were inside get a 503 that says retry, and no other.
 */
import type { AdapterRef } from '../adapter/adapter.js';
import { AppError } from '../errors.js';
import { Crowd } from '../fairness/crowd.js';
import type { Party } from '../fairness/turns.js';
import type { Pixels } from '../images/protocol.js';
import { SupervisedChild } from '../runtime/child.js';
import type {
  EngineClient,
  EngineCommand,
  EngineCounts,
  EngineEvent,
  EngineGauges,
  EngineInfo,
  GenerateInput,
  GenerateStart,
  GenerationEvent,
  LoadedEvent,
  StepEvent,
} from './protocol.js';
import { EventStream } from './stream.js';

export interface EngineOptions {
  /** A folder with backbone.json, that file itself, or a language checkpoint folder. */
  readonly backbone: string;
  readonly maxBatch: number;
  readonly contextLength: number | null;
  readonly threads: number;
  readonly adapterCacheBytes: number;
  readonly visionCacheBytes: number;
  /** Prompt tokens that one step may prefill. */
  readonly prefillTokens: number;
  /** In what the language model's weights are multiplied; float32 by default. */
  readonly weights?: 'float32' | 'int8' | 'int4';
  /** Folder that keeps weights of other precisions, which cannot be without it. */
  readonly weightsCache?: string;
}

interface Outstanding {
  readonly party: Party;
  readonly stream: EventStream;
  started: boolean;
  readonly onSettled: () => void;
}

/** Somebody waits to hear whether an adapter can be served. */
interface Check {
  readonly resolve: () => void;
  readonly reject: (error: AppError) => void;
}

const EMPTY_GAUGES: EngineGauges = {
  runningRows: 0,
  runningRequests: 0,
  waitingRequests: 0,
  runningAdapters: [],
  waitingAdapters: [],
  adapterBytes: 0,
  adapterCapacityBytes: 0,
  adapterResident: 0,
  adapterLeases: 0,
  visionBytes: 0,
  visionEntries: 0,
  kvUsage: 0,
  resident: [],
};

/** Starts the engine process. The first `ready` can be awaited with `whenReady`. */
export function startEngine(options: EngineOptions): SupervisedEngine {
  return new SupervisedEngine(options);
}

/** Loading a large backbone from a cold disk takes its time; a process that hangs is killed all the same. */
const READY_TIMEOUT_MS = 300_000;

export class SupervisedEngine implements EngineClient {
  readonly #child: SupervisedChild<EngineCommand, EngineEvent>;
  readonly #outstanding = new Map<number, Outstanding>();
  /** What came while no process was ready, in order. */
  #held: EngineCommand[] = [];
  /** By digest; each new process is told of them first. */
  readonly #pins = new Map<string, AdapterRef>();
  readonly #checks = new Map<number, Check>();
  #nextId = 1;
  #gauges = EMPTY_GAUGES;
  #reports: ((gauges: EngineGauges) => void)[] = [];
  readonly #countListeners: ((counts: EngineCounts) => void)[] = [];
  readonly #loadedListeners: ((event: LoadedEvent) => void)[] = [];
  readonly #restartListeners: ((reason: string) => void)[] = [];
  #onDrained: (() => void) | undefined;
  readonly waiting = new Crowd();
  info: EngineInfo | null = null;
  state: EngineClient['state'] = 'starting';
  /** The first `ready`; rejects with the engine's own error where the backbone cannot be served. */
  readonly whenReady: Promise<EngineInfo>;

  constructor(options: EngineOptions) {
    this.#child = new SupervisedChild(
      {
        name: 'engine process',
        entry: new URL('./process.js', import.meta.url),
        args: [JSON.stringify(options)],
        // A step's logits are garbage a step later. They are outside of the heap, which hardly grows, so without this megabytes of them would
        // lie there until it is next cleaned (bench/RESULTS.md, "precision").
        execArgv: ['--max-semi-space-size=1'],
        readyTimeoutMs: READY_TIMEOUT_MS,
      },
      { onMessage: (event) => this.#receive(event), onExit: (reason) => this.#lost(reason) },
    );
    this.whenReady = this.#child.start().then(() => this.info as EngineInfo);
    this.whenReady.catch((error: unknown) => {
      this.state = 'stopped';
      this.#held = [];
      this.#failAll(AppError.from(error));
    });
  }

  get outstanding(): number {
    return this.#outstanding.size;
  }

  get restarts(): number {
    return this.#child.restarts;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  generate(
    image: Pixels | null,
    requests: readonly GenerateInput[],
    signal: AbortSignal,
  ): AsyncIterableIterator<GenerationEvent>[] {
    if (this.state === 'stopped') throw new AppError('shutting_down', 'The server is shutting down', { retryAfterS: 1 });
    const onAbort = (): void => {
      for (const stream of streams) void stream.return();
    };
    let open = requests.length;
    const onSettled = (): void => {
      if (--open === 0) signal.removeEventListener('abort', onAbort);
    };
    const numbered = requests.map((request) => ({ ...request, id: this.#nextId++ }));
    const streams = numbered.map(({ id, tenant, weight }) => {
      const party = { tenant, weight };
      const stream = new EventStream(() => this.#abandon(id));
      this.#outstanding.set(id, { party, stream, started: false, onSettled });
      this.waiting.add(party);
      return stream;
    });
    this.#send({ type: 'generate', image, requests: numbered });
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    return streams;
  }

  prefetch(party: Party, adapters: readonly AdapterRef[]): void {
    // Only a hint: worth nothing to a process that is not there, which will load what the requests themselves name.
    this.#child.send({ type: 'prefetch', party, adapters });
  }

  pin(adapter: AdapterRef, pinned: boolean): void {
    if (pinned) this.#pins.set(adapter.digest, adapter);
    else this.#pins.delete(adapter.digest);
    this.#child.send({ type: 'pin', adapter, pinned });
  }

  check(adapter: AdapterRef): Promise<void> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#checks.set(id, { resolve, reject });
      if (this.#child.send({ type: 'check', id, adapter })) return;
      this.#checks.delete(id);
      reject(new AppError('engine_unavailable', 'No engine is there to check the adapter: please retry', { retryAfterS: 1 }));
    });
  }

  report(timeoutMs: number): Promise<EngineGauges> {
    if (!this.#child.send({ type: 'report' })) return Promise.resolve(this.#gauges);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(this.#gauges), timeoutMs);
      this.#reports.push((gauges) => {
        clearTimeout(timer);
        resolve(gauges);
      });
    });
  }

  onCounts(listener: (counts: EngineCounts) => void): void {
    this.#countListeners.push(listener);
  }

  onLoaded(listener: (event: LoadedEvent) => void): void {
    this.#loadedListeners.push(listener);
  }

  onRestart(listener: (reason: string) => void): void {
    this.#restartListeners.push(listener);
  }

  async close(drainMs: number): Promise<void> {
    this.state = 'stopped';
    if (this.#outstanding.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, drainMs);
        this.#onDrained = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#failAll(new AppError('shutting_down', 'The server shut down before the request was finished', { retryAfterS: 1 }));
    await this.#child.close(CLOSE_GRACE_MS);
  }

  #send(command: EngineCommand): void {
    if (!this.#child.send(command)) this.#held.push(command);
  }

  #receive(event: EngineEvent): void {
    if (event.type === 'ready') {
      this.info = event.info;
      if (this.state !== 'stopped') this.state = 'ready';
      for (const adapter of this.#pins.values()) this.#send({ type: 'pin', adapter, pinned: true });
      const held = this.#held;
      this.#held = [];
      for (const command of held) this.#send(command);
    } else if (event.type === 'checked') {
      const check = this.#checks.get(event.id);
      this.#checks.delete(event.id);
      if (event.error === null) check?.resolve();
      else check?.reject(AppError.fromData(event.error));
    } else if (event.type === 'loaded') {
      for (const listener of this.#loadedListeners) listener(event);
    } else {
      this.#step(event);
    }
  }

  #step({ started, tokens, finished, failed, counts, gauges }: StepEvent): void {
    for (const { id, start } of started) this.#markStarted(id, start);
    for (const [id, choice, tokenId, logprobs] of tokens)
      this.#outstanding.get(id)?.stream.push({ type: 'token', choice, tokenId, ...(logprobs && { logprobs }) });
    for (const { id, result } of finished) this.#settle(id, (stream) => stream.push({ type: 'done', result }));
    for (const { id, error } of failed) this.#settle(id, (stream) => stream.fail(AppError.fromData(error)));
    for (const listener of this.#countListeners) listener(counts);
    if (!gauges) return;
    this.#gauges = gauges;
    const reports = this.#reports;
    this.#reports = [];
    for (const resolve of reports) resolve(gauges);
  }

  #markStarted(id: number, start: GenerateStart): void {
    const entry = this.#outstanding.get(id);
    if (!entry || entry.started) return;
    entry.started = true;
    this.waiting.remove(entry.party);
    entry.stream.push({ type: 'started', start });
  }

  #settle(id: number, tell: (stream: EventStream) => void): void {
    const entry = this.#outstanding.get(id);
    if (!entry) return;
    this.#outstanding.delete(id);
    if (!entry.started) this.waiting.remove(entry.party);
    entry.onSettled();
    tell(entry.stream);
    if (this.#outstanding.size === 0) this.#onDrained?.();
  }

  /** The reader has left. */
  #abandon(id: number): void {
    if (!this.#outstanding.has(id)) return;
    this.#settle(id, () => {});
    // What no process has yet is forgotten here, pixels and all: a restart may take long, and clients come again and again.
    if (!this.#child.send({ type: 'cancel', ids: [id] })) this.#held = this.#held.flatMap((command) => without(command, id));
  }

  /** The process died: what it held is gone, what waits here is not. */
  #lost(reason: string): void {
    if (this.state === 'ready') this.state = 'restarting';
    this.#gauges = EMPTY_GAUGES;
    const held = new Set(
      this.#held.flatMap((command) => (command.type === 'generate' ? command.requests.map(({ id }) => id) : [])),
    );
    const error = new AppError(
      'engine_unavailable',
      'The engine process stopped while it served this request; it is being restarted: please retry',
      { retryAfterS: 1 },
    );
    for (const id of this.#outstanding.keys()) if (!held.has(id)) this.#settle(id, (stream) => stream.fail(error));
    this.#failChecks(error);
    for (const listener of this.#restartListeners) listener(reason);
  }

  #failAll(error: AppError): void {
    for (const id of this.#outstanding.keys()) this.#settle(id, (stream) => stream.fail(error));
    this.#failChecks(error);
  }

  #failChecks(error: AppError): void {
    const checks = [...this.#checks.values()];
    this.#checks.clear();
    for (const { reject } of checks) reject(error);
  }
}

/** A held command less one request; nothing where that was all of it. */
function without(command: EngineCommand, id: number): EngineCommand[] {
  if (command.type !== 'generate') return [command];
  const requests = command.requests.filter((request) => request.id !== id);
  return requests.length > 0 ? [{ ...command, requests }] : [];
}

const CLOSE_GRACE_MS = 2_000;
