/**
 * What a request may say, as one table of fields: the same table checks JSON bodies and multipart forms, whose values are all text.
 * Nothing is guessed: an unknown field, a wrong type or a value out of range is named, with what was expected and what came.
 */
import { z } from 'zod';
import { AppError } from '../errors.js';
import type { SamplingParams } from '../serving/protocol.js';
import { BLEND_WORDS, blendSchema, type Named, nameOf, placeOf } from './blend.js';

export interface RequestLimits {
  readonly maxTokens: number;
  readonly timeoutMs: number;
  /** Sequences that run at once. */
  readonly maxBatch: number;
}

/** Far more than any context holds; tokenizing more would keep other requests waiting. */
export const MAX_PROMPT_CHARACTERS = 65_536;
const MAX_ADAPTERS = 64;
const DEFAULT_MAX_TOKENS = 40;
const MAX_STOPS = 4;
const MAX_STOP_CHARACTERS = 256;
/** OpenAI's bound for completions. */
const MAX_LOGPROBS = 5;
/** A name, perhaps with a version or a digest, or a place where an adapter is. Which places may be asked is not for the form of the request to say. */
const ADAPTER_NAME =
  /^(?:[A-Za-z0-9][A-Za-z0-9._/-]{0,256}(?:@(?:[1-9]\d{0,8}|sha256:[0-9a-f]{64}))?|(?:s3|hf):\/\/[^\s\p{Cc},]{0,2048})$/u;

export interface Field {
  readonly schema: z.ZodType;
  /** `Expected ${expected} but received ...`. */
  readonly expected: string;
  /** How a form's text becomes a value; `file`: it may be a file. */
  readonly form: 'text' | 'number' | 'boolean' | 'adapter' | 'adapters' | 'texts' | 'file';
  /** What a JSON body has here, for the description of the API, where `schema` leaves that to code. */
  readonly described?: z.ZodType;
  /** Of a value that has parts, or a list of such: what says at which of them it is wrong. */
  readonly parts?: z.ZodType;
}

export type Fields = Readonly<Record<string, Field>>;

const number = (schema: z.ZodType<number>, expected: string) => ({ schema: schema.nullish(), expected, form: 'number' as const });
export const boolean = { schema: z.boolean().nullish(), expected: 'true or false', form: 'boolean' as const };
const adapterName = z.string().regex(ADAPTER_NAME);
const name = { schema: adapterName.nullish(), expected: 'an adapter name', form: 'text' as const };
const blend = blendSchema(ADAPTER_NAME);
const named = z.union([adapterName, blend]);
/** One adapter, or a blend. */
export const adapter = {
  schema: named.nullish(),
  expected: `an adapter name, or ${BLEND_WORDS}`,
  form: 'adapter' as const,
  parts: blend,
};
export const model = { ...name, expected: 'the name of the backbone or of an adapter' };
/** How many of the most likely tokens are told with each. */
export const topCount = (most: number) => number(z.int().min(0).max(most), `an integer from 0 to ${most}`);
/** Of OpenAI's: who sends the request, in the client's own words. */
export const user = { schema: z.string().nullish(), expected: 'a text', form: 'text' as const };
const stopText = z.string().min(1).max(MAX_STOP_CHARACTERS);

