/** Tenants over HTTP: whose key opens what, how they come and go while the server runs, and what they cannot learn of each other. */
import { execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startServer } from '../../src/cli/serve.js';
import { loadConfig } from '../../src/config.js';
import { makeKey } from '../../src/tenants/key.js';
import { type Body, events, formOf, makeTinyFolder, noisePng, tinyFlags, until } from '../support/server.js';
import { bearer, metricAs, startTenantServer, type TenantServer, tenantsFile } from '../support/tenants.js';

const TENANTS = {
  acme: 'adapters: [shared]',
  other: 'adapters: [shared]',
  old: 'adapters: [shared]',
  ops: 'admin: true',
};

let server: TenantServer;
beforeAll(async () => {
  server = await startTenantServer(['acme/own', 'shared'], TENANTS);
});
afterAll(() => server.close());

const headersOf = (tenant: string) => bearer(server.keys[tenant]);
async function caption(tenant: string, fields: Record<string, string | Uint8Array>): Promise<{ status: number; body: Body }> {
  const body = formOf({ image: await noisePng(), max_tokens: '2', ...fields });
  const response = await fetch(`${server.url}/v1/captions`, { method: 'POST', body, headers: headersOf(tenant) });
  return { status: response.status, body: (await response.json()) as Body };
}
async function get(where: string, headers: Record<string, string>): Promise<{ status: number; body: Body }> {
  const response = await fetch(server.url + where, { headers });
  return { status: response.status, body: (await response.json()) as Body };
}
const namesOf = async (tenant: string) => (await get('/v1/adapters', headersOf(tenant))).body.data?.map(({ name }) => name);
const opsMetric = (series: string) => metricAs(server.keys['ops'], server.url, series);

