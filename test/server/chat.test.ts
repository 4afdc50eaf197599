/** POST /v1/chat/completions, asked by OpenAI's own client as it comes from the registry. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cp, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import OpenAI from 'openai';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestFolder } from '../../src/adapter/digest.js';
import { snippet } from '../../src/http/playground/snippet.js';
import {
  type Body,
  events,
  formOf,
  metric,
  noisePng,
  post,
  startTinyServer,
  type TinyServer,
  until,
  writeTinyAdapter,
} from '../support/server.js';

/** With what only this server knows, and a field that nobody does. */
type Params = Omit<OpenAI.ChatCompletionCreateParamsNonStreaming, 'messages' | 'stream'> & {
  readonly num_beams?: number;
  readonly timeout_ms?: number;
  readonly shape?: number;
};
type Part = OpenAI.ChatCompletionContentPart;

let tiny: TinyServer;
let png: Buffer;
let picture: Part;
let client: OpenAI;
beforeAll(async () => {
  tiny = await startTinyServer(['first', 'second']);
  await writeTinyAdapter(tiny.folder, 'prompted', 60, 'the cat');
  await makeTextAdapter('words');
  client = new OpenAI({ baseURL: `${tiny.url}/v1`, apiKey: 'none needed', maxRetries: 0 });
  png = await noisePng();
  picture = pictureOf(png);
  for (const name of ['prompted', 'words'])
    await until(async () => (await client.models.list()).data.some(({ id }) => id === name));
});
afterAll(() => tiny.close());

/** The text context of a tiny adapter, as PEFT writes an adapter of its own. */
async function makeTextAdapter(name: string): Promise<void> {
  await writeTinyAdapter(tiny.folder, 'both', 70);
  const both = path.join(tiny.folder, 'adapters', 'both');
  await cp(path.join(both, 'text'), path.join(tiny.folder, 'adapters', name), { recursive: true });
  await rm(both, { recursive: true });
}

const pictureOf = (bytes: Buffer): Part => ({
  type: 'image_url',
  image_url: { url: `data:image/png;base64,${bytes.toString('base64')}`, detail: 'auto' },
});
const user = (content: string | Part[]): OpenAI.ChatCompletionMessageParam[] => [{ role: 'user', content }];
const chat = (params: Params, content: string | Part[] = [picture]) =>
  client.chat.completions.create({ max_tokens: 12, ...params, messages: user(content) });
const open = (params: Params, content: string | Part[] = [picture], signal?: AbortSignal) =>
  client.chat.completions.create(
    { max_tokens: 12, ...params, messages: user(content), stream: true },
    ...(signal ? [{ signal }] : []),
  );
const captions = async (fields: Record<string, string>): Promise<Body> =>
  (await post(`${tiny.url}/v1/captions`, formOf({ image: png, max_tokens: '12', ...fields }))).body;

async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const received: T[] = [];
  for await (const event of stream) received.push(event);
  return received;
}

const textsOf = ({ choices }: OpenAI.ChatCompletion) => choices.map(({ message }) => message.content);

/** What the client throws. */
async function failure(promise: PromiseLike<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  const thrown: unknown = await Promise.resolve(promise).then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(thrown).toBeInstanceOf(OpenAI.APIError);
  return thrown as InstanceType<typeof OpenAI.APIError>;
}

