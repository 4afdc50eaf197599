/** From what somebody sends to a version: what is looked at, what is told, and that nothing remains of what is refused. */
import { mkdir, mkdtemp, readdir, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { isBelow, takeFolder } from '../../../src/store/copy.js';
import { AdapterStore } from '../../../src/store/store.js';
import { digestOfSeed, peftFiles, pieces, TestPublisher } from '../../support/versions.js';

let root: string;
let store: AdapterStore;
beforeEach(async () => {
  root = await realpath(await mkdtemp(path.join(tmpdir(), 'graft-publisher-')));
  store = await AdapterStore.open(path.join(root, 'store'));
});
afterEach(async () => {
  await store.close();
  await rm(root, { recursive: true });
});

const left = async () => [
  ...(await readdir(path.join(root, 'store/uploads'))),
  ...(await readdir(path.join(root, 'store/versions'))),
];

describe('the engine', () => {
  it('is asked about the files that become the version, and what it says is told under the name', async () => {
    const faults = ['adapter_config.json: Expected r to be 8 but received 1', 'and more'];
    const refusing = new TestPublisher(store, {
      check: () => Promise.reject(AppError.ofFaults('adapter_invalid', 'adapter 12ab-34', faults)),
    });
    const refused = refusing.publish('acme/alt', 1);
    await expect(refused).rejects.toMatchObject({
      code: 'adapter_invalid',
      message: `Adapter acme/alt cannot be published: ${faults.join('; ')}`,
      faults,
    });
    expect(refusing.outcomes).toEqual(['adapter_invalid']);
    expect(store.get('acme/alt')).toBeUndefined();
    expect(await left()).toEqual([]);

    const publisher = new TestPublisher(store);
    await publisher.publish('acme/alt', 1);
    expect(publisher.checked).toMatchObject([{ name: 'acme/alt', digest: digestOfSeed(1) }]);
    expect(publisher.checked[0]?.folder).toContain(path.join(root, 'store/uploads'));
    expect(publisher.outcomes).toEqual(['ok']);
  });

  it('that is away leaves what was there', async () => {
    await new TestPublisher(store).publish('a', 1);
    const away = new TestPublisher(store, { check: () => Promise.reject(new AppError('engine_unavailable', 'No engine')) });
    await expect(away.publish('a', 2)).rejects.toMatchObject({ code: 'engine_unavailable', message: 'No engine' });
    expect(store.get('a')?.versions).toHaveLength(1);
  });

  it('checks one at a time, and only so many are published at once', async () => {
    let running = 0;
    let most = 0;
    const publisher = new TestPublisher(store, {
      check: async () => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 5));
        running--;
      },
    });
    const published = [1, 2, 3, 4, 5, 6].map((seed) => publisher.publish(`a${seed}`, seed));
    const codes = await Promise.all(
      published.map((one) =>
        one.then(
          () => 'ok',
          (error: unknown) => (error as AppError).code,
        ),
      ),
    );
    expect(codes).toEqual(['ok', 'ok', 'ok', 'ok', 'queue_full', 'queue_full']);
    expect(most).toBe(1);
    expect((await publisher.publish('a5', 5)).version.version).toBe(1);
  });

  it('somebody who publishes much keeps nobody else away, until all together are too many', async () => {
    let go: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    const publisher = new TestPublisher(store, { check: () => gate });
    const from = (by: string, count: number) => Array.from({ length: count }, () => publisher.publish(`${by}/x`, 1, { by }));
    const many = ['a', 'b', 'c', 'd'].flatMap((by) => from(by, 5));
    const late = from('e', 1);
    const settled = Promise.allSettled([...many, ...late]);
    go();
    const refused = (await settled).flatMap((one) => (one.status === 'rejected' ? [(one.reason as Error).message] : []));
    const said = (most: number) => `Expected fewer than ${most} adapters that are published at once: please retry later`;
    expect(refused).toEqual([said(4), said(4), said(4), said(16), said(16)]);
  });
});

describe('files', () => {
  it('that still come when it is over are not written', async () => {
    const publisher = new TestPublisher(store);
    let go: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    let late: Promise<unknown> | undefined;
    const refused = publisher.publisher.publish({ name: 'a', by: '', isCurrent: true }, async (intake) => {
      const slow = (async function* () {
        yield new Uint8Array(1);
        await gate;
        yield new Uint8Array(1);
      })();
      late = Promise.allSettled([
        intake.addFile('README.md', slow),
        gate.then(() => intake.addFile('image/README.md', pieces(new Uint8Array(9)))),
      ]);
      throw new AppError('cancelled', 'gone');
    });
    await expect(refused).rejects.toMatchObject({ message: 'gone' });
    go();
    expect(await late).toMatchObject([{ reason: { code: 'cancelled' } }, { reason: { code: 'cancelled' } }]);
    await new Promise((resolve) => setImmediate(resolve));
    while ((await left()).length > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await left()).toEqual([]);
  });
});

describe('a folder of this machine', () => {
  const publish = (folder: string, below = root) =>
    new TestPublisher(store).publisher.publish({ name: 'a', by: '', isCurrent: true }, (intake) =>
      takeFolder(folder, below, intake),
    );

  async function write(folder: string): Promise<string> {
    const place = path.join(root, folder);
    await mkdir(place, { recursive: true });
    for (const [name, bytes] of peftFiles(1)) await writeFile(path.join(place, name), bytes);
    return place;
  }

  it('is copied without what lies beside the adapter', async () => {
    const place = await write('mine');
    await writeFile(path.join(place, 'optimizer.pt'), 'x');
    await mkdir(path.join(place, 'checkpoint-1'));
    await writeFile(path.join(place, 'checkpoint-1/adapter_config.json'), '{}');
    expect((await publish(place)).version.digest).toBe(digestOfSeed(1));
    await rm(place, { recursive: true });
    expect(await readdir(store.list()[0]?.ref.folder ?? '')).toEqual([...peftFiles(1).keys()]);
  });

  it('may have links to what lies below the root, and to nothing else', async () => {
    const place = await write('snapshots/1');
    const outside = await mkdtemp(path.join(tmpdir(), 'graft-outside-'));
    try {
      await mkdir(path.join(root, 'blobs'));
      const tensors = path.join(place, 'adapter_model.safetensors');
      const bytes = peftFiles(1).get('adapter_model.safetensors') ?? new Uint8Array();
      for (const [blob, isTaken] of [
        [path.join(root, 'blobs/1'), true],
        [path.join(outside, '1'), false],
      ] as const) {
        await writeFile(blob, bytes);
        await rm(tensors);
        await symlink(blob, tensors);
        const published = publish(place).then(
          ({ version }) => version.digest,
          (error: unknown) => (error as Error).message,
        );
        expect(await published).toBe(
          isTaken
            ? digestOfSeed(1)
            : 'The upload is no adapter: adapter_model.safetensors: Expected a file below the folder that adapters may be loaded from but received a link elsewhere',
        );
      }
    } finally {
      await rm(outside, { recursive: true });
    }
  });

  it('that is none is no adapter', async () => {
    await expect(publish(path.join(root, 'nowhere'))).rejects.toMatchObject({
      code: 'adapter_invalid',
      message: expect.stringMatching(/^The upload is no adapter: Expected adapter.json, or/),
    });
  });

  it.each([
    ['/a', '/a', true],
    ['/a', '/a/b', true],
    ['/a', '/a/..b', true],
    ['/a', '/ab', false],
    ['/a', '/', false],
    ['/a', '/b/a', false],
  ])('below %s is %s: %s', (folder, place, isIn) => {
    expect(isBelow(folder, place)).toBe(isIn);
  });
});
