/** What a training file holds, once every row of it has been read: a file is taken whole or not at all, with the lines that are wrong. */
import { createReadStream } from 'node:fs';
import { AppError } from '../errors.js';
import { Faults } from '../tensor/faults.js';
import { quote } from '../tensor/json.js';
import { splitLines } from '../tensor/lines.js';
import { maxRowBytes, type RowLimits, readRow, type TrainingRow } from './rows.js';

/** What the rows of a file have in common: an adapter has one prompt, and sees images or does not. */
export interface RowSummary {
  readonly rows: number;
  readonly hasImages: boolean;
  readonly prompt: string;
}

/** Lines that are told; what comes after them is not looked at. */
const MAX_BAD_LINES = 20;
const CHUNK_BYTES = 256 * 1024;

/** Throws AppError `invalid_request` that names the first lines that are wrong, and all that is wrong with each. */
export async function checkRows(path: string, limits: RowLimits): Promise<RowSummary> {
  const named: string[] = [];
  let first: TrainingRow | undefined;
  let rows = 0;
  let bad = 0;
  for await (const { number, faults, row } of readRows(path, limits)) {
    first ??= row;
    if (row && first) checkAlike(row, first, faults);
    if (faults.count === 0) rows++;
    else named.push(...faults.error('invalid_request', `line ${number}`).sentences);
    if (faults.count > 0 && ++bad === MAX_BAD_LINES) {
      named.push('the lines after that were not looked at');
      break;
    }
  }
  if (named.length > 0) throw AppError.ofFaults('invalid_request', 'file', named, { param: 'file' });
  if (!first) throw new AppError('invalid_request', 'file: Expected at least one row but received none', { param: 'file' });
  return { rows, hasImages: first.image !== null, prompt: first.prompt };
}

/** A line that is not blank: its row, or what is wrong with it. */
export interface NumberedRow {
  readonly number: number;
  readonly row: TrainingRow | undefined;
  readonly faults: Faults;
}

/** The rows of a file one at a time, in the memory of one. */
export async function* readRows(path: string, limits: RowLimits): AsyncGenerator<NumberedRow> {
  const chunks = createReadStream(path, { highWaterMark: CHUNK_BYTES }) as AsyncIterable<Uint8Array>;
  for await (const line of splitLines(chunks, maxRowBytes(limits))) {
    const faults = new Faults();
    if (line.reason !== undefined) faults.add(line.reason);
    else if (line.text.trim() === '') continue;
    yield { number: line.number, row: line.reason === undefined ? readRow(line.text, limits, faults) : undefined, faults };
  }
}

function checkAlike(row: TrainingRow, first: TrainingRow, faults: Faults): void {
  if ((row.image === null) !== (first.image === null)) {
    const words = (image: string | null): string => (image === null ? 'no image' : 'an image');
    faults.add(`Expected ${words(first.image)}, as in the first row, but received ${words(row.image)}`);
  }
  if (row.prompt !== first.prompt)
    faults.add(`Expected the prompt of the first row, ${quote(first.prompt)}, but received ${quote(row.prompt)}`);
}
