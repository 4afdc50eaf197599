/** The library over a hub that misbehaves: what is served, how often the hub is asked, and what those are told who wait. */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestFolder } from '../../../src/adapter/digest.js';
import { AppError } from '../../../src/errors.js';
import { type Misbehaviour, MockHub } from '../../support/hub.js';
import {
  ENGLISH,
  FRENCH,
  hubFiles,
  NEVER,
  openLibrary,
  type TestLibrary,
  type TestLibraryOptions,
} from '../../support/library.js';
import { until } from '../../support/server.js';

const MODEL = 'hf://owner/model';
const TENSORS = 'projector.safetensors';

let folder: string;
let hub: MockHub;
let english: string;
let french: string;
const opened: TestLibrary[] = [];
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-library-'));
  hub = await MockHub.start({ ...(await hubFiles(ENGLISH)), 'pytorch_model.bin': { content: Buffer.from('a pickle') } });
  english = (await digestFolder(ENGLISH)).digest;
  french = (await digestFolder(FRENCH)).digest;
});
afterEach(async () => {
  for (const { sources } of opened.splice(0)) await sources.close();
  await hub.stop();
  await rm(folder, { recursive: true, force: true });
});

async function open(options: Partial<TestLibraryOptions> = {}): Promise<TestLibrary> {
  const library = await openLibrary({
    folder,
    hub: { endpoint: hub.url },
    allowed: ['hf://owner'],
    ...options,
  });
  opened.push(library);
  return library;
}

/** The digest of what is served; the lease is given back. */
async function ask({ sources }: TestLibrary, name = MODEL, signal = NEVER): Promise<string> {
  const held = await sources.acquire(name, signal);
  held.release();
  return held.adapter.ref.digest;
}

/** Publishes another adapter under the same name. */
async function publish(from: string, commit = 'd00d'.repeat(10)): Promise<void> {
  const files = await hubFiles(from);
  hub.files.clear();
  for (const [name, file] of Object.entries(files)) hub.files.set(name, file);
  hub.commit = commit;
}

const looks = () => hub.asked.filter(({ path: asked }) => asked.startsWith('/api/models/owner/model/revision')).length;

/** Misbehaves when a path ends so, the first `times` times. */
function onPath(end: string, times: number, misbehaviour: Misbehaviour): void {
  let left = times;
  hub.misbehaviour = (request, response, asked) => asked.endsWith(end) && left-- > 0 && misbehaviour(request, response, asked);
}

const answer =
  (status: number, headers: Record<string, string> = {}, body: Buffer | string = ''): Misbehaviour =>
  (_, response) => {
    response.writeHead(status, headers).end(body);
    return true;
  };

