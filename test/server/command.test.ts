import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Body, events, formOf, get, makeTinyFolder, metric, noisePng, tinyFlags, until } from '../support/server.js';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const NODE = ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href, MAIN];

let folder: string;
let running: ChildProcess | undefined;
beforeAll(async () => {
  folder = await makeTinyFolder(['first']);
});
afterAll(() => rm(folder, { recursive: true }));
afterEach(() => running?.kill('SIGKILL'));

/** `graft serve` on the tiny backbone, once it says that it is ready; with everything it prints. */
async function serve(flags: Record<string, string> = {}): Promise<{ child: ChildProcess; url: string; output: () => string }> {
  const all = Object.entries({ ...tinyFlags(folder), ...flags }).flatMap(([key, value]) => [
    `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
    value,
  ]);
  const child = spawn(process.execPath, [...NODE, 'serve', ...all], { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
  running = child;
  let printed = '';
  child.stdout.setEncoding('utf8');
  for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
    printed += chunk as string;
    const url = /graft is ready on (\S+) \(backbone tiny, 1 adapter\)/.exec(printed)?.[1];
    if (!url) continue;
    child.stdout.on('data', (more: string) => (printed += more));
    return { child, url, output: () => printed };
  }
  throw new Error(`Expected a ready server but it printed ${printed}`);
}

/** A request whose body never ends, once the server is waiting for it. */
async function stuckUpload(url: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.on('error', () => undefined); // The server hangs up in the end.
  socket.write('POST /v1/captions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{');
  await until(async () => (await metric(url, 'graft_queue_length')) === 1);
  return socket;
}

function graft(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [...NODE, ...args], { cwd: folder, encoding: 'utf8', env: { PATH: process.env['PATH'] } });
}

describe('graft serve', () => {
  test('on SIGTERM finishes what it has begun, refuses what is new, and ends with 0', async () => {
    const { child, url, output } = await serve();
    const exit = once(child, 'exit');
    const body = formOf({
      image: await noisePng(),
      adapter: 'first',
      stream: 'true',
      temperature: '2',
      n: '8',
      max_tokens: '110',
    });
    const response = await fetch(`${url}/v1/captions`, { method: 'POST', body });
    const received: Body[] = [];
    for await (const event of events(response)) {
      received.push(event);
      if (received.length > 1) continue;
      child.kill('SIGTERM');
      await until(() => output().includes('graft is stopping'));
      await expect(get(`${url}/health/live`)).rejects.toThrow('fetch failed');
    }
    expect(received.at(-1)?.object).toBe('caption');
    expect(received.at(-1)?.captions).toHaveLength(8);
    expect(await exit).toEqual([0, null]);
  });

  test('gives requests that do not end no more than drainMs', async () => {
    const { child, url } = await serve({ drainMs: '50' });
    const exit = once(child, 'exit');
    const upload = await stuckUpload(url);
    child.kill('SIGTERM');
    expect(await exit).toEqual([0, null]);
    upload.destroy();
  });

  test('on a second signal ends at once', async () => {
    const { child, url, output } = await serve({ drainMs: '3600000' });
    const exit = once(child, 'exit');
    const upload = await stuckUpload(url);
    child.kill('SIGTERM');
    await until(() => output().includes('graft is stopping'));
    child.kill('SIGTERM');
    expect(await exit).toEqual([143, null]);
    upload.destroy();
  });

  test('logs one line a request and one an adapter that it loads, without prompt or image', async () => {
    const { child, url, output } = await serve({ logLevel: 'info' });
    const prompt = 'secretword';
    const response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-request-id': 'log-1' },
      body: JSON.stringify({ model: 'first', prompt, max_tokens: 2 }),
    });
    expect(response.status).toBe(200);
    const exit = once(child, 'exit');
    child.kill('SIGTERM');
    await exit;
    const lines = output()
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines).toEqual([
      expect.objectContaining({
        adapter: 'first',
        digest: expect.stringMatching(/^sha256:/),
        msg: expect.stringMatching(/^matched (\d+) of \1 modules$/),
      }),
      expect.objectContaining({
        id: 'log-1',
        route: '/v1/completions',
        status: 200,
        outcome: 'ok',
        ms: expect.any(Number),
        adapters: [expect.stringMatching(/^sha256:/)],
      }),
    ]);
    expect(output()).not.toContain(prompt);
  });

  test('says plainly what is wrong with a backbone or the settings, and ends with 1', () => {
    const nowhere = graft('serve', '--backbone', 'nowhere');
    expect(nowhere).toMatchObject({ status: 1, stdout: '' });
    expect(nowhere.stderr).toMatch(/^graft: Expected a backbone folder .*nowhere but there is nothing\n$/);
    const settings = graft('serve', '--backbone', 'backbone', '--port', 'x', '--queue-limit', '0');
    expect(settings.stderr).toContain('port (--port): Expected an integer from 0 to 65535 but received "x"');
    expect(settings.stderr).toContain('queueLimit (--queue-limit)');
    const context = graft('serve', '--backbone', 'backbone', '--context-length', '4096', '--port', '0');
    expect(context.status).toBe(1);
    expect(context.stderr).toContain('Expected a context length of at most 128');
  });

  test('teaches with --help', () => {
    const { status, stdout } = graft('serve', '--help');
    expect(status).toBe(0);
    expect(stdout).toContain('--default-adapter');
    expect(stdout).toContain('curl http://127.0.0.1:8080/v1/captions -F image=@photo.jpg');
  });
});

test('graft inspect shows a backbone, and an adapter against it; a misfit ends with 1', () => {
  const backbone = graft('inspect', 'backbone');
  expect(backbone).toMatchObject({ status: 0, stderr: '' });
  expect(backbone.stdout).toMatch(/^backbone backbone: fits\n {2}name +tiny\n[\s\S]*q_proj +attention +32 × 32 +no +- +2/);
  const adapter = graft('inspect', path.join('adapters', 'first'), '--backbone', 'backbone');
  expect(adapter.status).toBe(0);
  expect(adapter.stdout).toMatch(/matched +28 of 28 modules/);
  expect(adapter.stdout).toMatch(/model\.layers\.1\.mlp\.down_proj +rank 2 +rank 2/);
  const misfit = graft('inspect', path.join('adapters', 'first'), '--backbone', path.join('backbone', 'language'));
  expect(misfit.status).toBe(1);
  expect(misfit.stdout).toContain('does not fit');
});

test('graft doctor ends with 0 where all fits, 1 where something does not, 2 where there is nothing to look at', () => {
  const adapter = path.join('adapters', 'first');
  expect(graft('doctor', 'backbone', '--deep')).toMatchObject({ status: 0, stderr: '' });
  expect(graft('doctor', adapter, '--backbone', 'backbone').stdout).toMatch(
    /^adapter \S+first: fits\n[\s\S]* {2}fits backbone +tiny\n/,
  );
  const misfit = graft('doctor', adapter, '--backbone', path.join('backbone', 'language'), '--json');
  expect(misfit).toMatchObject({ status: 1, stderr: '' });
  const { fits, parts } = JSON.parse(misfit.stdout) as {
    fits: boolean;
    parts: { faults: { sentence: string; advice: string }[] }[];
  };
  expect(fits).toBe(false);
  expect(parts[0]?.faults[0]).toMatchObject({
    sentence: expect.stringContaining('Expected contexts among text, all but received "image"') as string,
  });
  expect(graft('doctor', 'nowhere')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('at nowhere but there is nothing') as string,
  });
  expect(graft('doctor', 'backbone', '--depe')).toMatchObject({ status: 2, stderr: expect.stringContaining('--depe') as string });
  expect(graft('doctor', '--help')).toMatchObject({ status: 0 });
});
