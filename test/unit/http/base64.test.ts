import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { imageBytes, parseImageJson } from '../../../src/http/base64.js';

const LIMITS = { maxImageBytes: 4_000_000, maxOtherBytes: 1_000_000 };
/** Bytes that are base64 of more than one piece, all 64 characters in it. */
const large = Buffer.from(Uint8Array.from({ length: 1_000_000 }, (_, index) => (index * 7919) >> 3));
const base64 = large.toString('base64');

const parse = (text: string, limits = LIMITS) => parseImageJson(Buffer.from(text), ['image'], limits);

describe('parseImageJson', () => {
  test('gives what JSON.parse gives, and of a long image its bytes', async () => {
    const others = fc.dictionary(
      fc.string().filter((key) => key !== 'image' && key !== '__proto__'),
      fc.jsonValue(),
    );
    const length = fc.integer({ min: 600_000, max: large.length });
    const property = fc.asyncProperty(others, others, length, fc.boolean(), async (before, after, bytes, escaped) => {
      const image = large.subarray(0, bytes);
      const text = `${escaped ? 'data:image/jpeg;base64,' : ''}${image.toString('base64')}`;
      const long = JSON.stringify({ ...before, image: text, ...after });
      const value = (await parse(escaped ? long.replaceAll('/', String.raw`\/`) : long)) as Record<string, unknown>;
      expect(Buffer.compare(value['image'] as Buffer, image)).toBe(0);
      const short = JSON.stringify({ ...before, image: 'aaaa', ...after });
      expect(await parse(short)).toEqual(JSON.parse(short));
      expect({ ...value, image: 'aaaa' }).toEqual(JSON.parse(short));
    });
    await fc.assert(property, { numRuns: 20 });
  });

  test('takes base64 with and without padding, in either alphabet', async () => {
    for (const length of [999_998, 999_999, 1_000_000]) {
      const image = large.subarray(0, length);
      const padded = image.toString('base64');
      for (const text of [padded, padded.replaceAll('=', ''), image.toString('base64url')]) {
        const value = (await parse(JSON.stringify({ image: text }))) as { image: Buffer };
        expect(Buffer.compare(value.image, image)).toBe(0);
      }
    }
  });

  test.each([
    ['a space at the start', ` ${base64.slice(1)}`],
    ['a space in the middle', `${base64.slice(0, 700_001)} ${base64.slice(700_002)}`],
    ['padding in the middle', `${base64.slice(0, 700_000)}====${base64.slice(700_000)}`],
    ['one character too many', `${base64.replaceAll('=', '').slice(0, 1_000_000)}a`],
    ['padding alone', '='.repeat(1_000_000)],
    ['an escape', `${base64.slice(0, 700_000)}\n${base64.slice(700_000)}`],
    ['another kind of data URI', `data:image/png,${base64}`],
  ])('refuses a long text with %s', async (_, image) => {
    await expect(parse(JSON.stringify({ image }))).rejects.toMatchObject({ code: 'invalid_request', param: 'image' });
  });

  test('refuses a larger image, and names both sizes', async () => {
    await expect(parse(JSON.stringify({ image: base64 }), { ...LIMITS, maxImageBytes: 999_999 })).rejects.toMatchObject({
      code: 'payload_too_large',
      message: 'image: Expected at most 999999 bytes but received 1000000',
    });
  });

  test.each([
    ['a long text elsewhere', JSON.stringify({ prompt: base64, image: 'aaaa' })],
    ['two long texts', JSON.stringify({ image: base64, prompt: base64 })],
    ['the long image deeper down', JSON.stringify({ inner: { image: base64 } })],
    ['a long image that another one replaces', `{"image":"${base64}","image":"aaaa"}`],
    ['a long key', JSON.stringify({ [base64]: 'aaaa' })],
    ['a list with a long text', JSON.stringify([base64])],
    ['much that is no text', JSON.stringify({ image: 'aaaa', list: Array.from({ length: 600_000 }, () => 1) })],
  ])('refuses %s', async (_, text) => {
    await expect(parse(text)).rejects.toMatchObject({ code: 'payload_too_large' });
  });

  test.each([
    ['that does not parse', '{"image":'],
    ['with a long text that never ends', `{"image":"${base64}`],
    ['of quotation marks', '"'.repeat(900_000)],
    ['of escaped quotation marks', `{"image":"${'\\"'.repeat(900_000)}"}`],
    ['of nothing', ''],
  ])('refuses a body %s', async (_, text) => {
    await expect(parse(text, { ...LIMITS, maxOtherBytes: 4_000_000 })).rejects.toMatchObject({ code: 'invalid_request' });
  });
});

