/** Hugging Face's imagefolder: `metadata.jsonl` or `metadata.csv` among the images, with `file_name` and `text` in each row. */
import { AppError } from '../../errors.js';
import { readRecords } from './csv.js';
import { jsonlRows } from './jsonl.js';
import { CAPTION_KEYS, type Row, rowOf } from './row.js';

const IMAGE_KEY = 'file_name';

/** Throws AppError `invalid_data` where the file cannot be read, or a table's first line does not name the columns. */
export async function* imagefolderRows(file: string): AsyncGenerator<Row> {
  for await (const row of file.toLowerCase().endsWith('.csv') ? csvRows(file) : jsonlRows(file, [IMAGE_KEY])) {
    const { origin } = row;
    yield 'image' in row && row.image === null ? { origin, reason: `Expected ${IMAGE_KEY} but received none` } : row;
  }
}

async function* csvRows(file: string): AsyncGenerator<Row> {
  let columns: readonly string[] | undefined;
  for await (const record of readRecords(file)) {
    if (columns === undefined) {
      columns = columnsOf(file, 'fields' in record ? record.fields : []);
    } else if ('reason' in record) {
      yield record;
    } else {
      yield rowOfRecord(columns, record.fields, record.origin);
    }
  }
}

function columnsOf(file: string, columns: readonly string[]): readonly string[] {
  if (columns.includes(IMAGE_KEY) && CAPTION_KEYS.some((key) => columns.includes(key))) return columns;
  throw new AppError(
    'invalid_data',
    `${file}: Expected the columns ${IMAGE_KEY} and text but received ${columns.length === 0 ? 'none' : columns.join(', ').slice(0, 120)}`,
  );
}

function rowOfRecord(columns: readonly string[], fields: readonly string[], origin: string): Row {
  if (fields.length !== columns.length)
    return { origin, reason: `Expected ${columns.length} fields but received ${fields.length}` };
  return rowOf(new Map(columns.map((column, index) => [column, fields[index]])), origin, [IMAGE_KEY]);
}
