/** A whole server whose adapters come from a real S3 server and from a hub: what its captions, its lists, its errors and its metrics say of them. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { digestFolder } from '../../src/adapter/digest.js';
import { type RunningServer, startServer } from '../../src/cli/serve.js';
import { type ConfigKey, loadConfig } from '../../src/config.js';
import { makeKey } from '../../src/tenants/key.js';
import { MockHub } from '../support/hub.js';
import { ENGLISH, FRENCH, hubFiles } from '../support/library.js';
import { BUCKET, S3_ENV, TestS3 } from '../support/s3.js';
import { formOf, get, metric, post, type Reply, until } from '../support/server.js';
import { bearer, tenantsFile } from '../support/tenants.js';

const IMAGE = fileURLToPath(new URL('../../models/scenes/example.jpg', import.meta.url));
const HUB_PLACE = 'hf://owner/model';
const S3_PLACE = `s3://${BUCKET}/team/english`;

let s3: TestS3;
let hub: MockHub;
let image: Buffer;
let folder: string;
let english: string;
let french: string;
let server: RunningServer;

beforeAll(async () => {
  [s3, image] = [await TestS3.start(), await readFile(IMAGE)];
  await s3.upload(ENGLISH, 'team/english');
  english = (await digestFolder(ENGLISH)).digest;
  french = (await digestFolder(FRENCH)).digest;
});
afterAll(() => s3.stop());
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-sources-'));
  hub = await MockHub.start(await hubFiles(FRENCH));
  s3.asked.length = 0;
  s3.misbehaviour = undefined;
});
afterEach(async () => {
  await server.close();
  await hub.stop();
  await rm(folder, { recursive: true, force: true });
});

/** On the backbone that ships, with the adapters that ship beside those that do not. */
async function start(flags: Partial<Record<ConfigKey, string>> = {}): Promise<void> {
  const config = await loadConfig({
    flags: {
      port: '0',
      logLevel: 'silent',
      threads: '1',
      maxBatch: '4',
      diskCache: folder,
      adapterSource: `mine=${S3_PLACE},theirs=${HUB_PLACE}`,
      allowSources: `s3://${BUCKET}/team,hf://owner/model`,
      ...flags,
    },
    env: {},
    folder,
  });
  server = await startServer(config, { ...S3_ENV, S3_ENDPOINT: s3.url, HF_ENDPOINT: hub.url, HF_HOME: folder });
  await server.ready;
}

const caption = (adapter: string, more: Record<string, string> = {}): Promise<Reply> =>
  post(`${server.url}/v1/captions`, formOf({ image, adapter, max_tokens: '12', ...more }));
const textOf = ({ body }: Reply) => body.captions?.[0]?.text;
const listed = async (name: string) =>
  (await get(`${server.url}/v1/adapters`)).body.data?.find((adapter) => adapter.name === name);
const counted = (name: string, labels = '') => metric(server.url, `graft_${name}${labels}`);

