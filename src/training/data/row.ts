/**
 * One row of a file, before anything outside it is looked at: which image it names, and its captions as they were written.
 * A row is taken or refused as a whole: four captions of five would be a dataset that nobody wrote.
 */
import { quote } from '../../tensor/json.js';
import type { BadRow } from './example.js';

export interface GoodRow {
  readonly origin: string;
  /** A path below the folder of images, as it was written. */
  readonly image: string | null;
  /** At least one. */
  readonly captions: readonly string[];
}

export type Row = GoodRow | BadRow;

/** Of several in one row, the first counts. */
export const CAPTION_KEYS = ['captions', 'caption', 'text'] as const;
const CAPTIONS = 'captions, caption or text';

/** The row that an object's members make; the first of `imageKeys` that has a value names its image. */
export function rowOf(fields: ReadonlyMap<string, unknown>, origin: string, imageKeys: readonly string[]): Row {
  const imageKey = firstOf(imageKeys, fields);
  const image = imageKey === undefined ? null : fields.get(imageKey);
  if (image !== null && typeof image !== 'string')
    return { origin, reason: `Expected ${imageKey} to be a path but received ${quote(image)}` };
  const captionKey = firstOf(CAPTION_KEYS, fields);
  if (captionKey === undefined) return { origin, reason: `Expected ${CAPTIONS} but received none of them` };
  const value = fields.get(captionKey);
  const captions = typeof value === 'string' ? [value] : value;
  if (!isTexts(captions))
    return { origin, reason: `Expected ${captionKey} to be a text or a list of texts but received ${quote(value)}` };
  if (captions.length === 0) return { origin, reason: `Expected ${captionKey} to have at least one text but received none` };
  return { origin, image, captions };
}

function firstOf(keys: readonly string[], fields: ReadonlyMap<string, unknown>): string | undefined {
  return keys.find((key) => (fields.get(key) ?? null) !== null);
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}
