/**
 * The registry over real folders: what appears, changes, breaks and goes, without a restart. Scans are asked for, so that no test waits
 * for a clock; one test each leaves it to the polling and to the notifications, and waits for what they find.
 */
import { EventEmitter, once } from 'node:events';
import { cp, mkdir, mkdtemp, readFile, realpath, rename, rm, stat, symlink, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestFolder } from '../../../src/adapter/digest.js';
import { readAdapter } from '../../../src/adapter/format.js';
import { AdapterRegistry, type RegistryChange } from '../../../src/adapter/registry.js';
import { type AdapterDraft, writeAdapter } from '../../../src/adapter/write.js';
import { FIXTURES, randomDraft, tinyTarget } from '../../fixtures/adapter/draft.js';

const NEVER_MS = 1e9;
const PLAIN = ['adapter_config.json', 'adapter_model.safetensors'] as const;
const target = await tinyTarget();
let root: string;
let registry: AdapterRegistry;

beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'graft-registry-')));
});

afterEach(async () => {
  await registry.close();
  await rm(root, { recursive: true });
});

const draft = (seed: number, contexts = ['image', 'text']): AdapterDraft =>
  randomDraft(target, { method: 'lora', seed, contexts, ranks: [2, 3] });
const put = (name: string, seed: number): Promise<void> => writeAdapter(join(root, name), draft(seed));
const names = (): string[] => registry.list().map(({ name }) => name);
const faultOf = (name: string): string | undefined => registry.get(name)?.fault;

async function open(rescanMs = NEVER_MS): Promise<RegistryChange[]> {
  registry = await AdapterRegistry.open(root, { rescanMs });
  const changes: RegistryChange[] = [];
  registry.onChange((change) => changes.push(change));
  return changes;
}

/** Waits until the registry says that something changed. */
async function nextChange(): Promise<RegistryChange> {
  const events = new EventEmitter();
  const stop = registry.onChange((change) => events.emit('change', change));
  const [change] = (await once(events, 'change')) as [RegistryChange];
  stop();
  return change;
}

describe('the list', () => {
  it('says of each adapter what it is', async () => {
    await put('b', 1);
    await cp(join(FIXTURES, 'written/ia3'), join(root, 'a'), { recursive: true });
    await cp(join(FIXTURES, 'lora-patterns'), join(root, 'plain'), { recursive: true });
    const before = Date.now();
    await open();
    expect(registry.list()).toEqual(
      [
        {
          name: 'a',
          summary: {
            method: 'ia3',
            contexts: ['text'],
            task: 'caption',
            prompt: 'A photo of',
            seesImages: false,
            format: 'context-peft/1',
          },
        },
        {
          name: 'b',
          summary: {
            method: 'lora',
            contexts: ['image', 'text'],
            prompt: '',
            rank: 3,
            seesImages: true,
            format: 'context-peft/1',
          },
        },
        {
          name: 'plain',
          summary: { method: 'lora', contexts: ['text'], prompt: '', rank: 5, seesImages: false, format: 'peft' },
        },
      ].map((adapter) => ({ ...adapter, ref: expect.any(Object), bytes: expect.any(Number), registeredAt: expect.any(Number) })),
    );
    for (const adapter of registry.list()) {
      const folder = join(root, adapter.name);
      const { digest, bytes } = await digestFolder(folder);
      expect(adapter).toMatchObject({ bytes, ref: { name: adapter.name, digest, folder } });
      expect(adapter.registeredAt).toBeGreaterThanOrEqual(before);
      expect(registry.get(adapter.name)).toBe(adapter);
    }
    expect(registry.get('c')).toBeUndefined();
    expect(registry.get('__proto__')).toBeUndefined();
  });

  it('knows tenants one level deep, and overlooks what is hidden, temporary, misnamed or no adapter', async () => {
    for (const name of [
      'acme/alt-text',
      'acme/.hidden',
      'acme/deeper/still',
      '.hidden',
      'x.tmp-1',
      'sp ace',
      '-dash',
      'a'.repeat(129),
      'a'.repeat(128),
    ])
      await put(name, 1);
    await mkdir(join(root, 'empty/of/all'), { recursive: true });
    await writeFile(join(root, 'README.md'), 'hello');
    await open();
    expect(names()).toEqual(['a'.repeat(128), 'acme/alt-text']);
    expect(registry.get('acme/alt-text')?.ref).toMatchObject({ name: 'acme/alt-text', folder: join(root, 'acme/alt-text') });
  });

  it('follows links to where they lead now', async () => {
    await writeAdapter(join(root, '.store/v1'), draft(1));
    await writeAdapter(join(root, '.store/v2'), draft(1));
    await symlink(join(root, '.store/v1'), join(root, 'current'));
    await symlink(join(root, 'nowhere'), join(root, 'dangling'));
    const changes = await open();
    expect(names()).toEqual(['current']);
    expect(registry.get('current')?.ref.folder).toBe(join(root, '.store/v1'));
    await symlink(join(root, '.store/v2'), join(root, '.next'));
    await rename(join(root, '.next'), join(root, 'current'));
    await registry.rescan();
    expect(registry.get('current')?.ref.folder).toBe(join(root, '.store/v2'));
    expect(changes).toEqual([{ added: [], changed: ['current'], removed: [] }]);
  });

  it('needs a folder', async () => {
    await open();
    await expect(AdapterRegistry.open(join(root, 'nowhere'))).rejects.toMatchObject({ code: 'invalid_config' });
    await expect(AdapterRegistry.open(root, { rescanMs: 0 })).rejects.toThrow(RangeError);
  });
});

