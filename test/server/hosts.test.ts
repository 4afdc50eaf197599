/** A server without tenants answers to its own machine's names, whatever name led a browser here; one that is open, or has tenants, to any. */
import { request } from 'node:http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTinyServer, type TinyServer } from '../support/server.js';

let own: TinyServer;
let open: TinyServer;
beforeAll(async () => {
  [own, open] = await Promise.all([startTinyServer(['a']), startTinyServer(['a'], { open: 'true' })]);
});
afterAll(() => Promise.all([own.close(), open.close()]));

/** The status and the error's code of a request that says this is its host; fetch would not let it. */
function askedAs(
  server: TinyServer,
  path: string,
  host: string,
): Promise<{ status: number | undefined; code: string | undefined }> {
  return new Promise((resolve, reject) => {
    const sent = request(`${server.url}${path}`, { headers: { host } }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => {
        const body = text.startsWith('{') ? (JSON.parse(text) as { error?: { code: string } }) : {};
        resolve({ status: response.statusCode, code: body.error?.code });
      });
    });
    sent.on('error', reject);
    sent.end();
  });
}

test.each(['localhost', 'LOCALHOST:8080', '127.0.0.1', '127.0.0.1:8080', '127.1.2.3', '[::1]', '[::1]:8080'])(
  '%s is this machine',
  async (host) => {
    expect(await askedAs(own, '/v1/adapters', host)).toEqual({ status: 200, code: undefined });
  },
);

test.each([
  'graft.example',
  'localhost.example:8080',
  'example.localhost.',
  '127.0.0.1.example',
  '192.168.1.2:8080',
  '[::2]',
  '0.0.0.0',
])('%s is not, on any route', async (host) => {
  for (const path of ['/v1/adapters', '/', '/metrics', '/health/live', '/nowhere'])
    expect(await askedAs(own, path, host)).toEqual({ status: 403, code: 'foreign_host' });
});

test('who opened the server to all has opened it under every name', async () => {
  expect(await askedAs(open, '/v1/adapters', 'graft.example')).toEqual({ status: 200, code: undefined });
});
