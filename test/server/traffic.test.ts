/** What /metrics says of each adapter, after requests of all kinds. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { events, formOf, metric, noisePng, post, startTinyServer, type TinyServer, until } from '../support/server.js';

let tiny: TinyServer;
let png: Buffer;
beforeAll(async () => {
  tiny = await startTinyServer(['first', 'second', 'third']);
  png = await noisePng();
});
afterAll(() => tiny.close());

const of = (name: string, adapter: string) => metric(tiny.url, `graft_adapter_${name}_total{adapter="${adapter}"}`);
const caption = (fields: object) => post(`${tiny.url}/v1/captions`, formOf({ image: png, max_tokens: '6', ...fields }));

test('a request is cold where its adapter is not in memory, and the next one is not', async () => {
  for (const _ of [1, 2]) await post(`${tiny.url}/v1/completions`, { model: 'third', prompt: 'a', max_tokens: 2 });
  expect(await of('requests', 'third')).toBe(2);
  expect(await of('request_misses', 'third')).toBe(1);
});

test('every adapter of a request is counted, and the backbone by its name', async () => {
  const replies = [await caption({ adapter: 'first' }), await caption({ adapters: 'first,second' })];
  await post(`${tiny.url}/v1/completions`, { model: 'tiny', prompt: 'a', max_tokens: 3 });
  expect(await of('requests', 'first')).toBe(2);
  expect(await of('requests', 'second')).toBe(1);
  expect(await of('requests', 'tiny')).toBe(1);
  expect(await of('first_tokens', 'first')).toBe(2);
  expect(await of('first_token_seconds', 'first')).toBeGreaterThan(0);
  const tokens = replies
    .flatMap(({ body }) => body.data ?? [body])
    .filter(({ adapter }) => adapter?.name === 'first')
    .reduce((sum, { usage }) => sum + (usage?.['completion_tokens'] ?? 0), 0);
  expect(await of('generation_tokens', 'first')).toBe(tokens);
});

test('a name that somebody makes up is no series', async () => {
  await caption({ adapter: 'made-up' });
  await post(`${tiny.url}/v1/completions`, { model: 'made-up', prompt: 'a' });
  expect(await (await fetch(`${tiny.url}/metrics`)).text()).not.toContain('made-up');
});

test('tokens of a stream that its reader leaves are counted', async () => {
  const before = await of('generation_tokens', 'second');
  const gone = new AbortController();
  const body = formOf({ image: png, adapter: 'second', stream: 'true', n: '8', temperature: '2', max_tokens: '110' });
  const reading = events(await fetch(`${tiny.url}/v1/captions`, { method: 'POST', body, signal: gone.signal }));
  await reading.next();
  gone.abort();
  await until(async () => (await of('generation_tokens', 'second')) > before);
  expect(await of('requests', 'second')).toBe(2);
});