describe('captions', () => {
  test('with an adapter from a bucket and one from the hub are those of the same adapters from a folder', async () => {
    await start();
    for (const [place, name, own, digest] of [
      [S3_PLACE, 'mine', 'english', english],
      [HUB_PLACE, 'theirs', 'french', french],
    ] as const) {
      const [fromFolder, byName, byPlace] = [await caption(own), await caption(name), await caption(place)];
      expect(fromFolder.status).toBe(200);
      expect(textOf(fromFolder)).toMatch(/\w+ \w+/);
      expect([byName, byPlace].map(textOf)).toEqual([textOf(fromFolder), textOf(fromFolder)]);
      expect([byName, byPlace].map(({ body }) => body.adapter)).toEqual([
        { name, digest },
        { name: place, digest },
      ]);
    }
    const text = { model: 'mine', prompt: 'on the', max_tokens: 4 };
    const [named, own] = [
      await post(`${server.url}/v1/completions`, text),
      await post(`${server.url}/v1/completions`, { ...text, model: 'english' }),
    ];
    expect(named.status).toBe(200);
    expect(named.body.choices).toEqual(own.body.choices);
  });

  test('of one request with adapters from everywhere', async () => {
    await start({ adapterSource: 'none' });
    const names = [S3_PLACE, HUB_PLACE, 'english', 'hf://owner/nothing', 'nobody'];
    const { status, body } = await post(`${server.url}/v1/captions`, {
      image: image.toString('base64'),
      adapters: names,
      max_tokens: 12,
    });
    expect(status).toBe(200);
    expect(body.data?.map(({ object, error }) => error?.code ?? object)).toEqual([
      'caption',
      'caption',
      'caption',
      'adapter_not_found',
      'adapter_not_found',
    ]);
    // The time of the fetch is part of the adapter's.
    expect(body.data?.[0]?.timings?.['adapter_ms']).toBeGreaterThan(0);
    expect(body.data?.[0]?.captions).toEqual(body.data?.[2]?.captions);
  });

  test('of a place are for tenants that see it, however it is spelled; to others it is nowhere, and nothing is fetched', async () => {
    const tenants = { acme: "adapters: [english, theirs, 'hf://owner/*']", other: "adapters: [english, 's3://other/**']" };
    const keys = { acme: makeKey(), other: makeKey() };
    await writeFile(path.join(folder, 'tenants.yaml'), tenantsFile(keys, tenants));
    await start({ tenants: path.join(folder, 'tenants.yaml'), adapterSource: `theirs=${S3_PLACE}` });
    const asked = async (tenant: keyof typeof keys, adapter: string) => {
      const body = formOf({ image, adapter, max_tokens: '4' });
      const response = await fetch(`${server.url}/v1/captions`, { method: 'POST', body, headers: bearer(keys[tenant]) });
      return { status: response.status, text: (await response.text()).replaceAll(adapter, 'NAME') };
    };
    const nowhere = await asked('other', 'hf://owner/nothing-at-all');
    expect(nowhere.status).toBe(404);
    for (const name of [HUB_PLACE, S3_PLACE, 'theirs']) expect(await asked('other', name)).toEqual(nowhere);
    expect(hub.asked).toEqual([]);

    for (const place of [HUB_PLACE, `${HUB_PLACE}@main`, `${HUB_PLACE}/`, 'theirs'])
      expect((await asked('acme', place)).status, place).toBe(200);
    // The place of what the operator has named is the operator's.
    expect(await asked('acme', S3_PLACE)).toEqual(nowhere);
    expect(await asked('other', HUB_PLACE)).toEqual(nowhere);
    const response = await fetch(`${server.url}/v1/adapters`, { headers: bearer(keys.acme) });
    const { data } = (await response.json()) as Reply['body'];
    expect(data).toMatchObject([{ name: 'english' }, { name: 'theirs', digest: english, source: null }]);
  });

  test('go on while a cold adapter is fetched, which is fetched once for all who ask', async () => {
    await start({ adapterSource: 'none' });
    let open = (): void => undefined;
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    s3.misbehaviour = async () => {
      await opened;
      return false;
    };
    const cold = Array.from({ length: 8 }, () => caption(S3_PLACE));
    const leaving = new AbortController();
    const left = fetch(`${server.url}/v1/captions`, {
      method: 'POST',
      body: formOf({ image, adapter: S3_PLACE }),
      signal: leaving.signal,
    }).catch(() => 'left');
    await until(() => s3.lists.length > 0);
    for (let time = 0; time < 3; time++) expect((await caption('english')).status).toBe(200);
    leaving.abort();
    expect(await left).toBe('left');
    open();
    const replies = await Promise.all(cold);
    expect(new Set(replies.map(textOf))).toEqual(new Set([textOf(await caption('english'))]));
    expect(s3.lists).toHaveLength(1);
    const fetches = s3.fetches.map(({ target }) => target);
    expect(fetches).toHaveLength(new Set(fetches).size);
    expect(await counted('adapter_fetch_seconds_count', '{source="s3"}')).toBe(1);
    expect(await counted('adapter_disk_misses_total')).toBe(9);
  });

  test('change when the source does, and only from then on', async () => {
    await start({ sourceRefreshMs: '0', adapterSource: `theirs=${HUB_PLACE}` });
    const before = await caption('theirs');
    expect(before.body.adapter?.digest).toBe(french);
    const files = await hubFiles(ENGLISH);
    hub.files.clear();
    for (const [name, file] of Object.entries(files)) hub.files.set(name, file);
    hub.commit = 'd00d'.repeat(10);
    await until(async () => (await caption('theirs')).body.adapter?.digest === english);
    expect(textOf(await caption('theirs'))).toBe(textOf(await caption('english')));
  });
});