describe('what is fetched', () => {
  test('is the adapter and no more, under its digest, whole and described', async () => {
    const tested = await open();
    const held = await tested.sources.acquire(MODEL, NEVER);
    expect(held.adapter).toMatchObject({
      name: MODEL,
      source: MODEL,
      ref: { digest: english },
      summary: { format: 'context-peft/1' },
    });
    expect(held.fetchMs).toBeGreaterThan(0);
    expect((await digestFolder(held.adapter.ref.folder)).digest).toBe(english);
    expect(path.basename(held.adapter.ref.folder)).toBe(english.slice(7));
    expect(await readdir(held.adapter.ref.folder)).not.toContain('README.md');
    held.release();
    expect(hub.fetches.map(({ path: asked }) => asked).filter((asked) => /README|\.bin$/.test(asked))).toEqual([]);
    expect(tested.fetched).toEqual([{ kind: 'hub', bytes: held.adapter.bytes }]);
    const again = await tested.sources.acquire(MODEL, NEVER);
    expect(again.fetchMs).toBe(0);
  });

  test('is fetched once, however many ask, and by whatever name', async () => {
    const tested = await open({ named: { mine: MODEL, pinned: `${MODEL}@${hub.commit}` } });
    const names = Array.from({ length: 30 }, (_, index) => ['mine', 'pinned', MODEL][index % 3] ?? '');
    expect(new Set(await Promise.all(names.map((name) => ask(tested, name))))).toEqual(new Set([english]));
    const fetches = hub.fetches.map(({ path: asked }) => asked);
    expect(fetches).toHaveLength(new Set(fetches).size);
    expect(tested.fetched).toHaveLength(1);
    expect(looks()).toBe(3);
  });

  test('comes from a folder of a repository too, and other folders do not matter', async () => {
    hub.files.clear();
    for (const [name, file] of Object.entries({ ...(await hubFiles(ENGLISH, 'en/')), ...(await hubFiles(FRENCH, 'en-fr/')) }))
      hub.files.set(name, file);
    hub.files.set('../../evil.json', { content: Buffer.from('{}') });
    expect(await ask(await open(), `${MODEL}/en`)).toBe(english);
    expect(hub.fetches.every(({ path: asked }) => asked.includes('/en/'))).toBe(true);
  });

  test('has the hash that was promised: once more from the beginning, and then not at all', async () => {
    const tested = await open({ refusalMs: 0 });
    const wrong = Buffer.alloc(hub.files.get(TENSORS)?.content.length ?? 0, 7);
    onPath(TENSORS, 1, answer(200, {}, wrong));
    expect(await ask(tested)).toBe(english);
    onPath(TENSORS, 2, answer(200, {}, wrong));
    await publish(FRENCH);
    await expect(ask(tested, `${MODEL}@next`)).rejects.toMatchObject({ code: 'download_failed', status: 502 });
    expect(tested.failures.at(-1)?.error.message).toMatch(/projector\.safetensors: Expected sha256 \w+ but received \w+, twice/);
    // Nothing of it is left.
    expect(await readdir(path.join(folder, 'adapters'))).toEqual([english.slice(7)]);
  });

  test('goes on where the line was cut, through redirects to elsewhere', async () => {
    const other = await MockHub.start(await hubFiles(ENGLISH));
    hub.elsewhere = other.url;
    let cuts = 2;
    other.misbehaviour = (request, response, asked) => {
      if (!asked.endsWith(TENSORS) || cuts-- <= 0) return false;
      const { content } = other.files.get(TENSORS) ?? { content: Buffer.alloc(0) };
      const start = Number(/\d+/.exec(request.headers.range ?? '')?.[0] ?? 0);
      const range = { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` };
      response.writeHead(start > 0 ? 206 : 200, { 'content-length': content.length - start, ...(start > 0 && range) });
      response.write(content.subarray(start, start + 1000), () => setTimeout(() => response.destroy(), 20));
      return true;
    };
    expect(await ask(await open())).toBe(english);
    const ranges = other.fetches.filter(({ path: asked }) => asked.endsWith(TENSORS)).map(({ range }) => range);
    expect(ranges).toEqual([undefined, 'bytes=1000-', 'bytes=2000-']);
    await other.stop();
  });

  test('waits as long as a busy hub asks for, and not longer than anybody has patience', async () => {
    const tested = await open();
    onPath('/revision/main', 2, answer(429, { 'retry-after': '3' }));
    expect(await ask(tested)).toBe(english);
    expect(tested.waits).toEqual([3000, 3000]);
    onPath('/revision/busy', 1, answer(429, { 'retry-after': '50' }));
    await expect(ask(tested, `${MODEL}@busy`)).rejects.toMatchObject({
      code: 'source_unavailable',
      status: 503,
      retryAfterS: 50,
    });
    expect(tested.failures.map(({ failure }) => failure)).toEqual(['unavailable']);
    onPath('/revision/down', 10, answer(503));
    await expect(ask(tested, `${MODEL}@down`)).rejects.toMatchObject({ code: 'source_unavailable', retryAfterS: 1 });
    expect(tested.waits).toHaveLength(5);
  });

  test('has a time of its own', async () => {
    const tested = await open({ timeoutMs: 100 });
    hub.misbehaviour = (_request, _response, asked) => asked.endsWith(TENSORS);
    await expect(ask(tested)).rejects.toMatchObject({ code: 'source_timeout', status: 504 });
    expect(tested.failures.map(({ failure }) => failure)).toEqual(['timeout']);
  });
});

describe('what is refused', () => {
  test.each([
    ['alt'],
    ['hf://other/model'],
    ['hf://owner-evil/model'],
    ['s3://bucket/model'],
    ['hf://owner/../x'],
    ['http://127.0.0.1/'],
  ])('%s is not asked for', async (name) => {
    const { sources } = await open();
    expect(sources.knows(name)).toBe(false);
    await expect(sources.acquire(name, NEVER)).rejects.toMatchObject({ code: 'adapter_not_found' });
    expect(hub.asked).toEqual([]);
  });

  test('what is not there is asked for once, and found when it has appeared', async () => {
    const tested = await open();
    hub.misbehaviour = answer(404, { 'x-error-code': 'RepoNotFound' });
    for (let time = 0; time < 5; time++)
      await expect(ask(tested)).rejects.toMatchObject({ code: 'adapter_not_found', status: 404 });
    expect(hub.asked).toHaveLength(1);
    const forgetful = await open({ folder: path.join(folder, 'other'), refusalMs: 0 });
    await expect(ask(forgetful)).rejects.toMatchObject({ code: 'adapter_not_found' });
    hub.misbehaviour = undefined;
    expect(await ask(forgetful)).toBe(english);
  });

  test('what may not be read looks as if it was not there, unless an operator has named it', async () => {
    const tested = await open({ named: { mine: MODEL } });
    hub.misbehaviour = answer(403, { 'x-error-code': 'GatedRepo' });
    await expect(ask(tested)).rejects.toMatchObject({ code: 'adapter_not_found' });
    await expect(ask(tested, 'mine')).rejects.toMatchObject({ code: 'download_failed', status: 502 });
    expect(tested.failures.map(({ failure }) => failure)).toEqual(['refused', 'refused']);
    expect(tested.sources.list()).toMatchObject([
      { name: 'mine', source: MODEL, fault: expect.stringContaining('refused this server') },
    ]);
    // What the client is told has no address; the log has.
    expect(tested.failures[0]?.error.message).toContain(hub.url);
  });

  test.each([
    ['an adapter that is too large', (): unknown => undefined, { maxBytes: 1000 }, 'adapter_too_large'],
    ['a broken adapter', () => hub.files.set('adapter.json', { content: Buffer.from('{"format": 1}') }), {}, 'adapter_invalid'],
    ['a pickle', () => hub.files.delete(TENSORS), {}, 'adapter_invalid'],
    ['a large manifest', () => hub.files.set('adapter.json', { content: Buffer.alloc(2e6, ' ') }), {}, 'adapter_too_large'],
    [
      'a name that leads elsewhere',
      () => hub.files.set('../x/adapter_config.json', { content: Buffer.from('{}') }),
      {},
      'adapter_invalid',
    ],
    ['another one', () => hub.files.set('text\\..\\x', { content: Buffer.from('{}') }), {}, 'adapter_invalid'],
    ['a repository without an adapter', () => hub.files.clear(), {}, 'adapter_not_found'],
  ])('%s', async (_, spoil, options, code) => {
    spoil();
    const tested = await open(options);
    await expect(ask(tested)).rejects.toMatchObject({ code });
    const asked = hub.asked.length;
    await expect(ask(tested)).rejects.toMatchObject({ code });
    expect(hub.asked).toHaveLength(asked);
    expect(await readdir(path.join(folder, 'adapters'))).toEqual([]);
  });

  test('more waiting requests than there may be', async () => {
    const tested = await open({ maxWaiting: 2 });
    hub.misbehaviour = () => true;
    const waiting = ['a', 'b'].map((revision) => ask(tested, `${MODEL}@${revision}`).catch(() => undefined));
    await expect(ask(tested, `${MODEL}@c`)).rejects.toMatchObject({ code: 'queue_full', status: 429 });
    // A tenant that waits for nothing yet still finds a place.
    const other = tested.sources.acquire(`${MODEL}@d`, new AbortController().signal, { tenant: 'other', weight: 1 });
    const ended = other.catch((error: unknown) => error);
    await expect(ask(tested, `${MODEL}@e`)).rejects.toMatchObject({ code: 'queue_full' });
    await tested.sources.close();
    await Promise.all(waiting);
    expect(await ended).toMatchObject({ code: 'shutting_down' });
  });
});

describe('those who wait', () => {
  test('leave without disturbing the others', async () => {
    const tested = await open();
    let release = (): void => undefined;
    hub.misbehaviour = (request, response, asked) => {
      if (!asked.endsWith('/revision/main')) return false;
      release = () => {
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ sha: hub.commit }));
      };
      request.resume();
      return true;
    };
    const leaving = new AbortController();
    const first = ask(tested, MODEL, leaving.signal);
    const second = ask(tested);
    await until(() => looks() === 1);
    leaving.abort(new Error('gone'));
    await expect(first).rejects.toThrow('gone');
    release();
    expect(await second).toBe(english);
    expect(looks()).toBe(1);
  });

  test('are told when the server goes', async () => {
    const tested = await open();
    hub.misbehaviour = () => true;
    const waiting = ask(tested);
    await until(() => hub.asked.length > 0);
    await tested.sources.close();
    await expect(waiting).rejects.toMatchObject({ code: 'shutting_down' });
    expect(tested.failures).toEqual([]);
  });
});

describe('another version', () => {
  test('is looked for behind those who are served the one before, and has its own digest', async () => {
    const tested = await open({ refreshMs: 0 });
    const held = await tested.sources.acquire(MODEL, NEVER);
    await publish(FRENCH);
    expect(await ask(tested)).toBe(english);
    await until(async () => (await ask(tested)) === french);
    // Who has the old one keeps it.
    expect((await digestFolder(held.adapter.ref.folder)).digest).toBe(english);
    held.release();
  });

  test('is not looked for before it is time, and never of a commit', async () => {
    const tested = await open();
    const pinned = `${MODEL}@${hub.commit}`;
    expect(await ask(tested)).toBe(english);
    const stale = await open({ folder: path.join(folder, 'stale'), refreshMs: 0 });
    expect(await ask(stale, pinned)).toBe(english);
    const asked = hub.asked.length;
    expect([await ask(tested), await ask(stale, pinned)]).toEqual([english, english]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(hub.asked).toHaveLength(asked);
  });

  test('that cannot be had leaves the one before; one that is gone or broken does not', async () => {
    const tested = await open({ refreshMs: 0, refusalMs: 0 });
    expect(await ask(tested)).toBe(english);
    hub.misbehaviour = answer(500);
    await ask(tested);
    await until(() => tested.failures.length > 0);
    expect(await ask(tested)).toBe(english);
    hub.misbehaviour = answer(404);
    await until(() =>
      ask(tested).then(
        () => false,
        (error: unknown) => AppError.from(error).code === 'adapter_not_found',
      ),
    );
    hub.misbehaviour = undefined;
    expect(await ask(tested)).toBe(english);
  });
});

describe('after a restart', () => {
  test('what is on the disk is served without the network', async () => {
    const first = await open({ named: { mine: `${MODEL}@v1` } });
    expect(await ask(first, 'mine')).toBe(english);
    await first.sources.close();
    const endpoint = hub.url;
    await hub.stop();
    hub = await MockHub.start({});
    for (const isOffline of [false, true]) {
      const next = await open({ named: { mine: `${MODEL}@v1` }, refreshMs: 0, hub: { endpoint, isOffline } });
      expect(await ask(next, 'mine')).toBe(english);
      expect(next.fetched).toEqual([]);
    }
  });

  test('what the disk has spoilt meanwhile is fetched again', async () => {
    const first = await open();
    const held = await first.sources.acquire(MODEL, NEVER);
    held.release();
    await first.sources.close();
    await writeFile(path.join(held.adapter.ref.folder, TENSORS), 'rot');
    const next = await open();
    expect(await ask(next)).toBe(english);
    expect(next.fetched).toHaveLength(1);
    expect((await digestFolder(held.adapter.ref.folder)).digest).toBe(english);
  });

  test('what it spoils while the server runs is found when the engine says so', async () => {
    const tested = await open();
    const held = await tested.sources.acquire(MODEL, NEVER);
    held.release();
    await rm(path.join(held.adapter.ref.folder, TENSORS));
    await tested.sources.mend(english);
    expect(await ask(tested)).toBe(english);
    expect(tested.fetched).toHaveLength(2);
  });
});

test('the disk is kept within its bytes, but for what is in use', async () => {
  hub.files.clear();
  for (const [name, file] of Object.entries({ ...(await hubFiles(ENGLISH, 'en/')), ...(await hubFiles(FRENCH, 'fr/')) }))
    hub.files.set(name, file);
  const { bytes } = await digestFolder(FRENCH);
  const tested = await open({ maxDiskBytes: Math.floor(bytes * 1.5) });
  const held = await tested.sources.acquire(`${MODEL}/en`, NEVER);
  await expect(ask(tested, `${MODEL}/fr`)).rejects.toMatchObject({ code: 'source_unavailable', retryAfterS: 1 });
  expect((await digestFolder(held.adapter.ref.folder)).digest).toBe(english);
  held.release();
  const other = await open({ folder, maxDiskBytes: Math.floor(bytes * 1.5) });
  expect(await ask(other, `${MODEL}/fr`)).toBe(french);
  expect(other.evictions()).toBe(1);
  expect(await readdir(path.join(folder, 'adapters'))).toEqual([french.slice(7)]);
});
