/** The line to a server: its failures, told apart by whether they may pass, and its answers, never longer than they may be. */
import type { ReadableStream } from 'node:stream/web';
import { AppError } from '../errors.js';
import { Transient } from './retry.js';

/** What is no better the next time: a host that does not exist, or whose certificate is not to be trusted. */
const LASTING = /^ENOTFOUND$|TLS|CERT|SELF_SIGNED|UNABLE_TO/;

/** What is asked of a Response, Node's own or undici's. */
export interface Answer {
  readonly status: number;
  readonly url: string;
  readonly headers: { get(name: string): string | null };
  readonly body: ReadableStream<Uint8Array> | null;
}

/** A failure of the line, as something to try again; one that lasts, as a sentence that ends with the advice. */
export function unreachable({ host }: URL, error: unknown, advice = ''): Error {
  const { name, message, cause } = error as Error;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  // The codes of fetch's own library mean nothing to people, those of the system do.
  const words = code.startsWith('UND_') ? (cause as Error).message : code || message;
  const detail = name === 'TimeoutError' || name === 'AbortError' ? 'it sent nothing for a while' : words;
  if (!LASTING.test(code)) return new Transient(`the line to ${host} broke (${detail})`, undefined, error);
  return new AppError('download_failed', `Expected to reach ${host} but received ${detail}${advice}`, { cause: error });
}

/**
 * The answer's bytes as they come. Throws Transient where the line breaks, or the signal ends it: the fetch that was given the same signal does
 * not always end a body of which it has sent the last piece.
 */
export async function* bodyOf(response: Answer, signal: AbortSignal): AsyncGenerator<Uint8Array, void> {
  if (response.body === null) return;
  const reader = response.body.getReader();
  // A read that waits then ends at once.
  const stop = (): void => void reader.cancel().catch(() => undefined);
  signal.addEventListener('abort', stop, { once: true });
  try {
    for (;;) {
      signal.throwIfAborted();
      const { done, value } = await reader.read();
      signal.throwIfAborted();
      if (done) return;
      yield value;
    }
  } catch (error) {
    throw unreachable(new URL(response.url), error);
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
  }
}

/** The whole of an answer. Throws `download_failed` where it is longer, Transient where the line breaks. */
export async function readText(response: Answer, maxBytes: number, signal: AbortSignal): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of bodyOf(response, signal)) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) {
      const { host } = new URL(response.url);
      throw new AppError('download_failed', `Expected an answer of at most ${maxBytes} bytes from ${host} but received more`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Gives `work` a signal that ends after a time, or with the other one. Not AbortSignal.any: Node may lose what that returns, or keep it for ever. */
export async function within<T>(
  timeoutMs: number,
  outer: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  const timer = setTimeout(stop, timeoutMs);
  outer?.addEventListener('abort', stop, { once: true });
  if (outer?.aborted) stop();
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    outer?.removeEventListener('abort', stop);
  }
}
