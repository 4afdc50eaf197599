/** JSON lines: `{"image": "photos/1.jpg", "captions": ["...", "..."]}` a line, or only `{"text": "..."}`. */
import { Faults } from '../../tensor/faults.js';
import { members, parseJson, quote } from '../../tensor/json.js';
import type { BadRow } from './example.js';
import { readLines } from './lines.js';
import { type Row, rowOf } from './row.js';

/** `file_name` is what other tools write: read as no image, it would make the row a text. */
const IMAGE_KEYS = ['image', 'file_name'];

export async function* jsonlRows(file: string, imageKeys: readonly string[] = IMAGE_KEYS): AsyncGenerator<Row> {
  for await (const line of readLines(file)) yield 'text' in line ? parseRow(line.text, line.origin, imageKeys) : line;
}

function parseRow(text: string, origin: string, imageKeys: readonly string[]): Row {
  const faults = new Faults();
  const value = parseJson(text, faults);
  if (value === undefined) return { origin, reason: lastOf(faults) };
  const fields = members(value);
  return fields === undefined ? notAnObject(origin, value) : rowOf(fields, origin, imageKeys);
}

/** The fault that ended the parsing; those before it are keys that come twice, which a caption survives. */
function lastOf(faults: Faults): string {
  return faults.error('invalid_data', '').faults?.at(-1) ?? 'Expected JSON but received something else';
}

function notAnObject(origin: string, value: unknown): BadRow {
  return { origin, reason: `Expected an object but received ${quote(value)}` };
}