describe('a key', () => {
  test('opens what is its tenant’s, in either header', async () => {
    expect(await caption('acme', { adapter: 'acme/own' })).toMatchObject({ status: 200 });
    expect(await caption('acme', { adapter: 'shared' })).toMatchObject({ status: 200 });
    expect(await caption('other', { adapter: 'acme/own' })).toMatchObject({
      status: 404,
      body: { error: { code: 'adapter_not_found' } },
    });
    expect(await namesOf('acme')).toEqual(['acme/own', 'shared']);
    expect(await namesOf('other')).toEqual(['shared']);
    expect(await namesOf('ops')).toEqual(['acme/own', 'shared']);
    const key = server.keys['acme'] ?? '';
    expect((await get('/v1/models', { 'x-api-key': key })).body.data).toHaveLength(3);
    expect((await get('/v1/models', { authorization: `bearer  ${key}` })).status).toBe(200);
    expect((await get('/v1/models', { authorization: key })).status).toBe(401);
    expect((await get(`/v1/models?api_key=${key}&key=${key}`, {})).status).toBe(401);
  });

  test('is what OpenAI’s client sends', async () => {
    const client = (apiKey: string | undefined) =>
      new OpenAI({ baseURL: `${server.url}/v1`, apiKey: apiKey ?? '', maxRetries: 0 });
    const ask = { model: 'acme/own', prompt: 'a dog', max_tokens: 2 };
    expect((await client(server.keys['acme']).completions.create(ask)).choices).toHaveLength(1);
    await expect(client(server.keys['other']).completions.create(ask)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(client(makeKey()).completions.create(ask)).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  });

  test('is asked for before anything of a request is read', async () => {
    const response = await fetch(`${server.url}/v1/captions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"image":',
    });
    expect(response.status).toBe(401);
    expect(response.headers.get('www-authenticate')).toBe('Bearer realm="graft"');
    expect(await response.json()).toMatchObject({
      error: { type: 'authentication_error', code: 'invalid_api_key', param: null },
    });
  });
});

test('where there are tenants, nobody is told without a key how many adapters there are', async () => {
  expect((await get('/health/ready', {})).body).toEqual({ status: 'ready', backbone: 'tiny' });
  expect(await opsMetric('graft_adapters_registered')).toBe(2);
});

test('where an adapter is kept, and how many use it, is for operators', async () => {
  const shown = async (tenant: string) => (await get('/v1/adapters', headersOf(tenant))).body.data?.at(-1);
  expect(await shown('acme')).toMatchObject({ name: 'shared', leases: null, source: null });
  expect(await shown('ops')).toMatchObject({ name: 'shared', leases: 0 });
});

test('the features of an image are found again by who has sent it before, and by nobody else', async () => {
  const image = await noisePng(77);
  const seen = async (tenant: string): Promise<string> => {
    const [hits, misses] = [await opsMetric('graft_vision_cache_hits_total'), await opsMetric('graft_vision_cache_misses_total')];
    const { body } = await caption(tenant, { image, adapter: 'shared' });
    const now = [await opsMetric('graft_vision_cache_hits_total'), await opsMetric('graft_vision_cache_misses_total')];
    const found = `${(now[0] ?? 0) - hits} hits, ${(now[1] ?? 0) - misses} misses`;
    return `${found}${body.timings?.['vision_ms'] === 0 ? ', no time' : ''}`;
  };
  expect(await seen('acme')).toBe('0 hits, 1 misses');
  expect(await seen('acme')).toBe('1 hits, 0 misses, no time');
  expect(await seen('other')).toBe('0 hits, 1 misses');
  expect(await seen('ops')).toBe('0 hits, 1 misses');
  expect(await seen('other')).toBe('1 hits, 0 misses, no time');
  // And still they are the same features: the captions are.
  const texts = await Promise.all(
    ['acme', 'other'].map(async (tenant) => (await caption(tenant, { image, adapter: 'shared' })).body),
  );
  expect(texts[0]?.captions).toEqual(texts[1]?.captions);
});

describe('while the server runs', () => {
  test('a tenant that is removed finishes what it has begun, and its key is dead', async () => {
    const body = formOf({
      image: await noisePng(),
      adapter: 'shared',
      stream: 'true',
      temperature: '2',
      n: '8',
      max_tokens: '110',
    });
    const response = await fetch(`${server.url}/v1/captions`, { method: 'POST', body, headers: headersOf('old') });
    const received: Body[] = [];
    for await (const event of events(response)) {
      received.push(event);
      if (received.length > 1) continue;
      const { old: _, ...left } = TENANTS;
      await writeFile(server.file, tenantsFile(server.keys, left));
      await until(async () => (await get('/v1/models', headersOf('old'))).status === 401);
    }
    expect(received.at(-1)?.captions).toHaveLength(8);
    expect((await get('/v1/models', headersOf('acme'))).status).toBe(200);
  });

  test('a file that is broken, or gone, leaves everybody as they were, and is counted', async () => {
    const failed = 'graft_tenants_reloads_total{outcome="failed"}';
    expect(await opsMetric(failed)).toBeNaN();
    await writeFile(server.file, 'tenants: {acme: {keys: x}}');
    await until(async () => (await opsMetric(failed)) === 1);
    expect(await namesOf('acme')).toEqual(['acme/own', 'shared']);
    await unlink(server.file);
    await until(async () => (await opsMetric(failed)) === 2);
    expect(await namesOf('acme')).toEqual(['acme/own', 'shared']);

    const narrower = { ...TENANTS, acme: '' };
    await writeFile(server.file, tenantsFile(server.keys, narrower));
    await until(async () => (await namesOf('acme'))?.length === 1);
    expect(await namesOf('acme')).toEqual(['acme/own']);
    expect(await opsMetric('graft_tenants_reloads_total{outcome="ok"}')).toBe(2);
  });
});

test('a server whose tenants are wrong does not start', async () => {
  const folder = await makeTinyFolder([]);
  await writeFile(path.join(folder, 't.yaml'), 'tenants: {A: {}, b: {weight: x}}');
  const config = await loadConfig({ flags: { ...tinyFlags(folder), tenants: 't.yaml' }, env: {}, folder });
  await expect(startServer(config)).rejects.toMatchObject({
    code: 'invalid_config',
    faults: [expect.stringContaining('received "A"'), expect.stringContaining('tenants.b.weight')],
  });
  await rm(folder, { recursive: true });
});

describe('the command', () => {
  const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
  const NODE = ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href, MAIN];
  let folder: string;
  beforeAll(async () => {
    folder = await makeTinyFolder(['acme/own']);
  });
  afterAll(() => rm(folder, { recursive: true }));

  const env = { PATH: process.env['PATH'] };
  const graft = (...args: readonly string[]) =>
    spawnSync(process.execPath, [...NODE, ...args], { cwd: folder, encoding: 'utf8', env });
  const serve = (...args: readonly string[]) => {
    const flags = Object.entries(tinyFlags(folder)).flatMap(([name, value]) => [
      `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
      value,
    ]);
    return spawn(process.execPath, [...NODE, 'serve', ...flags, ...args], {
      cwd: folder,
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  };
  async function ready(child: ReturnType<typeof serve>): Promise<{ line: string; url: string }> {
    let printed = '';
    for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
      printed += String(chunk);
      const [line, url] = /graft is ready on (\S+) .*/.exec(printed) ?? [];
      if (line !== undefined && url !== undefined) return { line, url };
    }
    throw new Error(`Expected a ready server but it printed ${printed}`);
  }

  test('a shell has the key alone; a server takes it up, reads again on SIGHUP, and lets go of it', async () => {
    const shell = `KEY=$("$@" keys create acme --id laptop 2>notes) && printf %s "$KEY"`;
    const { stdout: key } = await promisify(execFile)('/bin/sh', ['-c', shell, 'sh', process.execPath, ...NODE], {
      cwd: folder,
      env,
    });
    expect(key).toMatch(/^graft_[\w-]{43}$/);
    expect(await readFile(path.join(folder, 'notes'), 'utf8')).toMatch(/^new tenant acme: key laptop is in tenants\.yaml/);

    const child = serve('--tenants', 'tenants.yaml', '--host', '0.0.0.0', '--log-level', 'info');
    const exit = once(child, 'exit');
    try {
      const { line, url } = await ready(child);
      let log = '';
      child.stdout.on('data', (chunk: Buffer) => (log += chunk.toString()));
      expect(line).toMatch(/^graft is ready on http:\/\/0\.0\.0\.0:\d+ \(backbone tiny, 1 adapter\); 1 tenant$/);
      const local = url.replace('0.0.0.0', '127.0.0.1');
      const status = async () => (await fetch(`${local}/v1/models/acme/own`, { headers: bearer(key) })).status;
      expect(await status()).toBe(200);
      // Nothing has changed, and still they are read again.
      child.kill('SIGHUP');
      await until(() => log.includes('"tenants":1,"msg":"the tenants were read again"'));
      expect(graft('keys', 'list')).toMatchObject({
        status: 0,
        stdout: 'TENANT  KEY     EXPIRES\nacme    laptop  never\n',
        stderr: '',
      });
      expect(graft('keys', 'revoke', 'acme', 'laptop').status).toBe(0);
      await until(async () => (await status()) === 401);
      expect(log).not.toContain(key);
    } finally {
      child.kill('SIGTERM');
      expect(await exit).toEqual([0, null]);
    }
  });

  test('without tenants it is for its own machine, and says so; others are let in when that is said', async () => {
    const child = serve();
    expect((await ready(child)).line).toMatch(/ \(backbone tiny, 1 adapter\); no tenants: for this machine alone$/);
    child.kill('SIGTERM');
    await once(child, 'exit');

    const refused = graft('serve', '--backbone', 'backbone', '--host', '0.0.0.0');
    expect(refused).toMatchObject({ status: 1, stdout: '' });
    expect(refused.stderr).toMatch(
      /^graft: .*host: Expected this machine alone .* but received "0\.0\.0\.0": .*--tenants .*--open/,
    );

    const open = serve('--host', '0.0.0.0', '--open');
    expect((await ready(open)).line).toMatch(/; no tenants: open to all who reach it$/);
    open.kill('SIGTERM');
    await once(open, 'exit');
  });

  test('teaches with --help, and says plainly what is wrong', async () => {
    const { stdout } = graft('keys', 'create', '--help');
    expect(stdout).toContain('KEY=$(graft keys create acme --id laptop --expires 90d)');
    const nowhere = await mkdtemp(path.join(tmpdir(), 'graft-nowhere-'));
    expect(graft('keys', 'revoke', 'acme', 'x', '--tenants', path.join(nowhere, 't.yaml'))).toMatchObject({
      status: 1,
      stdout: '',
      stderr: 'graft: Expected a tenant that is there but received acme\n',
    });
    await rm(nowhere, { recursive: true });
  });
});
