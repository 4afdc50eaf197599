/**
 * Images in JSON: base64, or a data URI of it. One of twenty megabytes, parsed and decoded as a whole, would hold up everybody's tokens for a quarter
 * of a second. So the one long text that a body may have is lifted out of its bytes before they are parsed, and decoded a piece at a time, with other
 * work in between.
 */
import { randomUUID } from 'node:crypto';
import { setImmediate as macrotask } from 'node:timers/promises';
import { AppError } from '../errors.js';

const DATA_URI = /^data:[a-z0-9.+-]{1,64}\/[a-z0-9.+-]{1,64};base64,/i;
/** More than any other text of a request takes, however it is escaped. */
const LONG_BYTES = 512 * 1024;
/** Characters decoded at once: a multiple of four, so that every piece is whole bytes. */
const PIECE = 512 * 1024;
/** Quotation marks of a body that is a request and no attempt to keep us counting. */
const MAX_QUOTES = 20_000;
const MAX_SLASHES_AT_ONCE = 10_000;
/** Stands where the long text stood. Nobody outside can know it. */
const LIFTED = randomUUID();

const [QUOTE, BACKSLASH, SLASH, EQUALS] = [0x22, 0x5c, 0x2f, 0x3d];

/** Where in a body the long text may stand: names of fields, `*` for each item of a list. */
export type ImagePath = readonly string[];

export interface BodyLimits {
  readonly maxImageBytes: number;
  /** Of everything besides the image. */
  readonly maxOtherBytes: number;
}

/** Parses a JSON body; a long image at `path` comes as its bytes. Throws `invalid_request` or `payload_too_large`. */
export async function parseImageJson(
  body: Buffer,
  path: ImagePath,
  { maxImageBytes, maxOtherBytes }: BodyLimits,
): Promise<unknown> {
  // Whoever read a large body has just put it together, which takes its time: others first.
  if (body.length > LONG_BYTES) await macrotask();
  const span = longText(body);
  const rest = span ? Buffer.concat([body.subarray(0, span.from), Buffer.from(LIFTED), body.subarray(span.to)]) : body;
  if (rest.length > maxOtherBytes) throw tooLong(maxOtherBytes);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(rest));
  } catch (error) {
    throw new AppError('invalid_request', `Expected a JSON object but received a body that does not parse: ${String(error)}`);
  }
  if (!span) return value;
  const gap = findLifted(value, path);
  if (!gap) throw tooLong(maxOtherBytes);
  gap.fill(await decodeLong(body.subarray(span.from, span.to), gap.param, maxImageBytes));
  return value;
}

/** The image's bytes, from a short text (a long one has been decoded by `parseImageJson`) or a form's file. Throws `invalid_request` or `payload_too_large`. */
export function imageBytes(image: string | Uint8Array, maxBytes: number): Uint8Array {
  if (typeof image !== 'string') return image;
  const bytes = decode(withoutPadding(image.slice(DATA_URI.exec(image)?.[0].length ?? 0)));
  if (bytes === null || bytes.length === 0) throw notBase64(image, 'image');
  if (bytes.length > maxBytes) throw tooLarge(bytes.length, 'image', maxBytes);
  return bytes;
}

/** Where the first long text of a JSON body begins and ends, without its quotation marks; undefined where there is none. */
function longText(body: Buffer): { readonly from: number; readonly to: number } | undefined {
  let quotes = 0;
  const nextQuote = (from: number): number => {
    if (++quotes > MAX_QUOTES)
      throw new AppError('invalid_request', `Expected at most ${MAX_QUOTES} quotation marks but received more`);
    return body.indexOf(QUOTE, from);
  };
  for (let open = nextQuote(0); open >= 0; ) {
    let close = nextQuote(open + 1);
    while (close >= 0 && isEscaped(body, close)) close = nextQuote(close + 1);
    if (close < 0) return undefined; // The parser says it better.
    if (close - open > LONG_BYTES) return { from: open + 1, to: close };
    open = nextQuote(close + 1);
  }
  return undefined;
}

