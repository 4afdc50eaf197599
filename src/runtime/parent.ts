/**
 * The child's side of a supervised process: typed messages to and from the process that started it, and an end when that process ends.
 *
 * The parent alone decides when a child stops. Ctrl-C, a service manager's SIGTERM and a SIGHUP reach the whole process group, while the parent
 * still wants to finish the requests inside the child: all are ignored here, and a closed channel is the one sign to stop.
 */
import { AppError, type ErrorData } from '../errors.js';

/** A child's last message when it cannot work at all and starting it again would not help: a bad model folder, say. */
export interface FatalEvent {
  readonly type: 'fatal';
  readonly error: ErrorData;
}

export interface ServeOptions {
  /** Runs when the parent has closed the channel or died; the process ends when it is done. */
  readonly onClose?: () => void | Promise<void>;
}

type Handler<Command> = (command: Command) => void | Promise<void>;

/** The process that forked this one. */
export class Parent<Command, Event extends { readonly type: string }> {
  readonly #handler: Handler<Command>;
  readonly #options: ServeOptions;

  /** See `serveParent`. */
  constructor(handler: Handler<Command>, options: ServeOptions) {
    if (process.send === undefined) throw new TypeError('serveParent() needs a process that was started with an IPC channel');
    this.#handler = handler;
    this.#options = options;
    process.on('SIGINT', () => undefined);
    process.on('SIGTERM', () => undefined);
    process.on('SIGHUP', () => undefined);
    process.on('message', (message) => void this.#handler(message as Command));
    process.once('disconnect', () => void this.#close());
    if (!process.connected) void this.#close(); // The parent died while this process was still loading its modules.
  }

  /** Queues a message; false where the parent is gone. `{type: 'ready'}` says that commands are served from now on. */
  send(event: Event): boolean {
    return post(event, () => undefined);
  }

  /** Reports an error that makes this process useless, and ends it with exit code 1. */
  fatal(thrown: unknown): void {
    const message: FatalEvent = { type: 'fatal', error: AppError.from(thrown).toData() };
    if (!post(message, () => process.exit(1))) end();
  }

  async #close(): Promise<void> {
    try {
      await this.#options.onClose?.();
    } finally {
      end();
    }
  }
}

/**
 * Serves the process that forked this one: `handler` gets every command, in order. What it throws, or rejects with, is a defect: it ends
 * the process, and the parent starts it again. Throws TypeError where the process was not forked.
 */
export function serveParent<Command, Event extends { readonly type: string }>(
  handler: Handler<Command>,
  options: ServeOptions = {},
): Parent<Command, Event> {
  return new Parent(handler, options);
}

function post(message: object, sent: () => void): boolean {
  if (!process.connected) return false;
  // A failure to write means that the parent is gone; 'disconnect' follows and ends this process.
  process.send?.(message, undefined, {}, sent);
  return true;
}

/** SIGKILL, not process.exit: exit joins the thread pool, and a native call that hangs there would keep an orphan alive for ever. */
function end(): void {
  process.kill(process.pid, 'SIGKILL');
}
