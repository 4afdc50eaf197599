/** The folder of adapters as a place to publish to. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestFolder } from '../../../src/adapter/digest.js';
import { copyAdapter, FolderPublisher } from '../../../src/finetuning/publisher.js';
import { makeTinyFolder } from '../../support/server.js';

let folder: string;
let adapters: string;
let scans: number;
let publisher: FolderPublisher;
beforeEach(async () => {
  // Two adapters that were trained somewhere.
  folder = await makeTinyFolder(['one', 'other']);
  adapters = await mkdtemp(path.join(tmpdir(), 'graft-published-'));
  scans = 0;
  publisher = new FolderPublisher(adapters, async () => {
    scans++;
  });
});
afterEach(async () => {
  await rm(folder, { recursive: true });
  await rm(adapters, { recursive: true });
});

const trained = (name: string): string => path.join(folder, 'adapters', name);

test('an adapter is there under its tenant’s name, whole, once it is said to be', async () => {
  await publisher.check('acme/dogs');
  const published = await publisher.publish('acme/dogs', trained('one'));
  expect(published).toEqual({ version: null, digest: (await digestFolder(path.join(adapters, 'acme/dogs'))).digest });
  expect(published.digest).toBe((await digestFolder(trained('one'))).digest);
  expect(scans).toBe(1);
});

test('a name that is taken stays as it is; publishing the same again is publishing it', async () => {
  const { digest } = await publisher.publish('dogs', trained('one'));
  await expect(publisher.check('dogs')).rejects.toMatchObject({ code: 'conflict', param: 'suffix' });
  await expect(publisher.publish('dogs', trained('other'))).rejects.toMatchObject({ code: 'conflict' });
  expect((await publisher.publish('dogs', trained('one'))).digest).toBe(digest);
  expect((await digestFolder(path.join(adapters, 'dogs'))).digest).toBe(digest);
});

test('nothing is published into another adapter', async () => {
  await mkdir(path.join(adapters, 'acme'), { recursive: true });
  await writeFile(path.join(adapters, 'acme/adapter.json'), '{}');
  await expect(publisher.check('acme/dogs')).rejects.toMatchObject({ code: 'conflict' });
});

test('an adapter that a job begins with is copied as it was, or not at all', async () => {
  const { digest } = await digestFolder(trained('one'));
  const copy = path.join(folder, 'copy/one');
  await copyAdapter(trained('one'), digest, copy);
  expect((await digestFolder(copy)).digest).toBe(digest);
  const other = path.join(folder, 'copy/other');
  await expect(copyAdapter(trained('other'), digest, other)).rejects.toMatchObject({ code: 'adapter_changed' });
  expect((await digestFolder(other)).bytes).toBe(0);
});
