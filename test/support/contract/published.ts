/** What the routes for adapters that are published to a server are asked. */
import { randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { tarOfFolder } from '../tar.js';
import type { Ask, Call, Calls, Refusals } from './calls.js';
import { type Stage, TENANT_KEY } from './stage.js';

const TAR = { 'content-type': 'application/x-tar' };

const to =
  (route: string, body?: object, server: Parameters<Stage['at']>[0] = 'main'): Call =>
  (stage) => ({ url: stage.at(server, route), ...(body && { body }) });

/** Sends an adapter that there is. */
const upload =
  (name: string, server: Parameters<Stage['at']>[0] = 'main', query = ''): Call =>
  async (stage): Promise<Ask> => ({
    url: stage.at(server, `/v1/adapters/${name}${query}`),
    body: await tarOfFolder(stage.adapter('english')),
    headers: TAR,
  });

/** A new name with two versions, the second of which is current. */
async function published(stage: Stage): Promise<string> {
  const name = `team/${randomUUID()}`;
  for (const adapter of ['english', 'second']) {
    const body = Buffer.from(await tarOfFolder(stage.adapter(adapter)));
    await fetch(stage.at('main', `/v1/adapters/${name}`), { method: 'PUT', body, headers: TAR });
  }
  return name;
}

const onPublished =
  (verb: string, body?: object, before?: readonly [string, object]): Call =>
  async (stage) => {
    const name = await published(stage);
    const url = stage.at('main', `/v1/adapters/${name}`);
    const init = { method: 'POST', headers: { 'content-type': 'application/json' } };
    if (before) await fetch(`${url}${before[0]}`, { ...init, body: JSON.stringify(before[1]) });
    return { url: `${url}${verb}`, ...(body && { body }) };
  };

const named = (verb: string): Refusals => ({
  adapter_not_found: to(`/v1/adapters/nobody${verb}`),
  not_found: to(`/v1/adapters/x${verb}`, undefined, 'bare'),
  invalid_request: to(`/v1/adapters/%zz${verb}`),
});

const verb = (word: string, replies: readonly Call[]): Calls => ({
  replies,
  refusals: { ...named(`:${word}`), conflict: to(`/v1/adapters/english:${word}`) },
});

const verbWithBody = (word: string, replies: readonly Call[], wrong: object): Calls => {
  const route = `/v1/adapters/english:${word}`;
  const refusals: Refusals = {
    ...verb(word, []).refusals,
    invalid_request: to(route, wrong),
    unknown_field: to(route, { versoin: 1 }),
    payload_too_large: to(route, { version: 'x'.repeat(1_100_000) }),
    unsupported_media_type: (stage) => ({ url: stage.at('main', route), body: {}, headers: { 'content-type': 'text/plain' } }),
  };
  return { replies, refusals };
};

const ofSources = (ask: (place: string) => Call): Refusals => ({
  download_failed: ask('hf://owner/model@portal'),
  source_unavailable: ask('hf://owner/model@busy'),
  source_timeout: ask('hf://owner/model@slow'),
});

const load = (body: object, server: Parameters<Stage['at']>[0] = 'main'): Call =>
  to('/v1/load_lora_adapter', { lora_name: `lora-${randomUUID()}`, ...body }, server);

export const PUBLISHED_CALLS: Readonly<Record<string, Calls>> = {
  'PUT /v1/adapters/{name}': {
    replies: [
      upload('team/words'),
      upload('team/words', 'main', '?current=false'),
      async (stage) => {
        const form = new FormData();
        const folder = stage.adapter('second');
        for (const file of await readdir(folder, { recursive: true, withFileTypes: true })) {
          const place = path.join(file.parentPath, file.name);
          if (file.isFile()) form.set(path.relative(folder, place), new Blob([await readFile(place)]), file.name);
        }
        return { url: stage.at('main', '/v1/adapters/team/words'), body: form };
      },
    ],
    refusals: {
      adapter_not_found: async (stage) => {
        const ask = await upload('others/x', 'locked')(stage);
        return { ...ask, headers: { ...ask.headers, 'x-api-key': TENANT_KEY } };
      },
      not_found: upload('x', 'bare'),
      invalid_request: upload('x', 'main', '?current=maybe'),
      adapter_invalid: (stage) => ({ url: stage.at('main', '/v1/adapters/x'), body: Buffer.from('no tar'), headers: TAR }),
      adapter_too_large: upload('x', 'tight'),
      payload_too_large: (stage) => ({ url: stage.at('main', '/v1/adapters/x'), body: new Uint8Array(5_000_000), headers: TAR }),
      unsupported_media_type: (stage) => ({ url: stage.at('main', '/v1/adapters/x'), body: {} }),
      conflict: upload('tiny'),
      queue_full: upload('x', 'full'),
      engine_unavailable: upload('x', 'loading'),
    },
  },
  'GET /v1/adapters/{name}': {
    replies: [to('/v1/adapters/english'), onPublished('', undefined, [':split', { versions: { 1: 40, 2: 60 } }])],
    refusals: { adapter_not_found: to('/v1/adapters/nobody'), invalid_request: to('/v1/adapters/%zz') },
  },
  'DELETE /v1/adapters/{name}': {
    replies: [onPublished('@1'), onPublished('')],
    refusals: { ...named(''), conflict: to('/v1/adapters/english') },
  },
  'POST /v1/adapters/{name}:rollback': verbWithBody(
    'rollback',
    [onPublished(':rollback'), onPublished(':rollback', { version: 1 })],
    { version: 0 },
  ),
  'POST /v1/adapters/{name}:split': verbWithBody(
    'split',
    [onPublished(':split', { versions: { 1: 90, 2: 10 } }), onPublished(':split', {})],
    { versions: { one: 100 } },
  ),
  'POST /v1/adapters/{name}:shadow': verbWithBody(
    'shadow',
    [onPublished(':shadow', { version: 1 }), onPublished(':shadow', {})],
    { version: 'one' },
  ),
  'POST /v1/adapters/{name}:promote': verb('promote', [onPublished(':promote', undefined, [':shadow', { version: 1 }])]),
  'POST /v1/adapters/{name}:pin': verb('pin', [onPublished(':pin')]),
  'POST /v1/adapters/{name}:unpin': verb('unpin', [onPublished(':unpin')]),
  'POST /v1/adapters/{name}:preload': {
    replies: [onPublished(':preload'), to('/v1/adapters/english:preload')],
    refusals: {
      ...named(':preload'),
      adapter_invalid: to('/v1/adapters/broken:preload'),
      ...ofSources((place) => to(`/v1/adapters/${place}:preload`)),
    },
  },
  'POST /v1/load_lora_adapter': {
    replies: [load({ lora_path: 'english' }), load({ lora_path: 'second', load_inplace: true })],
    refusals: {
      adapter_not_found: load({ lora_path: '..' }),
      invalid_request: load({ lora_path: 7 }),
      unknown_field: load({ lora_path: 'english', lora_rank: 8 }),
      payload_too_large: load({ lora_path: 'x'.repeat(1_100_000) }),
      unsupported_media_type: async (stage) => ({ ...(await load({})(stage)), headers: { 'content-type': 'text/plain' } }),
      adapter_invalid: load({ lora_path: 'broken' }),
      adapter_too_large: load({ lora_path: 'english' }, 'tight'),
      conflict: load({ lora_path: 'english', lora_name: 'tiny' }),
      queue_full: load({ lora_path: 'english' }, 'full'),
      engine_unavailable: load({ lora_path: 'english' }, 'loading'),
      ...ofSources((lora_path) => load({ lora_path })),
    },
  },
  'POST /v1/unload_lora_adapter': {
    replies: [
      async (stage) => ({
        url: stage.at('main', '/v1/unload_lora_adapter'),
        body: { lora_name: await published(stage), lora_int_id: 1 },
      }),
    ],
    refusals: {
      adapter_not_found: to('/v1/unload_lora_adapter', { lora_name: 'nobody' }),
      invalid_request: to('/v1/unload_lora_adapter', {}),
      unknown_field: to('/v1/unload_lora_adapter', { lora_name: 'x', force: true }),
      payload_too_large: to('/v1/unload_lora_adapter', { lora_name: 'x'.repeat(1_100_000) }),
      unsupported_media_type: (stage) => ({
        url: stage.at('main', '/v1/unload_lora_adapter'),
        body: {},
        headers: { 'content-type': 'text/plain' },
      }),
    },
  },
};
