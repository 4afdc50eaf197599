/** Fetches against a real server on this machine, which stands for the public internet where a test says so. */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { isPublic } from '../../../src/images/address.js';
import { isUrl, RemoteImages, type RemoteOptions } from '../../../src/images/remote.js';

const IMAGE = Buffer.from('the bytes of an image');
const never = new AbortController().signal;
const servers: Server[] = [];
let sockets = new Set<Socket>();

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
  sockets = new Set();
});

async function serve(listener: RequestListener): Promise<number> {
  const server = createServer(listener);
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** Names of `.test` hosts lead to this machine, which counts as public. */
const remote = (hosts: readonly string[], options: Partial<RemoteOptions> = {}): RemoteImages =>
  new RemoteImages({
    hosts,
    maxBytes: 1000,
    timeoutMs: 5_000,
    resolve: async () => ['127.0.0.1'],
    isAllowed: (address) => address === '127.0.0.1' || isPublic(address),
    ...options,
  });

/** The error that a fetch ends with. */
async function fault(work: Promise<unknown>): Promise<AppError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof AppError) return error;
  throw new Error(`Expected an AppError but received ${String(error)}`);
}

const send: RequestListener = (_req, res) => res.writeHead(200, { 'content-type': 'image/png' }).end(IMAGE);

describe('an image', () => {
  it('comes as its bytes, asked for as the named host, without credentials of any kind', async () => {
    const seen: Record<string, unknown>[] = [];
    const port = await serve((req, res) => {
      seen.push({ ...req.headers, url: req.url });
      send(req, res);
    });
    const bytes = await remote([`pictures.test:${port}`]).fetch(`http://pictures.test:${port}/a.png?b=c#d`, never);
    expect(Buffer.from(bytes)).toEqual(IMAGE);
    expect(seen).toEqual([
      {
        host: `pictures.test:${port}`,
        accept: 'image/webp, image/png, image/jpeg',
        'accept-encoding': 'identity',
        'user-agent': 'graft',
        connection: 'close',
        url: '/a.png?b=c',
      },
    ]);
  });

  it.each(['image/jpeg', 'IMAGE/WebP; x=y', 'application/octet-stream', 'binary/octet-stream', undefined])(
    'may come as %s',
    async (type) => {
      const port = await serve((_req, res) => res.writeHead(200, type === undefined ? {} : { 'content-type': type }).end(IMAGE));
      const bytes = await remote([`pictures.test:${port}`]).fetch(`http://pictures.test:${port}/`, never);
      expect(bytes.length).toBe(IMAGE.length);
    },
  );

  it('may be elsewhere, up to three times', async () => {
    const port = await serve((req, res) => {
      const left = Number(req.url?.slice(1));
      if (left === 0) send(req, res);
      else res.writeHead(302, { location: `/${left - 1}` }).end('somewhere else');
    });
    const images = remote([`pictures.test:${port}`]);
    expect((await images.fetch(`http://pictures.test:${port}/3`, never)).length).toBe(IMAGE.length);
    expect(await fault(images.fetch(`http://pictures.test:${port}/4`, never))).toMatchObject({
      code: 'image_unavailable',
      message: 'image: Expected an image at pictures.test but received more than 3 redirects',
    });
  });
});

