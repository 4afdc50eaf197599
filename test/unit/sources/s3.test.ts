/** The library over a real S3 server, behind a line that can be broken. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { digestFolder } from '../../../src/adapter/digest.js';
import { readS3Settings } from '../../../src/sources/account.js';
import { s3Source } from '../../../src/sources/s3.js';
import {
  ENGLISH,
  FRENCH,
  NEVER,
  openLibrary,
  placeOf,
  type TestLibrary,
  type TestLibraryOptions,
} from '../../support/library.js';
import { BUCKET, filesOf, S3_KEYS, TestS3 } from '../../support/s3.js';

const ALT = `s3://${BUCKET}/team/alt`;
const TENSORS = 'projector.safetensors';
const SIGNATURES = new URL('../../fixtures/sources/signatures.json', import.meta.url);

interface Signatures {
  readonly time: string;
  readonly host: string;
  readonly signatures: readonly { readonly path: string; readonly token: string | null; readonly authorization: string }[];
}

let s3: TestS3;
let folder: string;
let english: string;
let french: string;
const opened: TestLibrary[] = [];
beforeAll(async () => {
  s3 = await TestS3.start();
  english = (await digestFolder(ENGLISH)).digest;
  french = (await digestFolder(FRENCH)).digest;
  await s3.upload(ENGLISH, 'team/alt');
  // Neighbours whose keys begin alike.
  await s3.upload(FRENCH, 'team/alt-fr');
  await s3.put('team/alt.json', '{}');
  await s3.put('team/alt/README.md', 'words');
  await s3.put('team/alt/old/pytorch_model.bin', 'a pickle');
});
afterAll(() => s3.stop());
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-s3-library-'));
  s3.asked.length = 0;
  s3.misbehaviour = undefined;
});
afterEach(async () => {
  for (const { sources } of opened.splice(0)) await sources.close();
  await rm(folder, { recursive: true, force: true });
});

async function open(options: Partial<TestLibraryOptions> = {}): Promise<TestLibrary> {
  const s3Options = { endpoint: s3.url, keys: S3_KEYS, ...options.s3 };
  const tested = await openLibrary({ folder, allowed: ['s3://'], ...options, s3: s3Options });
  opened.push(tested);
  return tested;
}

async function ask({ sources }: TestLibrary, name = ALT): Promise<string> {
  const held = await sources.acquire(name, NEVER);
  held.release();
  return held.adapter.ref.digest;
}

describe('an adapter in a bucket', () => {
  test('is listed, signed, fetched and hashed', async () => {
    const tested = await open();
    const held = await tested.sources.acquire(ALT, NEVER);
    expect(held.adapter).toMatchObject({ source: ALT, ref: { digest: english } });
    expect((await digestFolder(held.adapter.ref.folder)).digest).toBe(english);
    held.release();
    expect(s3.lists.map(({ target }) => target)).toEqual(['?list-type=2&prefix=team/alt/']);
    expect(s3.fetches.filter(({ target }) => /README|\.bin$/.test(target))).toEqual([]);
    expect(s3.fetches.every(({ headers }) => /^"[0-9a-f]{32}"$/.test(headers['if-match'] ?? ''))).toBe(true);
    expect(s3.asked.every(({ headers }) => headers.authorization?.startsWith('AWS4-HMAC-SHA256 Credential=S3RVER/'))).toBe(true);
    expect(await ask(tested, `s3://${BUCKET}/team/alt-fr`)).toBe(french);
  });

  test('is found over many pages of a list', async () => {
    const tested = await open({ pageSize: 2 });
    expect(await ask(tested)).toBe(english);
    const files = (await filesOf(ENGLISH)).size + 2;
    expect(s3.lists.length).toBeGreaterThanOrEqual(Math.ceil(files / 2));
    expect(s3.lists[1]?.target).toContain('continuation-token=');
    const endless = await open({ pageSize: 1, folder: path.join(folder, 'endless') });
    for (let index = 0; index < 12; index++) await s3.put(`heap/${index}`, 'x');
    await expect(ask(endless, `s3://${BUCKET}/heap`)).rejects.toMatchObject({ code: 'adapter_invalid' });
  });

  test('is read without keys where there are none', async () => {
    expect(await ask(await open({ s3: { keys: null } }))).toBe(english);
    expect(s3.asked.every(({ headers }) => headers.authorization === undefined)).toBe(true);
  });

  test('may have any key that a path can be', async () => {
    await s3.upload(ENGLISH, "a+b (1)!'*/ä&=é");
    const source = s3Source(
      { kind: 's3', bucket: BUCKET, folder: "a+b (1)!'*/ä&=é", text: 's3://odd' },
      { endpoint: s3.url, region: 'us-east-1', keys: S3_KEYS },
      { maxBytes: 1e8 },
    );
    const version = await source.version({});
    const [file] = version.files;
    if (!file) throw new Error('Expected files');
    const response = await version.open(file, 3, NEVER);
    expect(response.status).toBe(206);
    expect(Number(response.headers.get('content-length'))).toBe(file.bytes - 3);
    await response.body?.cancel();
  });

  test('that is not there, in a folder or a bucket that is not', async () => {
    const tested = await open();
    for (const name of [`s3://${BUCKET}/nothing`, 's3://no-such-bucket/team/alt', `s3://${BUCKET}/team/al`])
      await expect(ask(tested, name)).rejects.toMatchObject({ code: 'adapter_not_found', status: 404 });
    expect(tested.failures.map(({ failure }) => failure)).toEqual(['missing', 'missing', 'missing']);
    expect(tested.failures[1]?.error.message).toContain('404 NoSuchBucket');
  });

  test('may not be read with the keys of another account', async () => {
    const keys = { accessKeyId: 'NOBODY', secretAccessKey: 'x' };
    const tested = await open({ s3: { keys }, named: { mine: ALT } });
    await expect(ask(tested)).rejects.toMatchObject({ code: 'adapter_not_found' });
    await expect(ask(tested, 'mine')).rejects.toMatchObject({ code: 'download_failed' });
    expect(tested.failures[0]).toMatchObject({
      failure: 'refused',
      error: { message: expect.stringContaining('403 InvalidAccessKeyId') },
    });
    expect(s3.asked).toHaveLength(2);
  });
});

