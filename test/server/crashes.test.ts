import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  type Body,
  events,
  formOf,
  get,
  metric,
  noisePng,
  post,
  startTinyServer,
  type TinyServer,
  until,
} from '../support/server.js';

let tiny: TinyServer;
let png: Buffer;
beforeAll(async () => {
  tiny = await startTinyServer(['first']);
  png = await noisePng();
});
afterAll(() => tiny.close());

const caption = (fields = {}) =>
  post(`${tiny.url}/v1/captions`, formOf({ image: png, adapter: 'first', max_tokens: '5', ...fields }));
const ready = async () => (await get(`${tiny.url}/health/ready`)).status === 200;

test('a killed engine costs what was inside it, says so, and is back', async () => {
  const before = await caption();
  const body = formOf({ image: png, adapter: 'first', stream: 'true', temperature: '2', n: '16', max_tokens: '120' });
  const response = await fetch(`${tiny.url}/v1/captions`, { method: 'POST', body });
  const received: Body[] = [];
  for await (const event of events(response)) {
    if (received.length === 0) process.kill(tiny.server.pids.engine as number, 'SIGKILL');
    received.push(event);
  }
  expect(received.at(-1)).toMatchObject({ object: 'error', error: { code: 'engine_unavailable', type: 'server_error' } });

  // What comes while it starts again waits for it.
  expect((await caption()).body.captions).toEqual(before.body.captions);
  await until(ready);
  expect(await metric(tiny.url, 'graft_engine_restarts_total')).toBe(1);
  expect(await metric(tiny.url, 'graft_requests_total{route="/v1/captions",outcome="engine_unavailable"}')).toBe(1);
});

test('a killed image process costs at most the images inside it, and is back', async () => {
  const [pid] = tiny.server.pids.images;
  const pending = Array.from({ length: 8 }, () => caption());
  process.kill(pid as number, 'SIGKILL');
  for (const { status, body, headers } of await Promise.all(pending)) {
    expect([200, 503]).toContain(status);
    if (status === 200) continue;
    expect(body.error?.code).toBe('images_unavailable');
    expect(headers.get('retry-after')).toBe('1');
  }
  await until(async () => (await ready()) && tiny.server.pids.images[0] !== pid);
  expect((await caption()).status).toBe(200);
  expect(await metric(tiny.url, 'graft_image_process_restarts_total')).toBe(1);
});
