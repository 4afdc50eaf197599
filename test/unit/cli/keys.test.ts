import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { changeBook } from '../../../src/cli/keys/book.js';
import { type CreateFlags, createKey, parseExpiry, revokeKey } from '../../../src/cli/keys/change.js';
import { listKeys } from '../../../src/cli/keys/list.js';
import { parseTenants } from '../../../src/tenants/file.js';
import { KeyRing } from '../../../src/tenants/key.js';
import { readFiles } from '../../../src/tenants/place.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-keys-'));
});
afterEach(() => rm(folder, { recursive: true }));

const create = (tenant: string, flags: CreateFlags = {}, env = {}) => createKey(tenant, flags, env, folder);
const revoke = (tenant: string, id: string, flags = {}) => revokeKey(tenant, id, flags, {}, folder);
const read = (name: string) => readFile(path.join(folder, name), 'utf8');
const write = (name: string, content: string) => writeFile(path.join(folder, name), content);
const modeOf = async (name: string) => (await stat(path.join(folder, name))).mode & 0o7777;

/** Whose a key is by what stands in the files. */
async function ownerOf(key: string, location = 'tenants.yaml', others: readonly string[] = []): Promise<string | undefined> {
  const ring = new KeyRing(parseTenants(await readFiles(path.join(folder, location)), others));
  return ring.find(key, Date.now())?.name;
}

