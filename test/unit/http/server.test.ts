/** How long a request may take to come: all of them a while, and those that say so as long as they keep coming. */
import { once } from 'node:events';
import type { IncomingMessage, RequestListener } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { HttpServer, takesTime } from '../../../src/http/server.js';

const TIMEOUT_MS = 100;
const HEAD = 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\n';

let server: HttpServer | undefined;
afterEach(() => server?.close());

/** What a server answers to a body of which a piece comes every so often. */
async function answerTo(listener: RequestListener, pieces: readonly string[], pauseMs: number): Promise<string> {
  server = await HttpServer.listen(listener, { host: '127.0.0.1', port: 0 }, TIMEOUT_MS);
  const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
  socket.on('error', () => undefined);
  let answer = '';
  socket.setEncoding('utf8').on('data', (text: string) => (answer += text));
  const ended = once(socket, 'close');
  socket.write(HEAD);
  for (const piece of pieces) {
    await sleep(pauseMs);
    if (!socket.destroyed) socket.write(piece);
  }
  if (pieces.length === 6) {
    while (!answer.includes('whole')) await sleep(5);
    socket.destroy();
  }
  await ended;
  return answer;
}

const read = (patient: boolean): RequestListener => {
  return (req: IncomingMessage, res) => {
    if (patient) takesTime(req);
    req.resume().once('end', () => res.end('whole'));
  };
};

test('a body that does not come in time gets a 408, and the connection is closed', async () => {
  const answer = await answerTo(read(false), ['1', '2'], 10);
  expect(answer).toMatch(/^HTTP\/1\.1 408 /);
});

test('one of a route that takes its time comes as slowly as it likes', async () => {
  const answer = await answerTo(read(true), ['1', '2', '3', '4', '5', '6'], TIMEOUT_MS / 2);
  expect(answer).toMatch(/^HTTP\/1\.1 200 [\s\S]*whole$/);
});

test('what is slow after its body has come is not cut off', async () => {
  const slow: RequestListener = (req, res) => {
    req.resume().once('end', () => setTimeout(() => res.end('whole'), 2 * TIMEOUT_MS));
  };
  const answer = await answerTo(slow, ['1', '2', '3', '4', '5', '6'], 0);
  expect(answer).toMatch(/^HTTP\/1\.1 200 [\s\S]*whole$/);
});
