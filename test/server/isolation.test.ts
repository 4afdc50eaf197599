/**
 * To a tenant there is nothing of its neighbours'. Every route of the table has a case here, or this fails: a new route says in CASES how it can be
 * asked, and is then tried with a neighbour's key. What it answers of another tenant's things must be, to the byte, what it answers of things that
 * never were. Things that are no adapters, or do not outlive what is asked, are made by the case itself (`things`, `pairs`).
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestFolder } from '../../src/adapter/digest.js';
import { loadConfig } from '../../src/config.js';
import { routes } from '../../src/http/app.js';
import type { Route } from '../../src/http/route.js';
import type { Services } from '../../src/http/services.js';
import { colours, rowsOf } from '../support/finetuning.js';
import { formOf, noisePng } from '../support/server.js';
import { tarOfFolder } from '../support/tar.js';
import { bearer, metricAs, startTenantServer, type TenantServer } from '../support/tenants.js';

interface Ask {
  readonly path: string;
  readonly method?: string;
  readonly body?: FormData | object;
  readonly headers?: Readonly<Record<string, string>>;
}

type Case =
  /** For everybody, and so without a word of anybody's. */
  | { readonly kind: 'open'; readonly asks: readonly Ask[] }
  /** Of the operators': to tenants there is no such path. */
  | { readonly kind: 'admin'; readonly asks: readonly Ask[] }
  /** Makes something of the asker's own, and names nothing of anybody's. */
  | { readonly kind: 'own'; readonly asks: readonly Ask[] }
  /** Shows what a tenant may see: `things` of the two tenants, adapters where it makes none. */
  | { readonly kind: 'list'; readonly asks: readonly Ask[]; readonly things?: () => Promise<Things> }
  /** Names a thing, in every way in which one can be named: `pairs` of one that is there (the first is acme's) and one that never was. */
  | { readonly kind: 'named'; readonly asks: (name: string) => readonly Ask[]; readonly pairs?: () => Promise<Pairs> };

interface Things {
  readonly acme: string;
  readonly mine: string;
}
type Pairs = readonly (readonly [there: string, never: string])[];

let png: Buffer;
const json = (path: string, body: object): Ask => ({ path, body });
const image = () => png.toString('base64');
/** Of a thing and one of acme's. */
const blend = (name: string) => ({
  blend: [
    { name, weight: 0.5 },
    { name: 'acme/zq-second', weight: 0.5 },
  ],
});
const message = (content: unknown) => [{ role: 'user', content }];

