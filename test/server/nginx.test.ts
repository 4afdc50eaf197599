/** The example configuration of nginx in a real nginx: streams go on as they come, images come through, and what is for operators stays inside. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { freePort } from '../support/command.js';
import { events, formOf, noisePng, startTinyServer, type TinyServer, until } from '../support/server.js';

const CONFIG = fileURLToPath(new URL('../../deploy/nginx/graft.conf', import.meta.url));
/** Of Debian's package nginx-light. */
const NGINX = 'nginx';
const isThere = spawnSync(NGINX, ['-v']).error === undefined;

let folder: string;
let nginx: ChildProcess | undefined;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-nginx-'));
});
afterEach(async () => {
  if (!nginx) return;
  const exit = once(nginx, 'exit');
  nginx.kill('SIGTERM');
  await exit;
});
afterAll(() => rm(folder, { recursive: true }));

/** nginx with the example before some server; resolves with its address when it answers. */
async function startNginx(upstream: string): Promise<string> {
  const port = await freePort();
  const example = await readFile(CONFIG, 'utf8');
  const site = example.replace('127.0.0.1:8080', upstream).replace('listen 80;', `listen 127.0.0.1:${port};`);
  expect(site).toContain(`listen 127.0.0.1:${port};`);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`);
  const main = [
    'daemon off;',
    ...(process.getuid?.() === 0 ? ['user root;'] : []),
    `pid ${folder}/nginx.pid;`,
    'error_log stderr error;',
    'events {}',
    `http { access_log off; ${temporary.join(' ')} include ${folder}/graft.conf; }`,
  ];
  await writeFile(path.join(folder, 'graft.conf'), site);
  await writeFile(path.join(folder, 'nginx.conf'), main.join('\n'));
  nginx = spawn(NGINX, ['-p', folder, '-c', 'nginx.conf'], { stdio: 'inherit' });
  const url = `http://127.0.0.1:${port}`;
  await until(() =>
    fetch(url).then(
      () => true,
      () => false,
    ),
  );
  return url;
}

describe.runIf(isThere)('nginx (skipped where it is not installed)', () => {
  test('hands on every event when it comes, not when the answer is complete', async () => {
    const COUNT = 5;
    const reading = new EventEmitter();
    const streaming: Server = createServer((req, res) => {
      if (req.method === 'GET') {
        res.end();
        return;
      }
      // Without the header by which Graft itself asks proxies not to wait: the configuration alone has to do it.
      res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: {"index":0}\n\n');
      // Every further event exists only once the one before has arrived: a proxy that waits, waits for ever.
      reading.on('read', (index: number) => {
        if (index + 1 < COUNT) res.write(`data: {"index":${index + 1}}\n\n`);
        else res.end('data: [DONE]\n\n');
      });
    });
    await new Promise<void>((resolve) => streaming.listen(0, '127.0.0.1', resolve));
    const url = await startNginx(`127.0.0.1:${(streaming.address() as AddressInfo).port}`);
    const indices: unknown[] = [];
    for await (const { index } of events(await fetch(`${url}/v1/captions`, { method: 'POST', body: 'x' }))) {
      indices.push(index);
      reading.emit('read', index);
    }
    expect(indices).toEqual([0, 1, 2, 3, 4]);
    streaming.close();
    streaming.closeAllConnections();
  });

  test('does not read for a reader that has stopped: a slow one slows its own stream, as without nginx', async () => {
    const CHUNK = Buffer.alloc(2 ** 16, 'x');
    // Far more than what sockets hold on their way.
    const CHUNKS = 1024;
    let tell: (end: 'all was taken' | 'it had to wait') => void = () => undefined;
    const ended = new Promise<string>((resolve) => {
      tell = resolve;
    });
    const sending: Server = createServer((req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      if (req.method === 'GET') {
        res.end();
        return;
      }
      void (async () => {
        for (let i = 0; i < CHUNKS; i++) {
          if (res.write(CHUNK)) continue;
          const signal = AbortSignal.timeout(1000);
          await once(res, 'drain', { signal }).catch(() => tell('it had to wait'));
          if (signal.aborted) return;
        }
        tell('all was taken');
      })();
    });
    await new Promise<void>((resolve) => sending.listen(0, '127.0.0.1', resolve));
    const url = await startNginx(`127.0.0.1:${(sending.address() as AddressInfo).port}`);
    const gone = new AbortController();
    await fetch(`${url}/v1/captions`, { method: 'POST', body: 'x', signal: gone.signal });
    expect(await ended).toBe('it had to wait');
    gone.abort();
    sending.closeAllConnections();
    sending.close();
  });

  describe('before a server', () => {
    let tiny: TinyServer;
    beforeAll(async () => {
      tiny = await startTinyServer(['first']);
    });
    afterAll(() => tiny.close());

    test('lets through images of several megabytes, streams, and a caller’s id', async () => {
      const url = await startNginx(new URL(tiny.url).host);
      const image = await noisePng(1, 1200, 900);
      expect(image.length).toBeGreaterThan(3e6);
      const headers = { 'x-request-id': 'from-outside' };
      const body = formOf({ image, adapter: 'first', stream: 'true', max_tokens: '5' });
      const reply = await fetch(`${url}/v1/captions`, { method: 'POST', body, headers });
      expect(reply.headers.get('x-request-id')).toBe('from-outside');
      expect(reply.headers.get('content-type')).toContain('text/event-stream');
      const received = [];
      for await (const event of events(reply)) received.push(event.object);
      expect(received.at(-1)).toBe('caption');
      const json = JSON.stringify({ image: image.toString('base64'), adapter: 'first', max_tokens: 2 });
      const whole = await fetch(`${url}/v1/captions`, {
        method: 'POST',
        body: json,
        headers: { 'content-type': 'application/json' },
      });
      expect(whole.status).toBe(200);
      expect(whole.headers.get('x-request-id')).toMatch(/^[0-9a-f]{32}$/);
    });

    test('shows the metrics to its own machine', async () => {
      const url = await startNginx(new URL(tiny.url).host);
      expect(await (await fetch(`${url}/metrics`)).text()).toContain('graft_num_requests_running 0');
    });
  });
});
