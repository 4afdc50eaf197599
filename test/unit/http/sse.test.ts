import { once } from 'node:events';
import { connect } from 'node:net';
import express, { type Response } from 'express';
import { afterEach, expect, test } from 'vitest';
import { HttpServer } from '../../../src/http/server.js';
import { EventWriter } from '../../../src/http/sse.js';

let server: HttpServer | undefined;
afterEach(() => server?.close());

/** A server whose every request is answered by `answer`. */
async function serve(answer: (res: Response) => void): Promise<string> {
  const app = express().use((_req, res) => answer(res));
  server = await HttpServer.listen(app, { host: '127.0.0.1', port: 0 });
  return server.url;
}

test('events are data blocks, [DONE] is the last', async () => {
  const url = await serve((res) => {
    const writer = new EventWriter(res, new AbortController().signal);
    void writer
      .send({ text: 'a\nb\n\n漢' })
      .then(() => writer.send({ n: 2 }))
      .then(() => writer.end());
  });
  const response = await fetch(url);
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
  expect(await response.text()).toBe('data: {"text":"a\\nb\\n\\n漢"}\n\ndata: {"n":2}\n\ndata: [DONE]\n\n');
});

test('a client that does not read holds its writer up, and is cut off when the time is up', async () => {
  const controller = new AbortController();
  let sent = 0;
  const stuck = new Promise<Response>((resolve) => {
    void serve((res) => {
      const writer = new EventWriter(res, controller.signal);
      const fill = async (): Promise<void> => {
        while (!res.destroyed) {
          const sending = writer.send({ text: 'x'.repeat(65_536) });
          if (res.writableNeedDrain) resolve(res);
          await sending;
          sent++;
        }
      };
      void fill();
    }).then((url) => {
      const socket = connect(Number(new URL(url).port), '127.0.0.1');
      socket.on('error', () => undefined);
      socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
      socket.pause();
    });
  });
  const res = await stuck;
  controller.abort();
  await once(res, 'close');
  expect(res.destroyed).toBe(true);
  expect(sent * 65_536).toBeLessThan(64e6);
});

test('a server that is told to drain waits for the replies it has begun', async () => {
  const begun: Response[] = [];
  const url = await serve((res) => begun.push(res));
  const reply = fetch(url);
  while (begun.length === 0) await new Promise((resolve) => setImmediate(resolve));
  let drained = false;
  const draining = server?.drain(60_000).then(() => {
    drained = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(drained).toBe(false);
  begun[0]?.end('done');
  expect(await (await reply).text()).toBe('done');
  await draining;
  expect(drained).toBe(true);
});
