/** Pulls from a hub that misbehaves, into the cache that huggingface_hub would find. */
import { createHash, randomBytes } from 'node:crypto';
import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Pulled, type PullOptions, pull } from '../../../src/hub/pull.js';
import { parseReference } from '../../../src/hub/reference.js';
import { USUAL } from '../../../src/hub/select.js';
import { COMMIT, etagOf, type Misbehaviour, MockHub } from '../../support/hub.js';

const WEIGHTS = randomBytes(3_000_000);
const FILES = {
  'config.json': { content: Buffer.from('{"model_type": "llama"}') },
  'model.safetensors': { content: WEIGHTS, lfs: true as const },
  'text/adapter_config.json': { content: Buffer.from('{}') },
  'empty.txt': { content: Buffer.alloc(0) },
  'pytorch_model.bin': { content: Buffer.from('a pickle'), lfs: true as const },
  'logo.png': { content: Buffer.from('a picture') },
};
const TAKEN = ['config.json', 'empty.txt', 'model.safetensors', 'text/adapter_config.json'];
const WEIGHTS_ETAG = createHash('sha256').update(WEIGHTS).digest('hex');

let cache: string;
let repository: string;
let hub: MockHub;
let waits: { reason: string; ms: number }[];
let notes: string[];

beforeEach(async () => {
  cache = await mkdtemp(path.join(tmpdir(), 'graft-hub-'));
  repository = path.join(cache, 'models--owner--model');
  hub = await MockHub.start(FILES);
  waits = [];
  notes = [];
});
afterEach(async () => {
  await hub.stop();
  await rm(cache, { recursive: true });
});

interface Asking extends Partial<PullOptions> {
  readonly name?: string;
  readonly token?: string;
  readonly isOffline?: boolean;
}

function ask({ name = 'owner/model', token, isOffline = false, ...options }: Asking = {}): Promise<Pulled> {
  return pull({
    reference: parseReference(name),
    settings: { endpoint: hub.url, token: token ?? null, cache, isOffline },
    include: USUAL,
    exclude: [],
    patience: {
      sleep: () => Promise.resolve(),
      onWait: (reason, ms) => waits.push({ reason: reason.replaceAll(/127\.0\.0\.1:\d+/g, 'hub'), ms }),
    },
    onNote: (line) => notes.push(line),
    ...options,
  });
}

/** Misbehaves when the weights are asked for, the first `times` times. */
function onWeights(times: number, misbehaviour: Misbehaviour): void {
  let left = times;
  hub.misbehaviour = (request, response, asked) =>
    asked.endsWith('model.safetensors') && left-- > 0 && misbehaviour(request, response, asked);
}

/** Sends the beginning of the weights, and hangs up. */
const cut =
  (bytes: number): Misbehaviour =>
  (request, response) => {
    const start = Number(/\d+/.exec(request.headers.range ?? '')?.[0] ?? 0);
    const range = { 'content-range': `bytes ${start}-${WEIGHTS.length - 1}/${WEIGHTS.length}` };
    response.writeHead(start > 0 ? 206 : 200, { 'content-length': WEIGHTS.length - start, ...(start > 0 && range) });
    response.write(WEIGHTS.subarray(start, start + bytes), () => setTimeout(() => response.destroy(), 20));
    return true;
  };

const answer =
  (status: number, headers: Record<string, string> = {}, body: Buffer | string = ''): Misbehaviour =>
  (_, response) => {
    response.writeHead(status, headers).end(body);
    return true;
  };

/** Of the weights that were asked for. */
const ranges = () => hub.fetches.filter(({ path: asked }) => asked.endsWith('.safetensors')).map(({ range }) => range);

async function blobs(): Promise<string[]> {
  return (await readdir(path.join(repository, 'blobs'))).sort();
}

async function expectWhole({ folder }: Pulled): Promise<void> {
  for (const name of TAKEN)
    expect((await readFile(path.join(folder, name))).equals(FILES[name as keyof typeof FILES].content), name).toBe(true);
  expect(await blobs()).toEqual(TAKEN.map((name) => etagOf(FILES[name as keyof typeof FILES])).sort());
}

