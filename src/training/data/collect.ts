/**
 * From rows to examples: whatever the format, here the images are looked for, the captions are normalised, and the rows of one image
 * become one example. An image that stood in two examples could be learned in one and asked for in the other.
 */
import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { isAbsolute, relative, resolve, sep } from 'node:path';
import { isAbsent } from '../../adapter/file.js';
import { mapConcurrent } from '../../tensor/concurrent.js';
import { quote } from '../../tensor/json.js';
import type { BadRow, Dataset, Example } from './example.js';
import { type Normalization, normalize } from './normalize.js';
import type { GoodRow, Row } from './row.js';

const CONCURRENT_STATS = 16;
/** What no tokenizer should see: a NUL, or half of a pair that JSON can spell and UTF-8 cannot. */
const NO_TEXT = /[\0\p{Surrogate}]/u;

/**
 * The examples of rows whose images lie below `folder` (absolute), in the order of the file. Where any row names an image, one that
 * names none is bad: it is a row that lost its image.
 */
export async function collect(rows: AsyncIterable<Row>, folder: string, style: Normalization): Promise<Dataset> {
  const read: Row[] = [];
  const images = new Set<string>();
  let named = false;
  for await (const raw of rows) {
    const row = 'reason' in raw ? raw : settle(raw, folder, style);
    read.push(row);
    named ||= 'image' in raw && raw.image !== null;
    if ('image' in row && row.image !== null) images.add(row.image);
  }
  const faults = await faultsOf(images, folder);

  const examples = new Map<string | number, Example & { captions: string[] }>();
  const bad: BadRow[] = [];
  for (const [index, row] of read.entries()) {
    if ('reason' in row) {
      bad.push(row);
      continue;
    }
    const { origin, image, captions } = row;
    const reason =
      image !== null ? faults.get(image) : named ? 'Expected an image, like the other rows, but received none' : undefined;
    const known = examples.get(image ?? index);
    if (reason !== undefined) bad.push({ origin, reason });
    else if (known === undefined) examples.set(image ?? index, { image, captions: [...captions], origin });
    else for (const caption of captions) known.captions.push(caption);
  }
  return { examples: [...examples.values()], bad };
}

/** The row with its image's absolute path and its captions normalised. */
function settle({ origin, image: name, captions: texts }: GoodRow, folder: string, style: Normalization): Row {
  const image = name === null ? null : resolve(folder, name);
  if (name !== null && image !== null && (isAbsolute(name) || leaves(relative(folder, image))))
    return { origin, reason: `Expected the path of an image below the folder of images but received ${quote(name)}` };
  const captions: string[] = [];
  for (const text of texts) {
    if (NO_TEXT.test(text))
      return { origin, reason: `Expected a caption of whole characters, none a NUL, but received ${quote(text)}` };
    const caption = normalize(text, style);
    if (caption === '') return { origin, reason: `Expected a caption that is not empty but received ${quote(text)}` };
    captions.push(caption);
  }
  return { origin, image, captions };
}

function leaves(path: string): boolean {
  return path === '..' || path.startsWith(`..${sep}`) || isAbsolute(path);
}

/** What is wrong with each image that is no file, by path. */
async function faultsOf(images: ReadonlySet<string>, folder: string): Promise<ReadonlyMap<string, string>> {
  const faults = new Map<string, string>();
  await mapConcurrent([...images], CONCURRENT_STATS, async (path) => {
    const fault = await faultOf(path);
    if (fault !== undefined) faults.set(path, `Expected an image file ${quote(relative(folder, path))} but ${fault}`);
  });
  return faults;
}

async function faultOf(path: string): Promise<string | undefined> {
  let stats: Stats;
  try {
    stats = await stat(path);
  } catch (error) {
    if (isAbsent(error)) return 'there is none';
    return `it cannot be looked at (${error instanceof Error && 'code' in error ? String(error.code) : String(error)})`;
  }
  if (stats.isFile()) return undefined;
  return stats.isDirectory() ? 'it is a folder' : 'it is no regular file';
}
