/** Who may publish what, and what is refused: over real HTTP, with the faults told at once and nothing left behind. */
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AppError } from '../../src/errors.js';
import { Tenant } from '../../src/tenants/tenant.js';
import type { Tenants } from '../../src/tenants/tenants.js';
import { SHIPPED, StoreServer } from '../support/lifecycle.js';
import { until } from '../support/server.js';
import { tarOf, tarOfFolder } from '../support/tar.js';

const MAX_BYTES = 1_000_000;
const TENANTS = new Map([
  ['root', new Tenant({ name: 'ops', isAdmin: true })],
  ['acme', new Tenant({ name: 'acme' })],
  ['rival', new Tenant({ name: 'rival', adapters: ['acme/shared'] })],
]);
const tenants: Tenants = {
  isOpen: false,
  authenticate: (key) => {
    const tenant = TENANTS.get(key ?? '');
    if (!tenant) throw new AppError('invalid_api_key', 'Expected a key');
    return tenant;
  },
};
const by = (key: string) => ({ authorization: `Bearer ${key}` });

let store: StoreServer;
beforeAll(async () => {
  store = await StoreServer.start({ maxAdapterBytes: String(MAX_BYTES), loraRoot: SHIPPED }, { tenants });
});
afterAll(() => store.close());

const uploads = () => readdir(path.join(store.folder, 'store/uploads'));
const versions = () => readdir(path.join(store.folder, 'store/versions'));
const put = (name: string, body: Uint8Array | FormData | string, headers: Record<string, string> = {}) =>
  store.ask('PUT', `/v1/adapters/${name}`, body, {
    ...by('acme'),
    ...(body instanceof FormData ? {} : { 'content-type': 'application/x-tar' }),
    ...headers,
  });
const unknown = (name: string) => ({
  status: 404,
  body: {
    error: {
      code: 'adapter_not_found',
      message: `Expected the name of an adapter (GET /v1/adapters lists them) but received ${name}`,
    },
  },
});

describe('a tenant', () => {
  test('publishes in its namespace, which others do not see', async () => {
    expect((await store.publish('acme/words', 'english', '', by('acme'))).status).toBe(201);
    expect((await store.caption('acme/words', by('acme'))).status).toBe(200);
    expect(await store.caption('acme/words', by('rival'))).toMatchObject(unknown('acme/words'));
    expect(await store.ask('GET', '/v1/adapters/acme/words', undefined, by('rival'))).toMatchObject(unknown('acme/words'));
    const { body } = await store.ask('GET', '/v1/adapters', undefined, by('rival'));
    expect(body.data).toEqual([]);
  });

  test('is told of a name of others, seen or not, what it is told of a name that never was', async () => {
    await store.publish('acme/shared', 'english', '', by('acme'));
    expect((await store.caption('acme/shared', by('rival'))).status).toBe(200);
    for (const name of ['acme/words', 'acme/shared', 'acme/never', 'words', 'rivals/x', 'ops/x', 'english']) {
      expect(await store.publish(name, 'french', '', by('rival'))).toMatchObject(unknown(name));
      expect(await store.ask('DELETE', `/v1/adapters/${name}`, undefined, by('rival'))).toMatchObject(unknown(name));
      expect(await store.ask('DELETE', `/v1/adapters/${name}@1`, undefined, by('rival'))).toMatchObject(unknown(`${name}@1`));
      for (const verb of ['rollback', 'split', 'shadow', 'promote', 'pin', 'unpin', 'preload'])
        expect(await store.ask('POST', `/v1/adapters/${name}:${verb}`, undefined, by('rival'))).toMatchObject(unknown(name));
    }
    expect((await store.ask('GET', '/v1/adapters/acme/words', undefined, by('root'))).body.versions).toHaveLength(1);
  });

  test('needs a key, and has no routes of the operator', async () => {
    expect((await store.publish('acme/x', 'french')).body.error?.code).toBe('invalid_api_key');
    for (const route of ['load_lora_adapter', 'unload_lora_adapter'])
      expect(await store.ask('POST', `/v1/${route}`, { lora_name: 'acme/x', lora_path: 'french' }, by('acme'))).toMatchObject({
        status: 404,
        body: { error: { message: `Expected a path of this server but received POST /v1/${route}` } },
      });
    expect((await store.ask('POST', '/v1/load_lora_adapter', { lora_name: 'x', lora_path: 'french' }, by('root'))).status).toBe(
      200,
    );
    expect((await store.ask('DELETE', '/v1/adapters/acme/shared', undefined, by('root'))).status).toBe(200);
  });
});