/** Fields that every generating route knows. */
export function samplingFields({ maxTokens, timeoutMs, maxBatch }: RequestLimits) {
  return {
    max_tokens: number(z.int().min(1).max(maxTokens), `an integer from 1 to ${maxTokens}`),
    temperature: number(z.number().min(0).max(2), 'a number from 0 to 2'),
    top_k: number(z.int().min(0), 'an integer of at least 0 (0 is off)'),
    top_p: number(z.number().gt(0).max(1), 'a number above 0, at most 1'),
    repetition_penalty: number(z.number().gt(0).max(10), 'a number above 0, at most 10'),
    seed: number(z.int(), 'an integer of at most 53 bits'),
    n: number(z.int().min(1).max(maxBatch), `an integer from 1 to ${maxBatch}`),
    num_beams: number(z.int().min(1).max(maxBatch), `an integer from 1 to ${maxBatch}`),
    length_penalty: number(z.number().min(-10).max(10), 'a number from -10 to 10'),
    early_stopping: boolean,
    stop: {
      schema: z.union([stopText, z.array(stopText).max(MAX_STOPS)]).nullish(),
      expected: `a text of 1 to ${MAX_STOP_CHARACTERS} characters, or up to ${MAX_STOPS} of them`,
      form: 'texts' as const,
    },
    stream: boolean,
    timeout_ms: number(z.int().min(1).max(timeoutMs), `an integer from 1 to ${timeoutMs}`),
  };
}

const prompt = {
  schema: z.string().max(MAX_PROMPT_CHARACTERS).nullish(),
  expected: `a text of at most ${MAX_PROMPT_CHARACTERS} characters`,
  form: 'text' as const,
};

function captionFields(limits: RequestLimits) {
  return {
    image: {
      schema: z.union([z.string().min(1), z.instanceof(Uint8Array)]).nullish(),
      expected: 'an image: a file in a form, or base64, a data URI or a URL in JSON',
      form: 'file' as const,
      described: z.string().min(1),
    },
    adapter,
    model: name,
    adapters: {
      schema: z.array(named).min(1).max(MAX_ADAPTERS).nullish(),
      expected: `a list of 1 to ${MAX_ADAPTERS} adapter names`,
      form: 'adapters' as const,
      parts: blend,
    },
    prompt,
    ...samplingFields(limits),
  };
}

function completionFields(limits: RequestLimits) {
  return {
    model,
    adapter,
    prompt: { ...prompt, schema: z.string().max(MAX_PROMPT_CHARACTERS) },
    user,
    logprobs: topCount(MAX_LOGPROBS),
    ...samplingFields(limits),
  };
}

export type Values<Known extends Fields> = { readonly [Key in keyof Known]: z.output<Known[Key]['schema']> };
type SamplingBody = Values<ReturnType<typeof samplingFields>>;
type CaptionBody = Values<ReturnType<typeof captionFields>>;
type CompletionBody = Values<ReturnType<typeof completionFields>>;

/** What every generating route asks for. */
export interface Ask {
  readonly sampling: SamplingParams;
  /** The field that says how many tokens there may be; null where none does. */
  readonly maxTokensField: string | null;
  readonly stop: readonly string[];
  readonly stream: boolean;
  readonly timeoutMs: number;
}

export interface CaptionAsk extends Ask {
  /** base64, a data URI or a URL, or a form's file. */
  readonly image: string | Uint8Array;
  /** Empty where the request names none. */
  readonly adapters: readonly Named[];
  /** Whether the reply is a list, however many adapters there are. */
  readonly list: boolean;
  /** null: each adapter's own. */
  readonly prompt: string | null;
}

/** Which model is asked, in OpenAI's dialects. */
export interface ModelAsk {
  /** The backbone's name, an adapter's, or a blend. */
  readonly named: Named;
  /** What is shown for it. */
  readonly model: string;
  /** The field that it came in. */
  readonly modelField: 'model' | 'adapter';
}

export interface CompletionAsk extends Ask, ModelAsk {
  readonly prompt: string;
  readonly user: string | null;
}

/** Checks and completes requests. It is made once: building schemas takes longer than using them. */
export class RequestParser {
  readonly #limits: RequestLimits;
  readonly #backbone: string;
  readonly captionFields;
  readonly completionFields;

  constructor(limits: RequestLimits, backbone: string) {
    this.#limits = limits;
    this.#backbone = backbone;
    this.captionFields = captionFields(limits);
    this.completionFields = completionFields(limits);
  }

