import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ImageClient, type ImageClientOptions } from '../../../src/images/client.js';
import { decodePixels } from '../../../src/images/decode.js';
import { largePng } from '../../fixtures/images/png.js';

const root = new URL('../../../', import.meta.url);
const photo = readFileSync(new URL('test/fixtures/images/rgb.jpg', root));
const size = { height: 16, width: 16 };
const recipe = { resize: { kind: 'exact', ...size }, resample: 'bicubic', crop: null, ...size } as const;
const limits = { maxPixels: 64_000_000, timeoutMs: 20_000 };

const open: ImageClient[] = [];

function makeClient(options: Partial<ImageClientOptions> = {}): ImageClient {
  const client = new ImageClient({ processes: 1, recipe, limits, maxWaiting: 10, ...options });
  open.push(client);
  return client;
}

/** The decode's error, or null; awaited later without being unhandled meanwhile. */
const errorOf = (decode: Promise<unknown>) =>
  decode.then(
    () => null,
    (error: unknown) => error,
  );

const until = (check: () => void | Promise<void>) => vi.waitFor(check, { timeout: 15_000, interval: 10 });

/** Halts a process where it is, so that what it was given stays in the middle of work. */
function halt(pid: number | undefined): number {
  if (pid === undefined) throw new TypeError('the process runs');
  process.kill(pid, 'SIGSTOP');
  return pid;
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((client) => client.close()));
});