describe('the connection', () => {
  it('goes to the address that was looked at, whatever the name means a moment later', async () => {
    const port = await serve(send);
    let asked = 0;
    const images = remote([`pictures.test:${port}`], {
      // The second answer is where an attacker wants it to go.
      resolve: async () => (asked++ === 0 ? ['127.0.0.1'] : ['169.254.169.254']),
    });
    expect((await images.fetch(`http://pictures.test:${port}/`, never)).length).toBe(IMAGE.length);
    expect(asked).toBe(1);
  });

  it('goes to the next address where the first does not answer', async () => {
    const port = await serve(send);
    const options = { resolve: async () => ['::1', '127.0.0.1'], isAllowed: () => true };
    const bytes = await remote([`pictures.test:${port}`], options).fetch(`http://pictures.test:${port}/`, never);
    expect(bytes.length).toBe(IMAGE.length);
  });

  it.each([
    ['one private address', ['10.0.0.1']],
    ['public and private addresses', ['8.8.8.8', '10.0.0.1']],
    ['private and public addresses', ['10.0.0.1', '8.8.8.8']],
    ['a mapped private address', ['::ffff:10.0.0.1']],
    ['no address', []],
  ])('is not made where a name has %s', async (_what, addresses) => {
    let requests = 0;
    const port = await serve((req, res) => {
      requests++;
      send(req, res);
    });
    const options = { resolve: async () => addresses, isAllowed: isPublic };
    const error = await fault(remote([`pictures.test:${port}`], options).fetch(`http://pictures.test:${port}/`, never));
    expect(error).toMatchObject({ code: 'image_unavailable', message: NOTHING });
    expect(requests).toBe(0);
  });

  it('is refused in the same words where a name does not exist or nobody listens', async () => {
    const port = await serve(send);
    await new Promise((resolve) => servers.pop()?.close(resolve));
    const missing = async (): Promise<never> => {
      throw Object.assign(new Error('getaddrinfo ENOTFOUND pictures.test'), { code: 'ENOTFOUND' });
    };
    const errors = [
      await fault(remote(['pictures.test'], { resolve: missing }).fetch('http://pictures.test/', never)),
      await fault(remote([`pictures.test:${port}`]).fetch(`http://pictures.test:${port}/`, never)),
    ];
    expect(errors.map(({ code, message }) => [code, message])).toEqual([
      ['image_unavailable', NOTHING],
      ['image_unavailable', NOTHING],
    ]);
  });

  it('is judged again for every redirect', async () => {
    const port = await serve((_req, res) => res.writeHead(307, { location: `http://inside.test:${port}/` }).end());
    const options = {
      resolve: async (host: string) => [host === 'pictures.test' ? '127.0.0.1' : '192.168.0.1'],
    };
    const images = remote([`pictures.test:${port}`, `inside.test:${port}`], options);
    expect(await fault(images.fetch(`http://pictures.test:${port}/`, never))).toMatchObject({
      code: 'image_unavailable',
      message: 'image: Expected an image at inside.test but it could not be fetched',
    });
  });
});

const NOTHING = 'image: Expected an image at pictures.test but it could not be fetched';

describe('a redirect', () => {
  it.each([
    ['http://elsewhere.test/', 'a host that this server fetches from'],
    ['http://127.0.0.1/', 'a host that this server fetches from'],
    ['http://[::1]/', 'a host that this server fetches from'],
    ['//elsewhere.test/', 'a host that this server fetches from'],
    ['http://pictures.test.elsewhere.test/', 'a host that this server fetches from'],
    ['http://pictures.test@elsewhere.test/', 'a URL without a name or password'],
    ['file:///etc/passwd', 'http or https'],
    ['data:image/png;base64,AAAA', 'http or https'],
    ['http://', 'a URL'],
  ])('to %s is refused', async (location, expected) => {
    const port = await serve((_req, res) => res.writeHead(302, { location }).end());
    const error = await fault(remote([`pictures.test:${port}`]).fetch(`http://pictures.test:${port}/`, never));
    expect(error.code).toBe('image_url_refused');
    expect(error.message).toContain(`Expected ${expected} but received`);
  });
});

describe('a URL', () => {
  it.each([
    'http://elsewhere.test/',
    'http://pictures.test.elsewhere.test/',
    'http://elsewhere.test/?pictures.test',
    'http://elsewhere.test#pictures.test',
    'http://notpictures.test/',
    'http://pictures.test:8080/',
    'http://user@pictures.test/',
    'http://user:word@pictures.test/',
    'http://pictures.test:80@elsewhere.test/',
    'http://elsewhere.test\\pictures.test/',
    'ftp://pictures.test/',
    'file:///etc/passwd',
    'gopher://pictures.test/',
    'http://cdn.test/',
    'http://a.cdn.test.elsewhere.test/',
    'http://127.0.0.1/',
    'http://[::1]/',
    'http://2130706433/',
    'http://',
    'http://a b/',
    `http://pictures.test/${'a'.repeat(2048)}`,
  ])('%s is refused without a look at its name', async (url) => {
    let asked = 0;
    const resolve = async (): Promise<string[]> => {
      asked++;
      return ['127.0.0.1'];
    };
    const error = await fault(remote(['pictures.test', '*.cdn.test'], { resolve }).fetch(url, never));
    expect(error).toMatchObject({ code: 'image_url_refused', status: 400, param: 'image' });
    expect(asked).toBe(0);
  });

  it.each([
    ['HTTP://PICTURES.test/', 'pictures.test'],
    ['http://pictures.test./', 'pictures.test'],
    ['http://pictures.test:80/', 'pictures.test'],
    ['https://pictures.test:443/', 'pictures.test'],
    // A backslash is a slash, here and where the connection is made.
    ['http://pictures.test\\@elsewhere.test/', 'pictures.test'],
    ['http://ｐictures.test/', 'pictures.test'],
    ['http://a.cdn.test/', 'a.cdn.test'],
    ['http://b.a.cdn.test/', 'b.a.cdn.test'],
    [' http://pictures.test/ ', 'pictures.test'],
  ])('%s names %s', async (url, host) => {
    const names: string[] = [];
    const resolve = async (name: string): Promise<string[]> => {
      names.push(name);
      return [];
    };
    await fault(remote(['Pictures.test', '*.cdn.test'], { resolve }).fetch(url, never));
    expect(names).toEqual([host]);
  });

  it.each([
    ['http://127.0.0.1/', '127.0.0.1'],
    ['http://0x7f.1/', '127.0.0.1'],
    ['http://[::ffff:127.0.0.1]/', '[::ffff:7f00:1]'],
    ['http://169.254.169.254/latest/meta-data/', '169.254.169.254'],
  ])('%s stays private where its address is listed', async (url, host) => {
    const error = await fault(remote([host], { isAllowed: isPublic }).fetch(url, never));
    expect(error.code).toBe('image_unavailable');
  });

  it('is what begins like one', () => {
    expect(['http://a', 'HTTPS://a', ' https://a'].every(isUrl)).toBe(true);
    expect(['data:image/png;base64,AAAA', 'aHR0cDovL2E=', 'file:///a', ''].some(isUrl)).toBe(false);
  });
});

