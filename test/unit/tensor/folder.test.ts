/** Files and folders that appear whole or not at all, and what stood there before. */
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { publishFolder, replaceFile, syncFolder, writeSynced } from '../../../src/tensor/folder.js';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'graft-folder-'));
});
afterEach(() => rm(root, { recursive: true }));

const read = (...path: string[]): Promise<string> => readFile(join(root, ...path), 'utf8');
const failing = async (temporary: string): Promise<void> => {
  await writeFile(join(temporary, 'half'), 'x');
  throw new TypeError('no more');
};

describe('publishFolder', () => {
  it('makes the folders above, and takes the place of what was there as a whole', async () => {
    const place = join(root, 'a', 'b', 'probe');
    await publishFolder(place, (temporary) => writeFile(join(temporary, 'first'), '1'));
    await publishFolder(place, (temporary) => writeFile(join(temporary, 'second'), '2'));
    expect(await readdir(place)).toEqual(['second']);
    expect(await readdir(join(root, 'a', 'b'))).toEqual(['probe']);
  });

  it('keeps the old one in its place until the new one is complete', async () => {
    const place = join(root, 'probe');
    await publishFolder(place, (temporary) => writeFile(join(temporary, 'first'), '1'));
    await publishFolder(place, async (temporary) => {
      await writeFile(join(temporary, 'second'), '2');
      expect(await readdir(place)).toEqual(['first']);
      expect(temporary).toMatch(/\/\.probe\.tmp-[^/]+$/);
    });
    expect(await readdir(place)).toEqual(['second']);
  });

  it('leaves all as it was where filling fails', async () => {
    const place = join(root, 'probe');
    await expect(publishFolder(place, failing)).rejects.toThrow(new TypeError('no more'));
    expect(await readdir(root)).toEqual([]);
    await publishFolder(place, (temporary) => writeFile(join(temporary, 'first'), '1'));
    await expect(publishFolder(place, failing)).rejects.toThrow('no more');
    expect(await readdir(root)).toEqual(['probe']);
    expect(await read('probe', 'first')).toBe('1');
  });

  it('leaves all as it was where the new one was taken away before it could be moved', async () => {
    const place = join(root, 'probe');
    await publishFolder(place, (temporary) => writeFile(join(temporary, 'first'), '1'));
    await expect(publishFolder(place, (temporary) => rm(temporary, { recursive: true }))).rejects.toMatchObject({
      code: 'ENOENT',
    });
    expect(await readdir(root)).toEqual(['probe']);
    expect(await read('probe', 'first')).toBe('1');
  });

  it('by several at once gives one of them whole', async () => {
    const place = join(root, 'probe');
    await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        publishFolder(place, async (temporary) => {
          for (const name of ['a', 'b']) await writeFile(join(temporary, name), String(index));
        }),
      ),
    );
    expect(await read('probe', 'a')).toBe(await read('probe', 'b'));
    expect(await readdir(root)).toEqual(['probe']);
  });

  it('sweeps away what was left behind long ago, once a complete one is in place', async () => {
    const names = ['.probe.tmp-old', '.probe.tmp-new', '.probe.other', '.others.tmp-old'];
    for (const name of names) {
      await mkdir(join(root, name));
      if (name.endsWith('old')) await utimes(join(root, name), 1, 1);
    }
    await expect(publishFolder(join(root, 'probe'), failing)).rejects.toThrow('no more');
    expect((await readdir(root)).sort()).toEqual([...names].sort());
    await publishFolder(join(root, 'probe'), () => Promise.resolve());
    expect((await readdir(root)).sort()).toEqual(['.others.tmp-old', '.probe.other', '.probe.tmp-new', 'probe']);
  });
});

describe('replaceFile', () => {
  it('writes a new one and replaces an old one', async () => {
    await replaceFile(join(root, 'file'), bytes('one'));
    await replaceFile(join(root, 'file'), bytes('two'));
    expect(await read('file')).toBe('two');
    expect(await readdir(root)).toEqual(['file']);
  });

  it('leaves what it cannot replace', async () => {
    await mkdir(join(root, 'place', 'inner'), { recursive: true });
    await expect(replaceFile(join(root, 'place'), bytes('x'))).rejects.toMatchObject({ code: 'EISDIR' });
    expect(await readdir(root)).toEqual(['place']);
    expect(await readdir(join(root, 'place'))).toEqual(['inner']);
  });
});

describe('writeSynced', () => {
  it('makes the folders above and overwrites nothing', async () => {
    await writeSynced(join(root, 'a', 'b', 'file'), bytes('one'));
    expect(await read('a', 'b', 'file')).toBe('one');
    await expect(writeSynced(join(root, 'a', 'b', 'file'), bytes('two'))).rejects.toMatchObject({ code: 'EEXIST' });
    expect(await read('a', 'b', 'file')).toBe('one');
    await writeSynced(join(root, 'empty'), new Uint8Array());
    expect((await stat(join(root, 'empty'))).size).toBe(0);
  });
});

describe('syncFolder', () => {
  it('needs a folder', async () => {
    await expect(syncFolder(root)).resolves.toBeUndefined();
    if (process.platform !== 'win32') await expect(syncFolder(join(root, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