/** By method and path, as the table has them. */
const CASES: Readonly<Record<string, Case>> = {
  'post /v1/captions': {
    kind: 'named',
    asks: (name) => [
      { path: '/v1/captions', body: formOf({ image: png, adapter: name }) },
      { path: '/v1/captions', body: formOf({ image: png, adapters: name, stream: 'true' }) },
      json('/v1/captions', { image: image(), model: name }),
      json('/v1/captions', { image: image(), adapters: [name, 'acme/zq-second'] }),
      json('/v1/captions', { image: image(), adapter: blend(name) }),
      json('/v1/captions', { image: image(), adapters: [blend(name), 'acme/zq-second'] }),
    ],
  },
  'post /v1/completions': {
    kind: 'named',
    asks: (name) => [
      json('/v1/completions', { model: name, prompt: 'a dog' }),
      json('/v1/completions', { model: name, prompt: 'a dog', stream: true }),
      json('/v1/completions', { adapter: blend(name), prompt: 'a dog' }),
    ],
  },
  'post /v1/chat/completions': {
    kind: 'named',
    asks: (name) => [
      json('/v1/chat/completions', { model: name, messages: message('a dog') }),
      json('/v1/chat/completions', { adapter: name, messages: message('a dog'), stream: true }),
      json('/v1/chat/completions', { adapter: blend(name), messages: message('a dog') }),
      json('/v1/chat/completions', {
        model: name,
        messages: message([{ type: 'image_url', image_url: { url: `data:image/png;base64,${image()}` } }]),
      }),
    ],
  },
  'get /v1/models': { kind: 'list', asks: [{ path: '/v1/models' }] },
  'get /v1/models/*name': {
    kind: 'named',
    asks: (name) => [{ path: `/v1/models/${name}` }, { path: `/v1/models/${encodeURIComponent(name)}` }],
  },
  'get /v1/adapters': { kind: 'list', asks: [{ path: '/v1/adapters' }] },
  'get /v1/adapters/*name': ofName('GET', ''),
  'put /v1/adapters/*name': ofName('PUT', '', '?current=false'),
  'delete /v1/adapters/*name': ofName('DELETE', '@1', ''),
  ...verbs('rollback', 'split', 'shadow', 'promote', 'pin', 'unpin', 'preload'),
  'post /v1/load_lora_adapter': { kind: 'admin', asks: [json('/v1/load_lora_adapter', {})] },
  'post /v1/unload_lora_adapter': { kind: 'admin', asks: [json('/v1/unload_lora_adapter', {})] },
  'post /v1/files': { kind: 'own', asks: [{ path: '/v1/files', body: trainingForm('') }] },
  'get /v1/files': {
    kind: 'list',
    asks: [{ path: '/v1/files' }],
    things: async () => ({ acme: await makeFile('acme'), mine: await makeFile('zq-mine') }),
  },
  'get /v1/files/:id': { kind: 'named', asks: (id) => [{ path: `/v1/files/${encodeURIComponent(id)}` }], pairs: filePairs },
  'get /v1/files/:id/content': {
    kind: 'named',
    asks: (id) => [{ path: `/v1/files/${encodeURIComponent(id)}/content` }],
    pairs: filePairs,
  },
  'delete /v1/files/:id': {
    kind: 'named',
    asks: (id) => [{ path: `/v1/files/${encodeURIComponent(id)}`, method: 'DELETE' }],
    pairs: filePairs,
  },
  'get /v1/fine_tuning/jobs': {
    kind: 'list',
    asks: [{ path: '/v1/fine_tuning/jobs' }],
    things: async () => ({ acme: await makeJob('acme'), mine: await makeJob('zq-mine') }),
  },
  'get /v1/fine_tuning/jobs/:id': {
    kind: 'named',
    asks: (id) => [{ path: `/v1/fine_tuning/jobs/${encodeURIComponent(id)}` }],
    pairs: jobPairs,
  },
  'get /v1/fine_tuning/jobs/:id/events': {
    kind: 'named',
    asks: (id) => [{ path: `/v1/fine_tuning/jobs/${encodeURIComponent(id)}/events` }],
    pairs: jobPairs,
  },
  'post /v1/fine_tuning/jobs/:id/cancel': {
    kind: 'named',
    asks: (id) => [{ path: `/v1/fine_tuning/jobs/${encodeURIComponent(id)}/cancel`, method: 'POST' }],
    pairs: jobPairs,
  },
  'post /v1/fine_tuning/jobs': {
    kind: 'named',
    asks: (file) => [
      json('/v1/fine_tuning/jobs', { training_file: file, model: 'tiny', graft: { steps: 100_000 } }),
      json('/v1/fine_tuning/jobs', { training_file: file, validation_file: file, model: 'tiny', graft: { steps: 100_000 } }),
    ],
    pairs: filePairs,
  },
  'get /health/live': { kind: 'open', asks: [{ path: '/health/live' }] },
  'get /health/ready': { kind: 'open', asks: [{ path: '/health/ready' }] },
  'get /metrics': { kind: 'admin', asks: [{ path: '/metrics' }] },
  ...pages(
    '/',
    '/playground/page.js',
    '/playground/style.css',
    '/playground/icon.svg',
    '/openapi.json',
    '/docs',
    '/docs/start.js',
    '/docs/swagger-ui-bundle.js',
    '/docs/swagger-ui.css',
    '/docs/index.css',
    '/docs/icon.png',
  ),
};

function trainingForm(rows: string): FormData {
  const form = new FormData();
  form.append('purpose', 'fine-tune');
  form.append('file', new Blob([rows]), 'train.jsonl');
  return form;
}

