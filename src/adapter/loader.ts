/**
 * Loads adapters off the event loop: in threads of the same process, so that the arrays come back by transfer and not by copy.
 * A thread only runs our own JavaScript on bytes that it checks; native code that could take the process along is not in it.
 */
import type { Worker } from 'node:worker_threads';
import type { AdapterTarget } from '../backbone/module.js';
import { AppError, type ErrorData } from '../errors.js';
import type { AdapterRef, LoadedAdapter } from './adapter.js';
import { startWorker } from './thread.js';

export interface LoadCommand {
  readonly id: number;
  readonly ref: AdapterRef;
}

export type LoadEvent =
  | { readonly id: number; readonly adapter: LoadedAdapter }
  | { readonly id: number; readonly error: ErrorData };

interface Waiter {
  resolve(adapter: LoadedAdapter): void;
  reject(error: AppError): void;
}

export class AdapterLoader {
  readonly #threads: readonly Thread[];
  #closed = false;

  /** Threads start with `start` or their first load. `entry` is what they run. */
  constructor(target: AdapterTarget, threads = 1, entry: URL = new URL('./worker.js', import.meta.url)) {
    if (!(Number.isSafeInteger(threads) && threads > 0))
      throw new RangeError(`Expected a positive number of threads but received ${threads}`);
    this.#threads = Array.from({ length: threads }, () => new Thread(entry, target));
  }

  /** Starts the threads before there is anything to load: the first adapter then costs its file, not a thread's start as well. */
  start(): void {
    for (const thread of this.#threads) thread.start();
  }

  /**
   * The adapter that the reference names, checked against the backbone. Throws AppError: those of `readAdapter`,
   * `internal` where the thread died over it, `shutting_down` after `close`.
   */
  async load(ref: AdapterRef): Promise<LoadedAdapter> {
    if (this.#closed) throw closedError();
    const thread = this.#threads.reduce((least, next) => (next.waiting < least.waiting ? next : least));
    return thread.load(ref);
  }

  /** Ends the threads; loads under way are refused. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }
}

/** A worker that is started when it is needed, and again after it died. */
class Thread {
  readonly #entry: URL;
  readonly #target: AdapterTarget;
  readonly #waiters = new Map<number, Waiter>();
  #worker: Worker | undefined;
  #nextId = 0;

  constructor(entry: URL, target: AdapterTarget) {
    this.#entry = entry;
    this.#target = target;
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  start(): Worker {
    this.#worker ??= this.#start();
    return this.#worker;
  }

  load(ref: AdapterRef): Promise<LoadedAdapter> {
    return new Promise((resolve, reject) => {
      const worker = this.start();
      const id = this.#nextId++;
      this.#waiters.set(id, { resolve, reject });
      // Only a load under way keeps the process alive.
      worker.ref();
      worker.postMessage({ id, ref } satisfies LoadCommand, []);
    });
  }

  async close(): Promise<void> {
    const worker = this.#worker;
    this.#end(worker, closedError());
    await worker?.terminate();
  }

  #start(): Worker {
    const worker = startWorker(this.#entry, { workerData: this.#target, name: 'adapter-loader' });
    worker.on('message', (event: LoadEvent) => this.#settle(event));
    worker.on('error', (cause) => this.#end(worker, diedError(String(cause), cause)));
    worker.on('messageerror', (cause) => this.#end(worker, diedError(String(cause), cause)));
    worker.on('exit', (code) => this.#end(worker, diedError(`exit code ${code}`)));
    worker.unref();
    return worker;
  }

  #settle(event: LoadEvent): void {
    const waiter = this.#waiters.get(event.id);
    this.#waiters.delete(event.id);
    if (this.#waiters.size === 0) this.#worker?.unref();
    if ('adapter' in event) waiter?.resolve(event.adapter);
    else waiter?.reject(AppError.fromData(event.error));
  }

  /** Refuses what this worker has not answered; the next load starts another. */
  #end(worker: Worker | undefined, error: AppError): void {
    if (worker !== this.#worker) return;
    this.#worker = undefined;
    const waiters = [...this.#waiters.values()];
    this.#waiters.clear();
    for (const waiter of waiters) waiter.reject(error);
    void worker?.terminate();
  }
}

function diedError(reason: string, cause?: unknown): AppError {
  return new AppError('internal', `The thread that loads adapters ended unexpectedly (${reason})`, { cause });
}

function closedError(): AppError {
  return new AppError('shutting_down', 'The server is shutting down');
}
