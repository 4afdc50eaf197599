/** The life of adapters over HTTP, with a real backbone and real adapters: which one answers shows in what it says. */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestFolder } from '../../src/adapter/digest.js';
import { SHIPPED, StoreServer } from '../support/lifecycle.js';
import { metric, until } from '../support/server.js';

/** As README shows them. */
const SAID: Readonly<Record<string, string>> = {
  english: 'on the grass, there are two small purple cars left of an orange house.',
  french: "dans un pré, deux petites voitures violettes à gauche d'une maison orange.",
};
/** Enough to fill the memory with. */
const OTHERS = ['german', 'french', 'pirate', 'alt', 'tags', 'counting', 'colours'];
/** Two adapters fit, and one of them may be pinned. */
const CACHE_BYTES = 1_600_000;

let digests: ReadonlyMap<string, string>;
let store: StoreServer;
beforeAll(async () => {
  const names = ['english', 'french', 'german', 'tags', 'alt'];
  digests = new Map(
    await Promise.all(names.map(async (name) => [name, (await digestFolder(path.join(SHIPPED, name))).digest] as const)),
  );
  store = await StoreServer.start({ adapterCacheBytes: String(CACHE_BYTES), loraRoot: SHIPPED });
});
afterAll(() => store.close());

const said = async (adapter: string): Promise<string | undefined> => (await store.caption(adapter)).body.captions?.[0]?.text;

describe('publishing', () => {
  test('a tar makes a version that answers at once; another one takes its place, and both can be asked for', async () => {
    const first = await store.publish('team/words', 'english');
    expect(first).toMatchObject({
      status: 201,
      body: { name: 'team/words', object: 'adapter.version', version: 1, digest: digests.get('english') },
    });
    expect(await store.caption('team/words')).toMatchObject({
      body: { adapter: { name: 'team/words', digest: digests.get('english') }, captions: [{ text: SAID['english'] }] },
    });
    expect((await store.publish('team/words', 'french')).body.version).toBe(2);
    expect(await said('team/words')).toBe(SAID['french']);
    expect(await said('team/words@1')).toBe(SAID['english']);
    expect(await said(`team/words@${digests.get('english')}`)).toBe(SAID['english']);
    expect((await store.caption('team/words@3')).body.error).toMatchObject({
      code: 'adapter_not_found',
      message: 'Expected the name of an adapter (GET /v1/adapters lists them) but received team/words@3',
    });
  });

  test('a form with paths as names is the same content, and the same version', async () => {
    const form = new FormData();
    const folder = path.join(SHIPPED, 'french');
    for (const file of await readdir(folder, { recursive: true, withFileTypes: true })) {
      if (!file.isFile()) continue;
      const place = path.join(file.parentPath, file.name);
      form.set(path.relative(folder, place), new Blob([await readFile(place)]), file.name);
    }
    expect(await store.ask('PUT', '/v1/adapters/team/words', form)).toMatchObject({
      status: 200,
      body: { version: 2, digest: digests.get('french') },
    });
  });

  test('versions are parts of a blend', async () => {
    const image = await readFile(path.join(SHIPPED, '../models/scenes/example.jpg'), 'base64');
    const adapter = { blend: [1, 2].map((version) => ({ name: `team/words@${version}`, weight: version === 1 ? 1 : 0 })) };
    const { body } = await store.ask('POST', '/v1/captions', { image, adapter });
    expect(body.captions?.[0]?.text).toBe(SAID['english']);
    expect(body.adapter).toMatchObject({
      name: '1*team/words@1+0*team/words@2',
      blend: [{ digest: digests.get('english') }, { digest: digests.get('french') }],
    });
  });

  test('current=false publishes beside what serves', async () => {
    await store.publish('team/calm', 'english');
    expect(await store.publish('team/calm', 'french', '?current=false')).toMatchObject({ status: 201, body: { version: 2 } });
    expect(await said('team/calm')).toBe(SAID['english']);
  });

  test('lists have names once, with the version that serves', async () => {
    const models = await store.ask('GET', '/v1/models');
    expect(models.body.data?.filter(({ id }) => id?.startsWith('team/')).map(({ id }) => id)).toEqual([
      'team/calm',
      'team/words',
    ]);
    const list = await store.ask('GET', '/v1/adapters');
    expect(list.body.data?.find(({ name }) => name === 'team/words')).toMatchObject({
      version: 2,
      versions: 2,
      digest: digests.get('french'),
    });
    expect(list.body.data?.find(({ name }) => name === 'english')).toMatchObject({ version: null, versions: null });
    expect((await store.ask('GET', '/v1/adapters/team/words')).body).toMatchObject({
      name: 'team/words',
      versions: [
        { version: 1, digest: digests.get('english') },
        { version: 2, digest: digests.get('french') },
      ],
      current: 2,
      split: null,
      shadow: null,
      pinned: false,
    });
    expect((await store.ask('GET', '/v1/adapters/english')).body).toMatchObject({ versions: [], current: null });
  });

  test('a name of the folder is served from the store once it is published, and from the folder again after that', async () => {
    expect(await said(`english@${digests.get('english')}`)).toBe(SAID['english']);
    expect((await store.caption('english@1')).body.error?.code).toBe('adapter_not_found');
    await store.publish('english', 'french');
    expect(await said('english')).toBe(SAID['french']);
    expect((await store.caption(`english@${digests.get('english')}`)).status).toBe(404);
    await store.ask('DELETE', '/v1/adapters/english');
    expect(await said('english')).toBe(SAID['english']);
  });
});