/** The id of what a tenant has just made. */
async function made(tenant: string, request: Ask): Promise<string> {
  const { status, text } = await ask(request, keyOf(tenant));
  expect(status).toBe(200);
  return (JSON.parse(text) as { id: string }).id;
}

async function makeFile(tenant: string): Promise<string> {
  return made(tenant, { path: '/v1/files', body: trainingForm(rowsOf(await colours())) });
}

/** Cancelled at once: it is not the training that is tested here. */
async function makeJob(tenant: string): Promise<string> {
  const file = await makeFile(tenant);
  const id = await made(tenant, json('/v1/fine_tuning/jobs', { training_file: file, model: 'tiny', graft: { steps: 100_000 } }));
  await made(tenant, { path: `/v1/fine_tuning/jobs/${encodeURIComponent(id)}/cancel`, method: 'POST' });
  return id;
}

async function filePairs(): Promise<Pairs> {
  return [[await makeFile('acme'), `file-${'a'.repeat(32)}`]];
}

async function jobPairs(): Promise<Pairs> {
  return [[await makeJob('acme'), `ftjob-${'a'.repeat(32)}`]];
}

function ofName(method: string, ...endings: readonly string[]): Case {
  return { kind: 'named', asks: (name) => endings.map((ending) => ({ path: `/v1/adapters/${name}${ending}`, method })) };
}

function verbs(...words: readonly string[]): Record<string, Case> {
  return Object.fromEntries(words.map((word) => [`post /v1/adapters/*name\\:${word}`, ofName('POST', `:${word}`)]));
}

function pages(...paths: readonly string[]): Record<string, Case> {
  return Object.fromEntries(paths.map((path) => [`get ${path}`, { kind: 'open', asks: [{ path }] }]));
}

/** Adapters' names, of letters that no page has. Both of a pair are equally long: so are the answers. */
const ADAPTERS: Things = { acme: 'acme/zq-there', mine: 'zq-mine/own' };
const PAIRS: Pairs = [
  ['acme/zq-there', 'acme/zq-never'],
  ['zq-theirs', 'zq-nobody'],
  ['zq-shared', 'zq-sharer'],
];
/** What an answer to the neighbour must never say. */
const SECRETS = ['acme', 'zq-there', 'zq-theirs', 'zq-shared'];

const TABLE = await tableOf();
let server: TenantServer;
let digests: readonly string[];
let store: string;
let finetuning: string;
beforeAll(async () => {
  png = await noisePng();
  store = await mkdtemp(path.join(tmpdir(), 'graft-store-'));
  finetuning = await mkdtemp(path.join(tmpdir(), 'graft-finetuning-'));
  server = await startTenantServer(
    ['acme/zq-there', 'acme/zq-second', 'zq-theirs', 'zq-shared', 'zq-mine/own'],
    {
      acme: 'adapters: [zq-shared]',
      'zq-mine': '',
      ops: 'admin: true',
    },
    { defaultAdapter: 'zq-theirs', store, finetuning },
  );
  // One of those that are there is there twice: in the folder, and published.
  const name = 'acme/zq-there';
  const published = await fetch(`${server.url}/v1/adapters/${name}`, {
    method: 'PUT',
    body: Buffer.from(await tarOfFolder(`${server.folder}/adapters/${name}`)),
    headers: { ...bearer(keyOf('acme')), 'content-type': 'application/x-tar' },
  });
  expect(published.status).toBe(201);
  digests = await Promise.all(
    ['acme/zq-there', 'zq-theirs'].map(async (name) => (await digestFolder(`${server.folder}/adapters/${name}`)).digest),
  );
});
afterAll(async () => {
  await server.close();
  await rm(store, { recursive: true });
  await rm(finetuning, { recursive: true });
});

/** The routes of a server, without one: nothing of theirs is called here. */
async function tableOf(): Promise<readonly Route[]> {
  const config = await loadConfig({ flags: {}, env: {}, folder: '/nowhere' });
  const anything: unknown = new Proxy(() => undefined, {
    get: (_, key) => (key === Symbol.toPrimitive ? () => 'anything' : anything),
    apply: () => anything,
    construct: () => anything as object,
  });
  return routes(new Proxy({ config } as unknown as Services, { get: (known, key) => Reflect.get(known, key) ?? anything }));
}

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