  /** A request for captions. `form`: values are a form's texts. Throws `invalid_request` or `unknown_field`. */
  caption(body: unknown, form: boolean): CaptionAsk {
    const value = check(this.captionFields, body, form) as CaptionBody;
    const named = [value.adapter, value.model, value.adapters].filter((given) => given != null);
    if (named.length > 1) {
      throw new AppError('invalid_request', 'adapter: Expected one of adapter, adapters and model but received several', {
        param: 'adapter',
      });
    }
    if (value.image == null) {
      throw new AppError('invalid_request', 'image: Expected an image but received none; POST /v1/completions takes text alone', {
        param: 'image',
      });
    }
    const adapters = value.adapters ?? [value.adapter ?? value.model ?? []].flat();
    const names = adapters.map(nameOf);
    if (new Set(names).size < names.length) {
      throw new AppError('invalid_request', `adapters: Expected each name once but received ${names.join(', ')}`, {
        param: 'adapters',
      });
    }
    return {
      ...askOf(value, this.#limits),
      image: value.image,
      adapters,
      list: value.adapters != null,
      prompt: value.prompt ?? null,
    };
  }

  /** A request for text. Throws `invalid_request` or `unknown_field`. */
  completion(body: unknown): CompletionAsk {
    const value = check(this.completionFields, body, false) as CompletionBody;
    const ask = withLogprobs(askOf(value, this.#limits), value.logprobs ?? undefined);
    return { ...ask, ...modelOf(value, this.#backbone), prompt: value.prompt, user: value.user ?? null };
  }
}

/**
 * The model that a request of OpenAI's dialects is for. Their clients always send one: beside an adapter it may be the backbone's, on which the
 * adapter hangs. Throws `invalid_request` where neither or another is named.
 */
export function modelOf(
  value: { readonly model: string | null | undefined; readonly adapter: Named | null | undefined },
  backbone: string,
): ModelAsk {
  if (value.adapter != null) {
    if (value.model != null && value.model !== backbone)
      throw new AppError(
        'invalid_request',
        `adapter: Expected one of adapter and model (or the backbone, ${backbone}, as model) but received both`,
        { param: 'adapter' },
      );
    return { named: value.adapter, model: nameOf(value.adapter), modelField: 'adapter' };
  }
  if (value.model == null)
    throw new AppError('invalid_request', `model: Expected ${model.expected} but received nothing`, { param: 'model' });
  return { named: value.model, model: value.model, modelField: 'model' };
}

/** The part of a request that every generating route has, with what is not said filled in. */
export function askOf(value: SamplingBody, { maxTokens, timeoutMs }: RequestLimits): Ask {
  const sampling: SamplingParams = {
    maxTokens: value.max_tokens ?? Math.min(DEFAULT_MAX_TOKENS, maxTokens),
    temperature: value.temperature ?? 0,
    topK: value.top_k ?? 0,
    topP: value.top_p ?? 1,
    repetitionPenalty: value.repetition_penalty ?? 1,
    seed: value.seed ?? null,
    n: value.n ?? 1,
    numBeams: value.num_beams ?? 1,
    lengthPenalty: value.length_penalty ?? 1,
    earlyStopping: value.early_stopping ?? false,
  };
  checkTogether(sampling);
  const stop = typeof value.stop === 'string' ? [value.stop] : (value.stop ?? []);
  const maxTokensField = value.max_tokens == null ? null : 'max_tokens';
  return { sampling, maxTokensField, stop, stream: value.stream ?? false, timeoutMs: value.timeout_ms ?? timeoutMs };
}

/** Asks how likely each token was, beside so many of the most likely. Throws `invalid_request` for beams, of which no token stands before the end. */
export function withLogprobs(ask: Ask, count: number | undefined): Ask {
  if (count === undefined) return ask;
  const { numBeams } = ask.sampling;
  if (numBeams > 1)
    throw new AppError(
      'invalid_request',
      `logprobs: Expected none with num_beams above 1 (a beam is chosen as a whole) but received some with ${numBeams}`,
      { param: 'logprobs' },
    );
  return { ...ask, sampling: { ...ask.sampling, logprobs: count } };
}

/** What is right alone and wrong together. */
function checkTogether({ n, numBeams, temperature }: SamplingParams): void {
  if (numBeams > 1 && temperature > 0) {
    throw new AppError(
      'invalid_request',
      `temperature: Expected 0 with num_beams above 1 (beam search does not sample) but received ${temperature}`,
      { param: 'temperature' },
    );
  }
  if (numBeams > 1 && n > numBeams) {
    throw new AppError('invalid_request', `n: Expected at most num_beams (${numBeams}) but received ${n}`, { param: 'n' });
  }
  if (numBeams === 1 && n > 1 && temperature === 0) {
    throw new AppError(
      'invalid_request',
      `n: Expected 1 at temperature 0 (all ${n} answers would be the same) but received ${n}; set temperature or num_beams`,
      { param: 'n' },
    );
  }
}

/** The values of a table's fields. Throws `unknown_field` or, for all faults at once, `invalid_request`. */
export function check(fields: Fields, body: unknown, form: boolean): unknown {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new AppError('invalid_request', `Expected a JSON object but received ${show(body)}`);
  }
  const given = new Map<string, unknown>(Object.entries(body));
  const unknown = [...given.keys()].filter((key) => !Object.hasOwn(fields, key));
  if (unknown.length > 0) {
    const message = `Expected only ${Object.keys(fields).join(', ')} but received ${unknown.map(show).join(', ')}`;
    throw new AppError('unknown_field', message, { param: unknown[0] });
  }

  const values: Record<string, unknown> = {};
  const faults: string[] = [];
  let param: string | undefined;
  for (const [key, { schema, expected, form: kind, parts }] of Object.entries(fields)) {
    const value = form ? fromForm(given.get(key), kind) : given.get(key);
    const result = schema.safeParse(value);
    values[key] = result.data;
    if (result.success) continue;
    param ??= key;
    faults.push((parts && faultInside(parts, key, value)) ?? `${key}: Expected ${expected} but received ${show(value)}`);
  }
  if (faults.length > 0) throw new AppError('invalid_request', faults.join('; '), { param, faults });
  return values;
}

/** What is wrong inside of a value that has parts, or inside of the first such value of a list; undefined where that is not the trouble. */
function faultInside(schema: z.ZodType, key: string, value: unknown): string | undefined {
  const places = Array.isArray(value)
    ? value.map((item: unknown, index) => placeOf(schema, `${key}[${index}]`, item))
    : [placeOf(schema, key, value)];
  const fault = places.find((place) => place !== undefined);
  return fault && `${fault.place}: ${fault.message} but received ${show(fault.received)}`;
}

/** A form's value (text, or several of one name) as JSON would have given it; what it cannot be stays text, and is refused as such. */
function fromForm(value: unknown, kind: Field['form']): unknown {
  switch (kind) {
    case 'number':
      return typeof value === 'string' && /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value) ? Number(value) : value;
    case 'boolean':
      return value === 'true' ? true : value === 'false' ? false : value;
    case 'adapter':
      return typeof value === 'string' ? fromJson(value) : value;
    case 'adapters':
      return value === undefined ? undefined : [value].flat().flatMap(adaptersOf);
    default:
      return value;
  }
}

/** The names in one field of a form, or the one blend. */
function adaptersOf(item: unknown): unknown[] {
  if (typeof item !== 'string') return [item];
  const value = fromJson(item);
  return value === item ? item.split(',').map((part) => part.trim()) : [value];
}

/** The object that a text holds; else the text. */
function fromJson(text: string): unknown {
  if (!text.trimStart().startsWith('{')) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** A value as an error may show it: short, and never an image. */
export function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number') return String(value);
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