describe('graft keys create', () => {
  it('makes the file, for its owner alone, and the key works', async () => {
    const { key, note } = await create('acme', { id: 'laptop', expires: '90d' });
    expect(key).toMatch(/^graft_[\w-]{43}$/);
    expect(await ownerOf(key)).toBe('acme');
    expect(await modeOf('tenants.yaml')).toBe(0o600);
    expect(await read('tenants.yaml')).not.toContain(key);
    expect(note).toMatch(/^new tenant acme: key laptop is in tenants\.yaml and expires at 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ\n/);
    expect(note).not.toContain(key);
    expect(note).toContain('graft serve --tenants tenants.yaml');
    expect(await readdir(folder)).toEqual(['tenants.yaml']);
  });

  it('keeps comments, other tenants and the mode of a file', async () => {
    await write('tenants.yaml', '# Ours.\ntenants:\n  other: {} # theirs\n');
    await chmod(path.join(folder, 'tenants.yaml'), 0o664);
    const { key, note } = await create('acme');
    expect(await ownerOf(key)).toBe('acme');
    expect(await read('tenants.yaml')).toMatch(/^# Ours\.\ntenants:\n {2}other: \{\} # theirs\n {2}acme:\n {4}keys:\n/);
    expect(await modeOf('tenants.yaml')).toBe(0o664);
    expect(note).toContain('never expires');
  });

  it('writes through a link, which stays one', async () => {
    await mkdir(path.join(folder, 'real'));
    await write('real/t.yaml', 'tenants: {}\n');
    await symlink('real/t.yaml', path.join(folder, 'tenants.yaml'));
    const { key } = await create('acme');
    expect(await read('real/t.yaml')).toContain('acme');
    expect(await ownerOf(key)).toBe('acme');
  });

  it('finds the tenants as the server does: flag, variable, graft.yaml', async () => {
    await write('graft.yaml', 'port: 8081 # ours\nhost: 0.0.0.0\ntenants:\n  acme: {}\n');
    const inSettings = await create('acme');
    expect(await ownerOf(inSettings.key, 'graft.yaml', ['port', 'host'])).toBe('acme');
    expect(await read('graft.yaml')).toMatch(/^port: 8081 # ours\nhost: 0\.0\.0\.0\n/);
    const { key } = await create('acme', {}, { GRAFT_TENANTS: 'env.yaml' });
    expect(await ownerOf(key, 'env.yaml')).toBe('acme');
    expect(await ownerOf((await create('acme', { tenants: 'flag.yml' }, { GRAFT_TENANTS: 'env.yaml' })).key, 'flag.yml')).toBe(
      'acme',
    );
  });

  it('of a folder takes the file that has the tenant, or makes one of its name', async () => {
    await mkdir(path.join(folder, 'who'));
    await write('who/some.yaml', 'tenants: {acme: {}, other: {}}\n');
    const flags = { tenants: 'who' };
    for (const tenant of ['acme', 'new', 'new']) expect(await ownerOf((await create(tenant, flags)).key, 'who')).toBe(tenant);
    expect((await readdir(path.join(folder, 'who'))).sort()).toEqual(['new.yaml', 'some.yaml']);
    expect(await listKeys(flags, {}, folder)).toBe(
      'TENANT  KEY    EXPIRES\nnew     key-1  never\nnew     key-2  never\nacme    key-1  never\nother   -      -',
    );
  });

  it('writes nothing where anything is wrong', async () => {
    await expect(create('Acme')).rejects.toThrow('Expected a tenant of a-z, 0-9 and -');
    await expect(create('acme', { expires: 'soon' })).rejects.toThrow('--expires: Expected a time to come');
    await expect(create('acme', { tenants: 'nowhere' })).rejects.toThrow(
      'Expected a file named *.yaml, or a folder that is there',
    );
    await expect(create('acme', { id: 'a b' })).rejects.toThrow('tenants.acme.keys[0].id: Expected a name of letters');
    expect(await readdir(folder)).toEqual([]);
    const broken = 'tenants:\n  other: {weight: x}\n';
    await write('tenants.yaml', broken);
    await expect(create('acme')).rejects.toMatchObject({
      code: 'invalid_config',
      faults: [expect.stringContaining('other.weight')],
    });
    expect(await read('tenants.yaml')).toBe(broken);
    expect(await readdir(folder)).toEqual(['tenants.yaml']);
  });

  it('loses nobody’s change that came meanwhile', async () => {
    await write('tenants.yaml', 'tenants: {}\n');
    const file = path.join(folder, 'tenants.yaml');
    let looks = 0;
    await changeBook({ location: file, others: [] }, 'acme', (text) => {
      // Between our reading and our writing, once.
      if (looks++ === 0) void write('tenants.yaml', 'tenants: {other: {}}\n');
      return `${text}# seen ${looks}\n`;
    });
    expect(await read('tenants.yaml')).toBe('tenants: {other: {}}\n# seen 2\n');
    const names = ['one', 'two', 'three', 'four'];
    const made = await Promise.all(names.map(async (tenant) => (await create(tenant)).key));
    for (const [index, key] of made.entries()) expect(await ownerOf(key)).toBe(names[index]);
    expect(await readdir(folder)).toEqual(['tenants.yaml']);
  });
});

describe('graft keys revoke and list', () => {
  it('take a key away, and show what there is', async () => {
    const [old, current] = [await create('acme', { id: 'old' }), await create('acme', { id: 'new', expires: '2100-01-01' })];
    await create('ops', { admin: true });
    expect(await listKeys({}, {}, folder)).toBe(
      [
        'TENANT       KEY    EXPIRES',
        'acme         old    never',
        'acme         new    2100-01-01T00:00:00Z',
        'ops (admin)  key-1  never',
      ].join('\n'),
    );
    expect(await revoke('acme', 'old')).toContain('key old of acme is no longer in tenants.yaml');
    expect([await ownerOf(old.key), await ownerOf(current.key)]).toEqual([undefined, 'acme']);
    await expect(revoke('acme', 'old')).rejects.toThrow('Expected a key of acme (new) but received old');
    const rows = JSON.parse(await listKeys({ json: true }, {}, folder)) as object[];
    expect(rows).toEqual([
      {
        tenant: 'acme',
        admin: false,
        id: 'new',
        sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
        expires: '2100-01-01T00:00:00Z',
        expired: false,
      },
      expect.objectContaining({ tenant: 'ops', admin: true, expires: null }),
    ]);
  });

  it('say what is over, and that there is nothing', async () => {
    await expect(listKeys({}, {}, folder)).rejects.toThrow('tenants.yaml but there is nothing (graft keys create NAME');
    await write('tenants.yaml', `tenants: {a: {keys: [{id: x, sha256: ${'a'.repeat(64)}, expires: 2020-01-01}]}}`);
    expect(await listKeys({}, {}, folder)).toContain('expired 2020-01-01T00:00:00Z');
  });
});

describe('parseExpiry', () => {
  const now = Date.parse('2026-11-25T12:00:00Z');
  it.each([
    ['90d', '2027-02-23T12:00:00Z'],
    ['12h', '2026-11-26T00:00:00Z'],
    ['2027-01-01', '2027-01-01T00:00:00Z'],
    ['2027-01-01T00:00:00+02:00', '2026-12-31T22:00:00Z'],
  ])('%s is %s', (text, expected) => {
    expect(parseExpiry(text, now)).toBe(expected);
  });

  it.each([
    '',
    '0d',
    '-1d',
    '90',
    '90 d',
    '9999999d',
    '999999d',
    'tomorrow',
    '2026-11-25T11:59:59Z',
    '2027-13-01',
    '2027-01-01T00:00:00',
  ])('%j is no time to come', (text) => {
    expect(() => parseExpiry(text, now)).toThrow('--expires: Expected a time to come');
  });
});
