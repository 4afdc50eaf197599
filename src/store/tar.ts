/**
 * An adapter out of a tar, as it comes over the line. Only files and folders are taken from it; a link or a device is a fault, whatever it points
 * to. What is not content of a file (long names, PAX records, zeros) is counted here, because the parser keeps some of it in memory.
 */
import { once } from 'node:events';
import { type Extract, extract } from 'tar-stream';
import { AppError } from '../errors.js';
import { quote } from '../tensor/json.js';
import type { Intake } from './intake.js';

/** Headers, long names, padding and the zeros at the end: a few kilobytes a file, and what is still on its way through. */
const MAX_OVERHEAD_BYTES = 2 * 1024 ** 2;

type Entry = Extract extends AsyncIterable<infer One> ? One : never;

/** Takes every entry. Throws AppError: `adapter_invalid` for what is no tar, or none that an adapter comes in; what the intake throws; what `body` throws. */
export async function takeTar(body: AsyncIterable<Uint8Array>, intake: Intake): Promise<void> {
  const parser = extract();
  const meter = new Meter();
  // The parser ends with the reason, so that whoever reads from it is told as well.
  const fed = feed(body, parser, meter).catch((error: unknown) => parser.destroy(asError(error)));
  try {
    for await (const entry of parser) await takeEntry(entry, intake, meter);
    await fed;
  } catch (error) {
    if (error instanceof AppError || isFromLine(error)) throw error;
    // What the parser says of a file's end that does not come.
    const { message } = asError(error);
    throw strange(message === 'Stream was destroyed' ? 'Unexpected end of data' : message);
  } finally {
    parser.destroy(null);
  }
}

/** Bytes that came, less those that were some file's. */
class Meter {
  #bytes = 0;

  came(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > MAX_OVERHEAD_BYTES) throw strange('more headers than files need');
  }

  /** The same chunks, as content. */
  async *content(entry: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of entry) {
      this.#bytes -= chunk.byteLength;
      yield chunk;
    }
  }
}

async function feed(body: AsyncIterable<Uint8Array>, parser: Extract, meter: Meter): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    parser.once('close', () => resolve());
  });
  for await (const chunk of body) {
    if (parser.destroyed) return;
    meter.came(chunk.byteLength);
    if (!parser.write(chunk)) await Promise.race([once(parser, 'drain'), closed]);
  }
  parser.end(null);
}

async function takeEntry(entry: Entry, intake: Intake, meter: Meter): Promise<void> {
  const { name, type, pax } = entry.header;
  const isSparse = Object.keys(pax ?? {}).some((key) => key.startsWith('GNU.sparse'));
  const content = meter.content(entry as AsyncIterable<Uint8Array>);
  if ((type === 'file' || type === 'contiguous-file') && !isSparse) {
    await intake.addFile(name, content);
    return;
  }
  if (type === 'directory') intake.addFolder(name);
  else
    intake.refuse(`Expected files and folders only but received ${quote(name)}, which is ${isSparse ? 'sparse' : `a ${type}`}`);
  for await (const _ of content);
}

function strange(what: string): AppError {
  return new AppError('adapter_invalid', `Expected a plain tar, whole and not compressed, but received something else (${what})`);
}

/** The client went away, or the disk failed: that is no fault of the tar's. */
function isFromLine(error: unknown): boolean {
  return error instanceof Error && 'code' in error && /^E[A-Z]+$/.test(String(error.code));
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
