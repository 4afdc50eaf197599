/**
 * Comma-separated values as RFC 4180 has them, and as Python's csv module reads what strays from it: a quote opens only at the start of
 * a field, and what follows its end belongs to the field as it stands. A quoted field may go on over several lines.
 */
import type { BadRow } from './example.js';
import { MAX_LINE_BYTES, readLines } from './lines.js';

/** Fields of one record, in order, and the line that it begins on. */
export interface CsvRecord {
  readonly origin: string;
  readonly fields: readonly string[];
}

/** Throws AppError `invalid_data` where the file cannot be read. */
export async function* readRecords(file: string): AsyncGenerator<CsvRecord | BadRow> {
  let record: Pending | undefined;
  for await (const line of readLines(file, true)) {
    if ('reason' in line) {
      yield line;
      // Whatever it was, a record that reached into it is lost as well.
      if (record !== undefined) yield record.refusal();
      record = undefined;
      continue;
    }
    if (record === undefined && line.text.trim() === '') continue;
    record ??= new Pending(line.origin);
    if (record.add(line.text, line.bytes)) yield { origin: record.origin, fields: record.fields };
    else if (record.bytes <= MAX_LINE_BYTES) continue;
    else yield record.refusal();
    record = undefined;
  }
  if (record !== undefined) yield record.refusal();
}

/** A record whose last line has not come yet. */
class Pending {
  readonly origin: string;
  readonly fields: string[] = [];
  bytes = 0;
  /** What there is of a field whose quote is open. */
  #open: string | undefined;

  constructor(origin: string) {
    this.origin = origin;
  }

  /** Whether the line was the last one. */
  add(line: string, bytes: number): boolean {
    this.bytes += bytes;
    let quoted = this.#open !== undefined || line.startsWith('"');
    let at = this.#open === undefined && quoted ? 1 : 0;
    let text = this.#open === undefined ? '' : `${this.#open}\n`;
    for (;;) {
      while (quoted) {
        const end = line.indexOf('"', at);
        if (end < 0) {
          this.#open = text + line.slice(at);
          return false;
        }
        quoted = line[end + 1] === '"'; // two quotes are one, and close nothing
        text += line.slice(at, quoted ? end + 1 : end);
        at = end + (quoted ? 2 : 1);
      }
      const end = line.indexOf(',', at);
      this.fields.push(text + line.slice(at, end < 0 ? line.length : end));
      if (end < 0) return true;
      text = '';
      quoted = line[end + 1] === '"';
      at = end + (quoted ? 2 : 1);
    }
  }

  refusal(): BadRow {
    return {
      origin: this.origin,
      reason: `Expected a quote to be closed within ${MAX_LINE_BYTES} bytes but received one that is not`,
    };
  }
}
