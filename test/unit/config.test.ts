import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CONFIG_KEYS, type ConfigSources, findTenants, flagInfos, isLoopback, isShipped, loadConfig } from '../../src/config.js';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-config-'));
});
afterEach(() => rm(folder, { recursive: true }));

const load = (sources: Partial<ConfigSources> = {}) => loadConfig({ flags: { backbone: 'b' }, env: {}, folder, ...sources });
const yaml = (text: string) => writeFile(path.join(folder, 'graft.yaml'), text);

describe('loadConfig', () => {
  test('has the documented defaults, frozen', async () => {
    const config = await load();
    expect(config).toMatchObject({
      backbone: path.join(folder, 'b'),
      adapters: null,
      host: '127.0.0.1',
      port: 8080,
      maxBatch: 32,
      contextLength: null,
    });
    expect(config).toMatchObject({
      adapterCacheBytes: 2 ** 30,
      visionCacheBytes: 256e6,
      queueLimit: 256,
      defaultAdapter: null,
      requestTimeoutMs: 60_000,
    });
    expect(config).toMatchObject({
      maxImageBytes: 20e6,
      maxImagePixels: 64e6,
      imageProcesses: 1,
      maxTokens: 256,
      drainMs: 20_000,
      prefillTokens: 512,
      logLevel: 'info',
      weights: 'float32',
    });
    expect(config.weightsCache).toMatch(/[\\/]\.cache[\\/]graft[\\/]weights$/);
    const env = { XDG_CACHE_HOME: '/caches' };
    expect((await load({ env })).weightsCache).toBe(path.join('/caches', 'graft', 'weights'));
    const named = await load({ env: { ...env, GRAFT_WEIGHTS: 'int8', GRAFT_WEIGHTS_CACHE: 'mine' } });
    expect(named).toMatchObject({ weights: 'int8', weightsCache: path.join(folder, 'mine') });
    expect(Object.isFrozen(config)).toBe(true);
  });

  test('a flag wins over the environment, that over the file, that over the default', async () => {
    await yaml('port: 1\nmaxBatch: 2\nqueueLimit: 3\n');
    const env = { GRAFT_PORT: '10', GRAFT_MAX_BATCH: '20', GRAFT_HOST: '' };
    const config = await load({ flags: { backbone: 'b', port: '100' }, env });
    expect(config).toMatchObject({ port: 100, maxBatch: 20, queueLimit: 3, host: '127.0.0.1', maxTokens: 256 });
  });

  test('paths are relative to where they were written', async () => {
    const other = await mkdtemp(path.join(tmpdir(), 'graft-config-other-'));
    await writeFile(path.join(other, 'my.yaml'), 'backbone: models\nadapters: ./adapters\n');
    const config = await load({ flags: { adapters: 'here' }, file: path.join(other, 'my.yaml') });
    expect(config).toMatchObject({ backbone: path.join(other, 'models'), adapters: path.join(folder, 'here') });
    const fromEnvironment = await load({ flags: {}, env: { GRAFT_CONFIG: path.join(other, 'my.yaml') } });
    expect(fromEnvironment.adapters).toBe(path.join(other, 'adapters'));
    await rm(other, { recursive: true });
  });

  test.each([
    ['64MB', 64e6],
    ['1GiB', 2 ** 30],
    ['1.5 KiB', 1536],
    ['12345', 12345],
    ['0', 0],
    ['7b', 7],
  ])('a size of %s is %d bytes', async (text, bytes) => {
    expect((await load({ flags: { backbone: 'b', adapterCacheBytes: text } })).adapterCacheBytes).toBe(bytes);
  });

  test('names every wrong value: key, source, what was expected and what came', async () => {
    await yaml('queueLimit: many\nmaxBath: 3\nlogLevel: loud\n');
    const wrong = load({ flags: { port: '70000' }, env: { GRAFT_ADAPTER_CACHE_BYTES: '-1', GRAFT_PORT: 'tcp://10.0.0.1:80' } });
    await expect(wrong).rejects.toMatchObject({
      code: 'invalid_config',
      faults: [
        'graft.yaml: Expected a known setting but received maxBath; did you mean maxBatch?',
        'port (--port): Expected an integer from 0 to 65535 but received "70000"',
        'adapterCacheBytes (GRAFT_ADAPTER_CACHE_BYTES): Expected a size such as 64MB or 1GiB but received "-1"',
        'queueLimit (graft.yaml): Expected an integer from 1 to 1000000 but received "many"',
        'logLevel (graft.yaml): Expected one of trace, debug, info, warn, error, silent but received "loud"',
      ],
    });
  });

  test('shows nothing of a value that may hold a password', async () => {
    await yaml('redis: redis:/user:open-sesame@host\n');
    const wrong = load({ flags: { backbone: 'b', quotaFailure: 'ajar' } });
    await expect(wrong).rejects.toMatchObject({
      faults: [
        'redis (graft.yaml): Expected a URL such as redis://HOST:6379 or rediss://USER:PASSWORD@HOST:6380/1, or none but received something else, which is not shown',
        'quotaFailure (--quota-failure): Expected one of open, closed but received "ajar"',
      ],
    });
    const env = { GRAFT_REDIS: 'rediss://user:open-sesame@host:6380/1' };
    expect(await load({ env })).toMatchObject({ redis: env.GRAFT_REDIS, quotaFailure: 'open' });
    expect((await load({ env: { GRAFT_REDIS: 'none' } })).redis).toBeNull();
  });

  test('a file that was named must be there, and be YAML of settings', async () => {
    await expect(load({ file: 'none.yaml' })).rejects.toThrow('Expected a readable file');
    await yaml('- a\n- b\n');
    await expect(load()).rejects.toThrow('Expected settings as "key: value" lines');
    await yaml('port: [1\n');
    await expect(load()).rejects.toThrow('graft.yaml: Expected YAML');
    await yaml('');
    expect((await load()).port).toBe(8080);
  });

  test('text that is no integer never becomes one', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string(), async (text) => {
        const wanted = /^\s*\d+(e\d+)?\s*$/i.test(text) ? Number(text) : Number.NaN;
        const result = await load({ flags: { backbone: 'b', queueLimit: text } }).then(
          ({ queueLimit }) => queueLimit,
          () => Number.NaN,
        );
        expect(result).toBe(wanted >= 1 && wanted <= 1e6 ? wanted : Number.NaN);
      }),
      { numRuns: 100 },
    );
  });
});

