/**
 * Decoding as the front end sees it: bytes in, pixels out, in processes that may crash without it. It loads no decoder itself.
 *
 * A process is given few images at a time, and the rest wait here: what dies with a process is then little, memory is bounded, and the time
 * limit of an image starts when it really is worked on. An image whose process dies is not tried again, since it may be what killed it.
 * Tenants take turns, by bytes; and one that has nothing inside need not wait until another's large image is done.
 */
import { setImmediate as macrotask } from 'node:timers/promises';
import type { PixelRecipe } from '../backbone/vision/recipe.js';
import { AppError } from '../errors.js';
import { ALONE, type Party, Turns } from '../fairness/turns.js';
import { SupervisedChild } from '../runtime/child.js';
import type { ImageCommand, ImageEvent, ImageLimits, Pixels } from './protocol.js';
import { tooSlow } from './refusal.js';

export interface ImageClientOptions {
  readonly processes: 1 | 2;
  readonly recipe: PixelRecipe;
  readonly limits: ImageLimits;
  /** Images of a tenant that may wait; one more is refused with `queue_full`. */
  readonly maxWaiting: number;
  /** The image processes' whole environment. Empty unless given: nothing that decodes strangers' bytes needs to know a secret. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Decodes under way in one process: enough to keep its thread pool busy while it receives the next bytes. */
const DECODES_A_PROCESS = 2;
/** One more for tenants that have none under way. */
const DECODES_OF_OTHERS = 3;
/** Bytes of one message: a larger one would hold up the event loop while it is copied. */
const MESSAGE_BYTES = 1024 ** 2;
const READY_TIMEOUT_MS = 30_000;
/** Shorter than the engine's: an image process holds nothing that takes time to load, and one hostile image after another kills it. */
const BACKOFF = { firstMs: 100, capMs: 1_000, forgetAfterMs: 10_000 };

interface Decode extends Party {
  readonly id: number;
  readonly bytes: Uint8Array;
  /** Ends the decode for its caller; only the first call counts. */
  readonly settle: (outcome: Pixels | AppError) => void;
}

interface Running {
  readonly tenant: string;
  readonly settle: Decode['settle'];
  readonly timer: NodeJS.Timeout;
}

interface Slot {
  readonly child: SupervisedChild<ImageCommand, ImageEvent>;
  readonly running: Map<number, Running>;
  /** Milliseconds until the next start where it died more than once in a row; 0 where it works, or soon will. */
  downMs: number;
}

export class ImageClient {
  readonly #options: ImageClientOptions;
  readonly #slots: readonly Slot[];
  readonly #waiting = new Map<number, Decode>();
  readonly #turns = new Turns();
  readonly #restartListeners: ((reason: string) => void)[] = [];
  #nextId = 0;
  #closed = false;

  /** Starts nothing yet: see `start`. */
  constructor(options: ImageClientOptions) {
    this.#options = options;
    this.#slots = Array.from({ length: options.processes }, () => this.#slot());
  }

  /** Starts the processes and resolves when all are ready. Images given before wait. */
  async start(): Promise<void> {
    await Promise.all(this.#slots.map(({ child }) => child.start()));
  }

  /** Process ids of those that run. */
  get pids(): readonly number[] {
    return this.#slots.flatMap(({ child }) => child.pid ?? []);
  }

  /** How many times a process was started again. */
  get restarts(): number {
    return this.#slots.reduce((sum, { child }) => sum + child.restarts, 0);
  }

  /** Images not yet given to a process. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Called with the reason each time a process died. */
  onRestart(listener: (reason: string) => void): void {
    this.#restartListeners.push(listener);
  }

  /**
   * Decodes one image to the recipe's size. Rejects with what the image is refused for (`unsupported_image`, `invalid_image`,
   * `image_too_large`), with `queue_full`, with `images_unavailable` where its process died or none can be started, or with `cancelled`
   * (or the signal's own AppError) on abort; a native decode that is under way then ends unheard.
   */
  decode(bytes: Uint8Array, signal?: AbortSignal, { tenant, weight } = ALONE): Promise<Pixels> {
    const refusal = this.#refusal(tenant, signal);
    if (refusal) return Promise.reject(refusal);
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      const settle = (outcome: Pixels | AppError) => {
        signal?.removeEventListener('abort', abort);
        if (outcome instanceof AppError) reject(outcome);
        else resolve(outcome);
      };
      const abort = () => {
        this.#waiting.delete(id);
        settle(cancelled(signal));
      };
      signal?.addEventListener('abort', abort);
      this.#waiting.set(id, { tenant, weight, id, bytes, settle });
      this.#pump();
    });
  }