describe('what is refused', () => {
  test('a place that is not allowed looks like a name that nobody knows', async () => {
    await start({ allowSources: `s3://${BUCKET}/team` });
    const shapeOf = ({ status, body }: Reply, name: string) =>
      JSON.stringify({ status, body }).replaceAll(JSON.stringify(name).slice(1, -1), 'NAME');
    const unknown = shapeOf(await caption('nobody'), 'nobody');
    const asked = [s3.asked.length, hub.asked.length];
    for (const name of [
      `s3://${BUCKET}/team-other/x`,
      's3://other/team',
      'hf://owner/model',
      's3://bucket/../x',
      's3://',
      'hf://a',
    ])
      expect(shapeOf(await caption(name), name)).toBe(unknown);
    expect([s3.asked.length, hub.asked.length]).toEqual(asked);
    const missing = `s3://${BUCKET}/team/nothing`;
    expect(shapeOf(await caption(missing), missing)).toBe(unknown);
    expect((await caption('http://127.0.0.1/x')).status).toBe(400);
    expect((await caption('/etc/passwd')).status).toBe(400);
  });

  test('trouble at the source is a 502, 503 or 504 of its own, and says when to come again', async () => {
    await start({ adapterSource: 'none', sourceTimeoutMs: '300' });
    hub.misbehaviour = (_request, response) => {
      response.writeHead(429, { 'retry-after': '77' }).end();
      return true;
    };
    const busy = await caption(HUB_PLACE);
    expect([busy.status, busy.body.error?.code, busy.headers.get('retry-after')]).toEqual([503, 'source_unavailable', '77']);
    expect(busy.body.error?.message).not.toContain('127.0.0.1');
    hub.misbehaviour = () => true;
    expect(await caption(`${HUB_PLACE}@slow`)).toMatchObject({ status: 504, body: { error: { code: 'source_timeout' } } });
    expect(await caption(`${HUB_PLACE}@slower`, { timeout_ms: '50' })).toMatchObject({
      status: 504,
      body: { error: { code: 'deadline_exceeded' } },
    });
    hub.misbehaviour = (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Sign in</html>');
      return true;
    };
    expect(await caption(`${HUB_PLACE}@portal`)).toMatchObject({ status: 502, body: { error: { code: 'download_failed' } } });
    expect(await counted('adapter_fetch_failures_total', '{source="hub",reason="unavailable"}')).toBe(1);
    expect((await caption('english')).status).toBe(200);
  });

  test('settings that cannot be meant are named at the start', async () => {
    await start();
    const wrong = loadConfig({ flags: { adapterSource: 'mine=https://x,other=s3://B' }, env: {}, folder });
    await expect(startServer(await wrong, {})).rejects.toThrow(
      /adapterSource: mine: Expected s3:.* received "https:\/\/x"; other: .* received "s3:\/\/B"/,
    );
    await expect(loadConfig({ flags: { adapterSource: 'mine' }, env: {}, folder })).rejects.toThrow(
      'adapterSource (--adapter-source): Expected NAME=PLACE, or none but received "mine"',
    );
  });
});

describe('what is known of them', () => {
  test('lists tell where they come from, before and after they have come', async () => {
    s3.misbehaviour = (_request, response) => {
      response.writeHead(404).end('<Error><Code>NoSuchBucket</Code></Error>');
      return true;
    };
    await start();
    await until(async () => (await listed('theirs'))?.digest === french);
    expect(await listed('theirs')).toMatchObject({ source: HUB_PLACE, method: expect.any(String), fault: null });
    expect(await listed('english')).toMatchObject({ source: null, digest: english });
    await until(async () => typeof (await listed('mine'))?.fault === 'string');
    expect(await listed('mine')).toMatchObject({ source: S3_PLACE, digest: null, method: null });
    const models = await get(`${server.url}/v1/models`);
    expect(models.body.data?.map(({ id }) => id)).toEqual(expect.arrayContaining(['mine', 'theirs', 'english']));
    expect((await get(`${server.url}/v1/models/theirs`)).body).toMatchObject({ id: 'theirs', parent: 'scenes' });
    expect((await get(`${server.url}/health/ready`)).body).toMatchObject({
      adapters: models.body.data ? models.body.data.length - 1 : 0,
    });
  });

  test('metrics count what is fetched, found and kept', async () => {
    await start({ adapterSource: 'none', diskCacheBytes: '1MB' });
    for (let time = 0; time < 3; time++) expect((await caption(S3_PLACE)).status).toBe(200);
    const { bytes } = await digestFolder(ENGLISH);
    expect(await counted('adapter_fetch_bytes_total', '{source="s3"}')).toBe(bytes);
    expect(await counted('adapter_cache_bytes', '{tier="disk"}')).toBe(bytes);
    expect(await counted('adapter_cache_capacity_bytes', '{tier="disk"}')).toBe(1e6);
    expect([await counted('adapter_disk_hits_total'), await counted('adapter_disk_misses_total')]).toEqual([2, 1]);
  });
});

describe('the disk', () => {
  test('serves after a restart what it has, without the hub', async () => {
    await start({ adapterSource: `theirs=${HUB_PLACE}` });
    const before = await caption('theirs');
    await server.close();
    hub.misbehaviour = (_request, response) => {
      response.destroy();
      return true;
    };
    await start({ adapterSource: `theirs=${HUB_PLACE}`, sourceRefreshMs: '0' });
    const after = await caption('theirs');
    expect([after.status, textOf(after), after.body.adapter?.digest]).toEqual([200, textOf(before), french]);
  });

  test('is mended where it has rotted: the engine finds out, and the adapter is fetched again', async () => {
    await start({ adapterSource: `mine=${S3_PLACE}` });
    await until(async () => (await listed('mine'))?.digest === english);
    await writeFile(path.join(folder, 'adapters', english.slice(7), 'projector.safetensors'), 'rot');
    const mended = await caption('mine');
    expect(mended.status).toBe(200);
    expect(mended.body.adapter?.digest).toBe(english);
    expect(await counted('adapter_fetch_seconds_count', '{source="s3"}')).toBe(2);
  });
});
