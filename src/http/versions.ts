/** What the description of the API says of the routes for adapters that are published to a server. */
import type { ErrorCode } from '../errors.js';
import { ADAPTER, ADAPTER_STATE, BYTES, DELETED, FILES, PUBLISHED, RESIDENCY, TEXT } from './replies.js';
import type { About } from './route.js';
import { boolean, type Fields } from './schema.js';

const OWN = { name: 'The name of an adapter: of a tenant its own, `TENANT/NAME`.' };

/** Of every route of a name; `not_found` is that of a server without a store. */
const NAMED: readonly ErrorCode[] = ['adapter_not_found', 'not_found', 'invalid_request'];

export function verbAbout(summary: string, fields: Fields | null): About {
  const ofBody: readonly ErrorCode[] = fields ? ['unknown_field', 'payload_too_large', 'unsupported_media_type'] : [];
  return {
    tag: 'adapters',
    summary,
    parameters: OWN,
    ...(fields && { body: { fields } }),
    reply: { schema: ADAPTER_STATE },
    errors: [...NAMED, 'conflict', ...ofBody],
  };
}

export const preloadAbout: About = {
  tag: 'adapters',
  summary: 'Bring it into memory before the first request does',
  parameters: OWN,
  reply: { schema: RESIDENCY },
  errors: [...NAMED, 'adapter_invalid', 'download_failed', 'source_unavailable', 'source_timeout'],
};

export const adapterAbout: About = {
  tag: 'adapters',
  summary: 'One adapter, with its versions where it was published to this server',
  parameters: { name: 'The name of an adapter.' },
  reply: { schema: ADAPTER },
  errors: ['adapter_not_found', 'invalid_request'],
};

export const uploadAbout: About = {
  tag: 'adapters',
  summary: 'Publish a version',
  description:
    'A tar, or a form whose fields are called as the files are (`adapter.json`, `text/adapter_config.json`, ...). It is checked against the backbone before it serves; ' +
    'what does not fit is told at once, all of it. The same content again is the same version.',
  parameters: OWN,
  query: { current: { ...boolean, expected: 'true or false: whether requests by the bare name get it from now on (true)' } },
  body: [
    { schema: BYTES, type: 'application/x-tar' },
    { schema: FILES, type: 'multipart/form-data' },
  ],
  reply: [{ status: 201, schema: PUBLISHED }, { schema: PUBLISHED }],
  errors: [
    ...NAMED,
    'adapter_invalid',
    'adapter_too_large',
    'payload_too_large',
    'unsupported_media_type',
    'conflict',
    'queue_full',
    'engine_unavailable',
    'shutting_down',
    'disk_full',
  ],
};

export const deleteAbout: About = {
  tag: 'adapters',
  summary: 'Delete a version that is not in use (NAME@3), or all of a name',
  description: 'Requests that have begun finish with what they have.',
  parameters: OWN,
  reply: { schema: DELETED },
  errors: [...NAMED, 'conflict'],
};

/** vLLM's, with its words. */
export function loraAbout(summary: string, fields: Fields, required: readonly string[], errors: readonly ErrorCode[]): About {
  return {
    tag: 'adapters',
    summary,
    description: "With vLLM's fields and words, for what drives a vLLM.",
    body: { fields, required },
    reply: { type: 'text/plain', schema: TEXT },
    errors: ['adapter_not_found', 'invalid_request', 'unknown_field', 'payload_too_large', 'unsupported_media_type', ...errors],
  };
}
