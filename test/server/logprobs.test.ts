/** Log-probabilities over HTTP, asked by OpenAI's own client: its shapes, whole and streamed, and what a stop string leaves of them. */
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { noisePng, startTinyServer, type TinyServer } from '../support/server.js';

type Tokens = OpenAI.ChatCompletionTokenLogprob[];

let tiny: TinyServer;
let client: OpenAI;
let picture: OpenAI.ChatCompletionContentPart;
beforeAll(async () => {
  tiny = await startTinyServer(['first']);
  client = new OpenAI({ baseURL: `${tiny.url}/v1`, apiKey: 'none needed', maxRetries: 0 });
  picture = { type: 'image_url', image_url: { url: `data:image/png;base64,${(await noisePng()).toString('base64')}` } };
});
afterAll(() => tiny.close());

type Params = Partial<OpenAI.ChatCompletionCreateParamsNonStreaming> & { readonly num_beams?: number };
const chat = (params: Params) =>
  client.chat.completions.create({
    model: 'first',
    max_tokens: 16,
    logprobs: true,
    messages: [{ role: 'user', content: [picture] }],
    ...params,
  } as OpenAI.ChatCompletionCreateParamsNonStreaming);
const complete = (params: Partial<OpenAI.CompletionCreateParamsNonStreaming>) =>
  client.completions.create({ model: 'tiny', prompt: 'the dog', max_tokens: 16, logprobs: 0, ...params });

const textOf = (tokens: Tokens): string => Buffer.from(tokens.flatMap(({ bytes }) => bytes ?? [])).toString();

describe('a chat', () => {
  test('tells each token of the answer, and the most likely in its place', async () => {
    const answer = await chat({ top_logprobs: 3 });
    const [choice] = answer.choices;
    const tokens = choice?.logprobs?.content ?? [];
    expect(choice?.logprobs?.refusal).toBeNull();
    expect(tokens).toHaveLength(answer.usage?.completion_tokens ?? Number.NaN);
    expect(textOf(tokens)).toBe(choice?.message.content);
    for (const { token, logprob, bytes, top_logprobs: top } of tokens) {
      expect(bytes).toEqual([...Buffer.from(token)]);
      // Greedy: the likeliest is the one that was taken.
      expect(top).toHaveLength(3);
      expect(top[0]).toEqual({ token, logprob, bytes });
      expect(logprob).toBeLessThanOrEqual(0);
      expect(top.map((other) => other.logprob)).toEqual(top.map((other) => other.logprob).sort((a, b) => b - a));
      expect(top.reduce((sum, other) => sum + Math.exp(other.logprob), 0)).toBeLessThanOrEqual(1 + 1e-9);
    }
    // Twenty hold most of what a vocabulary of some seventy shares out.
    const whole = await chat({ top_logprobs: 20, max_tokens: 1 });
    const sum = whole.choices[0]?.logprobs?.content?.[0]?.top_logprobs.reduce(
      (total, { logprob }) => total + Math.exp(logprob),
      0,
    );
    expect(sum).toBeGreaterThan(0.5);
  });

  test('without them is the same answer, and tells nothing', async () => {
    const [asked, silent] = [await chat({}), await chat({ logprobs: false })];
    expect(silent.choices[0]?.message).toEqual(asked.choices[0]?.message);
    expect(silent.choices[0]?.logprobs).toBeNull();
    expect(asked.choices[0]?.logprobs?.content?.every(({ top_logprobs: top }) => top.length === 0)).toBe(true);
  });

  test('of samples tells what the model thinks, whatever chooses: temperature and penalty change the tokens alone', async () => {
    const sampled = await chat({ temperature: 2, seed: 5, n: 2, top_logprobs: 20 });
    const greedy = await chat({ top_logprobs: 20 });
    const first = (answer: OpenAI.ChatCompletion, index = 0) => answer.choices[index]?.logprobs?.content?.[0];
    expect(first(sampled)?.top_logprobs).toEqual(first(greedy)?.top_logprobs);
    expect(first(sampled, 1)?.top_logprobs).toEqual(first(greedy)?.top_logprobs);
    for (const { message, logprobs } of sampled.choices) expect(textOf(logprobs?.content ?? [])).toBe(message.content);
    const chosen = sampled.choices.map(({ logprobs }) => logprobs?.content?.map(({ token }) => token).join('|'));
    expect(new Set(chosen).size).toBe(2);
  });

  test('streamed tells each with the text that it begins, and all that the whole answer tells', async () => {
    for (const stop of [undefined, ['e', 'a']]) {
      const params = { ...(stop ? { stop } : {}), top_logprobs: 2, max_tokens: 24 };
      const whole = await chat(params);
      const stream = await client.chat.completions.create({
        ...params,
        model: 'first',
        logprobs: true,
        messages: [{ role: 'user', content: [picture] }],
        stream: true,
      });
      const tokens: Tokens = [];
      let text = '';
      for await (const { choices } of stream) {
        text += choices[0]?.delta.content ?? '';
        tokens.push(...(choices[0]?.logprobs?.content ?? []));
      }
      expect(text).toBe(whole.choices[0]?.message.content);
      expect(tokens).toEqual(whole.choices[0]?.logprobs?.content);
    }
  });

  test('ends its list where a stop string ends its text', async () => {
    const whole = await chat({});
    const all = whole.choices[0]?.logprobs?.content ?? [];
    // Begins with a token, and so cuts between two.
    const stop = Array.from(whole.choices[0]?.message.content ?? '')
      .slice(3, 5)
      .join('');
    const cut = await chat({ stop });
    const tokens = cut.choices[0]?.logprobs?.content ?? [];
    const text = cut.choices[0]?.message.content ?? '';
    expect(cut.choices[0]?.finish_reason).toBe('stop');
    expect(tokens.length).toBeLessThan(all.length);
    expect(tokens).toEqual(all.slice(0, tokens.length));
    expect(textOf(tokens).startsWith(text)).toBe(true);
    expect(textOf(tokens.slice(0, -1)).length).toBeLessThan(text.length);
  });

  test.each<[Params, string, string]>([
    [{ top_logprobs: 21 }, 'top_logprobs', 'from 0 to 20'],
    [{ logprobs: false, top_logprobs: 2 }, 'top_logprobs', 'without logprobs'],
    [{ num_beams: 2 }, 'logprobs', 'num_beams above 1'],
  ])('%j is refused', async (params, param, message) => {
    await expect(chat(params)).rejects.toMatchObject({ status: 400, param, message: expect.stringContaining(message) as string });
  });
});