describe('an answer', () => {
  test('is the caption that captions have, in the shape of the client', async () => {
    const caption = await captions({ adapter: 'first' });
    const answer = await chat({ model: 'first' });
    const { digest } = await digestFolder(path.join(tiny.folder, 'adapters', 'first'));
    const [choice] = caption.captions ?? [];
    const completionTokens = caption.usage?.['completion_tokens'] ?? Number.NaN;
    const timing = expect.any(Number) as number;
    expect(answer).toEqual({
      id: expect.stringMatching(/^chatcmpl-/) as string,
      object: 'chat.completion',
      created: timing,
      model: 'first',
      system_fingerprint: 'tiny',
      service_tier: 'default',
      adapter: { name: 'first', digest },
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: choice?.text, refusal: null },
          logprobs: null,
          finish_reason: choice?.finish_reason,
        },
      ],
      // One token of the prompt, and the image's.
      usage: {
        prompt_tokens: 5,
        completion_tokens: completionTokens,
        total_tokens: 5 + completionTokens,
        prompt_tokens_details: { image_tokens: 4 },
      },
      timings: { queue_ms: timing, adapter_ms: timing, vision_ms: timing, prefill_ms: timing, decode_ms: timing },
    });
  });

  test('goes on from the texts of the message; without any from the adapter’s own prompt', async () => {
    const asked = await chat({ model: 'first' }, [{ type: 'text', text: 'the cat' }, picture, { type: 'text', text: 'and' }]);
    const caption = await captions({ adapter: 'first', prompt: 'the cat\nand' });
    expect(textsOf(asked)).toEqual(caption.captions?.map(({ text }) => text));
    expect(textsOf(asked)).not.toEqual(textsOf(await chat({ model: 'first' })));
    const own = await chat({ model: 'prompted' });
    expect(textsOf(own)).toEqual((await captions({ adapter: 'prompted', prompt: 'the cat' })).captions?.map(({ text }) => text));
    expect(own.usage?.prompt_tokens).toBeGreaterThan(5);
  });

  test('samples n times, the same with the same seed', async () => {
    const sampled = { model: 'first', n: 3, temperature: 1, seed: 7 };
    const once = await chat(sampled);
    expect(once.choices.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(new Set(textsOf(once)).size).toBeGreaterThan(1);
    expect(textsOf(await chat(sampled))).toEqual(textsOf(once));
    expect(textsOf(await chat({ ...sampled, seed: 8 }))).not.toEqual(textsOf(once));
  });

  test('ends at a stop string, or at either name of its limit', async () => {
    const whole = await chat({ model: 'second', max_tokens: 30 });
    const text = whole.choices[0]?.message.content ?? '';
    const stop = text.slice(6, 8);
    const cut = await chat({ model: 'second', max_tokens: 30, stop });
    expect(cut.choices[0]).toMatchObject({ message: { content: text.slice(0, text.indexOf(stop)) }, finish_reason: 'stop' });
    const short = await client.chat.completions.create({
      model: 'second',
      messages: user([picture]),
      max_completion_tokens: 3,
    });
    expect(short).toMatchObject({ choices: [{ finish_reason: 'length' }], usage: { completion_tokens: 3 } });
  });

  test.each(['tiny', 'words'])('%s answers text alone as completions do', async (model) => {
    const { choices, usage } = await chat({ model }, 'the dog');
    const text = await client.completions.create({ model, prompt: 'the dog', max_tokens: 12 });
    expect(choices[0]?.message.content).toBe(text.choices[0]?.text);
    expect(text.choices[0]?.text).not.toBe('');
    expect(usage).toMatchObject({ prompt_tokens: text.usage?.prompt_tokens, prompt_tokens_details: { image_tokens: 0 } });
  });

  test('takes what has no meaning here, and this server’s own settings beside OpenAI’s', async () => {
    const neutral: Params = { model: 'first', user: 'u', metadata: { a: 'b' }, tools: [], store: false, logprobs: false };
    expect(textsOf(await chat(neutral))).toEqual(textsOf(await chat({ model: 'first' })));
    const beams = await chat({ model: 'first', n: 2, num_beams: 3 });
    expect(textsOf(beams)).toEqual(
      (await captions({ adapter: 'first', num_beams: '3', n: '2' })).captions?.map(({ text }) => text),
    );
    const { model: _, ...body } = { ...neutral, adapter: 'first', messages: user([picture]), max_tokens: 12 };
    expect(await post(`${tiny.url}/v1/chat/completions`, body)).toMatchObject({ status: 200, body: { model: 'first' } });
  });

  test('about an image of five megabytes is that of captions', async () => {
    const noise = { raw: { width: 1360, height: 1300, channels: 3 as const } };
    const large = await sharp(randomBytes(1360 * 1300 * 3), noise)
      .png()
      .toBuffer();
    expect(large.length).toBeGreaterThan(5 * 10 ** 6);
    const caption = await post(`${tiny.url}/v1/captions`, formOf({ image: large, adapter: 'first', max_tokens: '12' }));
    const answer = await chat({ model: 'first' }, [{ type: 'text', text: '' }, pictureOf(large)]);
    expect(textsOf(answer)).toEqual(caption.body.captions?.map(({ text }) => text));
  });
});

