/** The store of features: what was added comes back bit for bit, and whatever a crash left of its files, no record is ever taken for another. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FeatureStore, featureKey } from '../../../src/training/store.js';
import { featuresOf, keyOf, NUMBERS } from '../../fixtures/training/store/fill.js';

const RECORD_BYTES = NUMBERS * 2;
const KEY_BYTES = 32;
/** Of file descriptors, where the system tells: leaks show here. */
const descriptors = async (): Promise<number> => (await readdir('/proc/self/fd')).length;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-store-'));
});
afterEach(() => rm(folder, { recursive: true }));

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, index) => from + index);

async function fill(place: string, records: readonly number[]): Promise<void> {
  const store = await FeatureStore.open(place, NUMBERS);
  for (const record of records) await store.add(keyOf(record), featuresOf(record));
  await store.close();
}

/** Which of these records the folder's store has; every one that it has must be right. */
async function found(place: string, records: readonly number[]): Promise<number[]> {
  const store = await FeatureStore.open(place, NUMBERS);
  const has = records.filter((record) => store.has(keyOf(record)));
  const read = await store.read(has.map(keyOf));
  expect(read).toHaveLength(has.length * NUMBERS);
  has.forEach((record, index) => {
    expect(read.subarray(index * NUMBERS, (index + 1) * NUMBERS), `record ${record}`).toEqual(featuresOf(record));
  });
  await store.close();
  return has;
}

/** The one file of a folder that ends in this. */
async function fileOf(place: string, extension: string): Promise<string> {
  const names = (await readdir(place)).filter((name) => name.endsWith(extension));
  expect(names).toHaveLength(1);
  return join(place, names[0] as string);
}

describe('FeatureStore', () => {
  it('gives back what was added, in the order that is asked for, before and after it is closed', async () => {
    const store = await FeatureStore.open(join(folder, 'a', 'b'), NUMBERS);
    expect([store.size, store.has(keyOf(1))]).toEqual([0, false]);
    const every = Uint16Array.of(0, 0x7c00, 0x7e01, 0xfc00, 0x8000); // Infinities, a NaN and minus zero.
    await store.add(keyOf(1), every);
    for (const record of range(2, 5)) await store.add(keyOf(record), featuresOf(record));
    const asked = [3, 1, 4, 3].map(keyOf);
    const expected = [...featuresOf(3), ...every, ...featuresOf(4), ...featuresOf(3)];
    expect([...(await store.read(asked))]).toEqual(expected);
    expect(await store.read([])).toHaveLength(0);
    await store.close();
    const again = await FeatureStore.open(join(folder, 'a', 'b'), NUMBERS);
    expect([again.size, again.has(keyOf(4)), again.has(keyOf(5))]).toEqual([4, true, false]);
    expect([...(await again.read(asked))]).toEqual(expected);
    await again.close();
  });

  it('takes a part of a larger array for what it is', async () => {
    const store = await FeatureStore.open(folder, NUMBERS);
    await store.add(keyOf(0), Uint16Array.of(9, 9, ...featuresOf(0), 9).subarray(2, 2 + NUMBERS));
    expect(await store.read([keyOf(0)])).toEqual(featuresOf(0));
    await store.close();
  });

  it('holds many records, over several sittings', async () => {
    await fill(folder, range(0, 3000));
    await fill(folder, range(3000, 3001));
    await fill(folder, range(3001, 4500));
    expect(await found(folder, range(0, 5000))).toEqual(range(0, 4500));
    expect((await readdir(folder)).length).toBe(6);
  });

  it('makes no file where nothing is added', async () => {
    await fill(folder, []);
    expect(await readdir(folder)).toEqual([]);
  });

  it('refuses what is no record of it', async () => {
    const store = await FeatureStore.open(folder, NUMBERS);
    await expect(store.add(keyOf(0), new Uint16Array(NUMBERS + 1))).rejects.toThrow(
      new RangeError('Expected 5 numbers but received 6'),
    );
    for (const key of ['', 'ab', keyOf(0).toUpperCase(), `${keyOf(0)}0`, 'g'.repeat(64)])
      await expect(store.add(key, featuresOf(0))).rejects.toThrow(RangeError);
    await expect(store.read([keyOf(0)])).rejects.toThrow(RangeError);
    expect(store.size).toBe(0);
    await store.close();
    expect(await readdir(folder)).toEqual([]);
  });
});

