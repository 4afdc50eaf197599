/** Plain text: one text a line, no images. */
import { readLines } from './lines.js';
import type { Row } from './row.js';

export async function* textRows(file: string): AsyncGenerator<Row> {
  for await (const line of readLines(file))
    yield 'text' in line ? { origin: line.origin, image: null, captions: [line.text] } : line;
}
