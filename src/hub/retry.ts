/** Trying again: what a busy server or a bad line breaks is tried anew after a while that doubles, or that the server names. */
import { setTimeout } from 'node:timers/promises';
import { AppError } from '../errors.js';

/** A failure that may be gone the next time. */
export class Transient extends Error {
  /** What the server asked for. */
  readonly waitMs: number | undefined;

  constructor(message: string, waitMs?: number, cause?: unknown) {
    super(message, { cause });
    this.waitMs = waitMs;
  }
}

export interface Patience {
  /** Told before each wait. */
  readonly onWait?: (reason: string, waitMs: number) => void;
  /** Ends all of it, waits too: what is thrown then is its reason. */
  readonly signal?: AbortSignal;
  /** In a row, without anything gained in between. */
  readonly maxRetries?: number;
  /** Doubles from retry to retry. */
  readonly firstWaitMs?: number;
  /** A server that asks for more patience than this is told to people instead. */
  readonly maxWaitMs?: number;
  /** For tests. */
  readonly sleep?: (waitMs: number, signal?: AbortSignal) => Promise<unknown>;
}

/**
 * Runs `work` until it does not throw Transient; `gained` starts the count afresh. Throws `download_failed`, with the last one as its cause,
 * in the end.
 */
export async function retrying<T>(work: (gained: () => void) => Promise<T>, patience: Patience): Promise<T> {
  const { onWait, signal, maxRetries = 5, firstWaitMs = 1000, maxWaitMs = 300_000, sleep = wait } = patience;
  for (let failures = 0; ; ) {
    try {
      return await work(() => {
        failures = 0;
      });
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof Transient)) throw error;
      const waitMs = error.waitMs ?? firstWaitMs * 2 ** failures * (1 + Math.random() / 4);
      if (failures === maxRetries) throw failed(`${error.message}, ${maxRetries + 1} times in a row`, error);
      if (waitMs > maxWaitMs) throw failed(`${error.message}, and asks to wait for ${Math.ceil(waitMs / 1000)} seconds`, error);
      failures += 1;
      onWait?.(error.message, waitMs);
      await sleep(waitMs, signal).catch((cause: unknown) => {
        signal?.throwIfAborted();
        throw cause;
      });
    }
  }
}

function wait(waitMs: number, signal?: AbortSignal): Promise<void> {
  return setTimeout(waitMs, undefined, signal && { signal });
}

/** `Retry-After`, in seconds or as a date. */
export function retryAfterMs(header: string | null, nowMs = Date.now()): number | undefined {
  if (header === null) return undefined;
  const ms = /^\d+$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - nowMs;
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

function failed(message: string, cause: Transient): AppError {
  return new AppError('download_failed', message, { cause });
}
