/** COCO captions: one JSON file, `{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}`. */
import { AppError } from '../../errors.js';
import { Faults } from '../../tensor/faults.js';
import { members, parseJson, quote } from '../../tensor/json.js';
import type { BadRow } from './example.js';
import { readText } from './lines.js';
import type { Row } from './row.js';

/** Three times COCO's own largest file of captions, and well below the longest string. */
const MAX_BYTES = 256 * 1024 ** 2;

type Id = number | string;

/** Throws AppError `invalid_data` where the file cannot be read, or is no JSON with these two lists. */
export async function* cocoRows(file: string): AsyncGenerator<Row> {
  const faults = new Faults();
  const fields = members(parseJson(await readText(file, MAX_BYTES), faults));
  if (fields === undefined) {
    faults.add('Expected COCO captions, an object, but received something else');
    throw faults.error('invalid_data', file);
  }
  const images = listOf(file, fields, 'images');
  const annotations = listOf(file, fields, 'annotations');

  const names = new Map<Id, string>();
  const places = new Map<Id, string>();
  for (const [index, image] of images.entries()) {
    const origin = `images[${index}]`;
    const { id, name, reason } = imageOf(image, names);
    if (reason !== undefined) {
      yield { origin, reason };
      continue;
    }
    names.set(id, name);
    places.set(id, origin);
  }
  for (const [index, annotation] of annotations.entries()) {
    const origin = `annotations[${index}]`;
    const parsed = members(annotation);
    const id = parsed?.get('image_id') as Id;
    places.delete(id);
    yield parsed === undefined ? notAnObject(origin, annotation) : annotationRow(parsed, origin, names.get(id));
  }
  for (const origin of places.values()) yield { origin, reason: 'Expected at least one caption but received none' };
}

function listOf(file: string, fields: ReadonlyMap<string, unknown>, key: string): readonly unknown[] {
  const value = fields.get(key);
  if (Array.isArray(value)) return value;
  throw new AppError('invalid_data', `${file}: Expected COCO captions, with a list of ${key}, but received ${quote(value)}`);
}

function imageOf(
  image: unknown,
  known: ReadonlyMap<Id, string>,
): { id: Id; name: string; reason?: undefined } | { id?: undefined; name?: undefined; reason: string } {
  const fields = members(image);
  const id = fields?.get('id');
  const name = fields?.get('file_name');
  if (typeof id !== 'number' && typeof id !== 'string')
    return { reason: `Expected an image with an id but received ${quote(image)}` };
  if (typeof name !== 'string') return { reason: `Expected file_name to be a path but received ${quote(name)}` };
  if (known.has(id)) return { reason: `Expected each id once but received ${quote(id)} again` };
  return { id, name };
}

function annotationRow(fields: ReadonlyMap<string, unknown>, origin: string, name: string | undefined): Row {
  if (name === undefined) return { origin, reason: `Expected the id of an image but received ${quote(fields.get('image_id'))}` };
  const caption = fields.get('caption');
  if (typeof caption !== 'string') return { origin, reason: `Expected caption to be a text but received ${quote(caption)}` };
  return { origin, image: name, captions: [caption] };
}

function notAnObject(origin: string, value: unknown): BadRow {
  return { origin, reason: `Expected an object but received ${quote(value)}` };
}
