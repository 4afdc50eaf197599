/** The disk tier: what is leased stays, what is there is the index, and a kill leaves nothing that could be taken for an adapter. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestFolder } from '../../../src/adapter/digest.js';
import { DiskTier } from '../../../src/sources/disk.js';

let folder: string;
let evicted: string[];
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-disk-'));
  evicted = [];
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const open = (maxBytes: number) => DiskTier.open(folder, { maxBytes, onEvict: (digest) => evicted.push(digest) });
const nameOf = (digest: string) => digest.slice('sha256:'.length);
const folders = async () => (await readdir(folder)).sort();

/** Writes a content of so many bytes, and gives its digest. */
async function put(tier: DiskTier, letter: string, bytes: number): Promise<string> {
  const room = await tier.reserve(bytes);
  try {
    await writeFile(path.join(room.folder, 'adapter_config.json'), letter.repeat(bytes));
    const { digest } = await digestFolder(room.folder);
    (await room.publish(digest, bytes)).release();
    return digest;
  } finally {
    await room.end();
  }
}

describe('DiskTier', () => {
  test('keeps within its bytes, the least recently used out first', async () => {
    const tier = await open(100);
    const [a, b] = [await put(tier, 'a', 40), await put(tier, 'b', 40)];
    tier.lease(a)?.release();
    const c = await put(tier, 'c', 40);
    expect(evicted).toEqual([b]);
    expect([a, b, c].map((digest) => tier.has(digest))).toEqual([true, false, true]);
    expect(await folders()).toEqual([a, c].map(nameOf).sort());
    expect(tier.bytes).toBe(80);
  });

  test('what is leased stays, and what there is no room for is refused without disturbing anybody', async () => {
    const tier = await open(100);
    const [a, b] = [await put(tier, 'a', 40), await put(tier, 'b', 40)];
    const lease = tier.lease(a);
    expect(lease?.folder).toBe(path.join(folder, nameOf(a)));
    await expect(tier.reserve(70)).rejects.toMatchObject({ code: 'source_unavailable', retryAfterS: 1 });
    expect(tier.has(b)).toBe(true);
    await put(tier, 'c', 50);
    expect(evicted).toEqual([b]);
    const second = tier.lease(a);
    lease?.release();
    lease?.release();
    await expect(tier.reserve(70)).rejects.toThrow('in use');
    second?.release();
    await put(tier, 'd', 70);
    expect(tier.has(a)).toBe(false);
  });

  test('room that is reserved is nobody else’s, and comes back', async () => {
    const tier = await open(100);
    const rooms = await Promise.all([tier.reserve(50), tier.reserve(50)]);
    await expect(tier.reserve(1)).rejects.toThrow('in use');
    for (const room of rooms) await room.end();
    expect(tier.bytes).toBe(0);
    expect(await folders()).toEqual([]);
  });

  test('the same content twice is one', async () => {
    const tier = await open(100);
    const digests = await Promise.all([put(tier, 'a', 30), put(tier, 'a', 30)]);
    expect(new Set(digests).size).toBe(1);
    expect(tier.bytes).toBe(30);
    expect(await folders()).toHaveLength(1);
  });

  test('is made anew from what is on the disk, in the order of its use', async () => {
    const first = await open(100);
    const [a, b] = [await put(first, 'a', 40), await put(first, 'b', 40)];
    await utimes(path.join(folder, nameOf(b)), 1000, 1000);
    await utimes(path.join(folder, nameOf(a)), 2000, 2000);
    await mkdir(path.join(folder, 'not-a-digest'));
    const again = await open(100);
    expect(again.bytes).toBe(80);
    expect(again.has(a) && again.has(b)).toBe(true);
    const smaller = await open(50);
    expect(evicted).toEqual([b]);
    expect(smaller.has(a)).toBe(true);
  });

  test('content that is no longer what its name says is found out and removed', async () => {
    const tier = await open(100);
    const digest = await put(tier, 'a', 10);
    expect(await tier.verify(digest)).toBe(true);
    await writeFile(path.join(folder, nameOf(digest), 'adapter_config.json'), 'b'.repeat(10));
    expect(await tier.verify(digest)).toBe(false);
    expect(tier.has(digest)).toBe(false);
    expect(await folders()).toEqual([]);
    expect(await put(tier, 'a', 10)).toBe(digest);
    expect(await tier.verify(digest)).toBe(true);
    await rm(path.join(folder, nameOf(digest)), { recursive: true });
    expect(await tier.verify(digest)).toBe(false);
  });

  test('no other text becomes a path', async () => {
    const tier = await open(100);
    for (const digest of ['sha256:../../x', `sha256:${'A'.repeat(64)}`, `sha256:${'a'.repeat(64)}\n`, 'a'.repeat(64)])
      expect(() => tier.lease(digest)).toThrow(RangeError);
  });

  test('a folder that cannot be used is told at the start', async () => {
    await writeFile(path.join(folder, 'file'), '');
    await expect(DiskTier.open(path.join(folder, 'file'), { maxBytes: 1 })).rejects.toMatchObject({ code: 'invalid_config' });
  });
});

test('a kill in the middle leaves nothing but what the next start sweeps', async () => {
  const source = fileURLToPath(new URL('../../../src/sources/disk.ts', import.meta.url));
  const code = `import { writeFileSync } from 'node:fs';
    const { DiskTier } = await import(${JSON.stringify(source)});
    const tier = await DiskTier.open(${JSON.stringify(folder)}, { maxBytes: 1000 });
    const room = await tier.reserve(100);
    writeFileSync(room.folder + '/adapter_config.json', 'half');
    process.send('writing');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code], {
    cwd: fileURLToPath(new URL('../../..', import.meta.url)),
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  try {
    await once(child, 'message');
    // Somebody else's work in progress is left alone.
    const beside = await open(1000);
    expect(await folders()).toHaveLength(1);
    expect(beside.bytes).toBe(0);
  } finally {
    child.kill('SIGKILL');
  }
  await once(child, 'exit');
  expect(await folders()).toHaveLength(1);
  const next = await open(1000);
  expect(await folders()).toEqual([]);
  expect(next.bytes).toBe(0);
});
