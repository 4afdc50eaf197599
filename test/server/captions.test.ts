import { rm } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestFolder } from '../../src/adapter/digest.js';
import {
  formOf,
  get,
  metric,
  noisePng,
  post,
  startTinyServer,
  type TinyServer,
  until,
  writeTinyAdapter,
} from '../support/server.js';

let tiny: TinyServer;
let png: Buffer;
beforeAll(async () => {
  tiny = await startTinyServer(['first', 'second', 'third'], { defaultAdapter: 'second' });
  png = await noisePng();
});
afterAll(() => tiny.close());

const digestOf = async (name: string) => (await digestFolder(path.join(tiny.folder, 'adapters', name))).digest;
const caption = (fields: object) => post(`${tiny.url}/v1/captions`, formOf({ image: png, ...fields }));

describe('POST /v1/captions', () => {
  test('answers as documented, from a form and from JSON alike', async () => {
    const form = await caption({ adapter: 'first', max_tokens: '12' });
    expect(form.status).toBe(200);
    expect(form.body).toMatchObject({
      object: 'caption',
      backbone: 'tiny',
      adapter: { name: 'first', digest: await digestOf('first') },
      captions: [{ text: expect.any(String), finish_reason: expect.stringMatching(/^(stop|length)$/) }],
      usage: { image_tokens: 4, prompt_tokens: 1 },
      timings: {
        queue_ms: expect.any(Number),
        adapter_ms: expect.any(Number),
        vision_ms: expect.any(Number),
        prefill_ms: expect.any(Number),
        decode_ms: expect.any(Number),
      },
    });
    expect(form.body.id).toMatch(/^cap_/);

    const image = png.toString('base64');
    const json = await post(`${tiny.url}/v1/captions`, { image, adapter: 'first', max_tokens: 12 });
    const uri = await post(`${tiny.url}/v1/captions`, {
      image: `data:image/png;base64,${image}`,
      model: 'first',
      max_tokens: 12,
    });
    expect(json.body.captions).toEqual(form.body.captions);
    expect(uri.body.captions).toEqual(form.body.captions);
  });

  test('adapters and images make a difference, and the default adapter serves who names none', async () => {
    const other = await noisePng(2);
    const texts = async (fields: object) => (await caption({ max_tokens: '12', ...fields })).body.captions?.[0]?.text;
    const first = await texts({ adapter: 'first' });
    expect(await texts({ adapter: 'second' })).not.toBe(first);
    expect(await texts({ adapter: 'first', image: other })).not.toBe(first);
    expect(await texts({})).toBe(await texts({ adapter: 'second' }));
  });

  test('several adapters answer about one image, each as it would alone; the image is encoded once', async () => {
    const image = await noisePng(3);
    const misses = await metric(tiny.url, 'graft_vision_cache_misses_total');
    const list = await caption({ image, adapters: 'first, second', max_tokens: '10' });
    expect(await metric(tiny.url, 'graft_vision_cache_misses_total')).toBe(misses + 1);
    const repeated = await caption({ image, adapters: ['first', 'second'], max_tokens: '10' });
    expect(list.body.object).toBe('caption.list');
    expect(repeated.body.data?.map(({ captions }) => captions)).toEqual(list.body.data?.map(({ captions }) => captions));
    for (const [index, name] of ['first', 'second'].entries()) {
      const alone = await caption({ image, adapter: name, max_tokens: '10' });
      expect(list.body.data?.[index]).toMatchObject({ adapter: alone.body.adapter, captions: alone.body.captions });
    }
  });

  test('an adapter that is not there has its error in its place; all of them are an error', async () => {
    const some = await caption({ adapters: ['nowhere', 'first'], max_tokens: '3' });
    expect(some.status).toBe(200);
    expect(some.body.data?.[0]?.error?.code).toBe('adapter_not_found');
    expect(some.body.data?.[1]?.captions).toHaveLength(1);
    const none = await caption({ adapters: ['nowhere', 'nobody'] });
    expect(none).toMatchObject({ status: 404, body: { error: { code: 'adapter_not_found' } } });
  });

  test('samples repeat with their seed, n gives as many captions, beams give the best', async () => {
    const sampled = { adapter: 'first', temperature: '1', seed: '7', n: '3', max_tokens: '10' };
    const once = await caption(sampled);
    expect(once.body.captions).toHaveLength(3);
    expect((await caption(sampled)).body.captions).toEqual(once.body.captions);
    expect((await caption({ ...sampled, seed: '8' })).body.captions).not.toEqual(once.body.captions);
    const beams = await caption({ adapter: 'first', num_beams: '3', n: '2', max_tokens: '8' });
    expect(beams.body.captions).toHaveLength(2);
  });

  test('a stop string ends the caption before it, and the request with it', async () => {
    const whole = (await caption({ adapter: 'third', max_tokens: '30' })).body;
    const text = whole.captions?.[0]?.text ?? '';
    const stop = text.slice(6, 8);
    const cut = (await caption({ adapter: 'third', max_tokens: '30', stop })).body;
    expect(stop).toHaveLength(2);
    expect(cut.captions).toEqual([{ text: text.slice(0, text.indexOf(stop)), finish_reason: 'stop' }]);
    expect(Object.values(cut.timings ?? {})).toEqual(Array.from({ length: 5 }, () => expect.any(Number) as number));
    expect(cut.usage?.['completion_tokens']).toBeLessThan(whole.usage?.['completion_tokens'] ?? 0);
  });
});

