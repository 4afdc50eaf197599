/**
 * What the routes answer, as schemas. The description of the API is made of them, and a test holds every kind of real reply to them: they name
 * every field there is, and no reply has another one.
 */
import { z } from 'zod';
import { ERRORS } from '../errors.js';

const count = z.int().min(0);
/** Seconds since 1970. */
const created = count;
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const ms = z.number().min(0);
const finishReason = z.enum(['stop', 'length']);
const blend = z.array(z.strictObject({ name: z.string(), digest, weight: z.number() })).min(2);

/** The version of an adapter that answered, or a blend of several. */
const served = z.strictObject({ name: z.string(), digest, blend: blend.optional() }).meta({ id: 'ServedAdapter' });

const timings = z
  .strictObject({ queue_ms: ms, adapter_ms: ms, vision_ms: ms, prefill_ms: ms, decode_ms: ms })
  .meta({ id: 'Timings', description: 'Where the time went, in milliseconds.' });

const failure = z
  .strictObject({
    message: z.string(),
    type: z.enum([...new Set(Object.values(ERRORS).map(({ type }) => type))]),
    code: z.enum(Object.keys(ERRORS)),
    param: z.string().nullable().meta({ description: 'The field at fault.' }),
    faults: z.array(z.string()).min(2).optional().meta({ description: 'Every fault, where there are several.' }),
  })
  .meta({ id: 'Failure' });

/** OpenAI's error body. */
export const ERROR = z.strictObject({ error: failure }).meta({ id: 'Error' });

/** A failure in the middle of a stream. */
const errorEvent = z.strictObject({ object: z.literal('error'), error: failure }).meta({ id: 'ErrorEvent' });

const caption = z
  .strictObject({
    id: z.string(),
    object: z.literal('caption'),
    created,
    backbone: z.string(),
    adapter: served,
    captions: z.array(z.strictObject({ text: z.string(), finish_reason: finishReason })).min(1),
    usage: z.strictObject({ image_tokens: count, prompt_tokens: count, completion_tokens: count }),
    timings,
  })
  .meta({ id: 'Caption' });

/** One adapter's failure, where others did not fail. */
const captionError = z
  .strictObject({
    object: z.literal('error'),
    adapter: z.strictObject({ name: z.string(), digest: digest.optional(), blend: blend.optional() }),
    error: failure,
  })
  .meta({ id: 'CaptionError' });

const captionList = z
  .strictObject({ object: z.literal('caption.list'), data: z.array(z.union([caption, captionError])).min(1) })
  .meta({ id: 'CaptionList', description: 'In the order of `adapters`.' });

const captionDelta = z
  .strictObject({
    object: z.literal('caption.delta'),
    id: z.string(),
    index: count,
    adapter: z.string(),
    text: z.string(),
  })
  .meta({ id: 'CaptionDelta' });

export const CAPTION = z.union([caption, captionList]);
export const CAPTION_EVENT = z.union([captionDelta, caption, captionError]);

/** Natural logarithms; what was not asked for is null. */
const logprob = z.number();

const completionLogprobs = z
  .strictObject({
    tokens: z.array(z.string()),
    token_logprobs: z.array(logprob),
    top_logprobs: z.array(z.record(z.string(), logprob)),
    text_offset: z.array(count),
  })
  .meta({ id: 'CompletionLogprobs' });
const completionChoice = { text: z.string(), index: count, logprobs: completionLogprobs.nullable() };
const completionHead = {
  id: z.string(),
  object: z.literal('text_completion'),
  created,
  model: z.string(),
  adapter: served.nullable(),
};
const completionUsage = z.strictObject({ prompt_tokens: count, completion_tokens: count, total_tokens: count });

export const COMPLETION = z
  .strictObject({
    ...completionHead,
    choices: z.array(z.strictObject({ ...completionChoice, finish_reason: finishReason })).min(1),
    usage: completionUsage,
    timings,
  })
  .meta({ id: 'Completion' });

const completionChunk = z
  .strictObject({
    ...completionHead,
    choices: z.array(z.strictObject({ ...completionChoice, finish_reason: finishReason.nullable() })).max(1),
    usage: completionUsage.optional(),
    timings: timings.optional(),
  })
  .meta({ id: 'CompletionChunk', description: 'The last one has no choice, but `usage` and `timings`.' });

export const COMPLETION_EVENT = z.union([completionChunk, errorEvent]);

const token = { token: z.string(), logprob, bytes: z.array(z.int().min(0).max(255)).nullable() };
const chatLogprobs = z
  .strictObject({
    content: z.array(z.strictObject({ ...token, top_logprobs: z.array(z.strictObject(token)) })),
    refusal: z.null(),
  })
  .meta({ id: 'ChatLogprobs' });
const chatHead = {
  id: z.string(),
  created,
  model: z.string(),
  system_fingerprint: z.string().meta({ description: 'The backbone.' }),
  service_tier: z.literal('default'),
  adapter: served.nullable(),
};
const chatUsage = z.strictObject({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.strictObject({ image_tokens: count }),
});
const chatMessage = { role: z.literal('assistant'), content: z.string(), refusal: z.null() };