describe('without a restart', () => {
  it('adapters appear, change and go', async () => {
    const changes = await open();
    expect(registry.list()).toEqual([]);
    await put('a', 1);
    await put('b', 1);
    await registry.rescan();
    const [first] = registry.list();
    await put('a', 2);
    await rm(join(root, 'b'), { recursive: true });
    await registry.rescan();
    expect(names()).toEqual(['a']);
    expect(registry.get('a')?.ref.digest).toBe((await digestFolder(join(root, 'a'))).digest);
    expect(registry.get('a')?.ref.digest).not.toBe(first?.ref.digest);
    await registry.rescan();
    // Notifications may have cut it into more scans, but each change is told once.
    expect(changes.flatMap(({ added }) => added).sort()).toEqual(['a', 'b']);
    expect(changes.flatMap(({ changed }) => changed)).toEqual(['a']);
    expect(changes.flatMap(({ removed }) => removed)).toEqual(['b']);
  });

  it('the same content again is the same version, since the same time', async () => {
    await put('a', 1);
    const changes = await open();
    const before = registry.get('a');
    await put('a', 1);
    await utimes(join(root, 'a/adapter.json'), 1, 1);
    await registry.rescan();
    expect(registry.get('a')).toEqual(before);
    expect(changes).toEqual([]);
  });

  it('a change is seen that leaves size and time as they were', async () => {
    await put('a', 1);
    const path = join(root, 'a/text/adapter_model.safetensors');
    await utimes(path, 1000, 1000);
    await open();
    const before = registry.get('a')?.ref.digest;
    const bytes = await readFile(path);
    bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
    await writeFile(path, bytes);
    await utimes(path, 1000, 1000);
    await registry.rescan();
    expect((await stat(path)).mtimeMs).toBe(1_000_000);
    expect(registry.get('a')?.ref.digest).not.toBe(before);
  });

  it('changes in quick succession are all seen, whatever the clock of the disk', async () => {
    await put('a', 1);
    await open();
    for (const metric of [1, 2, 3, 4, 5, 6, 7, 8]) {
      await writeFile(
        join(root, 'a/adapter.json'),
        JSON.stringify({ format: 'context-peft/1', method: 'lora', contexts: ['image', 'text'], metrics: { metric } }),
      );
      await registry.rescan();
      expect(registry.get('a')?.ref.digest).toBe((await digestFolder(join(root, 'a'))).digest);
    }
  });

  it('an adapter that is copied file by file is listed with what it lacks, until it is whole', async () => {
    await writeAdapter(join(root, '.source'), draft(1));
    await open();
    const copy = async (path: string): Promise<void> => {
      await cp(join(root, '.source', path), join(root, 'copy', path));
      await registry.rescan();
    };
    await copy('image/adapter_model.safetensors');
    expect(names()).toEqual([]);
    await copy('image/adapter_config.json');
    expect(names()).toEqual(['copy']);
    expect(faultOf('copy')).toBe('Expected adapter.json, or adapter_config.json of a plain PEFT adapter, but received neither');
    await copy('adapter.json');
    expect(faultOf('copy')).toBe(
      ['text/adapter_config.json', 'text/adapter_model.safetensors', 'projector.safetensors']
        .map((path) => `${path}: Expected a file but received none`)
        .join('; '),
    );
    expect(registry.get('copy')?.summary).toMatchObject({ method: 'lora', contexts: ['image', 'text'] });
    await copy('text/adapter_config.json');
    await copy('projector.safetensors');
    const whole = await readFile(join(root, '.source/text/adapter_model.safetensors'));
    await writeFile(join(root, 'copy/text/adapter_model.safetensors'), whole.subarray(0, 200));
    await registry.rescan();
    expect(faultOf('copy')).toMatch(/^text\/adapter_model\.safetensors: Expected a header within the file's 200 bytes/);
    await copy('text/adapter_model.safetensors');
    expect(registry.get('copy')).toMatchObject({
      name: 'copy',
      ref: { digest: (await digestFolder(join(root, '.source'))).digest },
    });
    expect(faultOf('copy')).toBeUndefined();
  });

  it('a version that breaks is not served as the one before it', async () => {
    await put('a', 1);
    const changes = await open();
    const good = registry.get('a');
    const manifest = await readFile(join(root, 'a/adapter.json'));
    await writeFile(join(root, 'a/adapter.json'), '{"format": "context-peft/9"');
    await registry.rescan();
    const broken = registry.get('a');
    expect(broken?.fault).toMatch(/^adapter\.json: Expected JSON/);
    expect(broken?.summary).toEqual({ method: 'none', contexts: [], prompt: '', seesImages: false, format: 'unknown' });
    expect(broken?.ref.digest).not.toBe(good?.ref.digest);
    await writeFile(join(root, 'a/adapter.json'), manifest);
    await registry.rescan();
    expect(registry.get('a')).toMatchObject({ ref: good?.ref });
    expect(faultOf('a')).toBeUndefined();
    expect(changes.map(({ changed }) => changed)).toEqual([['a'], ['a']]);
  });

  it('what cannot even be hashed has a fault and no digest of anything', async () => {
    await put('a', 1);
    await unlink(join(root, 'a/projector.safetensors'));
    await mkdir(join(root, 'a/projector.safetensors'));
    await open();
    expect(registry.get('a')).toMatchObject({
      fault: 'projector.safetensors: Expected a file but received something else',
      ref: { digest: `sha256:${'0'.repeat(64)}` },
    });
  });

  it('an adapter that is replaced again and again is always there', async () => {
    await put('a', 0);
    await open();
    const state = { isWriting: true };
    const writing = (async () => {
      for (let turn = 1; turn <= 15; turn++) await put('a', turn);
      state.isWriting = false;
    })();
    while (state.isWriting) {
      await registry.rescan();
      expect(names()).toEqual(['a']);
    }
    await writing;
    await registry.rescan();
    const found = registry.get('a');
    expect(found?.fault).toBeUndefined();
    await expect(readAdapter(join(root, 'a'), target, found?.ref.digest)).resolves.toMatchObject({ matched: 28 });
  });

  it('the adapters stay as they were while the folder is away', async () => {
    await put('a', 1);
    const changes = await open();
    await rename(root, `${root}-away`);
    await expect(registry.rescan()).rejects.toMatchObject({ code: 'invalid_config' });
    expect(names()).toEqual(['a']);
    await rename(`${root}-away`, root);
    await registry.rescan();
    expect(names()).toEqual(['a']);
    expect(changes).toEqual([]);
  });
});

describe('by itself', () => {
  it('finds what the polling finds', async () => {
    await put('tenant/a', 1);
    await open(20);
    const change = nextChange();
    // Below the folder that is watched.
    await put('tenant/b', 1);
    expect(await change).toEqual({ added: ['tenant/b'], changed: [], removed: [] });
  });

  it.runIf(['linux', 'darwin', 'win32'].includes(process.platform))(
    'finds what notifications tell, long before the polling',
    async () => {
      await open();
      const change = nextChange();
      await put('a', 1);
      expect(await change).toEqual({ added: ['a'], changed: [], removed: [] });
    },
  );

  it('answers every rescan with a scan that began after it was asked for', async () => {
    await open();
    const early = registry.rescan();
    await put('a', 1);
    await Promise.all([early, registry.rescan(), registry.rescan()]);
    expect(names()).toEqual(['a']);
  });

  it('tells nobody after close', async () => {
    const changes = await open(10);
    const scan = registry.rescan();
    await registry.close();
    await scan;
    await put('a', 1);
    await registry.rescan();
    expect(changes).toEqual([]);
    expect(names()).toEqual([]);
  });

  it('handles a thousand adapters', async () => {
    const contents = await Promise.all(PLAIN.map(async (path) => [path, await readFile(join(FIXTURES, 'ia3', path))] as const));
    for (let index = 0; index < 1000; index++) {
      await mkdir(join(root, `a${index}`));
      for (const [path, content] of contents) await writeFile(join(root, `a${index}`, path), content);
    }
    const changes = await open();
    expect(registry.list()).toHaveLength(1000);
    expect(new Set(registry.list().map(({ ref }) => ref.digest)).size).toBe(1);
    const [path] = PLAIN;
    await writeFile(join(root, 'a7', path), `${await readFile(join(root, 'a7', path), 'utf8')}\n`);
    await registry.rescan();
    expect(changes).toEqual([{ added: [], changed: ['a7'], removed: [] }]);
  });
});
