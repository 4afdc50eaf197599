/**
 * The messages of a chat request as what there is here: one text to go on from, and at most one image. A conversation would need the
 * backbone's chat template; without one its turns would run into each other, so that whatever is no single question is refused.
 */
import { z } from 'zod';
import { AppError } from '../errors.js';
import { MAX_PROMPT_CHARACTERS, show } from './schema.js';

const MAX_PARTS = 64;
const DETAILS = ['auto', 'low', 'high'] as const;
/** Where the one image of a request stands, for whoever lifts it out of the body. */
export const IMAGE_PATH = ['messages', '*', 'content', '*', 'image_url', 'url'];

const PART = z.union([
  z.strictObject({ type: z.literal('text'), text: z.string() }),
  z.strictObject({
    type: z.literal('image_url'),
    image_url: z.strictObject({ url: z.string().min(1), detail: z.enum(DETAILS).nullish() }),
  }),
]);

/** What `readMessages` takes, for the description of the API. It checks by itself: its messages have the place of the fault, and never an image. */
export const MESSAGES = z
  .array(z.strictObject({ role: z.literal('user'), content: z.union([z.string(), z.array(PART).min(1).max(MAX_PARTS)]) }))
  .length(1);

export interface MessagePrompt {
  /** null where there is no text: the adapter's own. */
  readonly prompt: string | null;
  /** A data URI, a URL, or a long data URI's bytes; null for text alone. */
  readonly image: string | Uint8Array | null;
  /** The image's place in the request. */
  readonly imageParam: string;
}

type Part = { readonly text: string } | { readonly image: string | Uint8Array; readonly param: string };

/** Throws `invalid_request` or `unknown_field`, with the place of the first fault. Never shows what may hold an image. */
export function readMessages(messages: readonly unknown[]): MessagePrompt {
  for (const [index, message] of messages.entries()) {
    const param = `messages[${index}]`;
    const { role } = objectAt(message, param);
    if (role !== 'user')
      throw fault(`${param}.role`, '"user" (there are no chat templates here, only one user message)', show(role));
  }
  if (messages.length !== 1)
    throw fault('messages', 'one user message (there are no chat templates here)', String(messages.length));
  const { content } = objectAt(messages[0], 'messages[0]', ['role', 'content']);
  const parts = partsOf(content, 'messages[0].content');
  const images = parts.filter((part) => 'image' in part);
  if (images[1]) throw fault(images[1].param, 'at most one image', String(images.length));
  // An empty text is none: there is no way else to send an image alone in a message's plain text.
  const texts = parts.flatMap((part) => ('text' in part && part.text !== '' ? [part.text] : []));
  const prompt = texts.join('\n');
  if (prompt.length > MAX_PROMPT_CHARACTERS)
    throw fault('messages', `a text of at most ${MAX_PROMPT_CHARACTERS} characters`, String(prompt.length));
  return {
    prompt: texts.length === 0 ? null : prompt,
    image: images[0]?.image ?? null,
    imageParam: images[0]?.param ?? 'messages',
  };
}

function partsOf(content: unknown, param: string): Part[] {
  if (typeof content === 'string') return [{ text: content }];
  if (!Array.isArray(content)) throw fault(param, 'a text or a list of parts', kindOf(content));
  if (content.length === 0 || content.length > MAX_PARTS) throw fault(param, `1 to ${MAX_PARTS} parts`, String(content.length));
  return content.map((part: unknown, index) => partOf(part, `${param}[${index}]`));
}

function partOf(value: unknown, param: string): Part {
  const { type } = objectAt(value, param);
  if (type === 'text') {
    const { text } = objectAt(value, param, ['type', 'text']);
    if (typeof text !== 'string') throw fault(`${param}.text`, 'a text', kindOf(text));
    return { text };
  }
  if (type === 'image_url') {
    const { image_url } = objectAt(value, param, ['type', 'image_url']);
    return imageOf(image_url, `${param}.image_url`);
  }
  throw fault(`${param}.type`, '"text" or "image_url" (audio and files are not read here)', show(type));
}

/** How closely to look (`detail`) is the vision encoder's affair. */
function imageOf(value: unknown, param: string): Part {
  const { url, detail } = objectAt(value, param, ['url', 'detail']);
  if (detail != null && !(DETAILS as readonly unknown[]).includes(detail))
    throw fault(`${param}.detail`, '"auto", "low", "high" or null', show(detail));
  if (url instanceof Uint8Array || (typeof url === 'string' && url !== '')) return { image: url, param: `${param}.url` };
  throw fault(`${param}.url`, 'a data URI or a URL', show(url));
}

function objectAt(value: unknown, param: string, known?: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fault(param, 'an object', kindOf(value));
  const unknown = known && Object.keys(value).filter((key) => !known.includes(key));
  if (known && unknown?.[0] !== undefined) {
    const message = `${param}: Expected only ${known.join(', ')} but received ${unknown.map(show).join(', ')}`;
    throw new AppError('unknown_field', message, { param: `${param}.${unknown[0]}` });
  }
  return value as Readonly<Record<string, unknown>>;
}

function kindOf(value: unknown): string {
  return typeof value === 'object' && value !== null ? (Array.isArray(value) ? 'a list' : 'an object') : show(value);
}

function fault(param: string, expected: string, received: string): AppError {
  return new AppError('invalid_request', `${param}: Expected ${expected} but received ${received}`, { param });
}
