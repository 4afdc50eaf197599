/** What the cache tells those who do not get an adapter. */
import { AppError } from '../errors.js';
import type { LoadedAdapter } from './adapter.js';

export function tooLarge({ name, bytes }: LoadedAdapter, maxBytes: number, pinnedBytes: number): AppError {
  const room = pinnedBytes > 0 ? `${maxBytes} bytes of cache, ${pinnedBytes} of them pinned,` : `${maxBytes} bytes of cache`;
  return new AppError('adapter_too_large', `Expected adapter ${name} to fit into ${room} but received ${bytes} bytes`);
}

/** A reason that already says why (a deadline) is kept. */
export function abortError(signal: AbortSignal | undefined): AppError {
  const reason: unknown = signal?.reason;
  return reason instanceof AppError
    ? reason
    : new AppError('cancelled', 'The wait for an adapter was cancelled', { cause: reason });
}
