/**
 * The lines of a text that comes in pieces, one at a time: a file may be larger than memory, and one line in it that never ends, or that is
 * no UTF-8, costs that line and not the file.
 */

/** A line and its number, from 1; `reason` instead of a text where it cannot be read. */
export type NumberedLine = { readonly number: number; readonly bytes: number } & (
  | { readonly text: string; readonly reason?: undefined }
  | { readonly reason: string }
);

const NEWLINE = 0x0a;
/** Drops a byte order mark. */
const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Lines end in LF or CRLF; what follows the last one is a line too, if an empty one. A line of more than `maxBytes` is told, not kept. */
export async function* splitLines(chunks: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<NumberedLine> {
  let number = 0;
  let parts: Uint8Array[] = [];
  let bytes = 0;
  const add = (part: Uint8Array): void => {
    bytes += part.byteLength;
    if (bytes <= maxBytes) parts.push(part);
    else parts = [];
  };
  const finish = (): NumberedLine => {
    const line = lineOf(++number, parts, bytes, maxBytes);
    parts = [];
    bytes = 0;
    return line;
  };
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      add(chunk.subarray(start, end));
      start = end + 1;
      yield finish();
    }
    add(chunk.subarray(start));
  }
  yield finish();
}

function lineOf(number: number, parts: readonly Uint8Array[], bytes: number, maxBytes: number): NumberedLine {
  if (bytes > maxBytes) return { number, bytes, reason: `Expected a line of at most ${maxBytes} bytes but received ${bytes}` };
  try {
    const text = utf8.decode(Buffer.concat(parts, bytes));
    return { number, bytes, text: text.endsWith('\r') ? text.slice(0, -1) : text };
  } catch {
    return { number, bytes, reason: 'Expected UTF-8 but received other bytes' };
  }
}