describe('which version serves', () => {
  test('is rolled back in one call', async () => {
    expect(await said('team/words')).toBe(SAID['french']);
    expect(await store.ask('POST', '/v1/adapters/team/words:rollback')).toMatchObject({ status: 200, body: { current: 1 } });
    expect(await said('team/words')).toBe(SAID['english']);
    expect((await store.ask('POST', '/v1/adapters/team/words:rollback')).body.error?.code).toBe('conflict');
    expect((await store.ask('POST', '/v1/adapters/team/words:rollback', { version: 2 })).body.current).toBe(2);
  });

  test("is divided by key: the header, OpenAI's user, or each request by itself", async () => {
    const both = [digests.get('english'), digests.get('french')];
    await store.ask('POST', '/v1/adapters/team/words:split', { versions: { 1: 50, 2: 50 } });
    const served = async (key: string) =>
      (await store.caption('team/words', { 'x-graft-sticky-key': key }, { max_tokens: '1' })).body.adapter?.digest;
    const keys = Array.from({ length: 16 }, (_, index) => `key-${index}`);
    const byKey = await Promise.all(keys.map(served));
    expect(new Set(byKey)).toEqual(new Set(both));
    expect(await Promise.all(keys.map(served))).toEqual(byKey);

    const client = new OpenAI({ baseURL: `${store.url}/v1`, apiKey: 'none' });
    const image = await readFile(path.join(SHIPPED, '../models/scenes/example.jpg'), 'base64');
    const content = [{ type: 'image_url' as const, image_url: { url: `data:image/jpeg;base64,${image}` } }];
    const chats = keys.map(async (user) => {
      const messages = [{ role: 'user' as const, content }];
      const chat = await client.chat.completions.create({ model: 'team/words', user, max_tokens: 1, messages });
      return (chat as unknown as { adapter: { digest: string } }).adapter.digest;
    });
    expect(await Promise.all(chats)).toEqual(byKey);

    const anonymous = keys.map(async () => (await store.caption('team/words', {}, { max_tokens: '1' })).body.adapter?.digest);
    expect(new Set(await Promise.all(anonymous))).toEqual(new Set(both));
    await store.ask('POST', '/v1/adapters/team/words:split', {});
    expect(await said('team/words')).toBe(SAID['french']);
  });

  test('has a shadow that runs behind it, and is promoted', async () => {
    const ran = () => metric(store.url, 'graft_adapter_shadow_requests_total{outcome="ok"}');
    await store.ask('POST', '/v1/adapters/team/words:shadow', { version: 1 });
    const reply = await store.caption('team/words');
    expect(reply.body).toMatchObject({ adapter: { digest: digests.get('french') }, captions: [{ text: SAID['french'] }] });
    await until(async () => (await ran()) === 1);
    await store.caption('team/words@2');
    expect((await store.ask('DELETE', '/v1/adapters/team/words@1')).body.error?.code).toBe('conflict');
    expect((await store.ask('POST', '/v1/adapters/team/words:promote')).body).toMatchObject({ current: 1, shadow: null });
    expect(await said('team/words')).toBe(SAID['english']);
    expect(await ran()).toBe(1);
  });
});

describe('deleting', () => {
  test('takes one version that is not in use, or all of them', async () => {
    expect((await store.ask('DELETE', '/v1/adapters/team/calm@1')).body.error).toMatchObject({
      code: 'conflict',
      message: 'Expected a version that is not in use but team/calm@1 is current',
    });
    expect((await store.ask('DELETE', '/v1/adapters/team/calm@2')).body).toEqual({
      name: 'team/calm@2',
      object: 'adapter.deleted',
      deleted: true,
    });
    expect((await store.caption('team/calm@2')).status).toBe(404);
    expect((await store.ask('DELETE', '/v1/adapters/team/calm')).body).toMatchObject({ deleted: true });
    expect((await store.caption('team/calm')).status).toBe(404);
    expect((await store.ask('DELETE', '/v1/adapters/team/calm')).body.error?.code).toBe('adapter_not_found');
    expect((await store.ask('DELETE', '/v1/adapters/german')).body.error?.code).toBe('conflict');
  });

  test('lets those finish who have begun', async () => {
    await store.publish('team/gone', 'german');
    const german = await said('team/gone');
    const running = Array.from({ length: 12 }, () => said('team/gone'));
    await until(async () => (await metric(store.url, 'graft_adapter_leases')) > 0);
    await store.ask('DELETE', '/v1/adapters/team/gone');
    expect(await Promise.all(running)).toEqual(Array.from({ length: 12 }, () => german));
    const kept = async () => (await readdir(path.join(store.folder, 'store/versions'))).map((hex) => `sha256:${hex}`);
    await until(async () => !(await kept()).includes(digests.get('german') ?? ''));
  });
});

