/**
 * A child process under supervision: started, watched, started again with backoff when it dies, and stopped.
 *
 * Native code crashes whole processes, so what runs native code over bytes from outside runs in one of these, and a crash costs only
 * what was inside. The front end holds this file, which must never load onnxruntime or sharp.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { AppError, type ErrorData } from '../errors.js';
import { Backoff, type BackoffOptions } from './backoff.js';
import type { FatalEvent } from './parent.js';

export interface ChildOptions {
  /** For messages: 'engine process'. */
  readonly name: string;
  /** `new URL('./process.js', import.meta.url)`: with the extension of the built file, as in an import. */
  readonly entry: URL;
  /** Arguments after the entry; anyone on the machine can read them. */
  readonly args?: readonly string[];
  /** The whole environment of the child; this process's own where absent. */
  readonly env?: Readonly<Record<string, string>>;
  /** Options for node itself. */
  readonly execArgv?: readonly string[];
  /** Limit of the JavaScript heap (not of typed arrays or native memory), in MiB. */
  readonly maxHeapMiB?: number;
  /** A process that has not sent `{type: 'ready'}` by then is killed and started again. */
  readonly readyTimeoutMs: number;
  readonly backoff?: BackoffOptions;
}

export interface ChildHandlers<Event> {
  /** Every message but `fatal`, in order; `ready` included. */
  readonly onMessage: (event: Event) => void;
  /** The process ended and will be started again: "killed by SIGKILL", "exit code 3", "did not become ready in 5000 ms". */
  readonly onExit?: (reason: string, restartInMs: number) => void;
}

/** One started process, from fork to its end. */
interface Run {
  readonly process: ChildProcess;
  readonly ended: Promise<void>;
  /** When it became ready; null before. */
  readySinceMs: number | null;
  /** Why it was killed or gave up, where that says more than its exit status. */
  reason: string | null;
  fatal: AppError | null;
}

/** A promise and its two ends (Promise.withResolvers came after Node 20). */
class Deferred {
  resolve!: () => void;
  reject!: (error: AppError) => void;
  readonly promise = new Promise<void>((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });
}

/** How long a process that closed its channel, or declared itself useless, may take to end before it is killed. */
const LINGER_MS = 2_000;

export class SupervisedChild<Command extends object, Event extends { readonly type: string }> {
  readonly #options: ChildOptions;
  readonly #handlers: ChildHandlers<Event>;
  readonly #backoff: Backoff;
  readonly #firstReady = new Deferred();
  #run: Run | null = null;
  #restartTimer: NodeJS.Timeout | undefined;
  #everReady = false;
  #closed = false;
  #restarts = 0;
  #unsent = 0;

  /** Starts nothing yet: see `start`. */
  constructor(options: ChildOptions, handlers: ChildHandlers<Event>) {
    this.#options = options;
    this.#handlers = handlers;
    this.#backoff = new Backoff(options.backoff);
    // Who only listens to events need not await start().
    this.#firstReady.promise.catch(() => undefined);
  }