/** All that a client can tell apart, the clock and the request's own id aside. */
async function ask({ path, method, body, headers }: Ask, key: string | undefined): Promise<Answer> {
  const isForm = body instanceof FormData;
  const response = await fetch(server.url + path, {
    method: method ?? (body === undefined ? 'GET' : 'POST'),
    headers: { ...bearer(key), ...(body && !isForm ? { 'content-type': 'application/json' } : {}), ...headers },
    ...(body && { body: isForm ? body : JSON.stringify(body) }),
  });
  const { date: _, 'x-request-id': id, ...rest } = Object.fromEntries(response.headers);
  expect(id).toBeTruthy();
  return { status: response.status, headers: rest, text: await response.text() };
}

/** An answer without the name that the client itself has sent. */
function without(name: string, { text, ...answer }: Answer): Answer {
  return { ...answer, text: text.replaceAll(name, 'NAME').replaceAll(encodeURIComponent(name), 'NAME') };
}

/** Pages are long: told is what was found, not where. */
function expectWithout(answer: Answer | undefined, secrets: readonly string[]): void {
  expect(secrets.filter((secret) => answer?.text.includes(secret))).toEqual([]);
}

const keyOf = (tenant: string) => server.keys[tenant];
const asksOf = (entry: Case): readonly Ask[] => (entry.kind === 'named' ? entry.asks('zq-mine/own') : entry.asks);
const nameOf = ({ method, path }: Route) => `${method} ${path}`;

/** The table's routes with their cases; those of one kind, or all. */
function casesOf<Kind extends Case['kind']>(...kinds: readonly Kind[]) {
  return TABLE.flatMap((route) => {
    const entry = CASES[nameOf(route)];
    const isWanted = entry && (kinds.length === 0 || kinds.some((kind) => kind === entry.kind));
    return isWanted ? [[nameOf(route), entry as Extract<Case, { kind: Kind }>, route] as const] : [];
  });
}

test('every route of the table has a case, and every case its route', () => {
  expect(TABLE.length).toBeGreaterThan(10);
  expect(Object.keys(CASES).sort()).toEqual(TABLE.map(nameOf).sort());
});

describe('every route', () => {
  test.each(casesOf())('%s asks for a key, or says nothing of anybody', async (_, entry, { access }) => {
    expect(entry.kind === 'open' || entry.kind === 'admin' ? entry.kind : 'tenant').toBe(access);
    for (const each of asksOf(entry)) {
      const answers = await Promise.all([undefined, 'graft_wrong', `${keyOf('acme')}x`].map((key) => ask(each, key)));
      if (access === 'open') expect(answers[0]?.status).toBeLessThan(500);
      else expect(answers[0]).toMatchObject({ status: 401, headers: { 'www-authenticate': 'Bearer realm="graft"' } });
      for (const answer of answers) {
        expect(answer).toEqual(answers[0]);
        expectWithout(answer, [...SECRETS, ...digests, 'zq-mine']);
      }
    }
  });

  test.each(casesOf('admin'))('%s is to tenants a path that never was', async (_, { asks }, { path }) => {
    for (const each of asks) {
      const never = path.replace(/[a-z]/g, 'x');
      const absent = await ask({ ...each, path: each.path.replace(path, never) }, keyOf('zq-mine'));
      expect(absent.status).toBe(404);
      expect(without(path, await ask(each, keyOf('zq-mine')))).toEqual(without(never, absent));
      expect((await ask(each, keyOf('ops'))).status).not.toBe(404);
    }
  });

  test.each(casesOf('list'))('%s shows a tenant its own, and an operator all', async (_, { asks, things }) => {
    const { acme, mine } = (await things?.()) ?? ADAPTERS;
    for (const each of asks) {
      const [ofMine, ofAcme, ofOps] = await Promise.all(['zq-mine', 'acme', 'ops'].map((tenant) => ask(each, keyOf(tenant))));
      expect(ofMine?.text).toContain(mine);
      expectWithout(ofMine, [acme, ...SECRETS, ...digests]);
      expect(ofAcme?.text).toContain(acme);
      expectWithout(ofAcme, [mine, 'zq-theirs']);
      for (const name of [mine, acme]) expect(ofOps?.text).toContain(name);
    }
  });

  test.each(casesOf('named'))('%s answers of what is not for the asker as of what is not', async (_, { asks, pairs }) => {
    const named = (await pairs?.()) ?? PAIRS;
    const loads = await metricAs(keyOf('ops'), server.url, 'graft_adapter_loads_total');
    for (const [there, nowhere] of named) {
      for (const [index, each] of asks(there).entries()) {
        const never = asks(nowhere)[index];
        if (!never) throw new TypeError('Expected as many ways to ask for one name as for another');
        const [refused, absent] = [await ask(each, keyOf('zq-mine')), await ask(never, keyOf('zq-mine'))];
        expect(refused.status).toBe(404);
        expect(without(there, refused)).toEqual(without(nowhere, absent));
        expectWithout(refused, digests);
      }
    }
    expect(await metricAs(keyOf('ops'), server.url, 'graft_adapter_loads_total')).toBe(loads);
    // The same questions have answers for whom they are: the case asks for something.
    for (const each of asks(named[0]?.[0] ?? '')) expect((await ask(each, keyOf('acme'))).status).not.toBe(404);
  });
});

