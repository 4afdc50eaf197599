/** Limits of tenants over HTTP: in this server's memory, and in a real Redis that two servers share. */
import OpenAI from 'openai';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ConfigKey } from '../../src/config.js';
import type { Tenant } from '../../src/tenants/tenant.js';
import { limited, tenantsOf } from '../support/keys.js';
import { hasRedis, TestRedis, withRedis } from '../support/redis.js';
import { type Body, events, formOf, noisePng, startTinyServer, type TinyServer, until } from '../support/server.js';

const TENANTS = {
  'key-of-admin': limited('admin', {}, { isAdmin: true }),
  'key-of-free': limited('free', {}),
  'key-of-slow': limited('slow', { requestsPerSecond: 2 }),
  'key-of-client': limited('client', { requestsPerSecond: 1 }),
  'key-of-single': limited('single', { concurrent: 1 }),
  'key-of-waiting': limited('waiting', { requestsPerSecond: 1000, concurrent: 1 }),
  'key-of-small': limited('small', { imageBytes: 2_000, maxTokens: 5 }),
  // Each test that counts tokens has a tenant of its own: a minute is longer than a test.
  ...Object.fromEntries(
    ['usage', 'refused', 'never', 'several', 'left', 'killed', 'failing', 'shared'].map((name) => [
      `key-of-${name}`,
      limited(name, { tokensPerMinute: 100 }),
    ]),
  ),
} satisfies Record<string, Tenant>;

const start = (flags: Partial<Record<ConfigKey, string>> = {}) =>
  startTinyServer(['first', 'second'], { maxTokens: '120', ...flags }, { tenants: tenantsOf(TENANTS) });

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Body;
}

function ask(url: string, name: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set('authorization', `Bearer key-of-${name}`);
  return fetch(url, { ...init, headers });
}

async function answerOf(response: Response): Promise<Answer> {
  return { status: response.status, headers: response.headers, body: (await response.json()) as Body };
}