describe('a completion', () => {
  test('has parallel lists, the token itself among the most likely, and places in the text', async () => {
    const answer = await complete({ logprobs: 2, temperature: 2, seed: 4, max_tokens: 60 });
    const [choice] = answer.choices;
    const { tokens = [], token_logprobs: own = [], top_logprobs: top = [], text_offset: offsets = [] } = choice?.logprobs ?? {};
    expect([own.length, top.length, offsets.length]).toEqual([tokens.length, tokens.length, tokens.length]);
    expect(tokens.join('')).toBe(choice?.text);
    for (const [index, token] of tokens.entries()) {
      expect(top[index]?.[token]).toBe(own[index]);
      expect(Object.keys(top[index] ?? {}).length).toBeLessThanOrEqual(3);
      expect(
        Array.from(choice?.text ?? '')
          .slice(offsets[index], (offsets[index] ?? 0) + Array.from(token).length)
          .join(''),
      ).toBe(token);
    }
    // A sample at this temperature leaves the two most likely at times.
    expect(top.some((place) => Object.keys(place).length === 3)).toBe(true);
  });

  test('streamed tells the same, its places in the whole text', async () => {
    const whole = await complete({ logprobs: 3 });
    const lists = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] } as Record<string, unknown[]>;
    const params = { model: 'tiny', prompt: 'the dog', max_tokens: 16, logprobs: 3, stream: true } as const;
    for await (const { choices } of await client.completions.create(params))
      for (const [name, values] of Object.entries(choices[0]?.logprobs ?? {})) lists[name]?.push(...(values as unknown[]));
    expect(lists).toEqual(whole.choices[0]?.logprobs);
  });

  test('without them tells nothing', async () => {
    expect((await complete({ logprobs: null })).choices[0]?.logprobs).toBeNull();
    expect(Object.keys((await complete({})).choices[0]?.logprobs?.top_logprobs?.[0] ?? {})).toHaveLength(1);
  });
});
