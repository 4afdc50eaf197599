/**
 * Two tenants over HTTP: what one has sent by the hundred leaves the other its place in the queue, its turn and its answers. Orders and counts only.
 * Processes are halted while requests come, so that all of them have come before anything is done.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Tenant } from '../../src/tenants/tenant.js';
import type { Tenants } from '../../src/tenants/tenants.js';
import { type Body, type Fields, formOf, metric, noisePng, startTinyServer, type TinyServer, until } from '../support/server.js';

const ROWS = 4;
const QUEUE = 60;

const known = new Map(['flood', 'late'].map((name) => [name, new Tenant({ name, isAdmin: true })]));
/** A key is its tenant's name. */
const tenants: Tenants = {
  isOpen: false,
  authenticate: (key = '') => known.get(key) ?? new Tenant({ name: key, isAdmin: true }),
};

let tiny: TinyServer;
let images: Buffer[];
beforeAll(async () => {
  tiny = await startTinyServer(
    ['warm', 'cold'],
    { maxBatch: String(ROWS), queueLimit: String(QUEUE), maxTokens: '64' },
    { tenants },
  );
  images = await Promise.all(Array.from({ length: 40 }, (_, seed) => noisePng(seed + 1)));
  expect(await caption('flood', { adapter: 'warm' })).toMatchObject({ status: 200 });
});
afterAll(() => tiny.close());

interface Answer {
  readonly status: number;
  readonly body: Body;
}

async function send(key: string, path: string, body: FormData | string): Promise<Answer> {
  const type = typeof body === 'string' ? { 'content-type': 'application/json' } : {};
  const response = await fetch(`${tiny.url}${path}`, { method: 'POST', body, headers: { 'x-api-key': key, ...type } });
  return { status: response.status, body: (await response.json()) as Body };
}

function caption(key: string, fields: Fields, image = 0): Promise<Answer> {
  return send(key, '/v1/captions', formOf({ image: images[image] ?? Buffer.alloc(0), max_tokens: '12', ...fields }));
}

function completion(key: string): Promise<Answer> {
  return send(key, '/v1/completions', JSON.stringify({ model: 'tiny', prompt: 'the cat', max_tokens: 12 }));
}

const queued = (): Promise<number> => metric(tiny.url, 'graft_queue_length', 'flood');

/** Names of tenants in the order of their answers. */
function inOrder(asked: readonly (readonly [string, Promise<Answer>])[]): {
  readonly order: string[];
  readonly all: Promise<Answer[]>;
} {
  const order: string[] = [];
  const all = Promise.all(
    asked.map(async ([key, answer]) => {
      const got = await answer;
      order.push(key);
      return got;
    }),
  );
  return { order, all };
}

/** Lets all of these come while the engine, or the image process, is halted. */
async function whileHalted(
  pid: number | undefined,
  ask: () => (readonly [string, Promise<Answer>])[],
): Promise<{ order: string[]; answers: Answer[] }> {
  process.kill(pid as number, 'SIGSTOP');
  const asked = ask();
  const { order, all } = inOrder(asked);
  await until(async () => (await queued()) >= asked.length);
  process.kill(pid as number, 'SIGCONT');
  return { order, answers: await all };
}

describe('one request beside forty of another tenant', () => {
  test.each<[string, (key: string, index: number) => Promise<Answer>, () => number | undefined]>([
    ['text that waits for the engine', (key) => completion(key), () => tiny.server.pids.engine],
    [
      'images that wait for their decoder',
      (key, index) => caption(key, { adapter: 'warm' }, index),
      () => tiny.server.pids.images[0],
    ],
    [
      'one image with a cold adapter',
      (key, index) => caption(key, { adapter: key === 'late' ? 'cold' : 'warm' }, index),
      () => tiny.server.pids.engine,
    ],
  ])('%s: it is answered before most of them, and all are answered', async (_, ask, pidOf) => {
    const { order, answers } = await whileHalted(pidOf(), () => [
      ...Array.from({ length: 40 }, (_one, index) => ['flood', ask('flood', index)] as const),
      ['late', ask('late', 39)] as const,
    ]);
    for (const { status } of answers) expect(status).toBe(200);
    expect(order).toHaveLength(41);
    expect(order.indexOf('late')).toBeLessThan(20);
  });

  test('of the same tenant it is the last: the order of one tenant is that of its requests', async () => {
    const { order } = await whileHalted(tiny.server.pids.engine, () => [
      ...Array.from({ length: 30 }, () => ['first', completion('flood')] as const),
      ['last', completion('flood')] as const,
    ]);
    expect(order.indexOf('last')).toBeGreaterThanOrEqual(order.length - ROWS);
  });
});

test('a queue that one tenant has filled is full for it, and not for another', async () => {
  const pid = tiny.server.pids.engine as number;
  process.kill(pid, 'SIGSTOP');
  const flood = Array.from({ length: QUEUE + 20 }, () => completion('flood'));
  await until(async () => (await queued()) >= QUEUE);
  const late = Array.from({ length: 10 }, () => completion('late'));
  const refused = await Promise.any(flood.map(async (answer) => statusIs(await answer, 429)));
  await until(async () => (await queued()) >= QUEUE + late.length);
  process.kill(pid, 'SIGCONT');
  const statuses = (await Promise.all(flood)).map(({ status }) => status);
  expect(refused.body.error?.code).toBe('queue_full');
  expect(statuses.filter((status) => status === 200)).toHaveLength(QUEUE);
  expect(statuses.filter((status) => status === 429)).toHaveLength(20);
  for (const { status } of await Promise.all(late)) expect(status).toBe(200);
});

function statusIs(answer: Answer, status: number): Answer {
  if (answer.status !== status) throw new Error(`Expected status ${status} but received ${answer.status}`);
  return answer;
}

test('answers are the same whoever asks, and whatever else does', async () => {
  const alone = await caption('late', { adapter: 'warm' }, 7);
  const beside = await Promise.all(
    [...images.keys()].map((index) => caption(index % 2 ? 'late' : 'flood', { adapter: 'warm' }, index)),
  );
  expect(beside[7]?.body.captions).toEqual(alone.body.captions);
});
