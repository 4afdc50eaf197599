/**
 * The lines of a text file, one at a time: a dataset may be larger than memory, and one line in it that never ends, or that is no
 * UTF-8, costs that line and not the file.
 */
import { basename } from 'node:path';
import { openFile, readFile } from '../../adapter/file.js';
import { AppError } from '../../errors.js';
import { splitLines } from '../../tensor/lines.js';

/** A line with its place; `reason` instead of a text where it cannot be read. */
export type Line =
  | { readonly origin: string; readonly text: string; readonly bytes: number }
  | { readonly origin: string; readonly reason: string };

export const MAX_LINE_BYTES = 1024 ** 2;
const CHUNK_BYTES = 256 * 1024;
/** Drops a byte order mark. */
const utf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * Lines end in LF or CRLF; a byte order mark is dropped, and a line of white space is left out, unless `blank`, but counted.
 * Throws AppError `invalid_data` where the file cannot be read.
 */
export async function* readLines(path: string, blank = false): AsyncGenerator<Line> {
  const name = basename(path);
  for await (const line of splitLines(readChunks(path), MAX_LINE_BYTES)) {
    const origin = `${name}:${line.number}`;
    if (line.reason !== undefined) yield { origin, reason: line.reason };
    else if (blank || line.text.trim() !== '') yield { origin, text: line.text, bytes: line.bytes };
  }
}

/** A whole file of UTF-8. Throws AppError `invalid_data` where it cannot be read, is larger than `maxBytes`, or is no UTF-8. */
export async function readText(path: string, maxBytes: number): Promise<string> {
  const bytes = await readFile(path, maxBytes).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  if (bytes === undefined) throw absent(path);
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw new AppError('invalid_data', `${path}: Expected UTF-8 but received other bytes`, { cause });
  }
}

async function* readChunks(path: string): AsyncGenerator<Uint8Array> {
  try {
    const file = await openFile(path);
    if (file === undefined) throw absent(path);
    // The stream closes the file, also where nobody reads on.
    yield* file.handle.createReadStream({ highWaterMark: CHUNK_BYTES }) as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw unreadable(path, error);
  }
}

function absent(path: string): AppError {
  return new AppError('invalid_data', `Expected a file at ${path} but there is none`);
}

function unreadable(path: string, cause: unknown): AppError {
  if (cause instanceof AppError && cause.code === 'invalid_data') return cause;
  return new AppError('invalid_data', `${path}: ${cause instanceof AppError ? cause.message : String(cause)}`, { cause });
}
