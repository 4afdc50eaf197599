import { mkdtemp, readdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { claim, leftBytes, sweep } from '../../../src/hub/part.js';

const ETAG = 'ab'.repeat(20);
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-part-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function leave(name: string, content: string): Promise<void> {
  const hourAgo = new Date(Date.now() - 3_600_000);
  await writeFile(path.join(folder, name), content);
  await utimes(path.join(folder, name), hourAgo, hourAgo);
}

it('a part has one owner: of several takers one gets what was left, and it is not left any more', async () => {
  await leave(`${ETAG}.00000000-1-00000000.incomplete`, 'long ago');
  expect(await leftBytes(folder, ETAG)).toBe(8);
  const parts = await Promise.all([1, 2, 3].map(() => claim(folder, ETAG)));
  expect(new Set(parts.map(({ path: place }) => place)).size).toBe(3);
  const contents = await Promise.all(parts.map(({ path: place }) => readFile(place, 'utf8').catch(() => null)));
  expect(contents.filter((content) => content !== null)).toEqual(['long ago']);
  expect(await leftBytes(folder, ETAG)).toBe(0);
  await sweep(folder, ETAG);
  expect(await readdir(folder)).toHaveLength(1);
});

it('a part that was taken over counts as young to other machines', async () => {
  await leave(`${ETAG}.00000000-1-00000000.incomplete`, 'x');
  const part = await claim(folder, ETAG);
  part.release();
  // To whom the process is unknown, the time is all that tells.
  const [name = ''] = await readdir(folder);
  const foreign = name.replace(/\.[0-9a-f]{8}-/, '.ffffffff-');
  await rename(path.join(folder, name), path.join(folder, foreign));
  expect(await leftBytes(folder, ETAG)).toBe(0);
});

it('a part that was released is for the next one; those of other files, and names that are not ours, are for nobody', async () => {
  const others = [`${'cd'.repeat(20)}.00000000-1-00000000.incomplete`, `${ETAG}.1234abcd.incomplete`, `${ETAG}.incomplete`, ETAG];
  for (const name of others) await leave(name, 'not yours');
  const part = await claim(folder, ETAG);
  await writeFile(part.path, 'half');
  expect(await leftBytes(folder, ETAG)).toBe(0);
  part.release();
  expect(await readFile((await claim(folder, ETAG)).path, 'utf8')).toBe('half');
  await sweep(folder, ETAG);
  expect((await readdir(folder)).filter((name) => others.includes(name)).sort()).toEqual([...others].sort());
});