test('the example file names every setting, and is itself right', async () => {
  const example = await readFile(new URL('../../graft.example.yaml', import.meta.url), 'utf8');
  for (const key of CONFIG_KEYS) expect(example).toMatch(new RegExp(`^(# )?${key}: `, 'm'));
  const uncommented = example.replace(/^# (\w+: )/gm, '$1').replace(/^threads: .*$/m, '');
  await yaml(uncommented);
  const { backbone, adapters, settingsFile, ...config } = await load({ flags: {} });
  const { backbone: _, adapters: none, settingsFile: empty, ...defaults } = await load({ file: await emptyFile() });
  expect(config).toEqual(defaults);
  expect([backbone, adapters, none]).toEqual([path.join(folder, 'models'), path.join(folder, 'adapters'), null]);
  expect([settingsFile, empty]).toEqual([path.join(folder, 'graft.yaml'), path.join(folder, 'empty.yaml')]);
});

describe('who may come', () => {
  test.each(['127.0.0.1', '127.9.8.7', '::1', '0:0:0:0:0:0:0:1', '::ffff:127.0.0.1', 'localhost', 'LocalHost'])(
    '%s is this machine alone',
    async (host) => {
      expect(isLoopback(host)).toBe(true);
      expect(await load({ flags: { host } })).toMatchObject({ host, tenants: null, open: false });
    },
  );

  test.each(['0.0.0.0', '::', '192.168.1.2', '128.0.0.1', '127.1', '127.0.0.1.example.com', 'localhost.example.com', 'my-host'])(
    '%s is refused without tenants, unless that is said',
    async (host) => {
      expect(isLoopback(host)).toBe(false);
      await expect(load({ flags: { host } })).rejects.toMatchObject({
        code: 'invalid_config',
        faults: [expect.stringMatching(/^host: Expected this machine alone .* but received ".*--tenants .*--open/)],
      });
      expect(await load({ flags: { host }, env: { GRAFT_OPEN: 'true' } })).toMatchObject({ open: true });
      expect(await load({ flags: { host, open: true } })).toMatchObject({ open: true });
      expect(await load({ flags: { host, tenants: 't.yaml' } })).toMatchObject({ tenants: path.join(folder, 't.yaml') });
    },
  );

  test('both tenants and open are a contradiction', async () => {
    await expect(load({ flags: { tenants: 't.yaml', open: true } })).rejects.toThrow(
      'open: Expected false where there are tenants',
    );
    expect(await load({ flags: { tenants: 't.yaml', open: 'false' } })).toMatchObject({ open: false });
  });

  test('tenants in graft.yaml make it their file; all else in it is checked as ever', async () => {
    await yaml('host: 0.0.0.0\ntenants:\n  acme: {}\n');
    const file = path.join(folder, 'graft.yaml');
    expect(await load()).toMatchObject({ tenants: file, settingsFile: file, host: '0.0.0.0' });
    expect((await load({ flags: { tenants: 'other.yaml' } })).tenants).toBe(path.join(folder, 'other.yaml'));
    await yaml('prot: 1\nqueueLimit: none\ntenants:\n  acme: {}\n');
    await expect(load()).rejects.toMatchObject({
      faults: [expect.stringContaining('received prot'), expect.stringContaining('queueLimit (graft.yaml)')],
    });
    await yaml('tenants: who/\n');
    expect((await load()).tenants).toBe(path.join(folder, 'who'));
    await yaml('tenants: 3\n');
    await expect(load()).rejects.toThrow('tenants (graft.yaml): Expected a path, or none but received 3');
  });

  test('commands that need nothing else find the tenants as the server does, whatever address it has', async () => {
    const sources = { flags: {}, env: { GRAFT_HOST: '0.0.0.0' }, folder };
    expect(await findTenants(sources)).toEqual({ tenants: null, settingsFile: null });
    await yaml('port: 70000\ntenants:\n  acme: {}\n');
    const file = path.join(folder, 'graft.yaml');
    expect(await findTenants(sources)).toEqual({ tenants: file, settingsFile: file });
    expect((await findTenants({ ...sources, env: { GRAFT_TENANTS: 'env.yaml' } })).tenants).toBe(path.join(folder, 'env.yaml'));
    await yaml('tenants: [\n');
    await expect(findTenants(sources)).rejects.toThrow('graft.yaml: Expected YAML');
  });
});

test('without a backbone it is the one that comes along, with its adapters unless others are named', async () => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const shipped = await load({ flags: {} });
  expect(shipped).toMatchObject({ backbone: path.join(root, 'models/scenes'), adapters: path.join(root, 'adapters') });
  expect(isShipped(shipped)).toBe(true);
  expect((await load({ flags: { adapters: 'mine' } })).adapters).toBe(path.join(folder, 'mine'));
  const own = await load();
  expect(own.adapters).toBeNull();
  expect(isShipped(own)).toBe(false);
});

async function emptyFile(): Promise<string> {
  const file = path.join(folder, 'empty.yaml');
  await writeFile(file, '');
  return file;
}

test('every setting has a flag, a variable and a help text', () => {
  expect(flagInfos().find(({ key }) => key === 'maxBatch')).toMatchObject({
    flag: '--max-batch',
    environment: 'GRAFT_MAX_BATCH',
    help: expect.stringContaining('(default 32)'),
  });
  expect(flagInfos()).toHaveLength(CONFIG_KEYS.length);
  expect(flagInfos().filter(({ isToggle }) => isToggle)).toMatchObject([{ flag: '--open', environment: 'GRAFT_OPEN' }]);
});
