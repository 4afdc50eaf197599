import fc from 'fast-check';
import type { OpenAI } from 'openai';
import { describe, expect, test } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { ChatParser } from '../../../src/http/dialect.js';
import { messagesShape, readMessages } from '../../../src/http/messages.js';

const LIMITS = { maxTokens: 256, timeoutMs: 60_000, maxBatch: 8 };
const parser = new ChatParser(LIMITS, 'tiny', false);
const talker = new ChatParser(LIMITS, 'tiny', true);
const user = (content: unknown) => [{ role: 'user', content }];
const chat = (body: object) => parser.parse({ model: 'm', messages: user('hello'), ...body });
const say = (...parts: readonly unknown[]) => chat({ messages: user(parts) });
const text = (value: unknown) => ({ type: 'text', text: value });
const image = (url: unknown, more: object = {}) => ({ type: 'image_url', image_url: { url, ...more } });
const URI = 'data:image/png;base64,aaaa';
const refusal = (param: string, message: string) =>
  expect.objectContaining({ param, message: expect.stringContaining(message) as string });

describe('what is asked', () => {
  test('a text, an image, both, or neither, in which case the adapter has its own', () => {
    expect(chat({})).toMatchObject({ model: 'm', modelField: 'model', prompt: 'hello', image: null, includeUsage: false });
    expect(say(text('a'), image(URI, { detail: 'high' }), text(''), text('b'))).toMatchObject({
      prompt: 'a\nb',
      image: URI,
      imageParam: 'messages[0].content[1].image_url.url',
    });
    expect(say(image(new Uint8Array(3)))).toMatchObject({ prompt: null, image: new Uint8Array(3) });
    expect(chat({ messages: user('') })).toMatchObject({ prompt: null, image: null });
    expect(parser.parse({ adapter: 'a', messages: user('x') })).toMatchObject({ model: 'a', named: 'a', modelField: 'adapter' });
  });

  test('an adapter beside the backbone, which OpenAI’s clients name because they must name a model; and a blend', () => {
    const blend = {
      blend: [
        { name: 'a', weight: 0.7 },
        { name: 'b', weight: -0.3 },
      ],
    };
    expect(chat({ model: 'tiny', adapter: 'a' })).toMatchObject({ model: 'a', named: 'a', modelField: 'adapter' });
    expect(chat({ model: 'tiny', adapter: blend })).toMatchObject({ model: '0.7*a+-0.3*b', named: blend, modelField: 'adapter' });
    expect(chat({ model: 'tiny' })).toMatchObject({ model: 'tiny', named: 'tiny', modelField: 'model' });
  });

  test('sampling is that of captions, and max_completion_tokens another word for max_tokens', () => {
    const own = { temperature: 1, top_p: 0.5, top_k: 3, seed: 7, n: 2, repetition_penalty: 1.1, timeout_ms: 9 };
    expect(chat({ ...own, stop: 'x', max_completion_tokens: 9 })).toMatchObject({
      sampling: { maxTokens: 9, temperature: 1, topP: 0.5, topK: 3, seed: 7, n: 2, repetitionPenalty: 1.1, numBeams: 1 },
      stop: ['x'],
      timeoutMs: 9,
    });
    expect(chat({ max_tokens: 5, max_completion_tokens: 5 }).sampling.maxTokens).toBe(5);
    expect(chat({ max_tokens: 5, max_completion_tokens: null }).sampling.maxTokens).toBe(5);
    expect(chat({ num_beams: 3 }).sampling.numBeams).toBe(3);
    expect(chat({}).sampling.maxTokens).toBe(40);
    const fields = [{}, { max_tokens: 5 }, { max_completion_tokens: 5 }].map((body) => chat(body).maxTokensField);
    expect(fields).toEqual([null, 'max_tokens', 'max_completion_tokens']);
  });

  test('fields that ask for nothing, or change no answer, are taken', () => {
    // Typed by the client's own package, so that none is made up.
    const nothing = {
      response_format: { type: 'text' },
      modalities: ['text'],
      logprobs: false,
      top_logprobs: 0,
      logit_bias: {},
      frequency_penalty: 0,
      presence_penalty: 0,
      tools: [],
      tool_choice: 'none',
      parallel_tool_calls: true,
      functions: [],
      function_call: 'none',
      audio: null,
      prediction: null,
      reasoning_effort: 'none',
      verbosity: 'medium',
      service_tier: 'auto',
      store: false,
      metadata: { a: 'b' },
      user: 'u',
      safety_identifier: 's',
      prompt_cache_key: 'k',
    } satisfies Partial<OpenAI.ChatCompletionCreateParams>;
    expect(chat(nothing)).toEqual({ ...chat({}), user: nothing.user });
    expect(chat(Object.fromEntries(Object.keys(nothing).map((key) => [key, null])))).toEqual(chat({}));
  });

  test('how likely each token was, beside so many of the most likely; not of beams', () => {
    expect(chat({ logprobs: true }).sampling.logprobs).toBe(0);
    expect(chat({ logprobs: true, top_logprobs: 20, n: 2, temperature: 1 }).sampling.logprobs).toBe(20);
    expect(chat({ logprobs: null, top_logprobs: null }).sampling).not.toHaveProperty('logprobs');
    expect(() => chat({ logprobs: true, num_beams: 2 })).toThrow(
      refusal(
        'logprobs',
        'logprobs: Expected none with num_beams above 1 (a beam is chosen as a whole) but received some with 2',
      ),
    );
  });

  test('usage in a stream', () => {
    expect(chat({ stream: true, stream_options: { include_usage: true, include_obfuscation: false } }).includeUsage).toBe(true);
    expect(chat({ stream: true, stream_options: {} }).includeUsage).toBe(false);
  });
});