describe('memory', () => {
  const resident = async (name: string) => {
    const { body } = await store.ask('GET', '/v1/adapters');
    return body.data?.find((one) => one.name === name)?.resident;
  };

  test('has what is preloaded', async () => {
    await store.publish('team/soon', 'relations');
    expect(await resident('team/soon')).toBe(false);
    expect((await store.ask('POST', '/v1/adapters/team/soon:preload')).body).toEqual({
      name: 'team/soon',
      object: 'adapter.residency',
      resident: true,
    });
    expect(await resident('team/soon')).toBe(true);
  });

  test('keeps what is pinned, whatever comes, also in the next engine and the next server; the rest has its half', async () => {
    expect((await store.ask('POST', '/v1/adapters/team/words:pin')).body.pinned).toBe(true);
    expect((await store.ask('POST', '/v1/adapters/team/soon:pin')).body.error).toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(
        /^Expected pinned adapters to take at most 800000 bytes of memory but with team\/soon they may take /,
      ),
    });
    for (const name of OTHERS) await said(name);
    expect(await resident('team/soon')).toBe(false);
    expect(await resident('team/words')).toBe(true);

    process.kill(store.server.pids.engine ?? 0, 'SIGKILL');
    await until(async () => (await resident('team/words')) === true && (await fetch(`${store.url}/health/ready`)).ok);
    await store.restart();
    await until(async () => (await resident('team/words')) === true);
    expect((await store.ask('POST', '/v1/adapters/team/words:unpin')).body.pinned).toBe(false);
    for (const name of OTHERS) await said(name);
    expect(await resident('team/words')).toBe(false);
  });
});

test('a server that starts again serves what was published, as it was', async () => {
  const before = (await store.ask('GET', '/v1/adapters/team/words')).body;
  await store.restart();
  const after = (await store.ask('GET', '/v1/adapters/team/words')).body;
  expect(after).toMatchObject({ versions: before.versions, current: 1 });
  expect(await said('team/words')).toBe(SAID['english']);
  await expect(StoreServer.start({ store: path.join(store.folder, 'store') })).rejects.toThrow(
    /^store: Expected a store that no other server uses but /,
  );
});

describe("vLLM's routes", () => {
  const load = (body: object) => store.ask('POST', '/v1/load_lora_adapter', body);

  test('load from a folder, as a version, and unload, in its words', async () => {
    const loaded = await load({ lora_name: 'sql', lora_path: 'french' });
    expect([loaded.status, loaded.body.name]).toEqual([200, "Success: LoRA adapter 'sql' added successfully."]);
    expect(loaded.headers.get('content-type')).toMatch(/^text\/plain/);
    expect(await said('sql')).toBe(SAID['french']);
    expect((await load({ lora_name: 'sql', lora_path: 'english' })).body.error).toMatchObject({
      code: 'invalid_request',
      message:
        "The lora adapter 'sql' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True.",
    });
    const absolute = path.join(SHIPPED, 'english');
    expect((await load({ lora_name: 'sql', lora_path: absolute, load_inplace: true })).status).toBe(200);
    expect(await said('sql')).toBe(SAID['english']);
    expect((await store.ask('GET', '/v1/adapters/sql')).body.versions).toHaveLength(2);
    const unload = () => store.ask('POST', '/v1/unload_lora_adapter', { lora_name: 'sql', lora_int_id: 1 });
    expect((await unload()).body.name).toBe("Success: LoRA adapter 'sql' removed successfully.");
    expect(await unload()).toMatchObject({
      status: 404,
      body: { error: { message: "The lora adapter 'sql' cannot be found." } },
    });
  });

  test.each([
    ['../models/scenes', 404, 'Loading lora x failed: No adapter found for ../models/scenes'],
    ['/etc', 404, 'Loading lora x failed: No adapter found for /etc'],
    ['nowhere', 404, 'Loading lora x failed: No adapter found for nowhere'],
    ['hf://owner/name', 404, 'Loading lora x failed: No adapter found for hf://owner/name'],
    ['', 400, "Both 'lora_name' and 'lora_path' must be provided."],
  ])('refuse %j', async (lora_path, status, message) => {
    expect(await load({ lora_name: 'x', lora_path })).toMatchObject({ status, body: { error: { message } } });
  });
});

test('counts what was published, and what was refused', async () => {
  await store.publish('team/other', 'english');
  expect(await metric(store.url, 'graft_adapter_uploads_total{outcome="ok"}')).toBeGreaterThan(0);
  expect(await metric(store.url, 'graft_adapter_store_bytes')).toBeGreaterThan(100_000);
});
