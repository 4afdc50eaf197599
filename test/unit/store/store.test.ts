/** The store: what serves, what stays, what goes, and what is there when it is opened again. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AppError } from '../../../src/errors.js';
import { parseReference } from '../../../src/store/reference.js';
import { AdapterStore } from '../../../src/store/store.js';
import { HOST } from '../../../src/tensor/owner.js';
import { digestOfSeed, TestPublisher } from '../../support/versions.js';

let folder: string;
let store: AdapterStore;
let publisher: TestPublisher;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-store-'));
  await open();
});
afterEach(async () => {
  await store.close();
  await rm(folder, { recursive: true });
});

async function open(): Promise<void> {
  store = await AdapterStore.open(folder);
  publisher = new TestPublisher(store);
}

async function reopen(): Promise<void> {
  await store.close();
  await open();
}

const contents = () => readdir(path.join(folder, 'versions'));
const hex = (seed: number) => digestOfSeed(seed).slice('sha256:'.length);

function served(text: string, key = 'k'): number | undefined {
  const held = store.select(parseReference(text), key);
  held?.release();
  return held?.adapter.version;
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'ok',
    (error: unknown) => (error as AppError).code,
  );
}

describe('versions', () => {
  it('count up, the newest is current unless that is not wanted, and the same content is the same version', async () => {
    expect(await publisher.publish('a', 1, { isCurrent: false })).toMatchObject({
      isNew: true,
      version: { version: 1, by: 'acme' },
    });
    expect(served('a')).toBe(1);
    expect((await publisher.publish('a', 2)).version.version).toBe(2);
    expect((await publisher.publish('a', 3, { isCurrent: false })).version.version).toBe(3);
    expect(served('a')).toBe(2);
    expect(await publisher.publish('a', 1, { isCurrent: false })).toMatchObject({ isNew: false, version: { version: 1 } });
    expect(served('a')).toBe(2);
    expect(await publisher.publish('a', 1)).toMatchObject({ isNew: false, version: { version: 1 } });
    expect(served('a')).toBe(1);
    expect(store.get('a')?.versions).toHaveLength(3);
  });

  it('are asked for by number and by digest, of this name only', async () => {
    await publisher.publish('a', 1);
    await publisher.publish('a', 2);
    await publisher.publish('b', 3);
    expect(served('a@1')).toBe(1);
    expect(served(`a@${digestOfSeed(1)}`)).toBe(1);
    expect(served('a@3')).toBeUndefined();
    expect(served(`a@${digestOfSeed(3)}`)).toBeUndefined();
    expect(served('c')).toBeUndefined();
  });

  it('have numbers that are never given again', async () => {
    for (const seed of [1, 2, 3]) await publisher.publish('a', seed);
    await store.rollback('a', 1);
    await store.deleteVersion('a', 3);
    await reopen();
    expect((await publisher.publish('a', 4)).version.version).toBe(4);
  });

  it('share a content, which goes with the last of them', async () => {
    await publisher.publish('a', 1);
    await publisher.publish('b', 1);
    expect(await contents()).toEqual([hex(1)]);
    await store.delete('a');
    expect(await contents()).toEqual([hex(1)]);
    await store.delete('b');
    expect(await contents()).toEqual([]);
  });
});

describe('what serves', () => {
  beforeEach(async () => {
    for (const seed of [1, 2, 3]) await publisher.publish('a', seed);
  });

  it('is rolled back to what was current before, again and again, until there is nothing', async () => {
    expect((await store.rollback('a'))?.current).toBe(2);
    expect((await store.rollback('a'))?.current).toBe(1);
    await expect(store.rollback('a')).rejects.toMatchObject({
      code: 'conflict',
      message: 'Expected a version of a that was current before but there is none',
    });
    expect((await store.rollback('a', 3))?.current).toBe(3);
    expect((await store.rollback('a'))?.current).toBe(1);
    await expect(store.rollback('a', 9)).rejects.toMatchObject({
      code: 'adapter_not_found',
      message: 'Expected a version of a (such as 1, 2, 3) but received 9',
    });
  });

  it('is divided by a split, until something becomes current', async () => {
    const halves = [
      { version: 2, percent: 50 },
      { version: 1, percent: 50 },
    ];
    await store.split('a', halves);
    const keys = Array.from({ length: 40 }, (_, index) => `${index}`);
    const first = keys.map((key) => served('a', key));
    expect(new Set(first)).toEqual(new Set([1, 2]));
    await reopen();
    expect(keys.map((key) => served('a', key))).toEqual(first);
    expect(served('a@3')).toBe(3);
    await store.rollback('a', 3);
    expect(new Set(keys.map((key) => served('a', key)))).toEqual(new Set([3]));
    await store.split('a', halves);
    await store.split('a', []);
    expect(new Set(keys.map((key) => served('a', key)))).toEqual(new Set([3]));
    expect(await codeOf(store.split('a', [{ version: 9, percent: 100 }]))).toBe('adapter_not_found');
  });

  it('has a shadow, which is promoted', async () => {
    expect(await codeOf(store.shadow('a', 3))).toBe('conflict');
    expect(await codeOf(store.promote('a'))).toBe('conflict');
    await store.shadow('a', 2);
    const held = store.select({ name: 'a' }, 'k');
    const shadow = held && store.shadowOf(held.adapter);
    expect(shadow?.adapter).toMatchObject({ version: 2, ref: { digest: digestOfSeed(2) } });
    for (const lease of [held, shadow]) lease?.release();
    expect(await store.promote('a')).toMatchObject({ current: 2, shadow: null, history: [1, 2, 3] });
  });

  it('cannot be deleted, nor can what a split or a shadow needs; the way back forgets what is gone', async () => {
    await store.split('a', [
      { version: 1, percent: 50 },
      { version: 3, percent: 50 },
    ]);
    await store.shadow('a', 2);
    const said = async (version: number) => store.deleteVersion('a', version).catch((error: unknown) => (error as Error).message);
    expect(await said(1)).toBe('Expected a version that is not in use but a@1 is part of a split');
    expect(await said(2)).toBe('Expected a version that is not in use but a@2 is the shadow');
    expect(await said(3)).toBe('Expected a version that is not in use but a@3 is current and part of a split');
    await store.split('a', []);
    await store.shadow('a', null);
    await store.rollback('a', 1);
    await store.deleteVersion('a', 3);
    expect(store.get('a')).toMatchObject({ current: 1, history: [1, 2] });
    await store.deleteVersion('a', 2);
    // 1, and 1 before it: there is no way back any more.
    expect(store.get('a')).toMatchObject({ current: 1, history: [] });
    expect(await codeOf(store.rollback('a'))).toBe('conflict');
  });

  it('is pinned with all that a split needs, under every name', async () => {
    await store.pin('a', true);
    expect(store.pinned().map(({ version }) => version)).toEqual([3]);
    await store.split('a', [
      { version: 1, percent: 100 },
      { version: 2, percent: 0 },
    ]);
    expect(store.pinned().map(({ version }) => version)).toEqual([1]);
    await reopen();
    expect(store.pinned().map(({ version }) => version)).toEqual([1]);
    await store.pin('a', false);
    expect(store.pinned()).toEqual([]);
  });
});

describe('a content that requests use', () => {
  it('stays until the last of them has ended, though its name is gone', async () => {
    await publisher.publish('a', 1);
    const held = [1, 2].map(() => store.select({ name: 'a' }, 'k'));
    await store.delete('a');
    expect(served('a')).toBeUndefined();
    held[0]?.release();
    held[0]?.release();
    await store.delete('nobody');
    expect(await contents()).toEqual([hex(1)]);
    held[1]?.release();
    await store.delete('nobody');
    expect(await contents()).toEqual([]);
  });

  it('stays for good where it is published again meanwhile', async () => {
    await publisher.publish('a', 1);
    const held = store.select({ name: 'a' }, 'k');
    await store.delete('a');
    await publisher.publish('b', 1);
    held?.release();
    await store.delete('nobody');
    expect(await contents()).toEqual([hex(1)]);
    expect(await readdir(store.list()[0]?.ref.folder ?? '')).toHaveLength(2);
  });

  it('is mended by publishing it again where the disk has spoilt it', async () => {
    await publisher.publish('a', 1);
    const { folder: place, digest } = store.list()[0]?.ref ?? { folder: '', digest: '' };
    await store.examine(digest);
    expect(store.list()[0]?.fault).toBeUndefined();
    const file = path.join(place, 'adapter_model.safetensors');
    const before = await readFile(file);
    await writeFile(
      file,
      Uint8Array.from(before, (byte, at) => (at === before.length - 1 ? byte ^ 1 : byte)),
    );
    await store.examine(digest);
    expect(store.list()[0]?.fault).toBe('Expected its files in the store to be as they came but they are not');
    await publisher.publish('b', 1);
    expect(store.list().map(({ fault }) => fault)).toEqual([undefined, undefined]);
    expect(await readFile(file)).toEqual(before);
  });
});

describe('opened again', () => {
  it('is as it was left', async () => {
    for (const seed of [1, 2, 3]) await publisher.publish('acme/a', seed);
    await publisher.publish('b', 2);
    await store.shadow('acme/a', 1);
    const before = ['acme/a', 'b'].map((name) => store.get(name));
    const list = store.list();
    await reopen();
    expect(['acme/a', 'b'].map((name) => store.get(name))).toEqual(before);
    expect(store.list()).toEqual(list);
  });

  it('has swept what nothing names, and nothing else', async () => {
    await publisher.publish('a', 1);
    await store.close();
    for (const left of [`versions/${'0'.repeat(64)}`, 'uploads/half'])
      await mkdir(path.join(folder, left, 'image'), { recursive: true });
    await writeFile(path.join(folder, '.index.json.tmp-1'), '{');
    await writeFile(path.join(folder, 'lock.x'), '');
    await writeFile(path.join(folder, 'notes.txt'), 'mine');
    await open();
    expect((await readdir(folder)).sort()).toEqual(['index.json', 'lock', 'notes.txt', 'uploads', 'versions']);
    expect(await readdir(path.join(folder, 'uploads'))).toEqual([]);
    expect(await contents()).toEqual([hex(1)]);
  });

  it('says of a content that is gone that it is', async () => {
    await publisher.publish('a', 1);
    await store.close();
    await rm(path.join(folder, 'versions', hex(1)), { recursive: true });
    await open();
    expect(store.list()[0]?.fault).toBe('Expected its files in the store but they are gone');
  });

  it.each([
    ['{', /^store: Expected an index of graft-store\/1 in .*index.json: all of it: /],
    ['{"format": "graft-store/2", "adapters": []}', /format: Invalid input: expected "graft-store\/1"/],
    [
      JSON.stringify({
        format: 'graft-store/1',
        adapters: [{ name: 'a', versions: [], next: 1, current: 1, history: [], split: [], shadow: null, pinned: false }],
      }),
      /adapters.0.versions: /,
    ],
  ])('is refused with an index of %s, and nothing of it is swept', async (index, message) => {
    await publisher.publish('a', 1);
    await store.close();
    await writeFile(path.join(folder, 'index.json'), index);
    await expect(AdapterStore.open(folder)).rejects.toMatchObject({
      code: 'invalid_config',
      message: expect.stringMatching(message),
    });
    expect(await contents()).toEqual([hex(1)]);
    await rm(path.join(folder, 'index.json'));
    await expect(AdapterStore.open(folder)).rejects.toMatchObject({
      message: `store: Expected index.json beside the versions in ${folder} but received none`,
    });
    expect(await contents()).toEqual([hex(1)]);
    await rm(path.join(folder, 'versions'), { recursive: true });
    await open();
  });
});

describe('another server', () => {
  it('is refused the store while this one has it, by name', async () => {
    const said = (who: string) =>
      `store: Expected a store that no other server uses but ${folder} belongs to ${who}; what was left by one that is gone is free after 60 s`;
    await expect(AdapterStore.open(folder)).rejects.toMatchObject({
      code: 'invalid_config',
      message: said(`process ${process.pid}`),
    });
    await store.close();
    await writeFile(path.join(folder, 'lock'), '00c0ffee-1-00000000');
    await expect(AdapterStore.open(folder)).rejects.toMatchObject({ message: said('a server of another machine or container') });
    await rm(path.join(folder, 'lock'));
    await open();
  });

  it('that took it over keeps it: this one changes nothing any more', async () => {
    await publisher.publish('a', 1);
    const index = await readFile(path.join(folder, 'index.json'), 'utf8');
    await writeFile(path.join(folder, 'lock'), `${HOST}-1-00000000`);
    expect(await codeOf(publisher.publish('a', 2))).toBe('internal');
    expect(await codeOf(store.delete('a'))).toBe('internal');
    expect(await readFile(path.join(folder, 'index.json'), 'utf8')).toBe(index);
    expect(served('a')).toBe(1);
    await store.close();
    expect(await readFile(path.join(folder, 'lock'), 'utf8')).toBe(`${HOST}-1-00000000`);
    await rm(path.join(folder, 'lock'));
    await open();
  });

  it('a folder that cannot be used is refused in words', async () => {
    const file = path.join(folder, 'notes.txt');
    await writeFile(file, '');
    await expect(AdapterStore.open(file)).rejects.toMatchObject({
      code: 'invalid_config',
      message: expect.stringMatching(/^store: Expected a folder that can be written but received /),
    });
  });
});