/** The place that a long text was lifted out of, and its name; undefined where it is at none that `path` allows. */
function findLifted(
  value: unknown,
  [key, ...rest]: ImagePath,
  name = '',
): { readonly param: string; readonly fill: (bytes: Buffer) => void } | undefined {
  if (key === undefined || typeof value !== 'object' || value === null || Array.isArray(value) !== (key === '*'))
    return undefined;
  const holder = value as Record<string, unknown>;
  for (const field of key === '*' ? Object.keys(holder) : [key]) {
    const param = key === '*' ? `${name}[${field}]` : name === '' ? field : `${name}.${field}`;
    const inner = holder[field];
    if (rest.length > 0) {
      const found = findLifted(inner, rest, param);
      if (found) return found;
    } else if (inner === LIFTED) {
      return {
        param,
        fill: (bytes) => {
          holder[field] = bytes;
        },
      };
    }
  }
  return undefined;
}

/** Whether an odd number of backslashes stands before. */
function isEscaped(body: Buffer, at: number): boolean {
  let before = at;
  while (body[before - 1] === BACKSLASH) before--;
  return (at - before) % 2 === 1;
}

async function decodeLong(text: Buffer, param: string, maxBytes: number): Promise<Buffer> {
  const plain = await withoutEscapes(text);
  if (plain === null) throw notBase64('', param);
  const head = plain.toString('latin1', 0, 200);
  const base64 = plain.subarray(DATA_URI.exec(head)?.[0].length ?? 0);
  let end = base64.length;
  while (end > base64.length - 2 && base64[end - 1] === EQUALS) end--;
  const length = Math.floor((end * 3) / 4);
  if (length > maxBytes) throw tooLarge(length, param, maxBytes);
  const bytes = Buffer.allocUnsafeSlow(length);
  for (let from = 0, at = 0; from < end; from += PIECE) {
    const piece = decode(base64.toString('latin1', from, Math.min(from + PIECE, end)));
    if (piece === null) throw notBase64(head, param);
    at += piece.copy(bytes, at);
    await macrotask();
  }
  return bytes;
}

/** JSON may write / as \/, and some encoders do. Works in place; null where anything else is escaped, which base64 never is. */
async function withoutEscapes(text: Buffer): Promise<Buffer | null> {
  let to = text.indexOf(BACKSLASH);
  if (to < 0) return text;
  for (let from = to, count = 1; from < text.length; count++) {
    if (text[from + 1] !== SLASH) return null;
    const next = text.indexOf(BACKSLASH, from + 2);
    const end = next < 0 ? text.length : next;
    text.copyWithin(to, from + 1, end);
    to += end - from - 1;
    from = end;
    if (count % MAX_SLASHES_AT_ONCE === 0) await macrotask();
  }
  return text.subarray(0, to);
}

/** Base64 without its padding; null where it is none: Node leaves out what it does not know, and the result is shorter than it should be. */
function decode(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64');
  return text.length % 4 !== 1 && bytes.length === Math.floor((text.length * 3) / 4) ? bytes : null;
}

function withoutPadding(text: string): string {
  return text.endsWith('==') ? text.slice(0, -2) : text.endsWith('=') ? text.slice(0, -1) : text;
}

function notBase64(text: string, param: string): AppError {
  const hint = /^https?:/i.test(text) ? 'a URL, which this server does not fetch' : 'text that is neither';
  return new AppError('invalid_request', `${param}: Expected base64 or a data URI of an image but received ${hint}`, { param });
}

function tooLarge(bytes: number, param: string, maxBytes: number): AppError {
  return new AppError('payload_too_large', `${param}: Expected at most ${maxBytes} bytes but received ${bytes}`, { param });
}

function tooLong(maxOtherBytes: number): AppError {
  return new AppError(
    'payload_too_large',
    `Expected at most ${maxOtherBytes} bytes of JSON besides the image, and no other text above ${LONG_BYTES} bytes, but received more`,
  );
}