describe('refuses', () => {
  const form = (fields: Readonly<Record<string, string | Blob>>): FormData => {
    const made = new FormData();
    for (const [name, value] of Object.entries(fields)) made.append(name, value);
    return made;
  };

  test('an adapter that does not fit the backbone, with all that does not fit', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'graft-misfit-'));
    try {
      await cp(path.join(SHIPPED, 'english'), folder, { recursive: true });
      for (const context of ['image', 'text']) {
        const file = path.join(folder, context, 'adapter_config.json');
        const config = JSON.parse(await readFile(file, 'utf8')) as object;
        await writeFile(file, JSON.stringify({ ...config, r: 3 }));
      }
      const { status, body } = await put('acme/misfit', await tarOfFolder(folder));
      expect([status, body.error?.code]).toEqual([422, 'adapter_invalid']);
      expect(body.error?.message).toMatch(
        /^Adapter acme\/misfit cannot be published: image\/adapter_model.safetensors: Expected .*\[3, /,
      );
      expect(body.error?.faults?.length).toBeGreaterThan(20);
      expect(body.error?.faults?.some((fault) => fault.startsWith('text/'))).toBe(true);
    } finally {
      await rm(folder, { recursive: true });
    }
    expect(await store.caption('acme/misfit', by('acme'))).toMatchObject(unknown('acme/misfit'));
  });

  test('what is broken, all of it in one reply', async () => {
    const { body } = await put(
      'acme/broken',
      tarOf([{ name: 'adapter.json', content: '{"format": "x", "method": "lora", "contexts": ["text"]}' }]),
    );
    expect(body.error?.faults).toEqual([
      'adapter.json: Expected format to be "context-peft/1" but received "x"',
      'text/adapter_config.json: Expected a file but received none',
      'text/adapter_model.safetensors: Expected a file but received none',
    ]);
    const strange = await put(
      'acme/broken',
      tarOf([
        { name: '../x', content: '' },
        { name: 'a.pt', content: '' },
      ]),
    );
    expect(strange.body.error).toMatchObject({ code: 'adapter_invalid', faults: { length: 2 } });
  });

  test.each<[string, () => Promise<{ status: number; body: { error?: { message: string } } }>, number, string | RegExp]>([
    [
      'JSON',
      () => put('acme/x', '{}', { 'content-type': 'application/json' }),
      415,
      'Expected content-type application/x-tar or multipart/form-data but received application/json',
    ],
    [
      'a compressed body',
      () => put('acme/x', gzipSync('x'), { 'content-encoding': 'gzip' }),
      415,
      'Expected an upload that is not compressed but received gzip',
    ],
    [
      'too many bytes, told before',
      () => put('acme/x', new Uint8Array(6_000_000)),
      413,
      `Expected an adapter of at most ${MAX_BYTES} bytes but received 6000000`,
    ],
    [
      'too many bytes, found out',
      () => put('acme/x', tarOf([{ name: 'README.txt', content: new Uint8Array(MAX_BYTES + 1) }])),
      413,
      `Expected an adapter of at most ${MAX_BYTES} bytes but received more`,
    ],
    [
      'too many bytes in a form',
      () => put('acme/x', form({ 'README.txt': new Blob([new Uint8Array(MAX_BYTES + 1)]) })),
      413,
      `Expected an adapter of at most ${MAX_BYTES} bytes but received more`,
    ],
    [
      'a form of texts',
      () => put('acme/x', form({ 'adapter.json': '{}' })),
      400,
      'Expected files only, in fields that have their paths as names, but received a text',
    ],
    [
      'a form with a path that leads out',
      () => put('acme/x', form({ '../adapter.json': new Blob(['{}']) })),
      422,
      'The upload is no adapter: Expected a plain path of at most 3 names but received "../adapter.json"',
    ],
    [
      'a form that ends early',
      () =>
        put('acme/x', '--b\r\ncontent-disposition: form-data; name="a"; filename="a"\r\n\r\nx', {
          'content-type': 'multipart/form-data; boundary=b',
        }),
      400,
      /^Expected a well-formed form but received one that is not: /,
    ],
    [
      'a form without a boundary',
      () => put('acme/x', 'x', { 'content-type': 'multipart/form-data' }),
      400,
      /^Expected a well-formed form but received one that is not: /,
    ],
    [
      'a name that is none',
      () => put('acme/-x', tarOf([])),
      400,
      'Expected names of letters, digits, dots, _ and -, with slashes between them but received "acme/-x"',
    ],
    [
      'a name with a version',
      () => put('acme/x@3', tarOf([])),
      400,
      'Expected names of letters, digits, dots, _ and -, with slashes between them but received "acme/x@3"',
    ],
    ['a name that is too long', () => put(`acme/${'x'.repeat(300)}`, tarOf([])), 400, /^Expected names of letters/],
    [
      'a strange query',
      () => store.publish('acme/x', 'english', '?current=maybe', by('acme')),
      400,
      'current: Expected true or false but received "maybe"',
    ],
    [
      'a split that is not whole',
      () => store.ask('POST', '/v1/adapters/acme/words:split', { versions: { 1: 90 } }, by('acme')),
      400,
      /^versions: Expected an object of at most 16 versions with whole percents that are 100 in sum/,
    ],
    [
      'a split of strangers',
      () => store.ask('POST', '/v1/adapters/acme/words:split', { versions: { 7: 100 } }, by('acme')),
      404,
      'Expected a version of acme/words (such as 1) but received 7',
    ],
    [
      'a field that is none',
      () => store.ask('POST', '/v1/adapters/acme/words:rollback', { to: 1 }, by('acme')),
      400,
      'Expected only version but received "to"',
    ],
    [
      'a shadow of what serves',
      () => store.ask('POST', '/v1/adapters/acme/words:shadow', { version: 1 }, by('acme')),
      409,
      'Expected another version of acme/words than the one that serves but received 1',
    ],
    [
      'another method',
      () => store.ask('PUT', '/v1/adapters/acme/words:pin', 'x', by('acme')),
      405,
      'Expected POST for /v1/adapters/*name:pin but received PUT',
    ],
  ])('%s', async (_, ask, status, message) => {
    const reply = await ask();
    if (typeof message === 'string') expect(reply.body.error?.message).toContain(message);
    else expect(reply.body.error?.message).toMatch(message);
    expect(reply.status).toBe(status);
  });

  test("the backbone's own name, from whomever", async () => {
    expect((await store.publish('scenes', 'english', '', by('root'))).body.error).toMatchObject({
      code: 'conflict',
      message: "Expected another name than the backbone's but received scenes",
    });
  });

  test('and keeps nothing of it', async () => {
    await until(async () => (await uploads()).length === 0);
    const { body } = await store.ask('GET', '/v1/adapters', undefined, by('root'));
    const stored = new Set(body.data?.map(({ name }) => name).filter((name) => name === 'x' || name?.includes('/')));
    expect(stored).toEqual(new Set(['acme/words', 'x']));
    expect(await versions()).toHaveLength(2);
  });
});