  /**
   * Starts the process; resolves when it is ready for the first time, after restarts if need be. Rejects with the child's own AppError
   * where it reports a fatal one before it was ever ready (it is then not started again), and with `shutting_down` when closed before.
   */
  start(): Promise<void> {
    if (this.#run === null && this.#restartTimer === undefined && !this.#closed) this.#fork();
    return this.#firstReady.promise;
  }

  get ready(): boolean {
    return this.#run !== null && this.#run.readySinceMs !== null && this.#run.process.connected;
  }

  /** Process id of the running child, ready or not. */
  get pid(): number | undefined {
    return this.#run?.process.pid;
  }

  /** How many times the process was started again. */
  get restarts(): number {
    return this.#restarts;
  }

  /**
   * Messages that `send` took and the operating system has not: the child is slower than its caller. They wait in memory without a bound
   * of their own, so callers bound what they have outstanding.
   */
  get unsent(): number {
    return this.#unsent;
  }

  /**
   * Hands a command to the child, structured-cloned. False, and nothing sent, while no child is ready. True is no promise of delivery:
   * a child that dies first takes the command with it, and `onExit` tells.
   */
  send(command: Command): boolean {
    const run = this.#run;
    if (run === null || run.readySinceMs === null || !run.process.connected) return false;
    this.#unsent += 1;
    run.process.send(command, undefined, {}, () => {
      this.#unsent -= 1;
    });
    return true;
  }

  /** Kills the running process, which is then started again; `reason` is what `onExit` says. */
  kill(reason: string): void {
    if (this.#run === null) return;
    this.#run.reason ??= reason;
    this.#run.process.kill('SIGKILL');
  }

  /** Closes the channel, on which the child ends by itself; kills it after `graceMs`. Resolves when it is gone. */
  async close(graceMs: number): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#restartTimer);
    this.#firstReady.reject(new AppError('shutting_down', `The ${this.#options.name} was closed before it became ready`));
    const run = this.#run;
    if (run === null) return;
    if (run.process.connected) run.process.disconnect();
    const timer = setTimeout(() => run.process.kill('SIGKILL'), graceMs);
    await run.ended;
    clearTimeout(timer);
  }

  #fork(): void {
    const { entry, args = [], env, execArgv = [], maxHeapMiB } = this.#options;
    const target = locate(entry);
    const child = fork(fileURLToPath(target.entry), [...args], {
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      execArgv: [...target.execArgv, ...(maxHeapMiB === undefined ? [] : [`--max-old-space-size=${maxHeapMiB}`]), ...execArgv],
      ...(env === undefined ? {} : { env }),
    });
    const ended = new Deferred();
    const run: Run = { process: child, ended: ended.promise, readySinceMs: null, reason: null, fatal: null };
    this.#run = run;

    const { readyTimeoutMs } = this.#options;
    const readyTimer = setTimeout(() => this.kill(`did not become ready in ${readyTimeoutMs} ms`), readyTimeoutMs);
    let lingerTimer: NodeJS.Timeout | undefined;
    let exited = false;

    const finish = () => {
      clearTimeout(readyTimer);
      clearTimeout(lingerTimer);
      child.removeAllListeners();
      child.on('error', () => undefined); // A write that was under way may still report that the channel is gone.
      run.reason ??= child.signalCode === null ? `exit code ${child.exitCode}` : `killed by ${child.signalCode}`;
      this.#finish(run);
      ended.resolve();
    };
    // The last messages are read from the channel after the exit is known: the end is when both are through.
    const exit = () => {
      exited = true;
      clearTimeout(lingerTimer);
      if (!child.connected) finish();
      else lingerTimer = setTimeout(() => child.disconnect(), LINGER_MS);
    };

    child.on('message', (message) => {
      const event = message as unknown as Event | FatalEvent;
      if (isFatal(event)) {
        run.fatal = AppError.fromData(event.error);
        run.reason ??= run.fatal.message;
        lingerTimer ??= setTimeout(() => child.kill('SIGKILL'), LINGER_MS);
        return;
      }
      if (event.type === 'ready' && run.readySinceMs === null) {
        clearTimeout(readyTimer);
        run.readySinceMs = performance.now();
        this.#everReady = true;
        this.#firstReady.resolve();
      }
      this.#handlers.onMessage(event);
    });
    child.on('disconnect', () => {
      if (exited) return finish();
      // A closed channel makes the child useless, and close() has a grace of its own.
      if (!this.#closed) lingerTimer ??= setTimeout(() => child.kill('SIGKILL'), LINGER_MS);
    });
    child.on('exit', exit);
    child.on('error', (error) => {
      if (child.pid !== undefined) return; // A failed write or kill: the exit that follows says more.
      run.reason ??= `could not be started: ${error.message}`;
      finish();
    });
  }

  #finish(run: Run): void {
    this.#run = null;
    if (this.#closed) return;
    if (run.fatal !== null && !this.#everReady) {
      this.#closed = true;
      this.#firstReady.reject(run.fatal);
      return;
    }
    const delayMs = this.#backoff.next(run.readySinceMs === null ? 0 : performance.now() - run.readySinceMs);
    this.#restartTimer = setTimeout(() => {
      this.#restartTimer = undefined;
      this.#restarts += 1;
      this.#fork();
    }, delayMs);
    this.#handlers.onExit?.(run.reason ?? 'ended', delayMs);
  }
}

function isFatal(event: { readonly type: string }): event is FatalEvent {
  return event.type === 'fatal' && 'error' in event && isErrorData(event.error);
}

function isErrorData(value: unknown): value is ErrorData {
  return typeof value === 'object' && value !== null && 'code' in value && 'message' in value;
}

/** The entry as it lies beside this code: the built file, or its source (run through tsx) where this file is source itself. */
export function locate(entry: URL): { readonly entry: URL; readonly execArgv: readonly string[] } {
  if (!import.meta.url.endsWith('.ts')) return { entry, execArgv: [] };
  const tsx = createRequire(import.meta.url).resolve('tsx');
  return { entry: new URL(entry.href.replace(/\.js$/, '.ts')), execArgv: ['--import', pathToFileURL(tsx).href] };
}
