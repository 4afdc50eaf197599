/** Blends over HTTP: in every route that takes an adapter, streamed and not, among others in a batch, and what a tenant may mix. */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { blendRef } from '../../src/adapter/blend.js';
import { digestFolder } from '../../src/adapter/digest.js';
import { type RunningServer, startServer } from '../../src/cli/serve.js';
import { loadConfig } from '../../src/config.js';
import { Tenant } from '../../src/tenants/tenant.js';
import { ANYONE } from '../../src/tenants/tenants.js';
import {
  events,
  formOf,
  get,
  makeTinyFolder,
  metric,
  noisePng,
  post,
  type Reply,
  tinyFlags,
  until,
  writeTinyAdapter,
} from '../support/server.js';

let folder: string;
let server: RunningServer;
let url: string;
let png: Buffer;
beforeAll(async () => {
  folder = await makeTinyFolder(['first', 'second', 'third', 'acme/own']);
  const config = await loadConfig({ flags: tinyFlags(folder), env: {}, folder });
  const acme = new Tenant({ name: 'acme', adapters: ['first'] });
  server = await startServer(config, {}, { tenants: { isOpen: false, authenticate: (key) => (key === 'acme' ? acme : ANYONE) } });
  await server.ready;
  url = server.url;
  png = await noisePng();
});
afterAll(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

type Weights = Readonly<Record<string, number>>;
const blendOf = (weights: Weights) => ({ blend: Object.entries(weights).map(([name, weight]) => ({ name, weight })) });
const caption = (fields: object, key?: string): Promise<Reply> =>
  post(
    `${url}/v1/captions`,
    { image: png.toString('base64'), max_tokens: 12, ...fields },
    ...(key === undefined ? [] : [{ authorization: `Bearer ${key}` }]),
  );
const textOf = ({ body }: Reply): string | undefined => body.captions?.[0]?.text;
const folderOf = (name: string): string => path.join(folder, 'adapters', name);

/** As a reply shows it, from the folders themselves. */
async function shown(weights: Weights): Promise<object> {
  const parts = await Promise.all(
    Object.entries(weights).map(async ([name, weight]) => ({
      name,
      digest: (await digestFolder(folderOf(name))).digest,
      weight,
    })),
  );
  const refs = parts.map(({ name, digest, weight }) => ({ ref: { name, digest, folder: folderOf(name) }, weight }));
  const name = Object.entries(weights)
    .map(([part, weight]) => `${weight}*${part}`)
    .join('+');
  return { name, digest: blendRef(name, refs).digest, blend: parts };
}

const HALVES = { first: 0.5, second: 0.5 };

describe('a caption by a blend', () => {
  test('names the blend and its parts, and is another than that of either', async () => {
    const mixed = await caption({ adapter: blendOf(HALVES) });
    expect(mixed).toMatchObject({
      status: 200,
      body: { object: 'caption', adapter: await shown(HALVES), usage: { image_tokens: 4 } },
    });
    expect(textOf(mixed)).not.toBe(textOf(await caption({ adapter: 'first' })));
    expect(textOf(mixed)).not.toBe(textOf(await caption({ adapter: 'second' })));
  });

  test('is that of one part where the others weigh nothing', async () => {
    const [first, mixed] = [await caption({ adapter: 'first' }), await caption({ adapter: blendOf({ first: 1, second: 0 }) })];
    expect(mixed.body.captions).toEqual(first.body.captions);
    expect(mixed.body.adapter?.digest).not.toBe(first.body.adapter?.digest);
  });

  test('from a form, where the blend is JSON text', async () => {
    const json = await caption({ adapter: blendOf(HALVES) });
    const fields = { image: png, max_tokens: '12', adapter: JSON.stringify(blendOf(HALVES)) };
    const form = await post(`${url}/v1/captions`, formOf(fields));
    expect(form.body).toMatchObject({ captions: json.body.captions, adapter: json.body.adapter });
  });

  test('among others of one request is what it is alone; streamed, under the blend’s name', async () => {
    const weights = [HALVES, { third: 0.7, 'acme/own': -0.3, first: 0.2 }];
    const adapters = [blendOf(weights[0] as Weights), 'third', blendOf(weights[1] as Weights), 'first'];
    const alone = await Promise.all(adapters.map((adapter) => caption({ adapter })));
    const list = await caption({ adapters });
    expect(list.body.object).toBe('caption.list');
    expect(list.body.data?.map(({ captions }) => captions)).toEqual(alone.map(({ body }) => body.captions));
    expect(list.body.data?.map(({ adapter }) => adapter)).toEqual(alone.map(({ body }) => body.adapter));

    const body = { image: png.toString('base64'), max_tokens: 12, adapters, stream: true };
    const response = await fetch(`${url}/v1/captions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const texts = new Map<unknown, string>();
    const whole = new Map<unknown, string | undefined>();
    for await (const event of events(response)) {
      const { adapter, text } = event;
      if (event.object === 'caption.delta') texts.set(adapter, `${texts.get(adapter) ?? ''}${text}`);
      else whole.set(adapter?.name, event.captions?.[0]?.text);
    }
    expect(texts).toEqual(new Map(alone.map((reply) => [reply.body.adapter?.name, textOf(reply)])));
    expect(whole).toEqual(texts);
  });

  test('is loaded once and then hit, is no adapter of any list, and its parts need not be in memory', async () => {
    const weights = { second: 0.25, third: 0.75 };
    const before = await metric(url, 'graft_adapter_loads_total');
    await caption({ adapter: blendOf(weights) });
    const again = await caption({ adapter: blendOf(weights) });
    expect(await metric(url, 'graft_adapter_loads_total')).toBe(before + 1);
    expect(again.body.timings?.['adapter_ms']).toBe(0);
    const listed = (await get(`${url}/v1/adapters`)).body.data?.map(({ name }) => name);
    expect(listed).toEqual(['acme/own', 'first', 'second', 'third']);
  });

  test('whose part was replaced on the disk is that of the new version', async () => {
    await writeTinyAdapter(folder, 'late', 50);
    await until(async () => (await get(`${url}/v1/adapters`)).body.data?.some(({ name }) => name === 'late') ?? false);
    const weights = { first: 1, late: 0.5 };
    const old = await shown(weights);
    // Not loaded yet: the engine reads the new version while the registry still names the old one.
    await writeTinyAdapter(folder, 'late', 51);
    const replaced = await caption({ adapter: blendOf(weights) });
    expect(replaced).toMatchObject({ status: 200, body: { adapter: await shown(weights) } });
    expect(replaced.body.adapter).not.toEqual(old);
    await rm(folderOf('late'), { recursive: true });
    await until(async () => (await get(`${url}/v1/adapters`)).body.data?.every(({ name }) => name !== 'late') ?? false);
  });
});

describe('OpenAI’s routes', () => {
  const client = () => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none needed', maxRetries: 0 });
  /** The client must name a model: that of the backbone. */
  const extra = (weights: Weights): { readonly model: string; readonly adapter: object } => ({
    model: 'tiny',
    adapter: blendOf(weights),
  });

  test('a chat with a blend is its caption', async () => {
    const image_url = { url: `data:image/png;base64,${png.toString('base64')}` };
    const answer = await client().chat.completions.create({
      ...extra(HALVES),
      max_tokens: 12,
      messages: [{ role: 'user', content: [{ type: 'image_url', image_url }] }],
    });
    expect(answer).toMatchObject({ model: '0.5*first+0.5*second', adapter: await shown(HALVES) });
    expect(answer.choices[0]?.message.content).toBe(textOf(await caption({ adapter: blendOf(HALVES) })));
  });

  test('a completion with a blend, streamed and not', async () => {
    const params = { ...extra({ first: 0.7, third: 0.3 }), prompt: 'the dog', max_tokens: 10 };
    const whole = await client().completions.create(params);
    expect(whole).toMatchObject({ model: '0.7*first+0.3*third', adapter: await shown({ first: 0.7, third: 0.3 }) });
    let text = '';
    for await (const chunk of await client().completions.create({ ...params, stream: true }))
      text += chunk.choices[0]?.text ?? '';
    expect(text).toBe(whole.choices[0]?.text);
    const plain = await client().completions.create({ model: 'tiny', prompt: 'the dog', max_tokens: 10 });
    expect(plain.choices[0]?.text).not.toBe(text);
  });

  test('a model of another name beside it is refused', async () => {
    const both = { ...extra(HALVES), model: 'third', prompt: 'x' };
    await expect(client().completions.create(both)).rejects.toMatchObject({ status: 400, param: 'adapter' });
  });
});

describe('a part', () => {
  test('that is not there, or that its tenant does not see, refuses the blend by its own name, in the same words', async () => {
    const refusal = async (name: string) => {
      const reply = await caption({ adapter: blendOf({ first: 0.5, [name]: 0.5 }) }, 'acme');
      return { status: reply.status, error: { ...reply.body.error, message: reply.body.error?.message.replace(name, 'NAME') } };
    };
    const unseen = await refusal('second');
    expect(unseen).toMatchObject({ status: 404, error: { code: 'adapter_not_found', param: 'adapter' } });
    expect(unseen.error.message).toContain('but received NAME');
    expect(await refusal('nowhere')).toEqual(unseen);
    expect(await caption({ adapter: blendOf({ first: 0.5, 'acme/own': 0.5 }) }, 'acme')).toMatchObject({ status: 200 });
    expect(await caption({ adapter: blendOf({ first: 0.5, second: 0.5 }) }, 'operator')).toMatchObject({ status: 200 });
  });

  test('that is broken refuses it with the reason', async () => {
    await writeTinyAdapter(folder, 'broken', 70);
    await rm(path.join(folderOf('broken'), 'projector.safetensors'));
    const fault = async () => (await get(`${url}/v1/adapters`)).body.data?.find(({ name }) => name === 'broken')?.fault;
    await until(async () => (await fault()) != null);
    const mixed = await caption({ adapters: [blendOf({ first: 1, broken: 1 }), 'first'] });
    expect(mixed.body.data?.[0]).toMatchObject({ adapter: { name: '1*first+1*broken' }, error: { code: 'adapter_invalid' } });
    expect(mixed.body.data?.[1]?.captions).toHaveLength(1);
    await rm(folderOf('broken'), { recursive: true });
  });
});