  /** Refuses what waits and what runs, and stops the processes. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#refuseWaiting(closing());
    for (const slot of this.#slots) this.#abandon(slot, closing());
    // Nothing of a decode is worth a grace.
    await Promise.all(this.#slots.map(({ child }) => child.close(0)));
  }

  #slot(): Slot {
    const slot: Slot = {
      child: new SupervisedChild<ImageCommand, ImageEvent>(
        {
          name: 'image process',
          entry: new URL('./process.js', import.meta.url),
          env: this.#options.env ?? {},
          readyTimeoutMs: READY_TIMEOUT_MS,
          backoff: BACKOFF,
        },
        {
          onMessage: (event) => this.#receive(slot, event),
          onExit: (reason, restartInMs) => this.#lose(slot, reason, restartInMs),
        },
      ),
      running: new Map(),
      downMs: 0,
    };
    return slot;
  }

  /** Why an image cannot be taken now, or null. */
  #refusal(tenant: string, signal: AbortSignal | undefined): AppError | null {
    if (this.#closed) return closing();
    if (signal?.aborted) return cancelled(signal);
    const down = this.#downMs();
    if (down > 0) return unavailable(down);
    const { maxWaiting } = this.#options;
    const own = [...this.#waiting.values()].filter((decode) => decode.tenant === tenant);
    return own.length >= maxWaiting && !this.#slotFor(tenant)
      ? new AppError('queue_full', `Too many images are waiting (${maxWaiting}); retry later`, { retryAfterS: 1 })
      : null;
  }

  /** Milliseconds until the first process is started again where all of them are down; else 0. */
  #downMs(): number {
    return Math.min(...this.#slots.map((slot) => slot.downMs));
  }

  /** The ready process with the least to do, if it may be given more by this tenant. */
  #slotFor(tenant: string): Slot | undefined {
    const [least] = this.#slots.filter(({ child }) => child.ready).sort((a, b) => a.running.size - b.running.size);
    const isInside = this.#slots.some(({ running }) => [...running.values()].some((one) => one.tenant === tenant));
    return least && least.running.size < (isInside ? DECODES_A_PROCESS : DECODES_OF_OTHERS) ? least : undefined;
  }

  #pump(): void {
    for (;;) {
      this.#turns.advance(this.#waiting.values());
      const decode = this.#turns.first([...this.#waiting.values()].filter(({ tenant }) => this.#slotFor(tenant) !== undefined));
      const slot = decode && this.#slotFor(decode.tenant);
      if (!decode || !slot) return;
      this.#waiting.delete(decode.id);
      this.#turns.charge(decode, decode.bytes.length + 1);
      this.#run(slot, decode);
    }
  }

  #run(slot: Slot, { tenant, id, bytes, settle }: Decode): void {
    const { limits } = this.#options;
    // The process has a time limit of its own; a native call that does not heed it is stopped with its process.
    const timer = setTimeout(() => {
      settle(tooSlow(limits));
      slot.child.kill(`a decode took more than ${2 * limits.timeoutMs} ms`);
    }, 2 * limits.timeoutMs);
    slot.running.set(id, { tenant, settle, timer });
    void this.#send(slot, id, bytes);
  }

  /** Sends an image in pieces, with other work in between, unless its process dies meanwhile. */
  async #send(slot: Slot, id: number, bytes: Uint8Array): Promise<void> {
    const { recipe, limits } = this.#options;
    let rest = bytes;
    for (; rest.length > MESSAGE_BYTES; rest = rest.subarray(MESSAGE_BYTES)) {
      this.#post(slot, { type: 'part', id, bytes: rest.subarray(0, MESSAGE_BYTES) });
      await macrotask();
    }
    this.#post(slot, { type: 'decode', id, bytes: rest, recipe, limits });
  }

  #post(slot: Slot, command: ImageCommand): void {
    const running = slot.running.get(command.id);
    // Whoever lost the process has settled what was in it; another process must not get the end of an image alone.
    if (!running || slot.child.send(command)) return;
    slot.running.delete(command.id);
    clearTimeout(running.timer);
    running.settle(unavailable(0));
  }

  #receive(slot: Slot, event: ImageEvent): void {
    if (event.type === 'ready') {
      slot.downMs = 0;
    } else {
      const running = slot.running.get(event.id);
      slot.running.delete(event.id);
      clearTimeout(running?.timer);
      running?.settle(event.type === 'decoded' ? this.#checked(event.pixels) : AppError.fromData(event.error));
    }
    this.#pump();
  }

  /** Pixels of the size that was asked for: whatever got hold of an image process must not get further. */
  #checked(pixels: Pixels): Pixels | AppError {
    const { height, width } = this.#options.recipe;
    const received = pixels.data.length;
    if (pixels.height === height && pixels.width === width && received === height * width * 3) return pixels;
    const expected = `${height} × ${width} pixels`;
    return new AppError('internal', `Expected ${expected} but received ${pixels.height} × ${pixels.width} in ${received} bytes`);
  }

  #lose(slot: Slot, reason: string, restartInMs: number): void {
    slot.downMs = restartInMs;
    this.#abandon(slot, unavailable(restartInMs));
    const down = this.#downMs();
    if (down > 0) this.#refuseWaiting(unavailable(down));
    for (const listener of this.#restartListeners) listener(reason);
  }

  #abandon(slot: Slot, error: AppError): void {
    for (const { timer, settle } of slot.running.values()) {
      clearTimeout(timer);
      settle(error);
    }
    slot.running.clear();
  }

  #refuseWaiting(error: AppError): void {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const decode of waiting) decode.settle(error);
  }
}

function unavailable(restartInMs: number): AppError {
  const retryAfterS = Math.max(1, Math.ceil(restartInMs / 1000));
  return new AppError('images_unavailable', 'The process that decodes images ended and is being started again; retry', {
    retryAfterS,
  });
}

function closing(): AppError {
  return new AppError('shutting_down', 'The server is shutting down; retry elsewhere');
}

function cancelled(signal: AbortSignal | undefined): AppError {
  const reason: unknown = signal?.reason;
  return reason instanceof AppError ? reason : new AppError('cancelled', 'The request was cancelled');
}