describe('the cache', () => {
  it('is laid out as huggingface_hub does', async () => {
    const pulled = await ask();
    expect(pulled).toMatchObject({ folder: path.join(repository, 'snapshots', COMMIT), commit: COMMIT, fetched: 4 });
    expect([...pulled.files].sort()).toEqual(TAKEN);
    await expectWhole(pulled);
    expect(await readlink(path.join(pulled.folder, 'model.safetensors'))).toBe(`../../blobs/${WEIGHTS_ETAG}`);
    expect(await readlink(path.join(pulled.folder, 'text/adapter_config.json'))).toMatch(
      /^\.\.\/\.\.\/\.\.\/blobs\/[0-9a-f]{40}$/,
    );
    expect(await readFile(path.join(repository, 'refs/main'), 'utf8')).toBe(COMMIT);
  });

  it('holds what is there already: nothing is fetched twice, by whomever it was', async () => {
    await mkdir(path.join(repository, 'blobs'), { recursive: true });
    await writeFile(path.join(repository, 'blobs', WEIGHTS_ETAG), WEIGHTS);
    expect((await ask()).fetched).toBe(3);
    expect(hub.fetches.map(({ path: asked }) => asked).filter((asked) => asked.endsWith('safetensors'))).toEqual([]);
    const pulled = await ask();
    expect(pulled.fetched).toBe(0);
    expect(hub.fetches).toHaveLength(2); // The empty file needs no bytes.
    await expectWhole(pulled);
  });

  it('holds a file in the snapshot itself where a system has no links', async () => {
    const folder = path.join(repository, 'snapshots', COMMIT);
    await mkdir(folder, { recursive: true });
    await writeFile(path.join(folder, 'model.safetensors'), WEIGHTS);
    expect((await ask()).fetched).toBe(3);
    expect((await lstat(path.join(folder, 'model.safetensors'))).isSymbolicLink()).toBe(false);
  });

  it('is mended: a link to nothing, and a blob of another size', async () => {
    const { folder } = await ask();
    await writeFile(path.join(repository, 'blobs', WEIGHTS_ETAG), 'short');
    await rm(path.join(folder, 'config.json'));
    await symlink('../../blobs/nothing', path.join(folder, 'config.json'));
    const pulled = await ask();
    expect(pulled.fetched).toBe(1);
    await expectWhole(pulled);
  });

  it('keeps contents that two commits share, and moves the branch', async () => {
    await ask();
    hub.commit = 'd00d'.repeat(10);
    hub.files.set('config.json', { content: Buffer.from('{"model_type": "other"}') });
    const pulled = await ask();
    expect(pulled).toMatchObject({ commit: hub.commit, fetched: 1 });
    expect(await readFile(path.join(repository, 'refs/main'), 'utf8')).toBe(hub.commit);
    expect((await readdir(path.join(repository, 'snapshots'))).sort()).toEqual([COMMIT, hub.commit].sort());
  });

  it('remembers other revisions under their names, and a commit under none', async () => {
    await ask({ name: 'owner/model@refs/pr/1' });
    expect(hub.asked[0]?.path).toBe('/api/models/owner/model/revision/refs/pr/1');
    await ask({ name: `owner/model@${COMMIT}` });
    expect(await readFile(path.join(repository, 'refs/refs/pr/1'), 'utf8')).toBe(COMMIT);
    expect(await readdir(path.join(repository, 'refs'))).toEqual(['refs']);
  });
});

describe('a name without an owner', () => {
  it('is sent on by the hub, and kept under that name, as huggingface_hub does', async () => {
    hub.legacy = 'gpt2';
    repository = path.join(cache, 'models--gpt2');
    const pulled = await ask({ name: 'gpt2' });
    expect(pulled).toMatchObject({ folder: path.join(repository, 'snapshots', COMMIT), fetched: 4 });
    await expectWhole(pulled);
    expect(hub.asked.map(({ path: asked }) => asked)).toContain(`/gpt2/resolve/${COMMIT}/model.safetensors`);
    expect(await ask({ name: 'gpt2', isOffline: true })).toMatchObject({ folder: pulled.folder });
  });
});