describe('a store after a crash', () => {
  it('has the records whose features and key are both whole, wherever either file ends', async () => {
    const made = join(folder, 'made');
    await fill(made, range(0, 3));
    const [bin, keys] = [await fileOf(made, '.bin'), await fileOf(made, '.keys')];
    for (const [file, bytes] of [
      [bin, RECORD_BYTES],
      [keys, KEY_BYTES],
    ] as const)
      for (let length = 0; length <= 3 * bytes; length++) {
        const cut = join(folder, `${bytes}-${length}`);
        await mkdir(cut);
        for (const each of [bin, keys]) await copyFile(each, join(cut, each.slice(made.length + 1)));
        await truncate(join(cut, file.slice(made.length + 1)), length);
        expect(await found(cut, range(0, 3))).toEqual(range(0, Math.floor(length / bytes)));
        // And it goes on: in files of its own, whatever is at the end of those.
        await fill(cut, range(2, 5));
        expect(await found(cut, range(0, 6))).toEqual([...new Set([...range(0, Math.floor(length / bytes)), ...range(2, 5)])]);
      }
  });

  it('overlooks features without keys, keys without features, and files of others', async () => {
    await fill(folder, range(0, 2));
    await writeFile(join(folder, '00000000-lost.bin'), Buffer.alloc(7 * RECORD_BYTES));
    await writeFile(join(folder, '00000000-alone.keys'), Buffer.from(range(3, 6).map(keyOf).join(''), 'hex'));
    await writeFile(join(folder, 'ffffffff-empty.keys'), '');
    await writeFile(join(folder, 'ffffffff-empty.bin'), '');
    await writeFile(join(folder, 'notes.txt'), 'hello');
    expect(await found(folder, range(0, 6))).toEqual([0, 1]);
  });

  it('has nothing under keys that a power cut left as zeros', async () => {
    await fill(folder, range(0, 2));
    const keys = await fileOf(folder, '.keys');
    await writeFile(keys, Buffer.concat([(await readFile(keys)).subarray(0, 40), Buffer.alloc(24)]));
    expect(await found(folder, range(0, 3))).toEqual([0]);
  });

  it('says which file lost its end while it was open', async () => {
    const store = await FeatureStore.open(folder, NUMBERS);
    for (const record of range(0, 3)) await store.add(keyOf(record), featuresOf(record));
    await store.flush();
    const bin = await fileOf(folder, '.bin');
    await truncate(bin, 2 * RECORD_BYTES + 4);
    await expect(store.read([keyOf(2)])).rejects.toMatchObject({
      code: 'invalid_file',
      message: `${bin}: Expected 10 bytes at 20 but the file ends after 4`,
    });
    expect(await store.read([keyOf(1)])).toEqual(featuresOf(1));
    await store.close();
  });

  it.runIf(process.platform === 'linux')('leaves no file open, also where a store cannot be opened', async () => {
    await fill(folder, range(0, 600));
    await fill(folder, range(600, 700));
    const before = await descriptors();
    for (let turn = 0; turn < 5; turn++) await found(folder, range(0, 700));
    expect(await descriptors()).toBe(before);
    await mkdir(join(folder, 'z.keys'));
    await expect(FeatureStore.open(folder, NUMBERS)).rejects.toMatchObject({ code: 'EISDIR' });
    expect(await descriptors()).toBe(before);
  });
});

describe('processes that share a store', () => {
  const run = (...args: string[]): ChildProcess => {
    const program = fileURLToPath(new URL('../../fixtures/training/store/fill.ts', import.meta.url));
    const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
    return spawn(process.execPath, ['--import', loader, program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  };

  it('fill it together, with records of both', async () => {
    const children = [run(folder, '0', '700'), run(folder, '500', '1200')];
    for (const [code] of await Promise.all(children.map((child) => once(child, 'exit')))) expect(code).toBe(0);
    expect(await found(folder, range(0, 1300))).toEqual(range(0, 1200));
  });

  it('lose only the last of it when they are killed', async () => {
    const child = run(folder, '0', '1000000000');
    // After the first records are safe, at any moment.
    while (!(await size(folder, '.keys'))) await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill('SIGKILL');
    await once(child, 'exit');
    const keys = (await size(folder, '.keys')) / KEY_BYTES;
    expect(keys).toBeGreaterThanOrEqual(256);
    expect(await found(folder, range(0, keys + 1000))).toEqual(range(0, Math.floor(keys)));
  });

  async function size(place: string, extension: string): Promise<number> {
    const name = (await readdir(place)).find((each) => each.endsWith(extension));
    return name === undefined ? 0 : (await readFile(join(place, name))).length;
  }
});

describe('featureKey', () => {
  it('is another one for other bytes and for another view, and 64 hex digits', () => {
    const bytes = Uint8Array.of(1, 2, 3);
    const all = [
      featureKey(bytes, 'plain'),
      featureKey(bytes, 'plain '),
      featureKey(bytes, ''),
      featureKey(Uint8Array.of(1, 2), 'plain'),
      featureKey(new Uint8Array(), 'plain'),
      featureKey(Buffer.concat([bytes, Buffer.from('plain')]), ''),
    ];
    expect(new Set(all).size).toBe(all.length);
    for (const key of all) expect(key).toMatch(/^[0-9a-f]{64}$/);
    expect(featureKey(Buffer.from(bytes), 'plain')).toBe(all[0]);
    const content = createHash('sha256').update(bytes).digest();
    expect(all[0]).toBe(createHash('sha256').update(content).update('plain').digest('hex'));
  });
});