describe('adapters come and go while the server runs', () => {
  const listed = async (name: string) =>
    (await get(`${tiny.url}/v1/adapters`)).body.data?.find((adapter) => adapter.name === name);

  test('a new folder is served, a replaced one at once in its new version, a broken one refused with the reason, a removed one unknown', async () => {
    await writeTinyAdapter(tiny.folder, 'late', 50);
    await until(async () => (await listed('late')) !== undefined);
    // Not loaded yet: the engine reads the new version while the registry still names the old one.
    const old = await digestOf('late');
    await writeTinyAdapter(tiny.folder, 'late', 51);
    const replaced = await caption({ adapter: 'late', max_tokens: '3' });
    expect(replaced).toMatchObject({ status: 200, body: { adapter: { name: 'late', digest: await digestOf('late') } } });
    expect(replaced.body.adapter?.digest).not.toBe(old);

    await rm(path.join(tiny.folder, 'adapters', 'late', 'projector.safetensors'));
    await until(async () => (await listed('late'))?.fault != null);
    const broken = await caption({ adapter: 'late' });
    expect(broken).toMatchObject({
      status: 422,
      body: { error: { code: 'adapter_invalid', param: 'adapter', message: expect.stringContaining('projector.safetensors') } },
    });

    await rm(path.join(tiny.folder, 'adapters', 'late'), { recursive: true });
    await until(async () => (await listed('late')) === undefined);
    expect((await caption({ adapter: 'late' })).status).toBe(404);
  });

  test('an adapter’s own prompt is used where the request brings none', async () => {
    await writeTinyAdapter(tiny.folder, 'prompted', 60, 'the cat');
    await until(async () => (await listed('prompted')) !== undefined);
    const own = await caption({ adapter: 'prompted', max_tokens: '6' });
    const given = await caption({ adapter: 'prompted', max_tokens: '6', prompt: 'the cat' });
    const empty = await caption({ adapter: 'prompted', max_tokens: '6', prompt: '' });
    expect(own.body.usage?.['prompt_tokens']).toBeGreaterThan(1);
    expect(own.body).toMatchObject({
      captions: given.body.captions,
      usage: { prompt_tokens: given.body.usage?.['prompt_tokens'] },
    });
    expect(empty.body.usage?.['prompt_tokens']).toBe(1);
  });
});

describe('POST /v1/completions', () => {
  const complete = (body: object) => post(`${tiny.url}/v1/completions`, { prompt: 'the dog', max_tokens: 8, ...body });

  test('the backbone alone and an adapter continue a text differently', async () => {
    const base = await complete({ model: 'tiny' });
    expect(base).toMatchObject({
      status: 200,
      body: { object: 'text_completion', model: 'tiny', adapter: null, choices: [{ index: 0, logprobs: null }] },
    });
    expect(base.body.usage?.['total_tokens']).toBe(
      (base.body.usage?.['prompt_tokens'] ?? 0) + (base.body.usage?.['completion_tokens'] ?? 0),
    );
    const adapted = await complete({ model: 'first' });
    expect(adapted.body.adapter).toEqual({ name: 'first', digest: await digestOf('first') });
    expect(adapted.body.choices?.[0]?.text).not.toBe(base.body.choices?.[0]?.text);
  });

  test('an unknown model is a 404, never the bare backbone', async () => {
    expect(await complete({ model: 'tinny' })).toMatchObject({ status: 404, body: { error: { code: 'adapter_not_found' } } });
  });
});