describe('a bucket that is written to meanwhile', () => {
  const MOVING = `s3://${BUCKET}/moving`;
  beforeEach(() => s3.upload(ENGLISH, 'moving'));

  test('gives one version or the other, never a mixture', async () => {
    const tested = await open();
    let uploading: Promise<void> | undefined;
    s3.misbehaviour = async (_request, _response, target) => {
      if (target.endsWith(TENSORS)) uploading ??= s3.upload(FRENCH, 'moving');
      // Whatever is asked from then on meets what is new.
      await uploading;
      return false;
    };
    expect(await ask(tested, MOVING)).toBe(french);
    expect(s3.lists).toHaveLength(2);
    expect(await readdir(path.join(folder, 'adapters'))).toEqual([french.slice(7)]);
  });

  test('gives up after a while where it never holds still, by a condition that is refused too', async () => {
    const tested = await open();
    s3.misbehaviour = (_request, response, target) => {
      if (!target.endsWith(TENSORS)) return false;
      response.writeHead(412, { 'content-type': 'application/xml' }).end('<Error><Code>PreconditionFailed</Code></Error>');
      return true;
    };
    await expect(ask(tested, MOVING)).rejects.toMatchObject({ code: 'source_unavailable', status: 503 });
    expect(s3.lists).toHaveLength(3);
  });

  test('is listed again where an object is gone', async () => {
    const tested = await open();
    s3.misbehaviour = async (_request, _response, target) => {
      if (target === 'moving/adapter.json') await s3.delete('moving/adapter.json');
      return false;
    };
    // Without a manifest what is left is no adapter.
    await expect(ask(tested, MOVING)).rejects.toMatchObject({ code: 'adapter_not_found' });
    expect(s3.lists).toHaveLength(2);
  });
});

