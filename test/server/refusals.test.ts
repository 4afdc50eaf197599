import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formOf, get, metric, noisePng, post, startTinyServer, type TinyServer } from '../support/server.js';

let tiny: TinyServer;
let png: Buffer;
beforeAll(async () => {
  tiny = await startTinyServer(['first'], {
    maxImageBytes: '20KB',
    maxImagePixels: '10000',
    queueLimit: '2',
    maxBatch: '1',
    maxTokens: '60',
  });
  png = await noisePng();
});
afterAll(() => tiny.close());

const caption = (fields: object) => post(`${tiny.url}/v1/captions`, formOf({ image: png, adapter: 'first', ...fields }));
const json = (body: object | string, headers = {}) => post(`${tiny.url}/v1/captions`, body, headers);

describe('what is refused, and how', () => {
  test.each([
    ['max_tokens', '0', 'an integer from 1 to 60 but received 0'],
    ['max_tokens', '61', 'an integer from 1 to 60 but received 61'],
    ['max_tokens', '2.5', 'an integer from 1 to 60 but received 2.5'],
    ['temperature', 'NaN', 'a number from 0 to 2 but received "NaN"'],
    ['temperature', 'Infinity', 'a number from 0 to 2 but received "Infinity"'],
    ['temperature', '1e999', 'a number from 0 to 2 but received Infinity'],
    ['top_p', '0', 'above 0, at most 1 but received 0'],
    ['seed', '1e300', 'but received 1e+300'],
    ['stream', 'yes', 'true or false but received "yes"'],
    [
      'adapter',
      '../first',
      'Expected an adapter name, or {"blend": [{"name": ..., "weight": ...}, ...]} of 2 to 8 adapters but received "../first"',
    ],
    ['stop', '', 'of 1 to 256 characters'],
    ['n', '2', 'from 1 to 1 but received 2'],
    ['timeout_ms', '60001', 'from 1 to 60000 but received 60001'],
  ])('a form with %s=%s', async (field, value, message) => {
    const { status, body } = await caption({ [field]: value });
    expect(status).toBe(400);
    expect(body.error).toMatchObject({ type: 'invalid_request_error', code: 'invalid_request', param: field });
    expect(body.error?.message).toContain(message);
  });

  test('JSON that is no request: unknown fields, wrong types, no object, not JSON, no image, no adapter', async () => {
    const image = png.toString('base64');
    expect(await json({ image, adapter: 'first', tokens: 3 })).toMatchObject({
      status: 400,
      body: { error: { code: 'unknown_field', param: 'tokens' } },
    });
    expect(await json('{"image":"aaaa","__proto__":{}}')).toMatchObject({
      status: 400,
      body: { error: { code: 'unknown_field', param: '__proto__' } },
    });
    expect(await json({ image, adapter: 'first', max_tokens: '3' })).toMatchObject({
      status: 400,
      body: { error: { param: 'max_tokens' } },
    });
    expect(await json([])).toMatchObject({ status: 400, body: { error: { code: 'invalid_request' } } });
    expect(await json('{"image":')).toMatchObject({ status: 400, body: { error: { code: 'invalid_request' } } });
    expect(await json({ adapter: 'first' })).toMatchObject({ status: 400, body: { error: { param: 'image' } } });
    expect(await json({ image })).toMatchObject({
      status: 400,
      body: { error: { code: 'adapter_required', message: expect.stringContaining('first') } },
    });
    expect(await json({ image: 'http://127.0.0.1/x.png', adapter: 'first' })).toMatchObject({
      status: 400,
      body: { error: { param: 'image' } },
    });
  });

  test('images that are none, of another kind, too large in bytes or in pixels', async () => {
    expect(await caption({ image: Buffer.from('hello') })).toMatchObject({
      status: 400,
      body: { error: { code: 'invalid_image' } },
    });
    expect(await caption({ image: Buffer.from('GIF89a\x01\x00\x01\x00') })).toMatchObject({
      status: 415,
      body: { error: { code: 'unsupported_image' } },
    });
    expect(await caption({ image: Buffer.alloc(20_001) })).toMatchObject({
      status: 413,
      body: { error: { code: 'payload_too_large', param: 'image' } },
    });
    const base64 = Buffer.alloc(20_001).toString('base64');
    expect(await json({ image: base64, adapter: 'first' })).toMatchObject({
      status: 413,
      body: { error: { code: 'payload_too_large' } },
    });
    expect(await json({ image: 'a'.repeat(2_000_000), adapter: 'first' })).toMatchObject({
      status: 413,
      body: { error: { code: 'payload_too_large' } },
    });
    const wide = await sharp({ create: { width: 201, height: 50, channels: 3, background: 'red' } })
      .png()
      .toBuffer();
    expect(await caption({ image: wide })).toMatchObject({
      status: 413,
      body: { error: { code: 'image_too_large', message: expect.stringContaining('10050') } },
    });
  });

  test('a prompt that leaves no room for an answer, with the numbers', async () => {
    const { status, body } = await caption({ prompt: 'z '.repeat(300) });
    expect(status).toBe(400);
    expect(body.error).toMatchObject({ code: 'context_length_exceeded', param: 'prompt' });
    expect(body.error?.message).toMatch(/fewer than 128 tokens.* but received 60\d \(4 of them the image's\)/);
  });

  test('forms that are none, have two images, or a file where none belongs', async () => {
    const raw = await fetch(`${tiny.url}/v1/captions`, {
      method: 'POST',
      headers: { 'content-type': 'multipart/form-data; boundary=x' },
      body: 'garbage',
    });
    expect(raw.status).toBe(400);
    const two = formOf({ image: png });
    two.append('image', new Blob([new Uint8Array(3)]), 'b.png');
    expect(await post(`${tiny.url}/v1/captions`, two)).toMatchObject({ status: 400, body: { error: { param: 'image' } } });
    expect(await caption({ photo: png })).toMatchObject({
      status: 400,
      body: { error: { code: expect.stringMatching(/unknown_field|invalid_request/) } },
    });
  });

  test('unknown paths, wrong methods and wrong media types', async () => {
    expect(await get(`${tiny.url}/v2/captions`)).toMatchObject({ status: 404, body: { error: { code: 'not_found' } } });
    const wrong = await get(`${tiny.url}/v1/captions`);
    expect(wrong).toMatchObject({ status: 405, body: { error: { code: 'method_not_allowed' } } });
    expect(wrong.headers.get('allow')).toBe('POST');
    expect(await json('x', { 'content-type': 'text/plain' })).toMatchObject({
      status: 415,
      body: { error: { code: 'unsupported_media_type' } },
    });
    expect(await get(`${tiny.url}/v1/models/%zz`)).toMatchObject({ status: 400, body: { error: { code: 'invalid_request' } } });
  });

  test('a request whose time is up is a 504', async () => {
    const { status, headers, body } = await caption({ timeout_ms: '1' });
    expect(status).toBe(504);
    expect(body.error).toMatchObject({ code: 'deadline_exceeded', message: expect.stringContaining('within 1 ms') });
    expect(headers.get('retry-after')).toBe('1');
  });
});

test('more requests than may wait get a 429 with Retry-After, the others their captions', async () => {
  const replies = await Promise.all(Array.from({ length: 40 }, () => caption({ max_tokens: '60' })));
  const refused = replies.filter(({ status }) => status === 429);
  expect(refused.length).toBeGreaterThan(0);
  for (const { headers, body } of refused) {
    expect(body.error).toMatchObject({ type: 'rate_limit_error', code: 'queue_full' });
    expect(headers.get('retry-after')).toBe('1');
  }
  const served = replies.filter(({ status }) => status === 200);
  expect(served.length).toBe(replies.length - refused.length);
  expect(served.length).toBeGreaterThan(0);
  expect(await metric(tiny.url, 'graft_requests_total{route="/v1/captions",outcome="queue_full"}')).toBe(refused.length);
  expect(await metric(tiny.url, 'graft_queue_length')).toBe(0);
});

test('every reply has a request id: the caller’s where it is well-formed', async () => {
  const own = await fetch(`${tiny.url}/health/live`, { headers: { 'x-request-id': 'abc-1' } });
  expect(own.headers.get('x-request-id')).toBe('abc-1');
  const bad = await fetch(`${tiny.url}/nope`, { headers: { 'x-request-id': 'a b' } });
  expect(bad.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
});
