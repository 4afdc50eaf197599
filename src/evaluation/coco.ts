/**
 * COCO's two files of a captioning evaluation, as parsed JSON: the annotations of a set, and the results of a model on it. They come
 * from outside, so one error says all that is wrong with both; of a file full of faults it names the first hundred.
 */
import { AppError } from '../errors.js';
import { type CaptionScores, evaluateCaptions, type ImageId } from './captions.js';

/** ROUGE-L takes time with the square of it, and no real caption comes near. */
const MAX_CAPTION_CHARS = 10_000;
const MAX_NAMED_FAULTS = 100;

interface Caption {
  readonly image: ImageId;
  readonly text: string;
}

/**
 * Scores results, `[{"image_id", "caption"}]`, against annotations, `{"images": [{"id"}], "annotations": [{"image_id", "caption"}]}`.
 * As in coco-caption, only images that have a result count. Throws AppError `invalid_data`.
 */
export function evaluateCoco(annotations: unknown, results: unknown): CaptionScores {
  const faults: string[] = [];
  const images = readImages(field(annotations, 'images'), faults);
  const references = new Map<ImageId, string[]>();
  for (const { image, text } of readCaptions(field(annotations, 'annotations'), 'annotations', faults)) {
    const texts = references.get(image);
    if (texts === undefined) references.set(image, [text]);
    else texts.push(text);
  }
  const captions = new Map<ImageId, string>();
  for (const { image, text } of readCaptions(results, 'results', faults)) {
    if (!images.has(image)) faults.push(`Expected results only of images that are listed but received one of ${quote(image)}`);
    else if (captions.has(image)) faults.push(`Expected one result an image but received another of ${quote(image)}`);
    else if (!references.has(image)) faults.push(`Expected annotations of image ${quote(image)} but received none`);
    captions.set(image, text);
  }
  if (faults.length > 0) throw errorOf(faults);
  return evaluateCaptions(references, captions);
}

function readImages(value: unknown, faults: string[]): Set<ImageId> {
  const ids = listOf(value, 'images', faults).map((image, index) => readId(image, 'id', `images[${index}]`, faults));
  return new Set(ids.filter((id) => id !== undefined));
}

/** The captions that are whole; for any other there is a fault. */
function readCaptions(value: unknown, name: string, faults: string[]): Caption[] {
  return listOf(value, name, faults).flatMap((entry, index) => {
    const place = `${name}[${index}]`;
    const image = readId(entry, 'image_id', place, faults);
    const text = field(entry, 'caption');
    if (typeof text !== 'string') faults.push(expected(`${place}.caption`, 'a string', text));
    else if (text.length > MAX_CAPTION_CHARS) {
      faults.push(`Expected ${place}.caption to be of at most ${MAX_CAPTION_CHARS} characters but received ${text.length}`);
    } else if (image !== undefined) return [{ image, text }];
    return [];
  });
}

function readId(entry: unknown, key: string, place: string, faults: string[]): ImageId | undefined {
  const id = field(entry, key);
  if (Number.isSafeInteger(id) || (typeof id === 'string' && id !== '')) return id as ImageId;
  faults.push(expected(`${place}.${key}`, 'an integer or a name', id));
  return undefined;
}

function listOf(value: unknown, name: string, faults: string[]): readonly unknown[] {
  if (Array.isArray(value) && value.length > 0) return value;
  faults.push(expected(name, 'a list of one entry at least', value));
  return [];
}

/** A member of an object; undefined of anything else. */
function field(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Readonly<Record<string, unknown>>)[key]
    : undefined;
}

function expected(name: string, kind: string, value: unknown): string {
  return `Expected ${name} to be ${kind} but received ${quote(value)}`;
}

/** Never the whole of a list or an object: they may be of any size and depth. */
function quote(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  const text = JSON.stringify(value);
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}

function errorOf(faults: readonly string[]): AppError {
  const named = faults.slice(0, MAX_NAMED_FAULTS);
  if (faults.length > named.length) named.push(`and ${faults.length - named.length} more faults`);
  return AppError.ofFaults('invalid_data', 'Captions cannot be evaluated', named);
}
