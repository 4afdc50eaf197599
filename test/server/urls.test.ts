/** Images by URL, through a whole server. That it fetches nothing from its own network is what can be shown here; the rest is in the unit tests. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { noisePng, post, startTinyServer, type TinyServer } from '../support/server.js';

let requests = 0;
let png: Buffer;
const pictures = createServer((_req, res) => {
  requests++;
  res.writeHead(200, { 'content-type': 'image/png' }).end(png);
});
let place: string;
let open: TinyServer;
let closed: TinyServer;
beforeAll(async () => {
  png = await noisePng();
  await new Promise<void>((resolve) => pictures.listen(0, '127.0.0.1', resolve));
  place = `localhost:${(pictures.address() as AddressInfo).port}`;
  [open, closed] = await Promise.all([startTinyServer(['first'], { imageHosts: place }), startTinyServer(['first'])]);
});
afterAll(async () => {
  await Promise.all([open.close(), closed.close()]);
  await new Promise((resolve) => pictures.close(resolve));
});

const caption = ({ url }: TinyServer, image: string) => post(`${url}/v1/captions`, { image, adapter: 'first', max_tokens: 2 });

test('without a list of hosts a URL is refused, and told apart from text that is no base64', async () => {
  const { status, body } = await caption(closed, `http://${place}/a.png`);
  expect(status).toBe(400);
  expect(body.error).toMatchObject({ code: 'image_url_refused', param: 'image', type: 'invalid_request_error' });
  expect((await caption(closed, 'not base64!')).body.error).toMatchObject({ code: 'invalid_request' });
});

test('a host that is not listed is refused, a listed one inside this network gives nothing; neither is connected to', async () => {
  const other = await caption(open, 'https://elsewhere.example/a.png');
  expect(other.body.error).toMatchObject({
    code: 'image_url_refused',
    message: 'image: Expected a host that this server fetches from but received "elsewhere.example"',
  });
  const inside = await caption(open, `http://${place}/a.png`);
  expect(inside.status).toBe(400);
  expect(inside.body.error).toMatchObject({
    code: 'image_unavailable',
    message: 'image: Expected an image at localhost but it could not be fetched',
  });
  expect(requests).toBe(0);
  expect((await caption(open, png.toString('base64'))).status).toBe(200);
});
