/**
 * The messages of a chat request: one text to go on from with at most one image, or, where the backbone has a chat template, a conversation. Without
 * one the turns would run into each other, and adapters for images are made for an image and a prompt, so that turns are refused for both.
 */
import { z } from 'zod';
import type { Turn } from '../backbone/template.js';
import { AppError } from '../errors.js';
import { MAX_PROMPT_CHARACTERS, show } from './schema.js';

const MAX_PARTS = 64;
const MAX_TURNS = 512;
const DETAILS = ['auto', 'low', 'high'] as const;
const ROLES = ['system', 'user', 'assistant'] as const;
/** Where the one image of a request stands, for whoever lifts it out of the body. */
export const IMAGE_PATH = ['messages', '*', 'content', '*', 'image_url', 'url'];

const TEXT = z.strictObject({ type: z.literal('text'), text: z.string() });
const IMAGE = z.strictObject({
  type: z.literal('image_url'),
  image_url: z.strictObject({ url: z.string().min(1), detail: z.enum(DETAILS).nullish() }),
});
const content = z.union([
  z.string(),
  z
    .array(z.union([TEXT, IMAGE]))
    .min(1)
    .max(MAX_PARTS),
]);
const QUESTION = z.array(z.strictObject({ role: z.literal('user'), content })).length(1);
const CONVERSATION = z
  .array(
    z.union([
      z.strictObject({ role: z.enum(['system', 'user']), content }),
      z.strictObject({ role: z.literal('assistant'), content, refusal: z.null().optional() }),
    ]),
  )
  .min(1)
  .max(MAX_TURNS);

/** What `readMessages` takes, for the description of the API. It checks by itself: its faults have their place, and never show an image. */
export function messagesShape(hasTemplate: boolean): z.ZodType {
  return hasTemplate ? CONVERSATION : QUESTION;
}

export interface MessagePrompt {
  /** null where there is no text (the adapter's own is meant), and for more than a question. */
  readonly prompt: string | null;
  /** What is said, where a chat template may be asked to write it; null with an image, and where nothing is said. */
  readonly turns: readonly Turn[] | null;
  /** A data URI, a URL, or a long data URI's bytes; null for text alone. */
  readonly image: string | Uint8Array | null;
  /** The image's place in the request. */
  readonly imageParam: string;
}

type Part = { readonly text: string } | { readonly image: string | Uint8Array; readonly param: string };

/** Throws `invalid_request` or `unknown_field`, with the place of the first fault. Never shows what may hold an image. */
export function readMessages(messages: readonly unknown[], hasTemplate: boolean): MessagePrompt {
  const roles = messages.map((message, index) => roleOf(message, `messages[${index}]`, hasTemplate));
  if (!hasTemplate && messages.length !== 1)
    throw fault('messages', 'one user message (there are no chat templates here)', String(messages.length));
  if (messages.length === 0 || messages.length > MAX_TURNS)
    throw fault('messages', `1 to ${MAX_TURNS} messages`, String(messages.length));
  const parts = messages.map((message, index) => partsOf(contentOf(message, index), `messages[${index}].content`));
  const images = parts.flat().filter((part) => 'image' in part);
  if (images[1]) throw fault(images[1].param, 'at most one image', String(images.length));
  const turns = roles.map((role, index): Turn => ({ role, content: textOf(parts[index] ?? []) }));
  const isQuestion = turns.length === 1 && turns[0]?.role === 'user';
  if (images[0] && !isQuestion)
    throw fault(
      images[0].param,
      'no image in a conversation (an adapter for images is made for an image and a prompt)',
      'one of several messages',
    );
  const said = turns.map(({ content: text }) => text).join('\n');
  if (said.length > MAX_PROMPT_CHARACTERS)
    throw fault('messages', `a text of at most ${MAX_PROMPT_CHARACTERS} characters`, String(said.length));
  return {
    // An empty text is none: there is no way else to send an image alone in a message's plain text.
    prompt: isQuestion && said !== '' ? said : null,
    turns: hasTemplate && !images[0] && (said !== '' || !isQuestion) ? turns : null,
    image: images[0]?.image ?? null,
    imageParam: images[0]?.param ?? 'messages',
  };
}

function roleOf(message: unknown, param: string, hasTemplate: boolean): Turn['role'] {
  const { role } = objectAt(message, param);
  const known = ROLES.find((one) => one === role);
  if (!hasTemplate && known !== 'user')
    throw fault(`${param}.role`, '"user" (there are no chat templates here, only one user message)', show(role));
  if (!known) throw fault(`${param}.role`, '"system", "user" or "assistant"', show(role));
  return known;
}

/** An answer of this server goes back as it came, with the refusal that it never has. */
function contentOf(message: unknown, index: number): unknown {
  const param = `messages[${index}]`;
  const isAnswer = objectAt(message, param)['role'] === 'assistant';
  const { content: value, refusal } = objectAt(message, param, ['role', 'content', ...(isAnswer ? ['refusal'] : [])]);
  if (refusal != null) throw fault(`${param}.refusal`, 'null (there are no refusals here)', kindOf(refusal));
  return value;
}

function textOf(parts: readonly Part[]): string {
  return parts.flatMap((part) => ('text' in part && part.text !== '' ? [part.text] : [])).join('\n');
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