describe('a client that goes away', () => {
  test.each(['application/x-tar', 'multipart/form-data; boundary=b'])('in the middle of %s leaves nothing', async (type) => {
    const tar = await tarOfFolder(path.join(SHIPPED, 'german'));
    const part = '--b\r\ncontent-disposition: form-data; name="adapter.json"; filename="x"\r\n\r\n{"form';
    const { hostname, port } = new URL(store.url);
    const socket = connect(Number(port), hostname);
    socket.on('error', () => undefined);
    socket.write(
      `PUT /v1/adapters/acme/half HTTP/1.1\r\nhost: x\r\nauthorization: Bearer acme\r\ncontent-type: ${type}\r\ncontent-length: ${tar.byteLength}\r\n\r\n`,
    );
    socket.write(type.includes('tar') ? tar.subarray(0, 200_000) : part);
    await until(async () => (await uploads()).length === 1);
    socket.destroy();
    await until(async () => (await uploads()).length === 0);
    expect(await store.ask('GET', '/v1/adapters/acme/half', undefined, by('acme'))).toMatchObject(unknown('acme/half'));
    expect(await versions()).toHaveLength(2);
  });
});

test('a server without a store has none of this', async () => {
  const plain = await StoreServer.start({ store: 'none' });
  try {
    const message = 'Expected a server with a store (--store) but this one only serves what is there';
    const asks = [
      plain.publish('x', 'english'),
      plain.ask('DELETE', '/v1/adapters/x'),
      plain.ask('POST', '/v1/adapters/english:pin'),
      plain.ask('POST', '/v1/adapters/english:preload'),
      plain.ask('POST', '/v1/load_lora_adapter', { lora_name: 'x', lora_path: 'y' }),
    ];
    for (const reply of await Promise.all(asks))
      expect(reply).toMatchObject({ status: 404, body: { error: { code: 'not_found', message } } });
    expect((await plain.ask('GET', '/v1/adapters/english')).body).toMatchObject({ name: 'english', versions: [] });
  } finally {
    await plain.close();
  }
});