describe('an image deep inside', () => {
  const PATH = ['messages', '*', 'content', '*', 'image_url', 'url'];
  const deep = (text: string, limits = LIMITS) => parseImageJson(Buffer.from(text), PATH, limits);
  const chat = (...parts: readonly object[]) => ({ model: 'm', messages: [{ role: 'user', content: parts }], user: 'u' });
  const text = { type: 'text', text: 'what is this?' };
  const image = (url: unknown) => ({ type: 'image_url', image_url: { url, detail: 'low' } });

  test('comes as its bytes where it stood, and all else as it was', async () => {
    const uri = `data:image/png;base64,${base64}`;
    for (const before of [[], [text], [text, text, image('https://example.org/a.png')]]) {
      const value = await deep(JSON.stringify(chat(...before, image(uri), text)).replaceAll('/', String.raw`\/`));
      const part = (value as ReturnType<typeof chat>).messages[0]?.content[before.length] as ReturnType<typeof image>;
      expect(Buffer.compare(part.image_url.url as Buffer, large)).toBe(0);
      part.image_url.url = 'here';
      expect(value).toEqual(chat(...before, image('here'), text));
    }
    expect(await deep(JSON.stringify(chat(text, image('data:,a'))))).toEqual(chat(text, image('data:,a')));
  });

  test.each<[string, unknown]>([
    ['in a text part', chat({ type: 'text', text: base64 })],
    ['beside the URL', chat({ type: 'image_url', image_url: { url: 'a', detail: base64 } })],
    ['as a part', chat(base64 as unknown as object)],
    ['at the top, where captions have it', { ...chat(text), image: base64 }],
    ['in a list where an object is expected', chat({ type: 'image_url', image_url: [base64] })],
    ['in an object where a list is expected', { messages: { 0: { content: [image(base64)] } } }],
    ['twice', chat(image(base64), image(base64))],
    ['in a body that is a list', [image(base64)]],
  ])('is refused %s', async (_, body) => {
    await expect(deep(JSON.stringify(body))).rejects.toMatchObject({ code: 'payload_too_large' });
  });

  test('what is wrong with it is said of its place', async () => {
    const body = JSON.stringify(chat(text, image(base64)));
    const param = 'messages[0].content[1].image_url.url';
    await expect(deep(body, { ...LIMITS, maxImageBytes: 999_999 })).rejects.toMatchObject({
      code: 'payload_too_large',
      param,
      message: `${param}: Expected at most 999999 bytes but received 1000000`,
    });
    await expect(deep(JSON.stringify(chat(text, image(` ${base64}`))))).rejects.toMatchObject({ code: 'invalid_request', param });
  });
});

describe('imageBytes', () => {
  test('decodes base64 with or without a data URI', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1 }), (bytes) => {
        const base64 = Buffer.from(bytes).toString('base64');
        expect([...imageBytes(base64, 1e6)]).toEqual([...bytes]);
        expect([...imageBytes(`data:image/webp;base64,${base64}`, 1e6)]).toEqual([...bytes]);
      }),
    );
  });

  test('refuses what is none, and what is too large', () => {
    for (const text of ['', 'data:image/png;base64,', 'not base64!', 'data:image/png,abc', 'aa\n', '=aaa']) {
      expect(() => imageBytes(text, 100), text).toThrow('image: Expected base64 or a data URI');
    }
    expect(() => imageBytes('https://example.org/a.png', 100)).toThrow('a URL, which this server does not fetch');
    expect(() => imageBytes('a'.repeat(200), 100)).toThrow(expect.objectContaining({ code: 'payload_too_large' }));
  });
});