describe('several files', () => {
  const MORE = Array.from({ length: 5 }, (_, index) => `more-${index}.json`);

  it('come three at a time', async () => {
    for (const name of MORE) hub.files.set(name, { content: Buffer.from(`{"name": "${name}"}`) });
    let under = 0;
    const counts: number[] = [];
    const waiting: (() => void)[] = [];
    hub.misbehaviour = (request, response, asked) => {
      if (!asked.includes('/resolve/')) return false;
      counts.push(++under);
      response.on('finish', () => under--);
      waiting.push(() => hub.send(request, response));
      // Nobody is answered before as many have asked as may at once, or as there are.
      if (waiting.length === 3 || hub.fetches.length === MORE.length + 3) for (const answer of waiting.splice(0)) answer();
      return true;
    };
    const others: number[] = [];
    const { fetched } = await ask({ onProgress: (_done, _total, _path, besides) => others.push(besides) });
    expect(fetched).toBe(MORE.length + 4);
    expect(Math.max(...counts)).toBe(3);
    expect(Math.max(...others)).toBe(2);
    expect(others.at(-1)).toBe(0);
  });

  it('that one of which fails end with it, and what came of the others is kept', async () => {
    const half = 1_000_000;
    let isHalf: (() => void) | undefined;
    const halfIsThere = new Promise<void>((resolve) => {
      isHalf = resolve;
    });
    hub.misbehaviour = (_, response, asked) => {
      if (asked.endsWith('model.safetensors')) {
        response.writeHead(200, { 'content-length': WEIGHTS.length });
        response.write(WEIGHTS.subarray(0, half)); // And nothing more, for as long as it waits.
        return true;
      }
      if (!asked.endsWith('config.json')) return false;
      void halfIsThere.then(() => response.writeHead(404, { 'x-error-code': 'EntryNotFound' }).end());
      return true;
    };
    const onProgress = (done: number): void => {
      if (done >= half) isHalf?.();
    };
    await expect(ask({ onProgress })).rejects.toMatchObject({ code: 'not_found' });
    expect(waits).toEqual([]);
    hub.misbehaviour = undefined;
    hub.asked.length = 0;
    await expectWhole(await ask());
    expect(ranges()).toContain(`bytes=${half}-`);
  });
});

describe('the choice', () => {
  it('is a pattern as huggingface_hub has them', async () => {
    const pulled = await ask({ include: ['*.json', 'logo.???'], exclude: ['text/*'] });
    expect([...pulled.files].sort()).toEqual(['config.json', 'logo.png']);
  });

  it('never is a pickle', async () => {
    const pulled = await ask({ include: ['*'] });
    expect([...pulled.files].sort()).toEqual([...TAKEN, 'logo.png'].sort());
    await expect(ask({ include: ['*.bin'] })).rejects.toMatchObject({
      code: 'invalid_config',
      message: expect.stringContaining(
        'Expected --include and --exclude to leave a file of owner/model but received config.json, ',
      ),
    });
  });

  it('is none of a repository without safetensors', async () => {
    hub.files.delete('model.safetensors');
    await expect(ask()).rejects.toMatchObject({
      code: 'unsupported_model',
      message:
        'Expected a repository with .safetensors files but owner/model has pytorch_model.bin: pickle can run any program and is never fetched',
    });
    hub.files.delete('pytorch_model.bin');
    await expect(ask()).rejects.toThrow('but owner/model has none');
    expect(await readdir(cache)).toEqual([]);
  });

  it('is from all pages of the list', async () => {
    hub.page = 2;
    expect((await ask()).files).toHaveLength(4);
  });

  it.each([
    '../evil.json',
    '/etc/evil.json',
    'a/../../evil.json',
    'a//b.json',
    'a\\..\\evil.json',
    'C:evil.json',
    './x.json',
    'a\nb.json',
  ])('is refused with a path such as %j', async (name) => {
    hub.files.set(name, { content: Buffer.from('evil') });
    await expect(ask()).rejects.toMatchObject({
      code: 'download_failed',
      faults: [`Expected a path inside of the repository but received ${JSON.stringify(name)}`],
    });
    expect(await readdir(cache)).toEqual([]);
  });
});

