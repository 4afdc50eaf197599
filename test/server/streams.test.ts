import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type Body,
  events,
  type Fields,
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
  tiny = await startTinyServer(['first', 'second']);
  png = await noisePng();
});
afterAll(() => tiny.close());

async function all(response: Response): Promise<Body[]> {
  const received: Body[] = [];
  for await (const event of events(response)) received.push(event);
  return received;
}

const open = (fields: Fields, signal?: AbortSignal) =>
  fetch(`${tiny.url}/v1/captions`, {
    method: 'POST',
    body: formOf({ image: png, stream: 'true', ...fields }),
    ...(signal ? { signal } : {}),
  });

function textsOf(received: readonly Body[], adapter: string, choices: number): string[] {
  const deltas = received.filter((event) => event.object === 'caption.delta' && (event.adapter as unknown) === adapter);
  return Array.from({ length: choices }, (_, choice) =>
    deltas
      .filter(({ index }) => index === choice)
      .map(({ text }) => text)
      .join(''),
  );
}

describe('a stream of captions', () => {
  test.each<[string, Fields, number]>([
    ['greedy', { max_tokens: '20' }, 1],
    ['three samples', { max_tokens: '20', temperature: '1', seed: '3', n: '3' }, 3],
    ['beams, told at the end', { max_tokens: '10', num_beams: '3', n: '2' }, 2],
    ['up to a stop string', { max_tokens: '20', stop: ['e', 'a'] }, 1],
  ])(
    '%s: its pieces add up to the captions of its last event, and those to what is answered without a stream',
    async (_, fields, choices) => {
      const response = await open({ adapter: 'first', ...fields });
      expect(response.headers.get('content-type')).toContain('text/event-stream');
      const received = await all(response);
      const last = received.at(-1);
      expect(last?.object).toBe('caption');
      expect(last?.captions?.map(({ text }) => text)).toEqual(textsOf(received, 'first', choices));
      const whole = await post(`${tiny.url}/v1/captions`, formOf({ image: png, adapter: 'first', ...fields }));
      expect(last).toMatchObject({ captions: whole.body.captions, adapter: whole.body.adapter, usage: { image_tokens: 4 } });
      expect(new Set(received.map(({ id }) => id)).size).toBe(1);
    },
  );

  test('several adapters share it, and one that is not there has its error event', async () => {
    const received = await all(await open({ adapters: ['first', 'nobody', 'second'], max_tokens: '12' }));
    for (const name of ['first', 'second']) {
      const caption = received.find((event) => event.object === 'caption' && event.adapter?.name === name);
      expect(caption?.captions?.map(({ text }) => text)).toEqual(textsOf(received, name, 1));
    }
    expect(received.find(({ object }) => object === 'error')).toMatchObject({
      adapter: { name: 'nobody' },
      error: { code: 'adapter_not_found' },
    });
  });

  test('what fails before the first event has an ordinary error reply', async () => {
    const unknown = await open({ adapter: 'nobody' });
    expect(unknown.status).toBe(404);
    expect(unknown.headers.get('content-type')).toContain('application/json');
    const late = await open({ adapter: 'first', timeout_ms: '1' });
    expect(late.status).toBe(504);
    expect((await open({ adapters: ['nobody', 'nowhere'] })).status).toBe(404);
  });

  test('completions stream in OpenAI’s chunks, usage last', async () => {
    const body = { model: 'tiny', prompt: 'the cat', max_tokens: 10 };
    const init = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...body, stream: true }),
    };
    const received = await all(await fetch(`${tiny.url}/v1/completions`, init));
    const text = received
      .flatMap(({ choices }) => choices ?? [])
      .map((choice) => choice.text)
      .join('');
    const whole = await post(`${tiny.url}/v1/completions`, body);
    expect(text).toBe(whole.body.choices?.[0]?.text);
    expect(received.at(-2)?.choices?.[0]?.finish_reason).toBe(whole.body.choices?.[0]?.finish_reason);
    expect(received.at(-1)).toMatchObject({ choices: [], usage: whole.body.usage });
  });
});

test('clients that go away leave nothing behind: no row, no lease, nothing that waits', async () => {
  const before = await metric(tiny.url, 'graft_requests_total{route="/v1/captions",outcome="cancelled"}');
  for (let round = 0; round < 6; round++) {
    const controller = new AbortController();
    const response = await open({ adapter: 'first', temperature: '2', n: '16', max_tokens: '120' }, controller.signal);
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    controller.abort();
  }
  await until(async () => (await metric(tiny.url, 'graft_adapter_leases')) === 0);
  await until(async () => (await metric(tiny.url, 'graft_num_rows_running')) === 0);
  expect(await metric(tiny.url, 'graft_queue_length')).toBe(0);
  expect(await metric(tiny.url, 'graft_kv_usage_ratio')).toBe(0);
  const cancelled = await metric(tiny.url, 'graft_requests_total{route="/v1/captions",outcome="cancelled"}');
  expect(cancelled).toBeGreaterThan(Number.isNaN(before) ? 0 : before);
  expect((await get(`${tiny.url}/health/ready`)).status).toBe(200);
});
