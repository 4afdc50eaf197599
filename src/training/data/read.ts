/**
 * Datasets as people have them. The format is found out from names alone, never from content, so that a broken file is told as a broken
 * file of its format, and not as one of no format at all.
 */
import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { AppError } from '../../errors.js';
import { Faults } from '../../tensor/faults.js';
import { cocoRows } from './coco.js';
import { collect } from './collect.js';
import type { Dataset } from './example.js';
import { imagefolderRows } from './imagefolder.js';
import { jsonlRows } from './jsonl.js';
import type { Normalization } from './normalize.js';
import type { Row } from './row.js';
import { textRows } from './text.js';

export const FORMATS = ['jsonl', 'imagefolder', 'coco', 'text'] as const;
export type Format = (typeof FORMATS)[number];

export interface ReadOptions {
  /** The folder that images are named from; without one it is the file's, or for COCO `images` beside the file where that is a folder. */
  readonly images?: string | undefined;
  readonly normalize: Normalization;
  readonly format?: 'auto' | Format | undefined;
}

/** A dataset, and the absolute folder that its images are named from: what `split` needs to name them alike on every machine. */
export interface ReadDataset extends Dataset {
  readonly folder: string;
}

const READERS: Readonly<Record<Format, (file: string) => AsyncIterable<Row>>> = {
  jsonl: jsonlRows,
  imagefolder: imagefolderRows,
  coco: cocoRows,
  text: textRows,
};

/** What a folder may hold, the first that it does hold first. */
const IN_FOLDER: readonly (readonly [string, Format])[] = [
  ['captions.jsonl', 'jsonl'],
  ['metadata.jsonl', 'imagefolder'],
  ['metadata.csv', 'imagefolder'],
];
const BY_EXTENSION: ReadonlyMap<string, Format> = new Map([
  ['.jsonl', 'jsonl'],
  ['.json', 'coco'],
  ['.txt', 'text'],
]);

/**
 * Reads all rows of the dataset in a file or folder: those that can be used as examples, the others with the reason.
 * Throws AppError `invalid_data` where there is no dataset, it cannot be read, or no row of it can be used.
 */
export async function readDataset(location: string, options: ReadOptions): Promise<ReadDataset> {
  const { file, format } = await locate(resolve(location), options.format ?? 'auto');
  const folder = await imageFolder(file, format, options.images);
  const dataset = await collect(READERS[format](file), folder, options.normalize);
  if (dataset.examples.length > 0) return { ...dataset, folder };
  if (dataset.bad.length === 0) throw new AppError('invalid_data', `${file}: Expected at least one row but received none`);
  const faults = new Faults();
  for (const { origin, reason } of dataset.bad) faults.add(`${origin} ${reason}`);
  throw faults.error('invalid_data', `${file}: Expected at least one row that can be used but received only others`);
}

async function locate(location: string, format: 'auto' | Format): Promise<{ file: string; format: Format }> {
  const stats = await statOf(location);
  if (stats === undefined) throw new AppError('invalid_data', `Expected a dataset at ${location} but there is none`);
  if (!stats.isDirectory()) return { file: location, format: format === 'auto' ? formatOf(location) : format };
  const candidates = IN_FOLDER.filter(([, each]) => format === 'auto' || format === each);
  for (const [name, each] of candidates) {
    const file = join(location, name);
    if (await statOf(file)) return { file, format: each };
  }
  if (candidates.length === 0)
    throw new AppError('invalid_data', `Expected a file (${format}) at ${location} but received a folder`);
  const expected = candidates.map(([name]) => name).join(' or ');
  throw new AppError('invalid_data', `Expected a folder with ${expected} at ${location} but received one without`);
}

function formatOf(file: string): Format {
  const listed = IN_FOLDER.find(([name]) => name === basename(file));
  const format = listed?.[1] ?? BY_EXTENSION.get(extname(file).toLowerCase());
  if (format !== undefined) return format;
  const expected = [...BY_EXTENSION].map(([extension, each]) => `${extension} (${each})`).join(', ');
  throw new AppError('invalid_data', `Expected a dataset, a folder or a file of ${expected}, but received ${file}`);
}

async function imageFolder(file: string, format: Format, images: string | undefined): Promise<string> {
  if (images !== undefined) {
    const folder = resolve(images);
    if ((await statOf(folder))?.isDirectory()) return folder;
    throw new AppError('invalid_data', `Expected a folder of images at ${folder} but there is none`);
  }
  const beside = join(dirname(file), 'images');
  return format === 'coco' && (await statOf(beside))?.isDirectory() ? beside : dirname(file);
}

/** undefined where there is nothing, or nothing that we may look at. */
async function statOf(path: string): Promise<Stats | undefined> {
  return stat(path).catch(() => undefined);
}