describe('what the hub says is checked', () => {
  it.each([
    ['a revision', /\/revision\//, '{"sha": "../../x"}', 'Expected a revision from the hub but received sha'],
    [
      'a list',
      /\/tree\//,
      '[{"type": "file", "path": "a.json", "oid": "../x", "size": 1}]',
      'Expected a list of files from the hub but received 0.oid',
    ],
    ['a size', /\/tree\//, `[{"type": "file", "path": "a.json", "oid": "${'a'.repeat(40)}", "size": -1}]`, 'received 0.size'],
    ['JSON', /\/tree\//, '<html>', ' but received "<html>"'],
  ])('%s', async (_, where, body, message) => {
    hub.misbehaviour = (request, response, asked) => where.test(asked) && answer(200, {}, body)(request, response, asked);
    await expect(ask()).rejects.toMatchObject({ code: 'download_failed', message: expect.stringContaining(message) });
  });

  it('and so are its redirects', async () => {
    hub.misbehaviour = answer(302, { location: 'file:///etc/passwd' });
    await expect(ask()).rejects.toThrow('to redirect to a web address but received file:');
    hub.misbehaviour = answer(302, { location: '/again' });
    await expect(ask()).rejects.toThrow('Expected at most 8 redirects');
  });
});

describe('a wrong hash', () => {
  const wrong = Buffer.from(WEIGHTS);
  wrong[1_000_000] = (wrong[1_000_000] ?? 0) ^ 1;

  it('once is mended by another try', async () => {
    onWeights(1, answer(200, {}, wrong));
    await expectWhole(await ask());
    expect(notes).toEqual(['model.safetensors: its bytes are not those that the hub promised; once more from the beginning']);
  });

  it('twice is refused, and leaves nothing', async () => {
    onWeights(9, answer(200, {}, wrong));
    const received = createHash('sha256').update(wrong).digest('hex');
    await expect(ask()).rejects.toMatchObject({
      code: 'download_failed',
      message: `model.safetensors: Expected sha256 ${WEIGHTS_ETAG} but received ${received}, twice`,
    });
    expect(hub.fetches.filter(({ path: asked }) => asked.endsWith('.safetensors'))).toHaveLength(2);
    expect((await blobs()).filter((name) => name.startsWith(WEIGHTS_ETAG))).toEqual([]);
    await expect(readFile(path.join(repository, 'refs/main'))).rejects.toThrow('ENOENT');
  });

  it("is met in small files by git's own hash, and in what is longer than it should be", async () => {
    hub.misbehaviour = (request, response, asked) =>
      asked.endsWith('/config.json') && answer(200, {}, '{"model_type": "evil!"}')(request, response, asked);
    await expect(ask({ include: ['config.json'] })).rejects.toThrow(
      /^config\.json: Expected git's sha1 [0-9a-f]{40} but received [0-9a-f]{40}, twice$/,
    );
    onWeights(9, answer(200, {}, Buffer.concat([WEIGHTS, Buffer.from('more')])));
    await expect(ask()).rejects.toThrow(/^model\.safetensors: Expected sha256 /);
  });
});

it('a file without an end is not read to its end', async () => {
  onWeights(9, (_, response) => {
    const more = (): void => void (response.destroyed || response.write(WEIGHTS, () => setImmediate(more)));
    response.writeHead(200);
    more();
    return true;
  });
  await expect(ask()).rejects.toThrow(/^model\.safetensors: Expected sha256 .*, twice$/);
});

it('a file that no disk holds is not begun', async () => {
  hub.misbehaviour = (request, response, asked) =>
    asked.includes('/tree/') &&
    answer(
      200,
      {},
      JSON.stringify([{ type: 'file', path: 'model.safetensors', oid: 'a'.repeat(40), size: Number.MAX_SAFE_INTEGER }]),
    )(request, response, asked);
  await expect(ask()).rejects.toMatchObject({
    code: 'disk_full',
    message: expect.stringContaining(`Expected room for ${Number.MAX_SAFE_INTEGER} bytes in ${repository}`),
  });
  expect(hub.fetches).toEqual([]);
});

describe('a bad line', () => {
  it('that is cut goes on where it was, however often, as long as something comes', async () => {
    onWeights(9, cut(300_000));
    await expectWhole(await ask());
    expect(ranges()).toHaveLength(10);
    const starts = ranges().map((range) => Number(/^bytes=(\d+)-$/.exec(range ?? 'bytes=0-')?.[1]));
    expect(starts).toEqual([...starts].sort((a, b) => a - b));
    expect(new Set(starts).size).toBe(10);
    expect(waits).toHaveLength(9);
    for (const { ms } of waits) expect(ms).toBeLessThan(2000);
  });

  it('that ends early without an error goes on too', async () => {
    onWeights(1, (_, response) => {
      response.writeHead(200); // No length: nothing says that this is not all.
      response.end(WEIGHTS.subarray(0, 1000));
      return true;
    });
    await expectWhole(await ask());
    expect(ranges()).toEqual([undefined, 'bytes=1000-']);
  });

  it('begins again where the server knows no parts', async () => {
    let asks = 0;
    onWeights(9, (request, response, asked) =>
      asks++ === 0 ? cut(1_000_000)(request, response, asked) : answer(200, {}, WEIGHTS)(request, response, asked),
    );
    await expectWhole(await ask());
    expect(ranges()).toHaveLength(2);
    expect(ranges()[1]).toMatch(/^bytes=/);
    expect(notes).toEqual([]);
  });

  it('begins again where the server gives another part than the one asked for', async () => {
    let asks = 0;
    onWeights(2, (request, response, asked) => {
      if (asks++ === 0) return cut(1_000_000)(request, response, asked);
      return answer(206, { 'content-range': `bytes 0-${WEIGHTS.length - 1}/${WEIGHTS.length}` }, WEIGHTS)(
        request,
        response,
        asked,
      );
    });
    await expectWhole(await ask());
    expect(notes).toEqual([]);
  });

  it('that gains nothing is given up, and what came is kept for the next pull', async () => {
    let asks = 0;
    onWeights(99, (request, response, asked) => cut(asks++ === 0 ? 1_000_000 : 0)(request, response, asked));
    await expect(ask()).rejects.toMatchObject({ code: 'download_failed', message: expect.stringContaining('6 times in a row') });
    // Each wait is twice the one before, give or take.
    for (const [index, { ms }] of waits.entries()) {
      expect(ms).toBeGreaterThanOrEqual(1000 * 2 ** index);
      expect(ms).toBeLessThanOrEqual(1250 * 2 ** index);
    }
    const part = (await blobs()).find((name) => name.endsWith('.incomplete')) ?? '';
    const { size } = await stat(path.join(repository, 'blobs', part));
    expect(size).toBeGreaterThan(0);
    hub.misbehaviour = undefined;
    await expectWhole(await ask());
    expect(ranges().at(-1)).toBe(`bytes=${size}-`);
  });

  it('never ends where a server without parts always cuts at one place', async () => {
    onWeights(99, (_, response) => {
      response.writeHead(200, { 'content-length': WEIGHTS.length });
      response.write(WEIGHTS.subarray(0, 1000), () => setTimeout(() => response.destroy(), 5));
      return true;
    });
    await expect(ask()).rejects.toThrow('6 times in a row');
  });

  it('is a line on which nothing comes any more', async () => {
    onWeights(1, (_, response) => {
      response.writeHead(200, { 'content-length': WEIGHTS.length });
      response.write(WEIGHTS.subarray(0, 1_000_000));
      return true;
    });
    await expectWhole(await ask({ stallMs: 1000 }));
    expect(waits).toContainEqual({
      reason: 'the line to hub broke (it sent nothing for a while)',
      ms: expect.any(Number) as number,
    });
    expect(ranges()).toContain('bytes=1000000-');
  });

  it('is a busy server that says when', async () => {
    onWeights(1, answer(429, { 'retry-after': '7' }));
    await expectWhole(await ask());
    expect(waits).toEqual([{ reason: 'hub answered with 429', ms: 7000 }]);
  });

  it('is a server that is ill for a while, the list of files too', async () => {
    let asks = 0;
    hub.misbehaviour = (request, response, asked) => asks++ < 5 && answer(503)(request, response, asked);
    await expectWhole(await ask());
    expect(waits.map(({ reason }) => reason)).toEqual(Array.from({ length: 5 }, () => 'hub answered with 503'));
  });

  it('is a hub that cannot be reached, or does not exist', async () => {
    const settings = { token: null, cache, isOffline: false };
    const gone = await MockHub.start({});
    const endpoint = gone.url;
    await gone.stop();
    await expect(ask({ settings: { ...settings, endpoint } })).rejects.toMatchObject({
      code: 'download_failed',
      message: `the line to ${endpoint.slice('http://'.length)} broke (ECONNREFUSED), 6 times in a row`,
    });
    await expect(ask({ settings: { ...settings, endpoint: 'http://hub.invalid' } })).rejects.toMatchObject({
      code: 'download_failed',
    });
  });

  it('is not waited for longer than people do', async () => {
    hub.misbehaviour = answer(429, { 'retry-after': '3600' });
    await expect(ask()).rejects.toThrow(/answered with 429, and asks to wait for 3600 seconds$/);
    expect(waits).toEqual([]);
  });
});

describe('parts of other processes', () => {
  const HOST = '00c0ffee'; // Some other machine.
  const leave = async (name: string, content: Buffer, ageS = 0): Promise<void> => {
    await mkdir(path.join(repository, 'blobs'), { recursive: true });
    const place = path.join(repository, 'blobs', name);
    await writeFile(place, content);
    await utimes(place, Date.now() / 1000 - ageS, Date.now() / 1000 - ageS);
  };

  it('are left alone while they grow, and taken over when nobody writes to them, the longest one', async () => {
    const growing = `${WEIGHTS_ETAG}.${HOST}-1-00000000.incomplete`;
    await leave(growing, WEIGHTS.subarray(0, 2_000_000));
    await leave(`${WEIGHTS_ETAG}.${HOST}-2-00000000.incomplete`, WEIGHTS.subarray(0, 500), 3600);
    await leave(`${WEIGHTS_ETAG}.${HOST}-3-00000000.incomplete`, WEIGHTS.subarray(0, 1500), 3600);
    await ask();
    expect(hub.fetches.find(({ path: asked }) => asked.endsWith('.safetensors'))?.range).toBe('bytes=1500-');
    expect((await blobs()).filter((name) => name.endsWith('.incomplete'))).toEqual([growing]);
  });

  it('that are whole need no byte more, and those that are wrong are thrown away', async () => {
    await leave(`${WEIGHTS_ETAG}.${HOST}-1-00000000.incomplete`, WEIGHTS, 3600);
    await expectWhole(await ask());
    expect(hub.fetches.filter(({ path: asked }) => asked.endsWith('.safetensors'))).toEqual([]);

    await rm(repository, { recursive: true });
    await leave(`${WEIGHTS_ETAG}.${HOST}-1-00000000.incomplete`, Buffer.alloc(1000), 3600);
    await expectWhole(await ask());
    expect(notes).toHaveLength(1);
  });

  it('are swept where the file is whole without them', async () => {
    await ask();
    await leave(`${WEIGHTS_ETAG}.${HOST}-1-00000000.incomplete`, WEIGHTS.subarray(0, 500), 3600);
    await expectWhole(await ask());
  });

  it('do not meet: two pulls at once end with the same files, and each file is fetched once', async () => {
    const [one, two] = await Promise.all([ask(), ask()]);
    await expectWhole(one);
    await expectWhole(two);
    expect(hub.fetches).toHaveLength(3);
    expect(await readdir(path.join(cache, '.locks', 'models--owner--model'))).toEqual([]);
  });
});

describe('the token', () => {
  const TOKEN = 'hf_secret';

  it('goes to the hub, and not to where the hub sends us', async () => {
    const other = await MockHub.start(FILES);
    try {
      hub.elsewhere = other.url;
      await expectWhole(await ask({ token: TOKEN }));
      expect(other.fetches).toMatchObject([
        { path: `/owner/model/resolve/${COMMIT}/model.safetensors`, authorization: undefined },
      ]);
      expect(new Set(hub.asked.map(({ authorization }) => authorization))).toEqual(new Set([`Bearer ${TOKEN}`]));
    } finally {
      await other.stop();
    }
  });

  it.each([
    [401, 'RepoNotFound', 'owner/model is private, gated or not there; set HF_TOKEN to a token of an account that may read it'],
    [403, 'GatedRepo', 'owner/model is gated: its terms must be accepted at HUB/owner/model; set HF_TOKEN to a token'],
  ])('is asked for with a %i', async (status, reason, message) => {
    hub.misbehaviour = answer(status, { 'x-error-code': reason });
    const error = await ask().catch((thrown: unknown) => thrown as Error);
    expect(error).toMatchObject({ code: 'invalid_config' });
    expect((error as Error).message.replace(hub.url, 'HUB')).toContain(message);
  });

  it('is named where it does not do, never shown', async () => {
    hub.misbehaviour = answer(403, { 'x-error-code': 'GatedRepo' });
    const error = (await ask({ token: TOKEN }).catch((thrown: unknown) => thrown)) as Error;
    expect(error.message).toContain('the token of HF_TOKEN (or of the login) is not of an account that may read it');
    expect(error.message).not.toContain(TOKEN);
  });
});

describe('what is not there', () => {
  it('is named', async () => {
    await expect(ask({ name: 'owner/nothing' })).rejects.toMatchObject({
      code: 'not_found',
      message: `Expected owner/nothing to be at ${hub.url} but it is not`,
    });
    hub.misbehaviour = answer(404, { 'x-error-code': 'RevisionNotFound' });
    await expect(ask({ name: 'owner/model@v9' })).rejects.toThrow('Expected revision v9 of owner/model to be at');
  });
});

describe('offline', () => {
  it('takes what is there, and asks nobody', async () => {
    const { folder } = await ask();
    hub.asked.length = 0;
    const pulled = await ask({ isOffline: true });
    expect(pulled).toMatchObject({ folder, commit: COMMIT, fetched: 0 });
    expect([...pulled.files].sort()).toEqual(TAKEN);
    expect(await ask({ isOffline: true, name: `owner/model@${COMMIT}` })).toMatchObject({ folder });
    expect(hub.asked).toEqual([]);
  });

  it('says what is not', async () => {
    await expect(ask({ isOffline: true })).rejects.toMatchObject({
      code: 'not_found',
      message: `Expected owner/model@main in ${repository}, since HF_HUB_OFFLINE is set, but it is not there`,
    });
  });

  it('says what is missing in half a snapshot', async () => {
    hub.files.set('model.safetensors.index.json', {
      content: Buffer.from(JSON.stringify({ weight_map: { a: 'model.safetensors', b: 'more.safetensors' } })),
    });
    await ask();
    await expect(ask({ isOffline: true })).rejects.toThrow(/since HF_HUB_OFFLINE is set, but it lacks more\.safetensors$/);
    await rm(path.join(repository, 'blobs', WEIGHTS_ETAG));
    await expect(ask({ isOffline: true })).rejects.toThrow(/but it lacks model\.safetensors, more\.safetensors$/);
  });
});

it('tells how much is there', async () => {
  const told: [number, number][] = [];
  await ask({ onProgress: (done, total) => told.push([done, total]) });
  const total = TAKEN.reduce((sum, name) => sum + FILES[name as keyof typeof FILES].content.length, 0);
  expect(told.at(-1)?.[0]).toBe(total);
  expect(told.map(([done]) => done)).toEqual(told.map(([done]) => done).sort((a, b) => a - b));
  expect(new Set(told.map(([, of]) => of))).toEqual(new Set([total]));
});
