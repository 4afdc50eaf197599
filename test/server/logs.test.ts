/**
 * What a busy server writes, at the lowest level: enough to see where the time went, and nothing of what anybody asked, sent or got. Everything that
 * is secret in the requests of this file is a word of its own, and all output is searched for all of them.
 */
import { once } from 'node:events';
import { readFile, rm } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ServeCommand, serveCommand } from '../support/command.js';
import { type Body, events, formOf, makeTinyFolder, noisePng, until } from '../support/server.js';

/** The words that no line may have; more are added as they are made. */
const SECRETS = [
  'graft_secretkey',
  'secretother',
  'secretcookie',
  'secretprompt',
  'secretmessage',
  'secretstop',
  'secretuser',
  'secretquery',
  'secretfield',
  'secretbroken',
  'secretfile',
  'secretjson',
];
const HEADERS = {
  authorization: 'Bearer graft_secretkey',
  'x-api-key': 'graft_secretother',
  cookie: 'session=secretcookie',
};

let folder: string;
let server: ServeCommand;
beforeAll(async () => {
  folder = await makeTinyFolder(['first', 'second']);
  server = await serveCommand(folder, { logLevel: 'trace' });
});
afterAll(async () => {
  server.child.kill('SIGKILL');
  await rm(folder, { recursive: true });
});

const send = (path: string, body: FormData | object | string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${server.url}${path}`, {
    method: 'POST',
    ...(body instanceof FormData
      ? { body, headers: { ...HEADERS, ...headers } }
      : {
          body: typeof body === 'string' ? body : JSON.stringify(body),
          headers: { 'content-type': 'application/json', ...HEADERS, ...headers },
        }),
  });

/** The requests of the file: of every route and every way to go wrong, all at once. Tells the texts that were answered. */
async function beBusy(): Promise<string[]> {
  const png = await noisePng();
  const image = png.toString('base64');
  // What an image begins with is the same for all of them.
  SECRETS.push(image.slice(60, 90), image.slice(-40, -4));
  const prompt = 'secretprompt of somebody';
  const content = [
    { type: 'text', text: 'secretmessage' },
    { type: 'image_url', image_url: { url: `data:image/png;base64,${image}` } },
  ];
  const upload = new FormData();
  upload.append('image', new Blob([Buffer.from(png)]), 'secretfile.png');
  upload.append('adapter', 'first');
  const replies = await Promise.all([
    ...Array.from({ length: 8 }, (_, i) =>
      send('/v1/captions', { image, adapter: i % 2 ? 'first' : 'second', prompt, max_tokens: 40 }),
    ),
    send('/v1/captions?token=secretquery', formOf({ image: png, adapters: 'first,second', prompt, stop: 'secretstop' }), {
      'x-request-id': 'both',
    }),
    send('/v1/captions', upload),
    send('/v1/completions', { model: 'tiny', prompt, max_tokens: 30, temperature: 1, seed: 1 }, { 'x-request-id': 'text' }),
    send('/v1/chat/completions', { model: 'first', messages: [{ role: 'user', content }], max_tokens: 30, user: 'secretuser' }),
    send('/v1/captions', { image, adapter: 'first', secretfield: 1 }),
    send('/v1/captions', '{"image": "secretjson'),
    send('/v1/captions', { image: 'secretbroken', adapter: 'first' }),
    send('/v1/captions', { image: `data:image/png;base64,${Buffer.from('secretbroken').toString('base64')}`, adapter: 'first' }),
    send('/v1/captions', { image, adapter: 'nowhere', prompt }, { 'x-request-id': 'unknown' }),
    send('/v1/completions', { model: 'tiny', prompt: prompt.repeat(100) }),
    fetch(`${server.url}/secretquery`, { headers: HEADERS }),
    fetch(`${server.url}/metrics?key=secretquery`, { headers: HEADERS }),
    fetch(`${server.url}/health/ready`, { headers: HEADERS }),
    fetch(`${server.url}/v1/models`, { headers: HEADERS }),
  ]);
  const bodies = await Promise.all(replies.map((reply) => reply.text()));
  return bodies.flatMap((body) => (body.startsWith('{') ? textsOf(JSON.parse(body) as Body) : []));
}

function textsOf({ captions = [], choices = [], data = [] }: Body): string[] {
  return [...captions.map(({ text }) => text), ...choices.map(({ text }) => text ?? ''), ...data.flatMap(textsOf)];
}

/** A stream whose engine dies under it: what is told of that is told at once, by three processes. */
async function beKilled(): Promise<void> {
  const response = await send('/v1/completions', {
    model: 'tiny',
    prompt: 'secretprompt',
    stream: true,
    temperature: 2,
    n: 8,
    max_tokens: 120,
  });
  const children = await readFile(`/proc/${server.child.pid}/task/${server.child.pid}/children`, 'utf8').catch(() => '');
  for (const pid of children.split(' ').filter(Boolean)) process.kill(Number(pid), 'SIGKILL');
  for await (const _ of events(response));
  await until(() => children === '' || server.output().includes('the engine process ended'));
}

test('no image, prompt, caption, key or header is in any line, whatever goes well or wrong', async () => {
  const texts = await beBusy();
  await beKilled();
  const exit = once(server.child, 'exit');
  server.child.kill('SIGTERM');
  await exit;

  const output = server.output();
  const lines = output.split('\n').filter((line) => line.startsWith('{'));
  const logged = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(logged.length).toBeGreaterThan(22);
  for (const outcome of ['ok', 'invalid_request', 'unknown_field', 'adapter_not_found', 'context_length_exceeded', 'not_found'])
    expect(logged).toContainEqual(expect.objectContaining({ outcome }));

  const long = texts.filter((text) => text.trim().length >= 8);
  expect(long.length).toBeGreaterThan(5);
  for (const secret of [...SECRETS, ...long]) expect(output, secret).not.toContain(secret);
  expect(output).not.toMatch(/authorization|bearer|x-api-key|cookie/i);

  const number = expect.any(Number) as number;
  const digest = expect.stringMatching(/^sha256:[0-9a-f]{64}$/) as string;
  expect(logged.find(({ id }) => id === 'both')).toMatchObject({
    method: 'POST',
    route: '/v1/captions',
    status: 200,
    outcome: 'ok',
    adapters: [digest, digest],
    queueMs: number,
    adapterMs: number,
    visionMs: number,
    prefillMs: number,
    decodeMs: number,
    imageTokens: 8,
    completionTokens: number,
  });
  expect(logged.find(({ id }) => id === 'text')).toMatchObject({ adapters: [], imageTokens: 0, completionTokens: number });
  expect(logged.find(({ id }) => id === 'unknown')).not.toHaveProperty('decodeMs');
});
