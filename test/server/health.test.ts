import { rm } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { digestFolder } from '../../src/adapter/digest.js';
import { type RunningServer, startServer } from '../../src/cli/serve.js';
import { loadConfig } from '../../src/config.js';
import { formOf, get, makeTinyFolder, noisePng, post, tinyFlags } from '../support/server.js';

let folder: string;
let server: RunningServer;
beforeAll(async () => {
  folder = await makeTinyFolder(['first', 'second']);
  server = await startServer(await loadConfig({ flags: tinyFlags(folder), env: {}, folder }));
});
afterAll(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

test('it lives at once, and is ready when the engine is: until then requests are told to come back', async () => {
  expect((await get(`${server.url}/health/live`)).status).toBe(200);
  expect(await get(`${server.url}/health/ready`)).toMatchObject({ status: 503, body: { reason: 'the engine is starting' } });
  const early = await post(`${server.url}/v1/captions`, { image: 'aaaa', adapter: 'first' });
  expect(early).toMatchObject({ status: 503, body: { error: { code: 'engine_unavailable' } } });
  expect(early.headers.get('retry-after')).toBe('1');
  expect(await server.ready).toEqual({ backbone: 'tiny', adapters: 2 });
  expect(await get(`${server.url}/health/ready`)).toMatchObject({ status: 200, body: { backbone: 'tiny', adapters: 2 } });
});

test('GET /v1/models lists the backbone and its adapters as OpenAI does; one can be asked for', async () => {
  const { body } = await get(`${server.url}/v1/models`);
  expect(body).toMatchObject({
    object: 'list',
    data: [
      { id: 'tiny', object: 'model', owned_by: 'graft', parent: null, created: expect.any(Number) },
      { id: 'first', object: 'model', parent: 'tiny' },
      { id: 'second', object: 'model', parent: 'tiny' },
    ],
  });
  expect((await get(`${server.url}/v1/models/second`)).body).toEqual(body.data?.[2]);
  expect(await get(`${server.url}/v1/models/third`)).toMatchObject({
    status: 404,
    body: { error: { code: 'adapter_not_found' } },
  });
});

test('GET /v1/adapters says what each is and whether it is in memory', async () => {
  await post(`${server.url}/v1/captions`, formOf({ image: await noisePng(), adapter: 'first', max_tokens: '2' }));
  const { body } = await get(`${server.url}/v1/adapters`);
  const content = await digestFolder(path.join(folder, 'adapters', 'first'));
  expect(body.data?.[0]).toMatchObject({
    name: 'first',
    digest: content.digest,
    bytes: content.bytes,
    method: 'lora',
    contexts: ['image', 'text'],
    rank: 2,
    task: 'caption',
    fault: null,
    resident: true,
    leases: 0,
    pinned: false,
    modules: { matched: 28, targeted: 28 },
  });
  expect(body.data?.[1]).toMatchObject({ name: 'second', resident: false, resident_bytes: 0, modules: null });
});

test('GET /metrics is Prometheus’ text', async () => {
  const response = await fetch(`${server.url}/metrics`);
  expect(response.headers.get('content-type')).toContain('text/plain; version=0.0.4');
  expect(await response.text()).toContain('graft_adapters_registered 2');
});

test('a backbone that cannot be served ends the start with its reason, and leaves no process', async () => {
  const config = await loadConfig({ flags: { ...tinyFlags(folder), contextLength: '4096' }, env: {}, folder });
  const broken = await startServer(config);
  await expect(broken.ready).rejects.toThrow('Expected a context length of at most 128');
  expect(broken.pids).toEqual({ engine: undefined, images: [], trainers: [] });
  await expect(fetch(broken.url)).rejects.toThrow('fetch failed');
});

test('a port that is taken is said plainly', async () => {
  const config = await loadConfig({ flags: { ...tinyFlags(folder), port: new URL(server.url).port }, env: {}, folder });
  await expect(startServer(config)).rejects.toThrow(/Expected to listen on 127\.0\.0\.1:\d+ but it is already in use/);
});
