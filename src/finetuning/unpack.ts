/** A training file as the trainer reads data: a line of JSON a row, and its pictures beside it, each once, by what it holds. */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AppError } from '../errors.js';
import { readRows } from './check.js';
import type { RowLimits } from './rows.js';

/** Writes `file`, and `images/` beside it. Rows keep the numbers of their lines. Throws AppError `invalid_data` where a row is none. */
export async function unpack(source: string, file: string, limits: RowLimits, signal: AbortSignal): Promise<void> {
  const folder = dirname(file);
  await mkdir(join(folder, 'images'), { recursive: true });
  await pipeline(Readable.from(linesOf(source, folder, limits)), createWriteStream(file), { signal });
}

async function* linesOf(source: string, folder: string, limits: RowLimits): AsyncGenerator<string> {
  let lines = 0;
  for await (const { number, row, faults } of readRows(source, limits)) {
    // It was checked when it came: the disk has another opinion by now.
    if (!row) throw faults.error('invalid_data', `line ${number}`);
    const image = row.image === null ? {} : { image: await writeImage(row.image, folder) };
    const blank = '\n'.repeat(number - lines - 1);
    lines = number;
    yield `${blank}${JSON.stringify({ ...image, captions: [row.caption] })}\n`;
  }
  if (lines === 0) throw new AppError('invalid_data', 'Expected at least one row but received none');
}

/** Its path below the folder. Rows of one picture become captions of one. */
async function writeImage(base64: string, folder: string): Promise<string> {
  const bytes = Buffer.from(base64, 'base64');
  const name = `images/${createHash('sha256').update(bytes).digest('hex')}`;
  await writeFile(join(folder, name), bytes);
  return name;
}