describe('ImageClient', () => {
  it('gives the pixels that the decoder gives, and its errors', async () => {
    const client = makeClient();
    await client.start();
    expect(await client.decode(photo)).toEqual(await decodePixels(photo, recipe, limits));
    // A view into a larger buffer sends its own bytes alone.
    const padded = Buffer.concat([Buffer.alloc(7), photo, Buffer.alloc(7)]);
    expect((await client.decode(padded.subarray(7, -7))).digest).toBe((await client.decode(photo)).digest);
    const message = 'Expected a JPEG, PNG or WebP image but received a GIF';
    await expect(client.decode(Buffer.from('GIF89a'))).rejects.toMatchObject({
      code: 'unsupported_image',
      message,
      param: 'image',
    });
  });

  it('sends a large image in pieces, several at once', async () => {
    const client = makeClient();
    await client.start();
    // Bytes behind the end of a JPEG do not matter to the decoder, but have to be carried: more than a message holds, and exactly as much.
    const large = [3_500_000, 2 * 1024 ** 2, 1024 ** 2].map((length) => Buffer.concat([photo], length));
    const expected = await decodePixels(photo, recipe, limits);
    expect(await Promise.all(large.map((bytes) => client.decode(bytes)))).toEqual([expected, expected, expected]);
  });

  it('decodes many images with two processes, also those given before they were ready', async () => {
    const client = makeClient({ processes: 2, maxWaiting: 20 });
    const decodes = Array.from({ length: 20 }, () => client.decode(photo));
    await client.start();
    expect(new Set((await Promise.all(decodes)).map(({ digest }) => digest)).size).toBe(1);
    expect(new Set(client.pids).size).toBe(2);
  });

  it('loses, when a process is killed in the middle of work, only what that process held', async () => {
    const client = makeClient({ processes: 2 });
    await client.start();
    const reasons: string[] = [];
    client.onRestart((reason) => reasons.push(reason));
    const pid = halt(client.pids[0]);
    const errors = Array.from({ length: 8 }, () => errorOf(client.decode(photo)));
    // The other process works on; two decodes stay with the halted one.
    await until(() => expect(client.waiting).toBe(0));
    process.kill(pid, 'SIGKILL');
    const outcomes = await Promise.all(errors);
    expect(outcomes.filter((error) => error === null)).toHaveLength(6);
    for (const error of outcomes.filter((error) => error !== null)) {
      expect(error).toMatchObject({ code: 'images_unavailable', status: 503, retryable: true, retryAfterS: 1 });
    }
    expect(reasons).toEqual(['killed by SIGKILL']);
    await until(() => expect(client.pids).toHaveLength(2));
    expect(client.pids).not.toContain(pid);
    await expect(client.decode(photo)).resolves.toMatchObject(size);
  });

  it('keeps an image waiting for a process that died once', async () => {
    const client = makeClient();
    await client.start();
    const died = new Promise<string>((resolve) => client.onRestart(resolve));
    process.kill(client.pids[0] ?? 0, 'SIGKILL');
    expect(await died).toBe('killed by SIGKILL');
    await expect(client.decode(photo)).resolves.toMatchObject(size);
    expect(client.restarts).toBe(1);
  });

  it('refuses at once while all processes die again and again, and takes images when one is back', async () => {
    const client = makeClient();
    await client.start();
    const outcomes: Promise<unknown>[] = [];
    client.onRestart(() => outcomes.push(errorOf(client.decode(photo))));
    for (const deaths of [1, 2]) {
      await until(() => expect(client.pids).toHaveLength(1));
      process.kill(client.pids[0] ?? 0, 'SIGKILL');
      await until(() => expect(outcomes).toHaveLength(deaths));
    }
    expect(await outcomes[1]).toMatchObject({ code: 'images_unavailable', retryAfterS: 1 });
    await until(() => expect(client.decode(photo)).resolves.toMatchObject(size));
  });

  it('refuses more than may wait, and gives the place of a cancelled image to another', async () => {
    const client = makeClient({ maxWaiting: 1 });
    await client.start();
    const pid = halt(client.pids[0]);
    const running = [client.decode(photo), client.decode(photo)];
    const controller = new AbortController();
    const waiting = errorOf(client.decode(photo, controller.signal));
    expect(client.waiting).toBe(1);
    await expect(client.decode(photo)).rejects.toMatchObject({ code: 'queue_full', status: 429, retryAfterS: 1 });
    controller.abort();
    expect(await waiting).toMatchObject({ code: 'cancelled' });
    expect(client.waiting).toBe(0);
    const next = client.decode(photo);
    process.kill(pid, 'SIGCONT');
    for (const pixels of await Promise.all([...running, next])) expect(pixels).toMatchObject(size);
  });

  it('has a tenant’s image inside at once, however many of another are, and then takes turns', async () => {
    const client = makeClient();
    await client.start();
    const pid = halt(client.pids[0]);
    const order: string[] = [];
    const ask = (tenant: string) => client.decode(photo, undefined, { tenant, weight: 1 }).then(() => order.push(tenant));
    const flood = Array.from({ length: 8 }, () => ask('flood'));
    expect(client.waiting).toBe(6);
    const late = [ask('late'), ask('late'), ask('late')];
    expect(client.waiting).toBe(8);
    process.kill(pid, 'SIGCONT');
    await Promise.all([...flood, ...late]);
    // Two are decoded at a time, so neighbours may change places.
    expect(order.slice(-3)).toEqual(['flood', 'flood', 'flood']);
  });

  it('refuses a tenant that has too many waiting, and not another', async () => {
    const client = makeClient({ maxWaiting: 1 });
    await client.start();
    const pid = halt(client.pids[0]);
    const flood = { tenant: 'flood', weight: 1 };
    const taken = [1, 2, 3].map(() => client.decode(photo, undefined, flood));
    await expect(client.decode(photo, undefined, flood)).rejects.toMatchObject({ code: 'queue_full' });
    taken.push(...[1, 2].map(() => client.decode(photo, undefined, { tenant: 'late', weight: 1 })));
    process.kill(pid, 'SIGCONT');
    for (const pixels of await Promise.all(taken)) expect(pixels).toMatchObject(size);
  });

  it('lets go of an image that is cancelled while it is decoded', async () => {
    const client = makeClient();
    await client.start();
    const pid = halt(client.pids[0]);
    const controller = new AbortController();
    const decode = errorOf(client.decode(photo, controller.signal));
    controller.abort();
    expect(await decode).toMatchObject({ code: 'cancelled' });
    process.kill(pid, 'SIGCONT');
    await expect(client.decode(photo, controller.signal)).rejects.toMatchObject({ code: 'cancelled' });
    await expect(client.decode(photo)).resolves.toMatchObject(size);
  });

  it('kills a process that does not come back from a decode', async () => {
    const client = makeClient({ limits: { ...limits, timeoutMs: 1 } });
    await client.start();
    const [pid] = client.pids;
    const reasons: string[] = [];
    client.onRestart((reason) => reasons.push(reason));
    const message = 'Expected an image that decodes within 1 ms but it took longer';
    await expect(client.decode(largePng(4000))).rejects.toMatchObject({ code: 'invalid_image', message });
    await until(() => expect(reasons).toEqual(['a decode took more than 2 ms']));
    await until(() => expect(client.pids).toHaveLength(1));
    expect(client.pids).not.toContain(pid);
  });

  it('ends what waits and what runs when it is closed, and its processes', async () => {
    const client = makeClient();
    await client.start();
    const pid = halt(client.pids[0]);
    const errors = Array.from({ length: 4 }, () => errorOf(client.decode(photo)));
    await client.close();
    for (const error of await Promise.all(errors)) expect(error).toMatchObject({ code: 'shutting_down' });
    expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    await expect(client.decode(photo)).rejects.toMatchObject({ code: 'shutting_down' });
  });

  it('brings no native library into the process that holds it', () => {
    const script = `
      await import('./src/images/client.js');
      const { sharedObjects } = process.report.getReport();
      console.log(JSON.stringify(sharedObjects.filter((path) => /sharp|vips|onnxruntime/.test(path))));
      const { default: sharp } = await import('sharp');
      console.log(process.report.getReport().sharedObjects.some((path) => /vips/.test(path)));`;
    const { stdout } = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      cwd: fileURLToPath(root),
      encoding: 'utf8',
    });
    // The second line shows that the first could have been otherwise.
    expect(stdout.trim().split('\n')).toEqual(['[]', 'true']);
  });
});
