/**
 * The lines of a text file, one at a time: a dataset may be larger than memory, and one line in it that never ends, or that is no
 * UTF-8, costs that line and not the file.
 */
import { basename } from 'node:path';
import { openFile, readFile } from '../../adapter/file.js';
import { AppError } from '../../errors.js';

/** A line with its place; `reason` instead of a text where it cannot be read. */
export type Line =
  | { readonly origin: string; readonly text: string; readonly bytes: number }
  | { readonly origin: string; readonly reason: string };

export const MAX_LINE_BYTES = 1024 ** 2;
const CHUNK_BYTES = 256 * 1024;
const NEWLINE = 0x0a;
/** Drops a byte order mark. */
const utf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * Lines end in LF or CRLF; a byte order mark is dropped, and a line of white space is left out, unless `blank`, but counted.
 * Throws AppError `invalid_data` where the file cannot be read.
 */
export async function* readLines(path: string, blank = false): AsyncGenerator<Line> {
  const name = basename(path);
  let number = 0;
  let parts: Uint8Array[] = [];
  let bytes = 0;
  const add = (part: Uint8Array): void => {
    bytes += part.byteLength;
    if (bytes <= MAX_LINE_BYTES) parts.push(part);
  };
  const finish = (): Line | undefined => {
    const line = lineOf(`${name}:${++number}`, parts, bytes);
    parts = [];
    bytes = 0;
    return !blank && 'text' in line && line.text.trim() === '' ? undefined : line;
  };
  for await (const chunk of readChunks(path)) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      add(chunk.subarray(start, end));
      start = end + 1;
      const line = finish();
      if (line) yield line;
    }
    add(chunk.subarray(start));
  }
  const last = finish();
  if (last) yield last;
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

function lineOf(origin: string, parts: readonly Uint8Array[], bytes: number): Line {
  if (bytes > MAX_LINE_BYTES)
    return { origin, reason: `Expected a line of at most ${MAX_LINE_BYTES} bytes but received ${bytes}` };
  try {
    const text = utf8.decode(Buffer.concat(parts, bytes));
    return { origin, text: text.endsWith('\r') ? text.slice(0, -1) : text, bytes };
  } catch {
    return { origin, reason: 'Expected UTF-8 but received other bytes' };
  }
}

function absent(path: string): AppError {
  return new AppError('invalid_data', `Expected a file at ${path} but there is none`);
}

function unreadable(path: string, cause: unknown): AppError {
  if (cause instanceof AppError && cause.code === 'invalid_data') return cause;
  return new AppError('invalid_data', `${path}: ${cause instanceof AppError ? cause.message : String(cause)}`, { cause });
}
