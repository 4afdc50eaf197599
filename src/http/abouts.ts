/** What the description of the API says of the routes for captions, text, models and operations, and of the pages. */
import type { ErrorCode } from '../errors.js';
import {
  ADAPTERS,
  ANY_OBJECT,
  BYTES,
  CAPTION,
  CAPTION_EVENT,
  CHAT_COMPLETION,
  CHAT_EVENT,
  COMPLETION,
  COMPLETION_EVENT,
  LIVE,
  MODEL,
  MODELS,
  NOT_READY,
  READY,
  TEXT,
} from './replies.js';
import type { About } from './route.js';
import type { Fields } from './schema.js';

/** A square of one colour. */
const IMAGE =
  'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mNwaDiAFTEMLQkAYvNgAQlPC90AAAAASUVORK5CYII=';

/** Of every route that generates. */
const GENERATING: readonly ErrorCode[] = [
  'invalid_request',
  'unknown_field',
  'context_length_exceeded',
  'payload_too_large',
  'unsupported_media_type',
  'adapter_not_found',
  'adapter_invalid',
  'adapter_too_large',
  'adapter_changed',
  'queue_full',
  'deadline_exceeded',
  'engine_unavailable',
  'shutting_down',
  'download_failed',
  'source_unavailable',
  'source_timeout',
  'disk_full',
];

/** Of those that take an image. */
const SEEING: readonly ErrorCode[] = [
  'adapter_required',
  'invalid_image',
  'unsupported_image',
  'image_too_large',
  'image_url_refused',
  'image_unavailable',
  'images_unavailable',
];

export function captionAbout(fields: Fields): About {
  return {
    tag: 'captions',
    summary: 'Captions of an image',
    description:
      'One adapter (`adapter` or `model`) gives a caption, or the first of them a failure; `adapters` give a list in their order, in which the failures of ' +
      'some stand beside the captions of others. An adapter is named, or, where the server allows that, is a place (`s3://...`, `hf://...`).',
    body: {
      fields,
      form: true,
      required: ['image'],
      example: { image: IMAGE, adapter: 'english', max_tokens: 20 },
    },
    reply: { schema: CAPTION },
    events: CAPTION_EVENT,
    errors: [...GENERATING, ...SEEING],
  };
}

export function completionAbout(fields: Fields): About {
  return {
    tag: 'openai',
    summary: 'Text that goes on from a text',
    description: '`model` is an adapter, or the backbone alone.',
    body: { fields, example: { model: 'english', prompt: 'in the', max_tokens: 20 } },
    reply: { schema: COMPLETION },
    events: COMPLETION_EVENT,
    errors: GENERATING,
  };
}

export function chatAbout(fields: Fields): About {
  return {
    tag: 'openai',
    summary: 'A caption, or text, as a message',
    description:
      '`model` (or `adapter`) is an adapter, or the backbone for text alone. Fields of OpenAI that mean nothing here are taken where they ask for nothing.',
    body: {
      fields,
      example: {
        model: 'english',
        messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: IMAGE } }] }],
        max_tokens: 20,
      },
    },
    reply: { schema: CHAT_COMPLETION },
    events: CHAT_EVENT,
    errors: [...GENERATING, ...SEEING],
  };
}

export const modelsAbout: About = {
  tag: 'openai',
  summary: 'The backbone and the adapters',
  reply: { schema: MODELS },
  errors: [],
};

export const modelAbout: About = {
  tag: 'openai',
  summary: 'The backbone, or an adapter',
  parameters: { name: 'The name of the backbone or of an adapter.' },
  reply: { schema: MODEL },
  errors: ['adapter_not_found', 'invalid_request'],
};

export const adaptersAbout: About = {
  tag: 'adapters',
  summary: 'The adapters: what each is, and whether it is in memory',
  reply: { schema: ADAPTERS },
  errors: [],
};

export const liveAbout: About = {
  tag: 'operations',
  summary: 'Whether the process answers',
  reply: { schema: LIVE },
  errors: [],
};

export const readyAbout: About = {
  tag: 'operations',
  summary: 'Whether requests are welcome',
  reply: [{ schema: READY }, { status: 503, schema: NOT_READY }],
  errors: [],
};

export const metricsAbout: About = {
  tag: 'operations',
  summary: "Metrics in Prometheus' text format",
  reply: { type: 'text/plain', schema: TEXT },
  errors: [],
};

export const descriptionAbout: About = {
  tag: 'operations',
  summary: 'This description',
  reply: [{ schema: ANY_OBJECT }, { status: 304 }],
  errors: [],
};

/** A file that browsers load; `errors` where it may not be there. */
export function pageAbout(path: string, type: string, errors: readonly ErrorCode[] = []): About {
  const [plain = ''] = type.split(';');
  return {
    tag: 'page',
    summary: SUMMARIES.get(path) ?? 'Part of a page',
    reply: [{ type: plain, schema: plain.startsWith('image/') ? BYTES : TEXT }, { status: 304 }],
    errors,
  };
}

const SUMMARIES = new Map([
  ['/', 'The playground'],
  ['/docs', 'This description, to read and to try'],
]);