describe('a line that breaks', () => {
  test('is taken up where it was cut', async () => {
    const [content = Buffer.alloc(0)] = [(await filesOf(ENGLISH)).get(TENSORS)];
    let cuts = 2;
    s3.misbehaviour = async (request, response, target) => {
      if (!target.endsWith(TENSORS) || cuts-- <= 0) return false;
      const start = Number(/\d+/.exec(request.headers.range ?? '')?.[0] ?? 0);
      const range = { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` };
      const etag = request.headers['if-match'] ?? '';
      response.writeHead(start > 0 ? 206 : 200, { etag, 'content-length': content.length - start, ...(start > 0 && range) });
      response.write(content.subarray(start, start + 500), () => setTimeout(() => response.destroy(), 20));
      return true;
    };
    expect(await ask(await open())).toBe(english);
    const ranges = s3.fetches.filter(({ target }) => target.endsWith(TENSORS)).map(({ headers }) => headers.range);
    expect(ranges).toEqual([undefined, 'bytes=500-', 'bytes=1000-']);
  });

  test('and a server that asks for patience gets it', async () => {
    let refusals = 2;
    s3.misbehaviour = (_request, response) => {
      if (refusals-- <= 0) return false;
      response.writeHead(503, { 'retry-after': '2' }).end('<Error><Code>SlowDown</Code></Error>');
      return true;
    };
    const tested = await open();
    expect(await ask(tested)).toBe(english);
    expect(tested.waits).toEqual([2000, 2000]);
  });

  test('that leads elsewhere is not followed: keys go to one server', async () => {
    s3.misbehaviour = (_request, response) => {
      response.writeHead(301, { location: 'http://127.0.0.1:9/', 'x-amz-bucket-region': 'eu-central-1' }).end();
      return true;
    };
    const tested = await open({ named: { mine: ALT } });
    await expect(ask(tested, 'mine')).rejects.toMatchObject({ code: 'download_failed' });
    expect(tested.failures[0]?.error.message).toBe(
      `Expected AWS_REGION to be that of ${BUCKET}, eu-central-1, but received us-east-1`,
    );
  });
});

test('requests are signed as botocore signs them', async () => {
  const { time, host, signatures } = JSON.parse(await readFile(SIGNATURES, 'utf8')) as Signatures;
  const odd = "a+b (1)!'*/ä&=é";
  const listed = (folder: string, name: string) =>
    `<Contents><Key>${folder}/${name}</Key><ETag>e</ETag><Size>1</Size></Contents>`;
  const page = (content: string) => `<ListBucketResult>${content}</ListBucketResult>`;
  const answers = new Map([
    [
      '?list-type=2&prefix=team/alt/',
      page(listed('team/alt', 'adapter.json') + listed('team/alt', 'text/adapter_model.safetensors')),
    ],
    [
      `?list-type=2&prefix=${odd}/&max-keys=2`,
      page('<IsTruncated>true</IsTruncated><NextContinuationToken>1/b+c==</NextContinuationToken>'),
    ],
    [
      `?list-type=2&prefix=${odd}/&max-keys=2&continuation-token=1/b+c==`,
      page(listed(odd.replace('&', '&amp;'), 'adapter.json')),
    ],
  ]);
  const asked = new Map<string, string | null>();
  vi.stubGlobal('fetch', (url: URL, { headers }: { headers: Headers }) => {
    asked.set(decodeURIComponent(url.pathname + url.search), headers.get('authorization'));
    return Promise.resolve(new Response(answers.get(decodeURIComponent(url.search)) ?? 'x', { headers: { etag: '"e"' } }));
  });
  vi.useFakeTimers({ toFake: ['Date'], now: new Date(time) });
  try {
    for (const sessionToken of [undefined, 'a+session/token=']) {
      const keys = {
        accessKeyId: 'AKIAEXAMPLE',
        secretAccessKey: 'wJalrXUtnFEMI/K7MDENG',
        ...(sessionToken && { sessionToken }),
      };
      for (const [folder, pageSize] of [
        ['team/alt', undefined],
        [odd, 2],
      ] as const) {
        const place = { kind: 's3' as const, bucket: BUCKET, folder, text: 's3://x' };
        const settings = { endpoint: `http://${host}`, region: 'eu-west-1', keys };
        const version = await s3Source(place, settings, { maxBytes: 9, ...(pageSize && { pageSize }) }).version({});
        for (const file of version.files) await version.open(file, 0, NEVER);
      }
      const expected = signatures.filter(({ token }) => token === (sessionToken ?? null));
      expect(expected).toHaveLength(4);
      for (const { path: url, authorization } of expected) expect(asked.get(decodeURIComponent(url)), url).toBe(authorization);
    }
  } finally {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  }
});

describe('the environment', () => {
  test('is read by the names of Amazon’s own tools', () => {
    expect(readS3Settings({})).toEqual({ endpoint: null, region: 'us-east-1', keys: null });
    const keys = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' };
    expect(readS3Settings({ ...keys, AWS_SESSION_TOKEN: 'c', AWS_DEFAULT_REGION: 'eu-west-1' })).toEqual({
      endpoint: null,
      region: 'eu-west-1',
      keys: { accessKeyId: 'a', secretAccessKey: 'b', sessionToken: 'c' },
    });
    const endpoints = { AWS_ENDPOINT_URL: 'https://a/', AWS_ENDPOINT_URL_S3: 'https://b', S3_ENDPOINT: 'https://c//' };
    expect(readS3Settings(endpoints).endpoint).toBe('https://c');
    expect(readS3Settings({ ...endpoints, S3_ENDPOINT: '' }).endpoint).toBe('https://b');
    expect(() => readS3Settings({ S3_ENDPOINT: 'localhost', AWS_REGION: 'a.b/c', AWS_ACCESS_KEY_ID: 'a' })).toThrow(
      /S3_ENDPOINT: Expected a web address.*AWS_REGION: Expected a region.*Expected both or none/,
    );
  });

  test('says where a bucket is', () => {
    const keyOf = (text: string, env = {}) => {
      const place = placeOf(text);
      if (place.kind !== 's3') throw new Error('Expected a place in a bucket');
      return s3Source(place, readS3Settings({ AWS_REGION: 'eu-west-1', ...env }), { maxBytes: 1 }).key;
    };
    expect(keyOf('s3://bucket/a')).toBe('s3://bucket/a https://bucket.s3.eu-west-1.amazonaws.com');
    expect(keyOf('s3://my.bucket/a')).toBe('s3://my.bucket/a https://s3.eu-west-1.amazonaws.com/my.bucket');
    expect(keyOf('s3://bucket/a', { S3_ENDPOINT: 'http://minio:9000' })).toBe('s3://bucket/a http://minio:9000/bucket');
  });
});
