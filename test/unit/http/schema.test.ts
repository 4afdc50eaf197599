import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { RequestParser } from '../../../src/http/schema.js';

const LIMITS = { maxTokens: 256, timeoutMs: 60_000, maxBatch: 8 };
const parser = new RequestParser(LIMITS, 'tiny');
const caption = (body: object) => parser.caption({ image: 'aaaa', ...body }, false);
const form = (body: object) => parser.caption({ image: new Uint8Array(3), ...body }, true);

describe('RequestParser.caption', () => {
  test('fills in what is not said', () => {
    expect(caption({})).toEqual({
      image: 'aaaa',
      adapters: [],
      list: false,
      prompt: null,
      maxTokensField: null,
      stop: [],
      stream: false,
      timeoutMs: 60_000,
      sampling: {
        maxTokens: 40,
        temperature: 0,
        topK: 0,
        topP: 1,
        repetitionPenalty: 1,
        seed: null,
        n: 1,
        numBeams: 1,
        lengthPenalty: 1,
        earlyStopping: false,
      },
    });
    expect(
      new RequestParser({ ...LIMITS, maxTokens: 10 }, 'tiny').caption({ image: 'a', max_tokens: null }, false).sampling.maxTokens,
    ).toBe(10);
  });

  test('reads a form’s texts as JSON would have given them', () => {
    const fields = {
      adapters: ['a,b', 'c'],
      max_tokens: '7',
      temperature: '.5',
      early_stopping: 'true',
      stream: 'false',
      stop: ['x', 'y'],
      seed: '-3',
      prompt: '12',
    };
    expect(form(fields)).toEqual({
      ...caption({
        adapters: ['a', 'b', 'c'],
        max_tokens: 7,
        temperature: 0.5,
        early_stopping: true,
        stream: false,
        stop: ['x', 'y'],
        seed: -3,
        prompt: '12',
      }),
      image: new Uint8Array(3),
    });
  });

  test.each([
    ['adapter and adapters', { adapter: 'a', adapters: ['b'] }, 'Expected one of adapter, adapters and model'],
    ['a name twice', { adapters: ['a', 'a'] }, 'Expected each name once'],
    ['no names', { adapters: [] }, 'a list of 1 to 64 adapter names'],
    ['many equal answers', { n: 3 }, 'n: Expected 1 at temperature 0'],
    ['sampled beams', { num_beams: 2, temperature: 1 }, 'beam search does not sample'],
    ['more answers than beams', { num_beams: 2, n: 3 }, 'at most num_beams (2) but received 3'],
    ['five stop strings', { stop: ['a', 'b', 'c', 'd', 'e'] }, 'or up to 4 of them'],
    ['a long value, shortened', { prompt: 'x'.repeat(70_000) }, `but received "${'x'.repeat(76)}...`],
    ['an infinite number', { temperature: Number.POSITIVE_INFINITY }, 'but received Infinity'],
    ['not a number', { top_p: Number.NaN }, 'but received NaN'],
  ])('refuses %s', (_, body, message) => {
    expect(() => caption(body)).toThrow(message);
  });

  test('names every faulty field at once, the first as param', () => {
    expect(() => caption({ max_tokens: 0, top_p: 2, stream: 1 })).toThrow(
      expect.objectContaining({
        code: 'invalid_request',
        param: 'max_tokens',
        faults: [
          'max_tokens: Expected an integer from 1 to 256 but received 0',
          'top_p: Expected a number above 0, at most 1 but received 2',
          'stream: Expected true or false but received 1',
        ],
      }),
    );
  });

  test('answers any body with a request or an AppError, and any number it lets through is finite', () => {
    fc.assert(
      fc.property(fc.anything(), fc.boolean(), (body, isForm) => {
        const object = typeof body === 'object' && body !== null && !Array.isArray(body) ? { image: 'a', ...body } : body;
        try {
          const { sampling } = parser.caption(object, isForm);
          for (const value of Object.values(sampling)) expect(typeof value !== 'number' || Number.isFinite(value)).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(AppError);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('lets through exactly the numbers in range, however they are written', () => {
    fc.assert(
      fc.property(fc.oneof(fc.double(), fc.integer({ min: -5, max: 300 })), (value) => {
        const allowed = Number.isInteger(value) && value >= 1 && value <= 256;
        const attempt = (run: () => unknown) => {
          try {
            return run();
          } catch {
            return 'refused';
          }
        };
        expect(attempt(() => caption({ max_tokens: value }).sampling.maxTokens)).toBe(allowed ? value : 'refused');
        expect(attempt(() => form({ max_tokens: String(value) }).sampling.maxTokens)).toBe(allowed ? value : 'refused');
      }),
    );
  });
});

test('RequestParser.completion wants a model and a prompt, and knows no image', () => {
  expect(parser.completion({ model: 'm', prompt: '' })).toMatchObject({ model: 'm', named: 'm', prompt: '', stream: false });
  expect(parser.completion({ adapter: 'a', prompt: '' })).toMatchObject({ model: 'a', named: 'a', modelField: 'adapter' });
  expect(() => parser.completion({ prompt: 'x' })).toThrow(
    'model: Expected the name of the backbone or of an adapter but received nothing',
  );
  expect(() => parser.completion({ model: 'm' })).toThrow('prompt: Expected a text');
  expect(() => parser.completion({ model: 'm', prompt: 'x', image: 'a' })).toThrow(
    expect.objectContaining({ code: 'unknown_field', param: 'image' }),
  );
});

test('RequestParser.completion asks how likely tokens were, beside 0 to 5 of the most likely', () => {
  const complete = (body: object) => parser.completion({ model: 'm', prompt: '', ...body });
  expect([0, 5].map((logprobs) => complete({ logprobs }).sampling.logprobs)).toEqual([0, 5]);
  expect(complete({ logprobs: null }).sampling).not.toHaveProperty('logprobs');
  expect(() => complete({ logprobs: 6 })).toThrow('logprobs: Expected an integer from 0 to 5 but received 6');
  expect(() => complete({ logprobs: true })).toThrow('logprobs: Expected an integer from 0 to 5 but received true');
  expect(() => complete({ logprobs: 0, num_beams: 2 })).toThrow('logprobs: Expected none with num_beams above 1');
});

describe('a blend', () => {
  const part = (name: unknown, weight: unknown) => ({ name, weight });
  const pair = { blend: [part('a', 0.7), part('tenant/b', -4)] };

  test('may stand where an adapter does, alone or among others', () => {
    expect(caption({ adapter: pair })).toMatchObject({ adapters: [pair], list: false });
    expect(caption({ adapters: ['a', pair, 'b'] })).toMatchObject({ adapters: ['a', pair, 'b'], list: true });
    expect(parser.completion({ model: 'tiny', adapter: pair, prompt: 'x' })).toMatchObject({
      named: pair,
      model: '0.7*a+-4*tenant/b',
    });
    const eight = { blend: Array.from({ length: 8 }, (_, index) => part(`a${index}`, 0)) };
    expect(caption({ adapter: eight })).toMatchObject({ adapters: [eight] });
  });

  test('is JSON text in a form, by itself or in the list', () => {
    const text = JSON.stringify(pair);
    expect(form({ adapter: ` ${text}` })).toMatchObject({ adapters: [pair], list: false });
    expect(form({ adapters: [text, 'x, y'] })).toMatchObject({ adapters: [pair, 'x', 'y'], list: true });
    expect(form({ adapters: text })).toMatchObject({ adapters: [pair], list: true });
    expect(() => form({ adapter: text.slice(0, -1) })).toThrow('adapter: Expected an adapter name, or {"blend": [');
  });

  test.each<[string, unknown, string]>([
    ['of one', { blend: [part('a', 1)] }, 'adapter.blend: Expected 2 to 8 adapters but received [{"name":"a","weight":1}]'],
    [
      'of nine',
      { blend: Array.from({ length: 9 }, (_, at) => part(`a${at}`, 1)) },
      'adapter.blend: Expected 2 to 8 adapters but',
    ],
    ['of one twice', { blend: [part('a', 1), part('a', 2)] }, 'adapter.blend: Expected each name once but received'],
    ['that is no list', { blend: 'a' }, 'adapter.blend: Expected a list of 2 to 8 adapters but received "a"'],
    ['of names alone', { blend: ['a', 'b'] }, 'adapter.blend[0]: Expected an object of name and weight alone but received "a"'],
    [
      'of a blend',
      { blend: [part('a', 1), part(pair, 1)] },
      'adapter.blend[1].name: Expected the name of one adapter, and no blend, but received {"blend":',
    ],
    [
      'of a name that is none',
      { blend: [part('../a', 1), part('b', 1)] },
      'adapter.blend[0].name: Expected the name of one adapter',
    ],
    [
      'without a weight',
      { blend: [part('a', 1), { name: 'b' }] },
      'adapter.blend[1].weight: Expected a number from -4 to 4 but received nothing',
    ],
    [
      'with a weight too large',
      { blend: [part('a', 4.5), part('b', 1)] },
      'adapter.blend[0].weight: Expected a number from -4 to 4 but received 4.5',
    ],
    [
      'with a weight that is none',
      { blend: [part('a', '1'), part('b', 1)] },
      'adapter.blend[0].weight: Expected a number from -4 to 4 but received "1"',
    ],
    [
      'with more in a part',
      { blend: [{ ...part('a', 1), rank: 3 }, part('b', 1)] },
      'adapter.blend[0]: Expected an object of name and weight alone',
    ],
    [
      'with more beside it',
      { ...pair, normalize: true },
      'adapter: Expected an adapter name or an object of blend alone but received',
    ],
    ['of nothing', {}, 'adapter.blend: Expected a list of 2 to 8 adapters but received nothing'],
  ])('%s is refused at its place', (_, adapter, message) => {
    expect(() => caption({ adapter })).toThrow(expect.objectContaining({ code: 'invalid_request', param: 'adapter' }));
    expect(() => caption({ adapter })).toThrow(message);
    expect(() => caption({ adapters: ['x', adapter] })).toThrow(message.replace('adapter', 'adapters[1]'));
  });

  test('asked for twice is refused as a name is', () => {
    expect(() => caption({ adapters: [pair, pair] })).toThrow(
      'adapters: Expected each name once but received 0.7*a+-4*tenant/b, 0.7*a+-4',
    );
  });
});