export const CHAT_COMPLETION = z
  .strictObject({
    ...chatHead,
    object: z.literal('chat.completion'),
    choices: z
      .array(
        z.strictObject({
          index: count,
          message: z.strictObject(chatMessage),
          logprobs: chatLogprobs.nullable(),
          finish_reason: finishReason,
        }),
      )
      .min(1),
    usage: chatUsage,
    timings,
  })
  .meta({ id: 'ChatCompletion' });

const chatChunk = z
  .strictObject({
    ...chatHead,
    object: z.literal('chat.completion.chunk'),
    choices: z
      .array(
        z.strictObject({
          index: count,
          delta: z.strictObject(chatMessage).partial(),
          logprobs: chatLogprobs.nullable(),
          finish_reason: finishReason.nullable(),
        }),
      )
      .max(1),
    usage: chatUsage.nullish(),
    timings: timings.optional(),
  })
  .meta({ id: 'ChatCompletionChunk', description: 'The last one has `timings`, and with `include_usage` the `usage`.' });

export const CHAT_EVENT = z.union([chatChunk, errorEvent]);

export const MODEL = z
  .strictObject({
    id: z.string(),
    object: z.literal('model'),
    created,
    owned_by: z.literal('graft'),
    root: z.string(),
    parent: z.string().nullable().meta({ description: 'The backbone of an adapter.' }),
  })
  .meta({ id: 'Model' });

export const MODELS = z.strictObject({ object: z.literal('list'), data: z.array(MODEL) }).meta({ id: 'ModelList' });

const adapter = z
  .strictObject({
    name: z.string(),
    object: z.literal('adapter'),
    digest: digest.nullable(),
    format: z.string().nullable(),
    method: z.enum(['lora', 'bitfit', 'ia3', 'none']).nullable(),
    contexts: z.array(z.string()),
    task: z.string().nullable(),
    prompt: z.string().nullable().meta({ description: 'What a request that brings no prompt is continued from.' }),
    rank: count.nullable(),
    bytes: count,
    source: z
      .string()
      .nullable()
      .meta({ description: 'Where it comes from, if not from a folder of this server; told to operators.' }),
    version: count.nullable().meta({ description: 'Of an adapter that was published to this server: the version that serves.' }),
    versions: count.nullable().meta({ description: 'How many there are.' }),
    registered_at: created.nullable(),
    resident: z.boolean().meta({ description: 'Whether it is in memory.' }),
    resident_bytes: count,
    leases: count.nullable().meta({ description: 'Requests that use it now, whoever they are of; told to operators.' }),
    pinned: z.boolean(),
    modules: z.strictObject({ matched: count, targeted: count }).nullable(),
    fault: z.string().nullable().meta({ description: 'Why it cannot be served.' }),
  })
  .meta({ id: 'Adapter', description: 'What is not known before it has been fetched is null.' });

export const ADAPTERS = z.strictObject({ object: z.literal('list'), data: z.array(adapter) }).meta({ id: 'AdapterList' });

const versionNumber = z.int().min(1);
const version = z
  .strictObject({ version: versionNumber, digest, bytes: count, created_at: created })
  .meta({ id: 'AdapterVersion' });
const state = {
  versions: z.array(version),
  current: versionNumber.nullable().meta({ description: 'What the bare name means where there is no split.' }),
  split: z.record(z.string(), count).nullable().meta({ description: 'Percents by version.' }),
  shadow: versionNumber.nullable().meta({ description: 'What runs behind the requests that are answered.' }),
  pinned: z.boolean(),
};

/** One adapter, with its versions where it was published to this server. */
export const ADAPTER = adapter
  .extend(state)
  .meta({ id: 'AdapterAndVersions', description: 'Of other adapters there are no versions.' });
export const ADAPTER_STATE = z
  .strictObject({ name: z.string(), object: z.literal('adapter'), ...state, current: versionNumber })
  .meta({ id: 'AdapterState' });
export const PUBLISHED = z
  .strictObject({ name: z.string(), object: z.literal('adapter.version'), ...version.shape })
  .meta({ id: 'PublishedVersion' });
export const DELETED = z
  .strictObject({ name: z.string(), object: z.literal('adapter.deleted'), deleted: z.literal(true) })
  .meta({ id: 'DeletedAdapter' });
export const RESIDENCY = z
  .strictObject({ name: z.string(), object: z.literal('adapter.residency'), resident: z.boolean() })
  .meta({ id: 'AdapterResidency' });

export const LIVE = z.strictObject({ status: z.literal('ok') });
export const READY = z.strictObject({
  status: z.literal('ready'),
  backbone: z.string(),
  adapters: count.optional().meta({ description: 'How many there are; not told where there are tenants.' }),
});
export const NOT_READY = z.strictObject({ status: z.literal('not_ready'), reason: z.string() });

/** What is no JSON. */
export const TEXT = z.string();
export const BYTES = z.instanceof(Uint8Array);
/** A form of files. */
export const FILES = z.record(z.string(), BYTES);
/** What is described elsewhere, or by itself. */
export const ANY_OBJECT = z.looseObject({});