describe('a reply', () => {
  it.each<[string, RequestListener, Partial<AppError>]>([
    ['that there is nothing', (_req, res) => res.writeHead(404).end(), { code: 'image_unavailable' }],
    ['without content', (_req, res) => res.writeHead(204).end(), { code: 'image_unavailable' }],
    ['in part', (_req, res) => res.writeHead(206).end(IMAGE), { code: 'image_unavailable' }],
    ['of a page', (_req, res) => res.writeHead(200, { 'content-type': 'text/html' }).end(IMAGE), { code: 'image_unavailable' }],
    [
      'of an SVG',
      (_req, res) => res.writeHead(200, { 'content-type': 'image/svg+xml' }).end(IMAGE),
      { code: 'image_unavailable' },
    ],
    [
      'that would grow when it is unpacked',
      (_req, res) => res.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(100_000))),
      { code: 'image_unavailable' },
    ],
    [
      'that says it is too long',
      (_req, res) => res.writeHead(200, { 'content-length': 1001 }).end(Buffer.alloc(1001)),
      { code: 'payload_too_large' },
    ],
    ['that redirects nowhere', (_req, res) => res.writeHead(302).end(), { code: 'image_unavailable' }],
    [
      'cut short',
      (_req, res) => res.writeHead(200, { 'content-length': 100 }).write(IMAGE, () => res.destroy()),
      { code: 'image_unavailable' },
    ],
    ['that is no HTTP', (req) => req.socket.end('SSH-2.0-OpenSSH\r\n'), { code: 'image_unavailable' }],
  ])('%s is refused', async (_what, listener, expected) => {
    const port = await serve(listener);
    const error = await fault(remote([`pictures.test:${port}`]).fetch(`http://pictures.test:${port}/`, never));
    expect(error).toMatchObject(expected);
  });

  it('without end is left at the limit', async () => {
    let closed: Promise<unknown> | undefined;
    const port = await serve((_req, res) => {
      closed = new Promise((resolve) => res.once('close', resolve));
      res.writeHead(200, { 'content-type': 'image/png' });
      const more = (): void => void (res.destroyed || res.write(Buffer.alloc(100), () => setImmediate(more)));
      more();
    });
    const error = await fault(remote([`pictures.test:${port}`]).fetch(`http://pictures.test:${port}/`, never));
    expect(error).toMatchObject({ code: 'payload_too_large' });
    await closed;
  });

  it.each<[string, RequestListener]>([
    ['drips', (_req, res) => void res.writeHead(200, { 'content-type': 'image/png' }).write(IMAGE)],
    ['never begins', () => undefined],
  ])('that %s is left when the time is up', async (_what, listener) => {
    const port = await serve(listener);
    const error = await fault(remote([`pictures.test:${port}`], { timeoutMs: 50 }).fetch(`http://pictures.test:${port}/`, never));
    expect(error).toMatchObject({
      code: 'image_unavailable',
      message: 'image: Expected an image within 50 ms but it took longer',
    });
    await expect.poll(() => sockets.size).toBe(0);
  });

  it('of a resolver that never answers is not waited for', async () => {
    const resolve = (): Promise<string[]> => new Promise(() => undefined);
    const error = await fault(remote(['pictures.test'], { resolve, timeoutMs: 20 }).fetch('http://pictures.test/', never));
    expect(error.code).toBe('image_unavailable');
  });

  it('is left where the client goes away', async () => {
    const controller = new AbortController();
    const gone = new AppError('cancelled', 'The client went away');
    const port = await serve(() => controller.abort(gone));
    const work = remote([`pictures.test:${port}`]).fetch(`http://pictures.test:${port}/`, controller.signal);
    expect(await fault(work)).toBe(gone);
    await expect.poll(() => sockets.size).toBe(0);
  });
});
