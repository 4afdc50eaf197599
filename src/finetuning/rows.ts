/**
 * A row of a training file: one question and its answer, as OpenAI writes them, with the picture inside. What the serving routes do not do
 * (conversations, tools, several pictures) is refused here too, by name: an adapter that learned from half of its rows would be nobody's wish.
 */
import { sniff } from '../images/format.js';
import { notAnImage, unsupported } from '../images/refusal.js';
import type { Faults } from '../tensor/faults.js';
import { members, parseJson, quote } from '../tensor/json.js';

export interface TrainingRow {
  /** base64, without its prefix; null for text alone. */
  readonly image: string | null;
  /** What the caption goes on from; often empty. */
  readonly prompt: string;
  readonly caption: string;
}

export interface RowLimits {
  /** Of one picture's file. */
  readonly maxImageBytes: number;
}

/** Everything of a row besides its picture. */
const MAX_OTHER_BYTES = 1024 ** 2;
const MAX_TEXT_CHARACTERS = 65_536;
const MAX_PARTS = 64;
const DATA_URI = /^data:image\/[a-z0-9.+-]{1,64};base64,/i;
/** Characters of base64 that hold the bytes by which a format is known. */
const SNIFFED_CHARACTERS = 1368;
const DETAILS: readonly unknown[] = [undefined, null, 'auto', 'low', 'high'];
/** What no tokenizer should see: a NUL, or half of a pair that JSON can spell and UTF-8 cannot. */
const NO_TEXT = /[\0\p{Surrogate}]/u;

type Members = ReadonlyMap<string, unknown>;

/** base64 is a third longer than what it holds. */
export function maxRowBytes({ maxImageBytes }: RowLimits): number {
  return Math.ceil(maxImageBytes / 3) * 4 + MAX_OTHER_BYTES;
}

/** The row that a line holds; undefined, with faults, where it holds none. */
export function readRow(line: string, limits: RowLimits, faults: Faults): TrainingRow | undefined {
  const before = faults.count;
  const value = parseJson(line, faults);
  if (faults.count > before) return undefined;
  const row = objectAt(value, 'the row', ['messages'], faults);
  const messages = row?.get('messages');
  if (row === undefined) return undefined;
  if (!Array.isArray(messages) || messages.length !== 2) {
    const received = Array.isArray(messages) ? `${messages.length}` : quote(messages);
    faults.add(`messages: Expected one user message and one assistant message but received ${received}`);
    return undefined;
  }
  const asked = messageAt(messages[0], 0, 'user', faults);
  const answered = messageAt(messages[1], 1, 'assistant', faults);
  const question = asked && readQuestion(asked.get('content'), limits, faults);
  const caption = answered?.get('content');
  if (faults.count > before || !question) return undefined;
  if (isText(caption) && caption.trim() !== '') return { ...question, caption };
  faults.add(`messages[1].content: Expected the caption, a text that is not empty, but received ${quote(caption)}`);
  return undefined;
}

function readQuestion(content: unknown, limits: RowLimits, faults: Faults): Omit<TrainingRow, 'caption'> | undefined {
  const place = 'messages[0].content';
  const parts: unknown = typeof content === 'string' ? [{ type: 'text', text: content }] : content;
  if (!Array.isArray(parts) || parts.length === 0 || parts.length > MAX_PARTS) {
    faults.add(`${place}: Expected a text or a list of 1 to ${MAX_PARTS} parts but received ${quote(content)}`);
    return undefined;
  }
  const texts: string[] = [];
  const images: string[] = [];
  for (const [index, part] of parts.entries()) {
    const at = `${place}[${index}]`;
    const type = members(part)?.get('type');
    if (type === 'text') {
      const text = objectAt(part, at, ['type', 'text'], faults)?.get('text');
      if (!isText(text)) faults.add(`${at}.text: Expected a text but received ${quote(text)}`);
      // An empty text is none, as in a request.
      else if (text !== '') texts.push(text);
    } else if (type === 'image_url') {
      const image = readImage(
        objectAt(part, at, ['type', 'image_url'], faults)?.get('image_url'),
        `${at}.image_url`,
        limits,
        faults,
      );
      if (image !== undefined) images.push(image);
    } else faults.add(`${at}.type: Expected "text" or "image_url" but received ${quote(type)}`);
  }
  if (images.length > 1) faults.add(`${place}: Expected at most one image but received ${images.length}`);
  return { image: images[0] ?? null, prompt: texts.join('\n') };
}

/** The base64 of a picture that looks like one; undefined, with a fault, for anything else. */
function readImage(value: unknown, place: string, { maxImageBytes }: RowLimits, faults: Faults): string | undefined {
  const fields = objectAt(value, place, ['url', 'detail'], faults);
  if (fields === undefined) return undefined;
  const url = fields.get('url');
  const fault = (reason: string): undefined => {
    faults.add(`${place}.url: ${reason}`);
  };
  if (!DETAILS.includes(fields.get('detail')))
    faults.add(`${place}.detail: Expected "auto", "low" or "high" but received another`);
  if (typeof url !== 'string') return fault(`Expected a data URI but received ${quote(url)}`);
  const prefix = DATA_URI.exec(url)?.[0];
  if (prefix === undefined)
    return fault(
      `Expected a data URI (data:image/jpeg;base64,...) but received ${quote(url.slice(0, 80))}: a training file brings its images itself, none is fetched`,
    );
  const data = url.slice(prefix.length, url.length - (url.endsWith('==') ? 2 : url.endsWith('=') ? 1 : 0));
  // Looking for what is wrong needs no memory; matching all that is right would.
  if (/[^A-Za-z0-9+/]/.test(data) || data.length % 4 === 1) return fault('Expected base64 but received something else');
  const bytes = Math.floor((data.length * 3) / 4);
  if (bytes > maxImageBytes) return fault(`Expected an image of at most ${maxImageBytes} bytes but received ${bytes}`);
  const format = sniff(Buffer.from(data.slice(0, SNIFFED_CHARACTERS), 'base64'));
  if (typeof format === 'string') return data;
  return fault((format.refused === null ? notAnImage(bytes) : unsupported(format.refused)).message);
}

function messageAt(value: unknown, index: number, role: string, faults: Faults): Members | undefined {
  const place = `messages[${index}]`;
  const fields = objectAt(value, place, ['role', 'content'], faults);
  const given = fields?.get('role');
  if (fields === undefined || given === role) return fields;
  faults.add(`${place}.role: Expected "${role}" but received ${quote(given)}`);
  return undefined;
}

function objectAt(value: unknown, place: string, known: readonly string[], faults: Faults): Members | undefined {
  const fields = members(value);
  const unknown = [...(fields?.keys() ?? [])].filter((key) => !known.includes(key));
  if (fields !== undefined && unknown.length === 0) return fields;
  if (fields === undefined) faults.add(`${place}: Expected an object but received ${quote(value)}`);
  else faults.add(`${place}: Expected only ${known.join(' and ')} but received ${unknown.map(quote).join(', ')}`);
  return undefined;
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_TEXT_CHARACTERS && !NO_TEXT.test(value);
}