describe('what is refused', () => {
  test.each<[string, unknown, string]>([
    ['response_format', { type: 'json_object' }, 'Expected {"type":"text"} or null (answers are plain text here) but received'],
    ['response_format', { type: 'text', strict: true }, 'but received {"type":"text","strict":true}'],
    ['modalities', ['text', 'audio'], 'Expected ["text"] or null (answers are text here) but received ["text","audio"]'],
    ['logprobs', 3, 'Expected true or false but received 3'],
    ['top_logprobs', 3, 'Expected 0 or null without logprobs (true) but received 3'],
    ['top_logprobs', 21, 'Expected an integer from 0 to 20 but received 21'],
    ['logit_bias', { 50: 1 }, 'Expected {} or null'],
    ['frequency_penalty', 0.5, 'Expected 0 or null (repetition_penalty is what this server has) but received 0.5'],
    ['presence_penalty', -1, 'Expected 0 or null (repetition_penalty is what this server has) but received -1'],
    ['tools', [{ type: 'function', function: { name: 'f' } }], 'Expected [] or null (there are no tools here)'],
    ['tool_choice', 'required', 'Expected "none" or null (there are no tools here) but received "required"'],
    ['parallel_tool_calls', 'yes', 'Expected true or false'],
    ['functions', [{ name: 'f' }], 'Expected [] or null'],
    ['function_call', 'auto', 'Expected "none" or null'],
    ['audio', { voice: 'alloy', format: 'mp3' }, 'Expected null (this server does not do that)'],
    ['prediction', { type: 'content', content: 'x' }, 'Expected null'],
    ['web_search_options', {}, 'Expected null'],
    ['reasoning_effort', 'high', 'Expected "none" or null (nothing reasons here)'],
    ['verbosity', 'low', 'Expected "medium" or null'],
    ['service_tier', 'flex', 'Expected "auto", "default" or null'],
    ['store', true, 'Expected false or null (nothing is kept here) but received true'],
    ['metadata', { a: 1 }, 'Expected an object of texts'],
    ['user', 7, 'Expected a text but received 7'],
    ['stream_options', { include_usage: true }, 'Expected none without stream'],
    ['max_tokens', 0, 'Expected an integer from 1 to 256'],
    ['max_completion_tokens', 257, 'Expected an integer from 1 to 256'],
    ['n', 9, 'from 1 to 8'],
    ['temperature', 3, 'from 0 to 2'],
    ['messages', [], 'Expected a list with one user message but received []'],
    ['messages', 'hello', 'Expected a list with one user message'],
    ['model', '../m', 'Expected the name of the backbone or of an adapter'],
    ['model', null, 'Expected the name of the backbone or of an adapter but received nothing'],
    ['adapter', 'a', 'Expected one of adapter and model (or the backbone, tiny, as model) but received both'],
    ['adapter', { blend: [] }, 'adapter.blend: Expected 2 to 8 adapters but received []'],
    ['model', { blend: [] }, 'Expected the name of the backbone or of an adapter but received {"blend":[]}'],
    ['messagse', [], 'Expected only messages, model,'],
  ])('%s: %j', (param, value, message) => {
    expect(() => chat({ [param]: value })).toThrow(refusal(param, message));
  });

  test('several at once are named at once; two different limits; usage without a stream', () => {
    expect(() => chat({ logprobs: 'yes', store: true })).toThrow(
      expect.objectContaining({ faults: [expect.stringContaining('logprobs: '), expect.stringContaining('store: ')] }),
    );
    expect(() => chat({ max_tokens: 5, max_completion_tokens: 6 })).toThrow(
      refusal('max_completion_tokens', 'Expected the same as max_tokens (5) or only one of them but received 6'),
    );
    expect(() => chat({ stream: true, stream_options: { include_obfuscation: true } })).toThrow(
      refusal('stream_options', 'include_obfuscation (false)'),
    );
  });

  test.each(['system', 'developer', 'assistant', 'tool', 'function', undefined, 7])('a message of role %j', (role) => {
    const messages = [...user('x'), { role, content: 'y' }];
    expect(() => chat({ messages })).toThrow(refusal('messages[1].role', 'Expected "user" (there are no chat templates here'));
  });

  test.each<[string, unknown, string, string]>([
    ['two messages', [...user('x'), ...user('y')], 'messages', 'Expected one user message'],
    ['a message that is none', ['x'], 'messages[0]', 'Expected an object but received "x"'],
    ['a message of more', [{ role: 'user', content: 'x', name: 'n' }], 'messages[0].name', 'Expected only role, content'],
    ['no content', [{ role: 'user' }], 'messages[0].content', 'Expected a text or a list of parts but received nothing'],
    ['no parts', user([]), 'messages[0].content', 'Expected 1 to 64 parts but received 0'],
    ['too many parts', user(Array.from({ length: 65 }, () => text('x'))), 'messages[0].content', 'but received 65'],
    ['audio', user([{ type: 'input_audio', input_audio: {} }]), 'messages[0].content[0].type', 'received "input_audio"'],
    ['a file', user([text('x'), { type: 'file', file: {} }]), 'messages[0].content[1].type', 'audio and files are not read here'],
    ['two images', user([image(URI), image(URI)]), 'messages[0].content[1].image_url.url', 'at most one image but received 2'],
    ['an image as a text', user([{ type: 'image_url', image_url: URI }]), 'messages[0].content[0].image_url', 'an object'],
    ['no URL', user([image('')]), 'messages[0].content[0].image_url.url', 'Expected a data URI or a URL but received ""'],
    ['another detail', user([image(URI, { detail: 'x' })]), 'messages[0].content[0].image_url.detail', 'received "x"'],
    ['a text that is none', user([text(1)]), 'messages[0].content[0].text', 'Expected a text but received 1'],
    ['a long text', user([text('x'.repeat(40_000)), text('x'.repeat(40_000))]), 'messages', 'at most 65536 characters'],
  ])('%s', (_, messages, param, message) => {
    expect(() => chat({ messages })).toThrow(refusal(param, message));
  });

  test('no message of a refusal shows an image', () => {
    const bytes = new Uint8Array(1000).fill(7);
    for (const part of [{ type: 'x', image_url: { url: bytes } }, image(bytes, { more: 1 }), { ...image(bytes), text: 'x' }])
      expect(() => say(part)).toThrow(expect.objectContaining({ message: expect.not.stringContaining('7,') as string }));
  });

  test('any messages are taken or refused with an AppError', () => {
    const odd = fc.oneof(fc.anything(), fc.constantFrom('user', 'text', 'image_url', URI));
    const part = fc.record({ type: odd, text: odd, image_url: odd }, { requiredKeys: [] });
    const message = fc.record({ role: fc.oneof(fc.constant('user'), odd), content: fc.oneof(odd, fc.array(part)) });
    fc.assert(
      fc.property(fc.oneof(odd, fc.array(message, { maxLength: 2 })), (messages) => {
        try {
          chat({ messages });
        } catch (error) {
          expect(error).toBeInstanceOf(AppError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('a conversation, where the backbone has a template', () => {
  const say = (...messages: readonly unknown[]) => talker.parse({ model: 'm', messages });
  const turn = (role: string, content: unknown) => ({ role, content });

  test('is its turns, each with one text; a question is that, and its text', () => {
    expect(say(turn('system', 'Be brief.'), turn('user', [text('a'), text(''), text('b')]))).toMatchObject({
      turns: [turn('system', 'Be brief.'), turn('user', 'a\nb')],
      prompt: null,
      image: null,
    });
    expect(say(turn('user', 'a'))).toMatchObject({ turns: [turn('user', 'a')], prompt: 'a' });
    // As an answer of this server is, sent back.
    expect(say(turn('user', 'a'), { ...turn('assistant', 'b'), refusal: null }, turn('user', ''))).toMatchObject({
      turns: [turn('user', 'a'), turn('assistant', 'b'), turn('user', '')],
    });
    expect(say(turn('user', ''))).toMatchObject({ turns: null, prompt: null });
    expect(chat({})).toMatchObject({ turns: null });
  });

  test('has no image, which stands alone with its prompt', () => {
    expect(say(turn('user', [image(URI), text('a')]))).toMatchObject({ image: URI, prompt: 'a', turns: null });
    const refused = refusal('messages[1].content[0].image_url.url', 'Expected no image in a conversation');
    expect(() => say(turn('system', 'x'), turn('user', [image(URI)]))).toThrow(refused);
  });

  test('has known roles, and what is too much is refused', () => {
    expect(() => say(turn('developer', 'x'))).toThrow(
      refusal('messages[0].role', 'Expected "system", "user" or "assistant" but received "developer"'),
    );
    expect(() => say(turn('user', 'a'), { ...turn('assistant', 'b'), refusal: 'no' })).toThrow(
      refusal('messages[1].refusal', 'Expected null'),
    );
    expect(() => say({ ...turn('user', 'a'), refusal: null })).toThrow(
      refusal('messages[0].refusal', 'Expected only role, content'),
    );
    expect(() => say(turn('user', 'a'), turn('assistant', null))).toThrow(refusal('messages[1].content', 'Expected a text'));
    expect(() => say(...Array.from({ length: 513 }, () => turn('user', 'a')))).toThrow(
      refusal('messages', 'Expected 1 to 512 messages'),
    );
    expect(() => say(turn('user', 'a'.repeat(40_000)), turn('user', 'a'.repeat(40_000)))).toThrow(
      refusal('messages', 'at most 65536 characters'),
    );
  });
});

test.each([false, true])('what is described as messages is what is read as such (with a template: %s)', (hasTemplate) => {
  const part = { type: 'text', text: 'a' };
  const contents = [
    'hello',
    '',
    null,
    3,
    {},
    [],
    [part],
    [part, image(URI)],
    [image(URI, { detail: 'low' })],
    [image(URI, { detail: null })],
    [image(URI, { detail: 'best' })],
    [image(URI, { size: 1 })],
    [image('')],
    [image(3)],
    [{ ...part, more: 1 }],
    [text(3)],
    [{ type: 'input_audio' }],
    ['a'],
    Array.from({ length: 64 }, () => part),
    Array.from({ length: 65 }, () => part),
  ];
  const messages = [
    ...contents.map(user),
    [],
    [...user('a'), ...user('b')],
    [{ role: 'system', content: 'a' }, ...user('b')],
    [{ role: 'assistant', content: 'a', refusal: null }],
    [{ role: 'assistant', content: 'a', refusal: 'b' }],
    [{ role: 'user', content: 'a', refusal: null }],
    [{ role: 'tool', content: 'a' }],
    Array.from({ length: 513 }, () => user('a')[0]),
    [{ role: 'user' }],
    [{ role: 'user', content: 'a', name: 'b' }],
    ['a'],
  ];
  const isRead = (given: readonly unknown[]): boolean => {
    try {
      readMessages(given, hasTemplate);
      return true;
    } catch (error) {
      expect(error).toBeInstanceOf(AppError);
      return false;
    }
  };
  expect(messages.map((given) => messagesShape(hasTemplate).safeParse(given).success)).toEqual(messages.map(isRead));
});
