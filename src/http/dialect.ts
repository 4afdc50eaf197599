/**
 * The fields of a chat request. OpenAI's clients send many that mean nothing here: what asks for nothing is taken, what asks for something
 * that this server does not do is refused by its name, and never passed over in silence.
 */
import { z } from 'zod';
import { AppError } from '../errors.js';
import { type MessagePrompt, messagesShape, readMessages } from './messages.js';
import {
  type Ask,
  adapter,
  askOf,
  boolean,
  check,
  type Field,
  type ModelAsk,
  model,
  modelOf,
  type RequestLimits,
  samplingFields,
  topCount,
  user,
  type Values,
  withLogprobs,
} from './schema.js';

export interface ChatAsk extends Ask, ModelAsk, MessagePrompt {
  readonly user: string | null;
  /** Whether a stream ends with an event of its usage. */
  readonly includeUsage: boolean;
}

function field<Schema extends z.ZodType>(schema: Schema, expected: string) {
  return { schema: schema.nullish(), expected, form: 'text' as const } satisfies Field;
}

const none = field(z.never(), 'null (this server does not do that)');
const noTools = (schema: z.ZodType, neutral: string) => field(schema, `${neutral} or null (there are no tools here)`);
const empty = z.array(z.never());
const zero = field(z.literal(0), '0 or null (repetition_penalty is what this server has)');
const text = field(z.string(), 'a text');

/** OpenAI's bound for chat. */
const MAX_TOP_LOGPROBS = 20;

/** Fields of OpenAI's, as far as they ask for nothing, or say what changes no answer. */
const NEUTRAL = {
  response_format: field(z.strictObject({ type: z.literal('text') }), '{"type":"text"} or null (answers are plain text here)'),
  modalities: field(z.tuple([z.literal('text')]), '["text"] or null (answers are text here)'),
  logit_bias: field(z.strictObject({}), '{} or null (probabilities are not changed by token here)'),
  frequency_penalty: zero,
  presence_penalty: zero,
  tools: noTools(empty, '[]'),
  tool_choice: noTools(z.literal('none'), '"none"'),
  parallel_tool_calls: boolean,
  functions: noTools(empty, '[]'),
  function_call: noTools(z.literal('none'), '"none"'),
  audio: none,
  prediction: none,
  web_search_options: none,
  reasoning_effort: field(z.literal('none'), '"none" or null (nothing reasons here)'),
  verbosity: field(z.literal('medium'), '"medium" or null (max_tokens is what this server has)'),
  service_tier: field(z.enum(['auto', 'default']), '"auto", "default" or null (there is one tier here)'),
  store: field(z.literal(false), 'false or null (nothing is kept here)'),
  metadata: field(z.record(z.string(), z.string()), 'an object of texts'),
  safety_identifier: text,
  prompt_cache_key: text,
};

function chatFields(limits: RequestLimits, hasTemplate: boolean) {
  const sampling = samplingFields(limits);
  return {
    messages: {
      schema: z.array(z.unknown()).min(1),
      expected: hasTemplate ? 'a list of messages' : 'a list with one user message',
      form: 'text' as const,
      described: messagesShape(hasTemplate),
    },
    model,
    adapter,
    user,
    ...sampling,
    max_completion_tokens: sampling.max_tokens,
    logprobs: boolean,
    top_logprobs: topCount(MAX_TOP_LOGPROBS),
    stream_options: field(
      z.strictObject({ include_usage: z.boolean().nullish(), include_obfuscation: z.literal(false).nullish() }),
      'an object with include_usage (true or false), and at most include_obfuscation (false) beside it',
    ),
    ...NEUTRAL,
  };
}

// The neutral fields' values are never looked at.
type ChatBody = Omit<Values<ReturnType<typeof chatFields>>, keyof typeof NEUTRAL>;
type Tokens = ChatBody['max_tokens'];

/** Checks and completes requests for chat completions. It is made once: building schemas takes longer than using them. */
export class ChatParser {
  readonly #limits: RequestLimits;
  readonly #backbone: string;
  readonly #hasTemplate: boolean;
  readonly fields;

  /** `hasTemplate`: conversations can be written as the backbone wants them. */
  constructor(limits: RequestLimits, backbone: string, hasTemplate: boolean) {
    this.#limits = limits;
    this.#backbone = backbone;
    this.#hasTemplate = hasTemplate;
    this.fields = chatFields(limits, hasTemplate);
  }

  /** Throws `invalid_request` or `unknown_field`. */
  parse(body: unknown): ChatAsk {
    const value = check(this.fields, body, false) as ChatBody;
    const asked = modelOf(value, this.#backbone);
    if (value.stream_options != null && value.stream !== true)
      throw new AppError('invalid_request', 'stream_options: Expected none without stream but received some', {
        param: 'stream_options',
      });
    const ask = askOf({ ...value, max_tokens: maxTokens(value.max_tokens, value.max_completion_tokens) }, this.#limits);
    return {
      ...withLogprobs(ask, logprobsOf(value)),
      ...(value.max_completion_tokens == null ? {} : { maxTokensField: 'max_completion_tokens' }),
      ...readMessages(value.messages, this.#hasTemplate),
      ...asked,
      user: value.user ?? null,
      includeUsage: value.stream_options?.include_usage ?? false,
    };
  }
}

/** How many of the most likely tokens are told with each; undefined where nothing is. */
function logprobsOf({ logprobs, top_logprobs: top }: ChatBody): number | undefined {
  if (logprobs === true) return top ?? 0;
  if (top)
    throw new AppError('invalid_request', `top_logprobs: Expected 0 or null without logprobs (true) but received ${top}`, {
      param: 'top_logprobs',
    });
  return undefined;
}

/** OpenAI has two names for it, an old one and a new one. */
function maxTokens(old: Tokens, current: Tokens): Tokens {
  if (old != null && current != null && old !== current)
    throw new AppError(
      'invalid_request',
      `max_completion_tokens: Expected the same as max_tokens (${old}) or only one of them but received ${current}`,
      { param: 'max_completion_tokens' },
    );
  return current ?? old;
}