describe('a stream', () => {
  test.each<[string, Params, number]>([
    ['greedy', { model: 'first' }, 1],
    ['of three samples', { model: 'first', n: 3, temperature: 1, seed: 3 }, 3],
    ['up to a stop string', { model: 'first', max_tokens: 20, stop: ['e', 'a'] }, 1],
    ['of beams, told at the end', { model: 'first', n: 2, num_beams: 3 }, 2],
  ])('%s: role first, pieces that add up to the answer, a reason last, and no usage unasked', async (_, params, count) => {
    const whole = await chat(params);
    const chunks = await all(await open(params));
    expect(new Set(chunks.map(({ id, object }) => `${id} ${object}`)).size).toBe(1);
    expect(chunks[0]).toMatchObject({ object: 'chat.completion.chunk', adapter: { name: 'first' }, system_fingerprint: 'tiny' });
    expect(chunks.filter((chunk) => 'usage' in chunk)).toEqual([]);
    expect(chunks.filter((chunk) => 'timings' in chunk)).toEqual(chunks.slice(-1));
    for (let index = 0; index < count; index++) {
      const choices = chunks.flatMap(({ choices }) => choices).filter((choice) => choice.index === index);
      expect(choices[0]).toMatchObject({ delta: { role: 'assistant', content: '' }, finish_reason: null });
      const contents = choices.slice(1).map(({ delta }) => delta.content ?? '');
      expect(contents.join('')).toBe(whole.choices[index]?.message.content);
      expect(choices.map(({ finish_reason: reason }) => reason)).toEqual([
        ...choices.slice(1).map(() => null),
        whole.choices[index]?.finish_reason,
      ]);
    }
  });

  test('ends with its usage where that is asked for', async () => {
    const params: OpenAI.ChatCompletionCreateParamsStreaming = {
      model: 'first',
      messages: user([picture]),
      max_tokens: 12,
      stream: true,
      stream_options: { include_usage: true },
    };
    const chunks = await all(await client.chat.completions.create(params));
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: (await chat({ model: 'first' })).usage });
    expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true);
    expect(chunks.at(-2)?.choices[0]?.finish_reason).not.toBeNull();
    // The bytes themselves, up to [DONE].
    const body = JSON.stringify(params);
    const headers = { 'content-type': 'application/json' };
    const raw = await all(events(await fetch(`${tiny.url}/v1/chat/completions`, { method: 'POST', headers, body })));
    expect(raw).toHaveLength(chunks.length);
  });

  test('is put together by the client’s own helper', async () => {
    const final = await client.chat.completions
      .stream({ model: 'first', messages: user([picture]), max_tokens: 12 })
      .finalChatCompletion();
    expect(final.choices[0]?.message.content).toBe((await chat({ model: 'first' })).choices[0]?.message.content);
  });

  test('that is left in the middle frees its rows', async () => {
    const series = 'graft_requests_total{route="/v1/chat/completions",outcome="cancelled"}';
    const before = await metric(tiny.url, series);
    for (let round = 0; round < 4; round++) {
      const controller = new AbortController();
      const params = { model: 'first', temperature: 2, n: 16, max_tokens: 110 };
      const stream = await open(params, [picture], controller.signal);
      await stream[Symbol.asyncIterator]().next();
      controller.abort();
    }
    await until(async () => (await metric(tiny.url, 'graft_adapter_leases')) === 0);
    await until(async () => (await metric(tiny.url, 'graft_num_rows_running')) === 0);
    expect(await metric(tiny.url, 'graft_queue_length')).toBe(0);
    expect(await metric(tiny.url, 'graft_kv_usage_ratio')).toBe(0);
    await until(async () => (await metric(tiny.url, series)) > (Number.isNaN(before) ? 0 : before));
  });
});

