/** Conversations over HTTP: a backbone with a chat template, asked by OpenAI's own client, against the text that the template makes of them. */
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeAdapter } from '../../src/adapter/write.js';
import { describeBackbone } from '../../src/backbone/backbone.js';
import { readBackbone } from '../../src/backbone/manifest.js';
import { type RunningServer, startServer } from '../../src/cli/serve.js';
import { loadConfig } from '../../src/config.js';
import { makeTinyFolder, noisePng, post, tinyFlags, writeTinyAdapter } from '../support/server.js';
import { Gaussian } from '../support/tiny.js';

type Message = OpenAI.ChatCompletionMessageParam;

const TEMPLATE = `{{ bos_token }}
{%- for message in messages %}
    {%- if message.role == 'assistant' and loop.first %}{{ raise_exception('nobody asked') }}{% endif %}
    {{- message.role + '! ' + message.content + eos_token }}
{%- endfor %}
{{- 'assistant! ' if add_generation_prompt }}`;

let folder: string;
let server: RunningServer;
let client: OpenAI;
beforeAll(async () => {
  folder = await makeTinyFolder(['sees']);
  await setTemplate(TEMPLATE);
  await writeTextAdapters();
  server = await start();
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none needed', maxRetries: 0 });
});
afterAll(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

async function start(): Promise<RunningServer> {
  const started = await startServer(await loadConfig({ flags: tinyFlags(folder), env: {}, folder }));
  await started.ready;
  return started;
}

async function setTemplate(template: string): Promise<void> {
  const file = path.join(folder, 'backbone', 'language', 'tokenizer_config.json');
  const config = JSON.parse(await readFile(file, 'utf8')) as object;
  await writeFile(file, JSON.stringify({ ...config, chat_template: template }));
}

/** The text context of an adapter: once as PEFT writes an adapter of its own, once as Graft does. */
async function writeTextAdapters(): Promise<void> {
  const adapters = path.join(folder, 'adapters');
  await writeTinyAdapter(folder, 'both', 70);
  await cp(path.join(adapters, 'both', 'text'), path.join(adapters, 'peft'), { recursive: true });
  await rm(path.join(adapters, 'both'), { recursive: true });
  const { target } = await describeBackbone(await readBackbone(path.join(folder, 'backbone')));
  const random = new Gaussian(7);
  const modules = target.modules.map(({ name, inFeatures, outFeatures }) => {
    const [a, b] = [random.array(2 * inFeatures, 0.2), random.array(outFeatures * 2, 0.5)];
    return [name, { rank: 2, alpha: 4, a, b }] as const;
  });
  await writeAdapter(path.join(adapters, 'trained'), {
    method: 'lora',
    groups: new Map([['text', { modules: new Map(modules) }]]),
    projector: null,
    task: 'stories',
    prompt: 'the cat',
  });
}

const chat = (model: string, messages: Message[]) => client.chat.completions.create({ model, messages, max_tokens: 12 });
const completion = async (model: string, prompt: string) =>
  (await post(`${server.url}/v1/completions`, { model, prompt, max_tokens: 12 })).body;
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: unknown) => error as InstanceType<typeof OpenAI.APIError>,
  );

const TALK: Message[] = [
  { role: 'system', content: 'be brief' },
  { role: 'user', content: 'where is the cat?' },
];
const WRITTEN = 'system! be brief</s>user! where is the cat?</s>assistant! ';

describe('a conversation', () => {
  test.each(['tiny', 'peft'])('with %s is answered as the text that the template makes of it is gone on from', async (model) => {
    const answer = await chat(model, TALK);
    const { choices, usage } = await completion(model, WRITTEN);
    expect(answer.choices[0]?.message.content).toBe(choices?.[0]?.text.trimStart());
    expect(answer.choices[0]?.message.content).toMatch(/\S/);
    expect(answer.usage?.prompt_tokens).toBe(usage?.['prompt_tokens']);

    // It goes on, with the answer as it came.
    const [first] = answer.choices;
    if (!first) throw new Error('Expected a choice');
    const more = await chat(model, [...TALK, first.message, { role: 'user', content: 'why?' }]);
    const longer = `${WRITTEN}${first.message.content}</s>user! why?</s>assistant! `;
    expect(more.choices[0]?.message.content).toBe((await completion(model, longer)).choices?.[0]?.text.trimStart());
  });

  test('is streamed as it is answered', async () => {
    const whole = await chat('tiny', TALK);
    const pieces: string[] = [];
    for await (const { choices } of await client.chat.completions.create({
      model: 'tiny',
      messages: TALK,
      max_tokens: 12,
      stream: true,
    }))
      pieces.push(choices[0]?.delta.content ?? '');
    expect(pieces.join('')).toBe(whole.choices[0]?.message.content);
  });

  test('of one question is one too', async () => {
    const answer = await chat('tiny', [{ role: 'user', content: 'the' }]);
    expect(answer.choices[0]?.message.content).toBe(
      (await completion('tiny', 'user! the</s>assistant! ')).choices?.[0]?.text.trimStart(),
    );
  });

  test('is refused in the words of its template, and where it is too long', async () => {
    expect(await failure(chat('tiny', [{ role: 'assistant', content: 'a' }]))).toMatchObject({
      status: 400,
      param: 'messages',
      message: expect.stringContaining('nobody asked') as string,
    });
    const long = await failure(chat('tiny', [TALK[0] as Message, { role: 'user', content: 'z '.repeat(300) }]));
    expect(long).toMatchObject({ status: 400, code: 'context_length_exceeded', param: 'messages' });
  });
});

describe('what was not trained on turns', () => {
  test('an adapter of Graft goes on from a prompt, its own or that of one question, and takes no more', async () => {
    for (const [content, prompt] of [
      ['a dog', 'a dog'],
      ['', 'the cat'],
    ] as const) {
      const answer = await chat('trained', [{ role: 'user', content }]);
      expect(answer.choices[0]?.message.content).toBe((await completion('trained', prompt)).choices?.[0]?.text);
    }
    expect(await failure(chat('trained', TALK))).toMatchObject({
      status: 400,
      param: 'messages',
      message: expect.stringContaining('Expected one user message for adapter trained') as string,
    });
  });

  test('nor does an adapter for images, whose answers a template does not change', async () => {
    const url = `data:image/png;base64,${(await noisePng()).toString('base64')}`;
    const picture: Message = { role: 'user', content: [{ type: 'image_url', image_url: { url } }] };
    const caption = await post(`${server.url}/v1/captions`, { image: url, adapter: 'sees', max_tokens: 12 });
    expect((await chat('sees', [picture])).choices[0]?.message.content).toBe(caption.body.captions?.[0]?.text);
    expect(await failure(chat('sees', [TALK[0] as Message, picture]))).toMatchObject({
      status: 400,
      param: 'messages[1].content[0].image_url.url',
    });
  });
});

test('a template that cannot be read costs the conversations alone', async () => {
  await setTemplate('{% for message in messages %}');
  const other = await start();
  try {
    const { status, body } = await post(`${other.url}/v1/chat/completions`, { model: 'tiny', messages: TALK });
    expect([status, body.error?.message]).toEqual([400, expect.stringContaining('there are no chat templates here')]);
    const question = { model: 'tiny', messages: [TALK[1]], max_tokens: 2 };
    expect((await post(`${other.url}/v1/chat/completions`, question)).status).toBe(200);
  } finally {
    await other.close();
  }
});
