import { afterAll, beforeAll, expect, test } from 'vitest';
import { formOf, noisePng, post, startTinyServer, type TinyServer } from '../support/server.js';

let tiny: TinyServer;
/** Larger than one message between processes, and than a text that is parsed as a whole. */
let png: Buffer;
beforeAll(async () => {
  tiny = await startTinyServer(['first'], { maxImageBytes: '3MB' });
  png = await noisePng(1, 900, 800);
});
afterAll(() => tiny.close());

const captions = async (body: FormData | object | string) => {
  const reply = await post(`${tiny.url}/v1/captions`, body);
  return { status: reply.status, captions: reply.body.captions };
};

test('a large image gets the same caption as a form’s file, as base64 and as a data URI with escaped slashes', async () => {
  expect(png.length).toBeGreaterThan(2 * 1024 ** 2);
  const base64 = png.toString('base64');
  const form = await captions(formOf({ image: png, adapter: 'first' }));
  expect(form).toMatchObject({ status: 200, captions: [{ text: expect.any(String) }] });
  expect(await captions({ image: base64, adapter: 'first' })).toEqual(form);
  const escaped = JSON.stringify({ adapter: 'first', image: `data:image/png;base64,${base64}` }).replaceAll('/', '\\/');
  expect(await captions(escaped)).toEqual(form);
});

test('a form of unknown length is taken, one that is too large refused', async () => {
  const whole = new Response(formOf({ image: png, adapter: 'first' }));
  const chunked = await fetch(`${tiny.url}/v1/captions`, {
    method: 'POST',
    headers: { 'content-type': whole.headers.get('content-type') ?? '' },
    body: whole.body,
    duplex: 'half',
  });
  expect(chunked.status).toBe(200);
  const large = Buffer.concat([png], 3_000_001);
  expect(await post(`${tiny.url}/v1/captions`, formOf({ image: large, adapter: 'first' }))).toMatchObject({
    status: 413,
    body: { error: { code: 'payload_too_large', param: 'image' } },
  });
  expect((await captions({ image: large.toString('base64'), adapter: 'first' })).status).toBe(413);
  expect((await captions(formOf({ image: large.subarray(0, 3_000_000), adapter: 'first' }))).status).toBe(200);
});