test('a tenant’s list has what it sees beside its own, and an operator’s has all', async () => {
  const [acme, ops] = await Promise.all(['acme', 'ops'].map((tenant) => ask({ path: '/v1/adapters' }, keyOf(tenant))));
  const names = (answer: Answer | undefined) =>
    (JSON.parse(answer?.text ?? '') as { data: readonly { name: string }[] }).data.map(({ name }) => name);
  expect(names(acme)).toEqual(['acme/zq-second', 'acme/zq-there', 'zq-shared']);
  expect(names(ops)).toEqual(['acme/zq-second', 'acme/zq-there', 'zq-mine/own', 'zq-shared', 'zq-theirs']);
});

test('who names no adapter gets the usual one where it may, and is else told of those that it sees, and not of that', async () => {
  const unnamed = (tenant: string) => ask({ path: '/v1/captions', body: formOf({ image: png, max_tokens: '2' }) }, keyOf(tenant));
  const told = await unnamed('zq-mine');
  expect([told.status, told.text]).toEqual([400, expect.stringContaining('(such as zq-mine/own)')]);
  expectWithout(told, SECRETS);
  expect((await unnamed('ops')).text).toContain('"adapter":{"name":"zq-theirs"');
});

test('beside what it may have, a request is told the same of what it may not have and of what there is not', async () => {
  const parts = await Promise.all(
    ['acme/zq-there', 'acme/zq-never'].map(async (name) => {
      const body = { image: image(), adapters: ['zq-mine/own', name], max_tokens: 2 };
      const { status, text } = await ask(json('/v1/captions', body), keyOf('zq-mine'));
      const { data } = JSON.parse(text) as { data: readonly object[] };
      expect([status, data[0]]).toEqual([200, expect.objectContaining({ object: 'caption' })]);
      return JSON.stringify(data[1]).replaceAll(name, 'NAME');
    }),
  );
  expect(parts[0]).toContain('adapter_not_found');
  expect(parts[0]).toBe(parts[1]);
});

test('methods that a path does not have, and paths that there are not, are the same to all', async () => {
  for (const each of [
    { path: '/v1/adapters', method: 'DELETE' },
    { path: '/v1/nothing' },
    { path: '/metrics', method: 'POST' },
  ]) {
    const answers = await Promise.all([undefined, keyOf('zq-mine'), keyOf('ops')].map((key) => ask(each, key)));
    expect([404, 405]).toContain(answers[0]?.status);
    for (const answer of answers) expect(answer).toEqual(answers[0]);
  }
});
