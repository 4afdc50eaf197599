/** How long a client may take for its body: a minute, and longer only while much of it comes. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { HttpServer } from '../../../src/http/server.js';

const CHUNK_BYTES = 64_000;

let server: HttpServer;
let socket: Socket;
let line: { received: number; isClosed: boolean };
beforeEach(async () => {
  line = { received: 0, isClosed: false };
  server = await HttpServer.listen((req) => req.on('data', (chunk: Buffer) => (line.received += chunk.byteLength)), {
    host: '127.0.0.1',
    port: 0,
  });
  const { hostname, port } = new URL(server.url);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  socket.on('close', () => {
    line.isClosed = true;
  });
  await once(socket, 'connect');
  socket.write('PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n');
});
afterEach(() => {
  vi.useRealTimers();
  socket.destroy();
  server.close();
});

async function send(chunks: number): Promise<void> {
  const expected = line.received + chunks * CHUNK_BYTES;
  for (let chunk = 0; chunk < chunks; chunk++) socket.write(Buffer.alloc(CHUNK_BYTES));
  while (line.received < expected) await new Promise((resolve) => setImmediate(resolve));
}

/** Whether the line is still there after so long; what the system has to say of it is waited for. */
async function outlives(ms: number): Promise<boolean> {
  vi.advanceTimersByTime(ms);
  for (let turns = 0; turns < 100 && !line.isClosed; turns++) await new Promise((resolve) => setImmediate(resolve));
  return !line.isClosed;
}

it('one that sends nothing is cut off after a minute', async () => {
  await send(1);
  expect(await outlives(59_000)).toBe(true);
  vi.advanceTimersByTime(3_000);
  await once(socket, 'close');
});

it('each 64 kilobytes give it a second more', async () => {
  await send(30);
  expect(await outlives(85_000)).toBe(true);
  await send(30);
  expect(await outlives(30_000)).toBe(true);
  vi.advanceTimersByTime(10_000);
  await once(socket, 'close');
});
