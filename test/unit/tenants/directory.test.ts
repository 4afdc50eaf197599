import { mkdir, mkdtemp, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { AppError } from '../../../src/errors.js';
import { TenantDirectory } from '../../../src/tenants/directory.js';
import { hashKey } from '../../../src/tenants/key.js';

let folder: string;
let directory: TenantDirectory | undefined;
let told: (number | AppError)[];
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-tenants-'));
  told = [];
});
afterEach(async () => {
  await directory?.close();
  await rm(folder, { recursive: true });
});

/** A tenant whose key is its name. */
const tenant = (name: string, more = '') => `  ${name}: {keys: [{id: a, sha256: ${hashKey(name).toString('hex')}}]${more}}\n`;
const fileOf = (...names: readonly string[]) => `tenants:\n${names.map((name) => tenant(name)).join('')}`;
const write = (name: string, content: string) => writeFile(path.join(folder, name), content);
const observer = {
  reloaded: (tenants: number) => void told.push(tenants),
  failed: (error: AppError) => void told.push(error),
};

async function open(location: string, rescanMs = 10): Promise<TenantDirectory> {
  directory = await TenantDirectory.open({ location: path.join(folder, location), observer, rescanMs });
  return directory;
}

const knows = (key: string) => {
  try {
    return directory?.authenticate(key).name === key;
  } catch (error) {
    expect(error).toMatchObject({ code: 'invalid_api_key' });
    return false;
  }
};
const until = (check: () => void) => vi.waitFor(check, { timeout: 5000, interval: 10 });

describe('a file', () => {
  it('is taken up when it changes, however it is written; who was removed is refused', async () => {
    await write('t.yaml', fileOf('one', 'two'));
    await open('t.yaml');
    expect([directory?.size, directory?.isOpen, knows('one'), knows('two'), knows('three')]).toEqual([
      2,
      false,
      true,
      true,
      false,
    ]);
    await write('t.yaml', fileOf('two', 'three'));
    await until(() => expect([knows('one'), knows('two'), knows('three')]).toEqual([false, true, true]));
    await write('.t.yaml.tmp', fileOf('one'));
    await rename(path.join(folder, '.t.yaml.tmp'), path.join(folder, 't.yaml'));
    await until(() => expect([knows('one'), knows('two')]).toEqual([true, false]));
    expect(told.every((event) => typeof event === 'number')).toBe(true);
    expect(told.at(-1)).toBe(1);
  });

  it('is taken up by looking alone where there are no notifications, and on request', async () => {
    const elsewhere = path.join(folder, 'elsewhere');
    await mkdir(elsewhere);
    await write('elsewhere/t.yaml', fileOf('one'));
    // Changes below the link's target are not told to who watches the link's folder.
    await symlink(path.join(elsewhere, 't.yaml'), path.join(folder, 'link.yaml'));
    await open('link.yaml');
    await write('elsewhere/t.yaml', fileOf('two'));
    await until(() => expect([knows('one'), knows('two')]).toEqual([false, true]));
    await directory?.close();

    await open('link.yaml', 3_600_000);
    await write('elsewhere/t.yaml', fileOf('three'));
    await directory?.reload();
    expect([knows('two'), knows('three')]).toEqual([false, true]);
    told = [];
    await directory?.reload();
    // Told also where nothing is new: somebody asked.
    expect(told).toEqual([1]);
  });

  it.each<[string, (file: string) => Promise<void>, string]>([
    ['broken', (file) => writeFile(file, 'tenants:\n  one: {weight: -1}\n  Two: {}\n'), 't.yaml: tenants.one.weight'],
    ['empty', (file) => writeFile(file, ''), 't.yaml: Expected tenants'],
    ['gone', (file) => unlink(file), 'but there is nothing'],
  ])('that is %s changes nothing, is told once with all faults, and counts again when it is mended', async (_, spoil, words) => {
    const file = path.join(folder, 't.yaml');
    await write('t.yaml', fileOf('one'));
    await open('t.yaml');
    await spoil(file);
    await until(() => expect(told).toHaveLength(1));
    expect(told[0]).toMatchObject({ code: 'invalid_config', message: expect.stringContaining(words) as string });
    expect(knows('one')).toBe(true);
    // Many more looks.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(told).toHaveLength(1);
    await write('t.yaml', fileOf('two'));
    await until(() => expect([knows('one'), knows('two')]).toEqual([false, true]));
    expect(told).toEqual([expect.anything(), 1]);
  });

  it('may hold settings where it is told which', async () => {
    await write('graft.yaml', `port: 1\n${fileOf('one')}`);
    await expect(open('graft.yaml')).rejects.toThrow('Expected only tenants but received "port"');
    directory = await TenantDirectory.open({ location: path.join(folder, 'graft.yaml'), others: ['port'] });
    expect(knows('one')).toBe(true);
  });
});

