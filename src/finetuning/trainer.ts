/**
 * A process that trains one job and ends. It is not started again: what brought it down would do so again, and its job is told the reason. It
 * gets no secrets, and no more threads than its task says; killed, or ended by the system, it takes nothing else along.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { constants, setPriority } from 'node:os';
import { fileURLToPath } from 'node:url';
import { AppError } from '../errors.js';
import { locate } from '../runtime/child.js';
import type { FatalEvent } from '../runtime/parent.js';
import type { StopCommand, TrainCommand, TrainerEvent, TrainingTask } from './protocol.js';

/** What a program needs to find its way; the rest of an environment may hold keys, and the trainer reads what strangers sent. */
const ENVIRONMENT = ['PATH', 'HOME', 'TMPDIR', 'TEMP', 'LANG', 'SYSTEMROOT', 'XDG_CACHE_HOME'];

/** How long the last messages of a process may take that is gone. */
const LINGER_MS = 2_000;

/** How a run came to its end. */
export type Outcome =
  | { readonly type: 'finished'; readonly tokens: number }
  | { readonly type: 'failed'; readonly error: AppError }
  /** The process is gone, and said nothing. */
  | { readonly type: 'died'; readonly reason: string }
  /** It was told to stop, and can go on from its last checkpoint. */
  | { readonly type: 'stopped' };

export type Environment = Readonly<Record<string, string | undefined>>;

export class Trainer {
  readonly #process: ChildProcess;
  /** How it went, once the process is gone. Never rejects. */
  readonly ended: Promise<Outcome>;
  #outcome: Outcome | undefined;

  /** Starts the process. `onEvent` hears of everything but the end. */
  constructor(task: TrainingTask, env: Environment, onEvent: (event: TrainerEvent) => void) {
    const target = locate(new URL('./process.js', import.meta.url));
    const child = fork(fileURLToPath(target.entry), {
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      execArgv: [...target.execArgv],
      env: environmentFor(task, env),
    });
    this.#process = child;
    yieldTo(child.pid);
    child.on('message', (message) => {
      const event = message as unknown as TrainerEvent | FatalEvent;
      if (event.type === 'ready' && child.connected) child.send({ type: 'train', task } satisfies TrainCommand);
      if (event.type === 'finished') this.#finish({ type: 'finished', tokens: event.tokens });
      else if (event.type === 'failed' || event.type === 'fatal')
        this.#finish({ type: 'failed', error: AppError.fromData(event.error) });
      else if (event.type === 'stopped') this.#finish(event);
      else onEvent(event);
    });
    this.ended = new Promise((resolve) => {
      const end = (reason: string): void => resolve(this.#outcome ?? { type: 'died', reason: explain(reason) });
      child.on('error', (error) => {
        // Of a process that runs this is a message that did not get through: its exit says more.
        if (child.pid === undefined) end(error.message);
      });
      child.once('exit', (code, signal) => {
        const ends = (): void => end(signal ?? `exit code ${code}`);
        if (!child.connected) return ends();
        // Its last messages may come after its end.
        child.once('disconnect', ends);
        setTimeout(ends, LINGER_MS).unref();
      });
    });
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** Ends it at once: nothing of it is wanted any more. */
  kill(): void {
    this.#outcome ??= { type: 'stopped' };
    this.#process.kill('SIGKILL');
  }

  /** Lets it end its step and write a checkpoint, for at most `graceMs`. Resolves when it is gone. */
  async stop(graceMs: number): Promise<void> {
    if (this.#process.connected) this.#process.send({ type: 'stop' } satisfies StopCommand);
    const timer = setTimeout(() => this.kill(), graceMs);
    await this.ended;
    clearTimeout(timer);
  }

  /** A closed channel is what the process ends on. */
  #finish(outcome: Outcome): void {
    this.#outcome ??= outcome;
    if (this.#process.connected) this.#process.disconnect();
  }
}

function environmentFor({ threads }: TrainingTask, env: Environment): Record<string, string> {
  const kept = ENVIRONMENT.flatMap((name): [string, string][] => (env[name] === undefined ? [] : [[name, env[name]]]));
  // Images are decoded on libuv's threads, each with as many of libvips' own as there are cores unless told.
  return { ...Object.fromEntries(kept), UV_THREADPOOL_SIZE: String(threads + 1), VIPS_CONCURRENCY: '1' };
}

/** Serving comes first. Done from here and at once: on Linux threads have priorities of their own, which those that come later inherit. */
function yieldTo(pid: number | undefined): void {
  try {
    if (pid !== undefined) setPriority(pid, constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // It is gone already, which its end tells, or this system knows no priorities.
  }
}

function explain(reason: string): string {
  const isMemory = ['SIGKILL', 'SIGABRT', 'exit code 134'].includes(reason);
  const advice = isMemory ? '; most likely there was not enough memory: a smaller batch_size needs less' : '';
  return `The training process ended unexpectedly (${reason})${advice}`;
}