function json(body: object): RequestInit {
  return { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
}

const models = async (name: string, { url } = tiny) => answerOf(await ask(`${url}/v1/models`, name));
const complete = async (name: string, body: object = {}, { url } = tiny) =>
  answerOf(await ask(`${url}/v1/completions`, name, json({ model: 'tiny', prompt: 'a b', ...body })));
const caption = async (name: string, fields: object = {}) =>
  answerOf(
    await ask(`${tiny.url}/v1/captions`, name, { method: 'POST', body: formOf({ image: png, adapter: 'first', ...fields }) }),
  );
/** An answer that goes on until its reader leaves, or for long. */
const long = (name: string, signal?: AbortSignal) =>
  ask(`${tiny.url}/v1/completions`, name, {
    ...json({ model: 'tiny', prompt: 'a', max_tokens: 90, stream: true, temperature: 2, seed: 1 }),
    ...(signal ? { signal } : {}),
  });

/** The tokens that a tenant has left in this minute. */
const tokensLeft = async (name: string, server = tiny) =>
  Number((await models(name, server)).headers.get('x-ratelimit-remaining-tokens'));

async function metric(series: string, { url } = tiny): Promise<number> {
  const text = await (await ask(`${url}/metrics`, 'admin')).text();
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `));
  return line === undefined ? Number.NaN : Number(line.slice(series.length + 1));
}

let tiny: TinyServer;
let png: Buffer;
beforeAll(async () => {
  tiny = await start();
  png = await noisePng();
});
afterAll(() => tiny.close());

describe('requests', () => {
  test('more a second than a tenant may have get a 429 that says when; others do not notice', async () => {
    const replies = await Promise.all(Array.from({ length: 30 }, () => models('slow')));
    const refused = replies.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThan(0);
    expect(replies.filter(({ status }) => status === 200).length).toBe(30 - refused.length);
    for (const { headers, body } of refused) {
      expect(body.error).toMatchObject({
        type: 'rate_limit_error',
        code: 'rate_limit_exceeded',
        message: expect.stringContaining('Expected at most 2 requests a second of tenant slow'),
      });
      expect(headers.get('retry-after')).toBe('1');
      expect(headers.get('x-ratelimit-limit-requests')).toBe('2');
      expect(headers.get('x-ratelimit-remaining-requests')).toBe('0');
      expect(headers.get('x-ratelimit-reset-requests')).toMatch(/^(\d{1,3}ms|[01]s)$/);
      expect(headers.get('x-ratelimit-limit-tokens')).toBeNull();
    }
    const others = await Promise.all(Array.from({ length: 30 }, () => models('free')));
    expect(others.map(({ status }) => status)).toEqual(Array(30).fill(200));
    expect(others[0]?.headers.get('x-ratelimit-limit-requests')).toBeNull();
    expect(await metric('graft_quota_refusals_total{tenant="slow",limit="requestsPerSecond"}')).toBe(refused.length);
    expect(await metric('graft_tenant_requests_total{tenant="slow",outcome="rate_limit_exceeded"}')).toBe(refused.length);
    expect(await metric('graft_tenant_requests_total{tenant="free",outcome="ok"}')).toBe(30);
  });

  test('OpenAI’s own client waits as it is told, and gets what it asked for', async () => {
    const client = new OpenAI({ baseURL: `${tiny.url}/v1`, apiKey: 'key-of-client', maxRetries: 5 });
    for (let request = 0; request < 3; request++) expect((await client.models.list()).data.length).toBeGreaterThan(0);
    expect(await metric('graft_quota_refusals_total{tenant="client",limit="requestsPerSecond"}')).toBeGreaterThan(0);
  });

  test('operators’ routes are not counted, nor those that are open to all', async () => {
    expect((await ask(`${tiny.url}/metrics`, 'admin')).headers.get('x-ratelimit-limit-requests')).toBeNull();
    expect((await fetch(`${tiny.url}/health/live`)).status).toBe(200);
  });

  test('one at once: the next is refused while it runs, and let in when it has ended, or left', async () => {
    let leaving = new AbortController();
    let first = await long('single', leaving.signal);
    let refused = await complete('single');
    // On a busy machine the long one may have ended before the next one came.
    while (refused.status === 200) {
      await first.text();
      leaving = new AbortController();
      first = await long('single', leaving.signal);
      refused = await complete('single');
    }
    expect(refused).toMatchObject({
      status: 429,
      body: {
        error: { code: 'rate_limit_exceeded', message: expect.stringContaining('at most 1 requests of tenant single at once') },
      },
    });
    expect(refused.headers.get('retry-after')).toBe('1');
    // What is only looked at needs no turn.
    expect((await models('single')).status).toBe(200);
    leaving.abort();
    await first.text().catch(() => undefined);
    await until(async () => (await complete('single')).status === 200);
    // Refusals, errors and answers have all given their turn back.
    expect((await complete('single', { max_tokens: 0 })).status).toBe(400);
    expect((await complete('single', { model: 'nobody' })).status).toBe(404);
    expect((await complete('single')).status).toBe(200);
  });
});

describe('tokens', () => {
  test('what an answer used is taken, the rest of what was reserved is given back', async () => {
    expect(await tokensLeft('usage')).toBe(100);
    const { status, headers, body } = await complete('usage', { max_tokens: 30 });
    expect(status).toBe(200);
    const { prompt_tokens: prompt, total_tokens: total } = body.usage as { prompt_tokens: number; total_tokens: number };
    expect(headers.get('x-ratelimit-limit-tokens')).toBe('100');
    expect(Number(headers.get('x-ratelimit-remaining-tokens'))).toBe(100 - prompt - 30);
    expect(headers.get('x-ratelimit-reset-tokens')).toMatch(/^(1m0s|\d{1,2}(\.\d+)?s)$/);
    await until(async () => (await tokensLeft('usage')) === 100 - total);
    const used = async (kind: string) => metric(`graft_tenant_tokens_total{tenant="usage",kind="${kind}"}`);
    expect((await used('prompt')) + (await used('completion'))).toBe(total);
  });

  test('a request that may take more than is left is told when; a smaller one passes', async () => {
    expect((await complete('refused', { max_tokens: 50, seed: 3 })).status).toBe(200);
    const left = await tokensLeft('refused');
    const refused = await complete('refused', { max_tokens: left });
    expect(refused).toMatchObject({
      status: 429,
      body: { error: { type: 'rate_limit_error', code: 'rate_limit_exceeded', message: expect.stringContaining('are left') } },
    });
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(1);
    expect(Number(refused.headers.get('retry-after'))).toBeLessThanOrEqual(60);
    expect(await tokensLeft('refused')).toBe(left);
    expect((await complete('refused', { max_tokens: 1 })).status).toBe(200);
    expect(await metric('graft_quota_refusals_total{tenant="refused",limit="tokensPerMinute"}')).toBe(1);
  });

  test('a request that no minute has room for is told so, and not to come again', async () => {
    for (const body of [{ max_tokens: 100 }, { max_tokens: 60, n: 2, temperature: 1 }, { max_tokens: 40, num_beams: 3 }]) {
      const { status, headers, body: reply } = await complete('never', body);
      expect(status).toBe(400);
      expect(reply.error).toMatchObject({ code: 'invalid_request', param: 'max_tokens' });
      expect(reply.error?.message).toMatch(
        /of at most 100 tokens \(what tenant never has in a minute\) but received one that may take 1\d\d/,
      );
      expect(headers.get('retry-after')).toBeNull();
    }
    expect(await tokensLeft('never')).toBe(100);
  });

  test('each adapter of a request counts, with prompt, image and answer', async () => {
    const { status, headers, body } = await caption('several', { adapter: [], adapters: 'first,second', max_tokens: '20' });
    expect(status).toBe(200);
    const usages = body.data?.map(({ usage }) => usage) ?? [];
    const given = usages.reduce((total, usage) => total + (usage?.['image_tokens'] ?? 0) + (usage?.['prompt_tokens'] ?? 0), 0);
    const made = usages.reduce((total, usage) => total + (usage?.['completion_tokens'] ?? 0), 0);
    expect(usages).toHaveLength(2);
    expect(Number(headers.get('x-ratelimit-remaining-tokens'))).toBe(100 - given - 2 * 20);
    await until(async () => (await tokensLeft('several')) === 100 - given - made);
    expect((await caption('several', { adapter: [], adapters: 'first,second', max_tokens: '50' })).status).toBe(400);
  });

  test('who leaves in the middle pays for what was made until then', async () => {
    const leaving = new AbortController();
    const response = await long('left', leaving.signal);
    const reserved = Number(response.headers.get('x-ratelimit-remaining-tokens'));
    expect(reserved).toBeLessThan(10);
    for await (const _ of events(response)) break;
    leaving.abort();
    await until(async () => (await tokensLeft('left')) > reserved);
    expect(await tokensLeft('left')).toBeLessThan(100);
    expect(await metric('graft_tenant_requests_total{tenant="left",outcome="cancelled"}')).toBe(1);
  });

  test('an image that is none, or an adapter that is not there, costs nothing', async () => {
    expect((await caption('failing', { image: Buffer.from('hello') })).status).toBe(400);
    expect((await caption('failing', { adapter: 'nobody' })).status).toBe(404);
    await until(async () => (await tokensLeft('failing')) === 100);
  });

  test('an engine that dies gives everything back', async () => {
    const pid = tiny.server.pids.engine as number;
    process.kill(pid, 'SIGSTOP');
    const lost = complete('killed', { max_tokens: 80 });
    await until(async () => (await tokensLeft('killed')) < 20);
    process.kill(pid, 'SIGKILL');
    expect(await lost).toMatchObject({ status: 503, body: { error: { code: 'engine_unavailable' } } });
    await until(async () => (await tokensLeft('killed')) === 100);
    await until(async () => (await fetch(`${tiny.url}/health/ready`)).status === 200);
  });
});

describe('sizes', () => {
  test('max_tokens above the tenant’s is refused with the bound, the default is clipped to it', async () => {
    expect(await complete('small', { max_tokens: 6 })).toMatchObject({
      status: 400,
      body: {
        error: {
          param: 'max_tokens',
          message: 'max_tokens: Expected an integer from 1 to 5 (the limit of tenant small) but received 6',
        },
      },
    });
    const chat = (body: object) =>
      ask(
        `${tiny.url}/v1/chat/completions`,
        'small',
        json({ model: 'tiny', messages: [{ role: 'user', content: 'a' }], ...body }),
      );
    expect(await answerOf(await chat({ max_completion_tokens: 6 }))).toMatchObject({
      status: 400,
      body: { error: { param: 'max_completion_tokens' } },
    });
    const { body } = await complete('small', { temperature: 2, seed: 1 });
    expect(body.usage?.['completion_tokens']).toBeLessThanOrEqual(5);
    expect(body.choices?.[0]?.finish_reason).toBe('length');
    expect((await complete('small', { max_tokens: 5 })).status).toBe(200);
    expect(await metric('graft_quota_refusals_total{tenant="small",limit="maxTokens"}')).toBe(2);
  });

  test('images above the tenant’s bytes are refused, in every form that they come in', async () => {
    const exact = Buffer.concat([png], 2_000);
    const large = Buffer.concat([png], 2_001);
    // What is no image any more is found out only after it was weighed.
    expect(png.length).toBeGreaterThan(2_001);
    const forms = (image: Buffer) => [
      { method: 'POST', body: formOf({ image, adapter: 'first' }) },
      json({ image: image.toString('base64'), adapter: 'first' }),
    ];
    for (const init of forms(large)) {
      const reply = await answerOf(await ask(`${tiny.url}/v1/captions`, 'small', init));
      expect(reply).toMatchObject({
        status: 413,
        body: {
          error: {
            code: 'payload_too_large',
            param: 'image',
            message: 'image: Expected at most 2000 bytes (the limit of tenant small) but received 2001',
          },
        },
      });
    }
    for (const init of forms(exact))
      expect((await answerOf(await ask(`${tiny.url}/v1/captions`, 'small', init))).body.error?.code).toBe('invalid_image');
  });

  test('a body that announces far too much is refused before it is read', async () => {
    const image = Buffer.alloc(3_000_000).toString('base64');
    expect(await answerOf(await ask(`${tiny.url}/v1/captions`, 'small', json({ image, adapter: 'first' })))).toMatchObject({
      status: 413,
      body: { error: { code: 'payload_too_large', message: expect.stringMatching(/but received a body of 40000\d\d$/) } },
    });
    expect(await metric('graft_quota_refusals_total{tenant="small",limit="imageBytes"}')).toBe(3);
  });
});

test('metrics name no tenant but those that are configured', async () => {
  expect((await ask(`${tiny.url}/v1/models`, 'nobody')).status).toBe(401);
  const text = await (await ask(`${tiny.url}/metrics`, 'admin')).text();
  const names = new Set([...text.matchAll(/tenant="([^"]*)"/g)].map(([, name]) => name));
  expect(names.size).toBeGreaterThan(3);
  expect([...names].filter((name) => !Object.values(TENANTS).some((tenant) => tenant.name === name))).toEqual([]);
});

describe.runIf(hasRedis)(`two servers and one Redis${withRedis}`, () => {
  let redis: TestRedis;
  let servers: TinyServer[] = [];
  beforeEach(async () => {
    redis = await TestRedis.start();
  });
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.close()));
    await redis.kill();
  });

  const startBoth = async (flags: Partial<Record<ConfigKey, string>> = {}): Promise<[TinyServer, TinyServer]> => {
    const both = await Promise.all([start({ redis: redis.url, ...flags }), start({ redis: redis.url, ...flags })]);
    servers = both;
    return both;
  };

  test('share one quota; closed: without Redis nobody with a limit is let in, until it is back', async () => {
    const [one, other] = await startBoth({ quotaFailure: 'closed' });
    const { body } = await complete('shared', { max_tokens: 50 }, one);
    const used = body.usage?.['total_tokens'] ?? 0;
    await until(async () => (await tokensLeft('shared', other)) === 100 - used);
    expect(await complete('shared', { max_tokens: 100 - used }, other)).toMatchObject({ status: 429 });
    expect((await complete('shared', { max_tokens: 1 }, other)).status).toBe(200);

    await redis.kill();
    const refused = await complete('shared', { max_tokens: 1 }, one);
    expect(refused).toMatchObject({ status: 503, body: { error: { code: 'quota_unavailable', type: 'server_error' } } });
    expect(refused.headers.get('retry-after')).toBe('1');
    expect((await models('slow', one)).status).toBe(503);
    expect((await complete('free', { max_tokens: 1 }, one)).status).toBe(200);
    expect(await metric('graft_quota_store_failures_total', one)).toBeGreaterThan(0);

    await redis.start();
    await until(async () => (await complete('shared', { max_tokens: 1 }, one)).status === 200);
    // It remembers nothing, but counts again, for both.
    await until(async () => Number.isFinite(await tokensLeft('shared', other)) && (await tokensLeft('shared', other)) < 100);
  });

  test('open: without Redis each counts by itself, and together again when it is back', async () => {
    const [one, other] = await startBoth();
    await redis.kill();
    for (const server of [one, other]) {
      expect((await complete('shared', { max_tokens: 60 }, server)).status).toBe(200);
      const left = await tokensLeft('shared', server);
      expect(left).toBeLessThan(100);
      expect((await complete('shared', { max_tokens: left }, server)).status).toBe(429);
      expect(await metric('graft_quota_store_failures_total', server)).toBeGreaterThan(0);
    }
    await redis.start();
    await until(async () => (await tokensLeft('shared', one)) === 100 && (await tokensLeft('shared', other)) === 100);
    const { body } = await complete('shared', { max_tokens: 50 }, one);
    await until(async () => (await tokensLeft('shared', other)) === 100 - (body.usage?.['total_tokens'] ?? 0));
  });

  test('who leaves while Redis is waited for holds no turn and no place', async () => {
    const one = await start({ redis: redis.url });
    servers = [one];
    redis.pause();
    const init = { ...json({ model: 'tiny', prompt: 'a' }), signal: AbortSignal.timeout(50) };
    await expect(ask(`${one.url}/v1/completions`, 'waiting', init)).rejects.toThrow();
    await until(async () => (await metric('graft_tenant_requests_total{tenant="waiting",outcome="cancelled"}', one)) === 1);
    redis.resume();
    await until(async () => (await complete('waiting', {}, one)).status === 200);
    expect((await complete('waiting', {}, one)).status).toBe(200);
    expect(await metric('graft_queue_length', one)).toBe(0);
  });

  test('a request that runs while Redis is lost ends well, and so does one after', async () => {
    const one = await start({ redis: redis.url });
    servers = [one];
    const response = await ask(`${one.url}/v1/completions`, 'shared', {
      ...json({ model: 'tiny', prompt: 'a', max_tokens: 60, stream: true, temperature: 2, seed: 1 }),
    });
    const received: Body[] = [];
    for await (const event of events(response)) {
      if (received.length === 0) await redis.kill();
      received.push(event);
    }
    expect(received.at(-1)?.usage?.['total_tokens']).toBeGreaterThan(0);
    expect((await complete('shared', { max_tokens: 1 }, one)).status).toBe(200);
  });
});