describe('a folder', () => {
  it('is all its files but hidden and other ones; they come and go', async () => {
    await write('a.yaml', fileOf('one'));
    await write('b.yml', fileOf('two'));
    await write('.hidden.yaml', 'tenants: [');
    await write('notes.txt', 'tenants: [');
    await open('.');
    expect([directory?.size, knows('one'), knows('two')]).toEqual([2, true, true]);
    await write('c.yaml', fileOf('three'));
    await until(() => expect(knows('three')).toBe(true));
    await unlink(path.join(folder, 'a.yaml'));
    await until(() => expect([knows('one'), knows('two'), knows('three')]).toEqual([false, true, true]));
    await unlink(path.join(folder, 'b.yml'));
    await unlink(path.join(folder, 'c.yaml'));
    await until(() => expect(directory?.size).toBe(0));
    expect(knows('two')).toBe(false);
    expect(told.filter((event) => typeof event !== 'number')).toEqual([]);
  });

  it('of which one file is wrong is wrong as a whole', async () => {
    await write('a.yaml', fileOf('one'));
    await open('.');
    await write('b.yaml', fileOf('one', 'two'));
    await until(() => expect(told).toHaveLength(1));
    expect(told[0]).toMatchObject({
      faults: [
        'b.yaml: tenants.one: Expected a tenant once but a.yaml has it too',
        'b.yaml: tenants.one.keys[0].sha256: Expected a key once but received that of a.yaml: tenants.one.keys[0]',
      ],
    });
    expect([knows('one'), knows('two')]).toEqual([true, false]);
  });

  it('is served as an orchestrator mounts it: links to files in a hidden folder, which another one takes the place of', async () => {
    const mount = async (version: string, ...names: readonly string[]) => {
      await mkdir(path.join(folder, `..${version}`));
      await write(`..${version}/t.yaml`, fileOf(...names));
      await symlink(`..${version}`, path.join(folder, '..data_tmp'));
      await rename(path.join(folder, '..data_tmp'), path.join(folder, '..data'));
    };
    await mount('v1', 'one');
    await symlink('..data/t.yaml', path.join(folder, 't.yaml'));
    await open('.');
    expect(knows('one')).toBe(true);
    await mount('v2', 'two');
    await until(() => expect([knows('one'), knows('two')]).toEqual([false, true]));
  });
});

it('cannot be opened where something is wrong', async () => {
  await expect(open('nowhere.yaml')).rejects.toMatchObject({
    code: 'invalid_config',
    message: expect.stringMatching(
      /^Expected tenants at .*nowhere\.yaml but there is nothing \(graft keys create NAME --tenants/,
    ) as string,
  });
  await write('t.yaml', 'tenants: {A: {}, b: {weight: x}}');
  await expect(open('t.yaml')).rejects.toMatchObject({ code: 'invalid_config', faults: [expect.anything(), expect.anything()] });
  await expect(open('t.yaml', 0)).rejects.toThrow(RangeError);
});

it('says the same to a missing, a wrong and an expired key', async () => {
  const expired = `tenants: {one: {keys: [{id: a, sha256: ${hashKey('one').toString('hex')}, expires: 2020-01-01}]}}`;
  await write('t.yaml', expired);
  await open('t.yaml');
  const refusals = [undefined, '', 'two', 'one'].map((key) => {
    try {
      return directory?.authenticate(key);
    } catch (error) {
      return (error as AppError).toData();
    }
  });
  expect(refusals[0]).toMatchObject({ code: 'invalid_api_key' });
  for (const refusal of refusals) expect(refusal).toEqual(refusals[0]);
});
