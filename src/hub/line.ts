/** The line to a server: its failures, told apart by whether they may pass, and its answers, never longer than they may be. */
import { AppError } from '../errors.js';
import { Transient } from './retry.js';

/** What is no better the next time: a host that does not exist, or whose certificate is not to be trusted. */
const LASTING = /^ENOTFOUND$|TLS|CERT|SELF_SIGNED|UNABLE_TO/;

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

/** The answer's bytes as they come. Throws Transient where the line breaks. */
export async function* bodyOf(response: Response): AsyncGenerator<Uint8Array, void> {
  const body: AsyncIterable<Uint8Array> | null = response.body;
  try {
    if (body) yield* body;
  } catch (error) {
    throw unreachable(new URL(response.url), error);
  }
}

/** The whole of an answer. Throws `download_failed` where it is longer, Transient where the line breaks. */
export async function readText(response: Response, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of bodyOf(response)) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes)
      throw new AppError('download_failed', `Expected an answer of at most ${maxBytes} bytes but received more`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