describe('what fails is an error of the client’s own', () => {
  test('an unknown model is not found, streamed or not', async () => {
    for (const error of [await failure(chat({ model: 'nobody' })), await failure(open({ model: 'nobody' }))]) {
      expect(error).toBeInstanceOf(OpenAI.NotFoundError);
      expect(error).toMatchObject({ status: 404, code: 'adapter_not_found', param: 'model', type: 'not_found_error' });
    }
  });

  const text: Part = { type: 'text', text: 'x' };
  const url = (value: string): Part => ({ type: 'image_url', image_url: { url: value } });
  const PLACE = 'messages[0].content[0].image_url.url';
  test.each<[string, Params, string | Part[] | null, string, string]>([
    ['a bare backbone', { model: 'tiny' }, null, 'model', 'received the backbone (tiny): a bare backbone cannot see'],
    ['no image', { model: 'first' }, 'hello', 'messages', 'adapter first, which is made for images'],
    ['an image for words', { model: 'words' }, null, 'model', 'it takes text only'],
    ['a long prompt', { model: 'tiny' }, 'word '.repeat(500), 'messages', 'messages: Expected fewer than 128 tokens'],
    ['no base64', { model: 'first' }, [url('data:image/png;base64,!')], PLACE, `${PLACE}: Expected base64 or a data URI`],
    ['a URL', { model: 'first' }, [url('https://example.org/a.png')], PLACE, 'this server fetches none'],
    ['no image inside', { model: 'first' }, [url('data:image/png;base64,aaaa')], PLACE, 'image'],
    [
      'two images',
      { model: 'first' },
      [url('data:,'), text, url('data:,')],
      'messages[0].content[2].image_url.url',
      'at most one',
    ],
    ['a tool', { model: 'first', tools: [{ type: 'function', function: { name: 'f' } }] }, null, 'tools', 'no tools here'],
    ['another field', { model: 'first', shape: 1 }, null, 'shape', 'received "shape"'],
    ['equal answers', { model: 'first', n: 2 }, null, 'n', 'set temperature or num_beams'],
  ])('%s', async (_, params, content, param, message) => {
    const error = await failure(chat(params, content ?? [picture]));
    expect(error).toBeInstanceOf(OpenAI.BadRequestError);
    expect(error).toMatchObject({ status: 400, param, type: 'invalid_request_error' });
    expect(error.message).toContain(message);
  });

  test('a system message, a form, a body that is none', async () => {
    const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'system', content: 'be brief' }, ...user('x')];
    expect(await failure(client.chat.completions.create({ model: 'tiny', messages }))).toMatchObject({
      status: 400,
      param: 'messages[0].role',
    });
    expect((await post(`${tiny.url}/v1/chat/completions`, formOf({ model: 'first' }))).status).toBe(415);
    expect((await post(`${tiny.url}/v1/chat/completions`, '[')).status).toBe(400);
    expect(await failure(chat({ model: 'first', timeout_ms: 1 }))).toMatchObject({
      status: 504,
      code: 'deadline_exceeded',
    });
  });
});

test('the client lists the models, and finds one', async () => {
  const { data } = await client.models.list();
  expect(data.map(({ id }) => id)).toEqual(['tiny', 'first', 'prompted', 'second', 'words']);
  expect(await client.models.retrieve('first')).toMatchObject({ id: 'first', object: 'model', owned_by: 'graft' });
});

test('the code that the playground shows for the client runs as it is', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'graft-client-'));
  try {
    await writeFile(path.join(folder, 'a "quoted".png'), png);
    await symlink(fileURLToPath(new URL('../../node_modules', import.meta.url)), path.join(folder, 'node_modules'));
    const request = {
      url: `${tiny.url}/v1/captions`,
      file: { name: 'a "quoted".png', type: 'image/png' },
      adapters: ['first', 'second'],
      settings: { max_tokens: 12, temperature: 0, stream: true },
      isKeyed: false,
    };
    await writeFile(path.join(folder, 'code.mjs'), snippet('openai', request));
    const { stdout } = await promisify(execFile)(process.execPath, ['code.mjs'], { cwd: folder });
    const texts = await Promise.all(['first', 'second'].map(async (model) => textsOf(await chat({ model }))[0]));
    expect(stdout).toBe(`${texts.join('\n')}\n`);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('a stream whose engine dies throws in the client', async () => {
  const stream = await open({ model: 'first', temperature: 2, n: 16, max_tokens: 110 });
  const kill = async () => {
    for await (const { choices } of stream)
      if (choices[0]?.index === 0 && choices[0].delta.role) process.kill(tiny.server.pids.engine ?? Number.NaN, 'SIGKILL');
  };
  expect(await failure(kill())).toMatchObject({ code: 'engine_unavailable', type: 'server_error' });
});
