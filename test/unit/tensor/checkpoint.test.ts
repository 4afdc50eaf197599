import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { Checkpoint } from '../../../src/tensor/checkpoint.js';
import { toFloat32 } from '../../../src/tensor/convert.js';
import { encodeSafetensors } from '../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../src/tensor/tensor.js';

let root: string;
beforeAll(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'graft-checkpoint-')));
});
afterAll(() => rm(root, { recursive: true }));

/** A safetensors file of one-element tensors. */
function shard(values: Record<string, number>): Uint8Array {
  return encodeSafetensors(Object.entries(values).map(([name, value]) => [name, scalar(value)]));
}

function scalar(value: number): Tensor {
  return { dtype: 'float32', shape: [1], data: new Uint8Array(Float32Array.of(value).buffer) };
}

async function folderOf(files: Record<string, Uint8Array | string>): Promise<string> {
  const folder = await mkdtemp(join(root, 'model-'));
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
  return folder;
}

function index(weightMap: unknown): string {
  return JSON.stringify({ metadata: { total_size: 8 }, weight_map: weightMap });
}

async function faultsOf(folder: string): Promise<readonly string[]> {
  const error = await Checkpoint.open(folder).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(AppError);
  expect(error).toMatchObject({ code: 'invalid_file', message: expect.stringContaining(folder) });
  return (error as AppError).faults ?? [];
}

async function numberOf(checkpoint: Checkpoint, name: string): Promise<number | undefined> {
  return toFloat32(await checkpoint.read(name))[0];
}

describe('links', () => {
  it('are followed: a tensor is where the bytes are, and the root holds them all', async () => {
    const two = 'model-00002-of-00002.safetensors';
    const folder = await folderOf({
      'model.safetensors.index.json': index({ a: 'model-00001-of-00002.safetensors', b: two }),
      [two]: shard({ b: 2 }),
    });
    const blobs = await folderOf({ f00d: shard({ a: 1 }) });
    await symlink(join(blobs, 'f00d'), join(folder, 'model-00001-of-00002.safetensors'));
    const checkpoint = await Checkpoint.open(folder);
    expect(checkpoint.entry('a')?.path).toBe(join(blobs, 'f00d'));
    expect(checkpoint.entry('b')?.path).toBe(join(folder, two));
    expect(checkpoint.root).toBe(root);
    expect(await numberOf(checkpoint, 'a')).toBe(1);
    await checkpoint.close();
  });

  it('do not matter where there is no file at all', async () => {
    const folder = await folderOf({ 'model.safetensors.index.json': index({}) });
    const checkpoint = await Checkpoint.open(folder);
    expect(checkpoint.root).toBe(folder);
    await checkpoint.close();
  });

  it('do not matter where there are none', async () => {
    const folder = await folderOf({ 'model.safetensors': shard({ a: 1 }) });
    const checkpoint = await Checkpoint.open(folder);
    expect(checkpoint.root).toBe(folder);
    await checkpoint.close();
  });
});

describe('one file', () => {
  it('offers its tensors by name, and where they lie', async () => {
    const folder = await folderOf({ 'model.safetensors': shard({ a: 1, b: 2 }), 'config.json': '{}' });
    const checkpoint = await Checkpoint.open(folder);
    expect(checkpoint.names().sort()).toEqual(['a', 'b']);
    expect(checkpoint.entry('b')).toMatchObject({
      name: 'b',
      dtype: 'float32',
      shape: [1],
      bytes: 4,
      path: join(folder, 'model.safetensors'),
    });
    expect(await numberOf(checkpoint, 'b')).toBe(2);
    expect(checkpoint.has('c')).toBe(false);
    expect(checkpoint.entry('c')).toBeUndefined();
    await expect(checkpoint.read('c')).rejects.toMatchObject({ code: 'invalid_file', message: expect.stringContaining('"c"') });
    await checkpoint.close();
  });

  it('is preferred to an index beside it', async () => {
    const folder = await folderOf({ 'model.safetensors': shard({ a: 1 }), 'model.safetensors.index.json': 'stale' });
    const checkpoint = await Checkpoint.open(folder);
    expect(await numberOf(checkpoint, 'a')).toBe(1);
    await checkpoint.close();
  });
});

describe('shards', () => {
  const one = 'model-00001-of-00002.safetensors';
  const two = 'model-00002-of-00002.safetensors';

  it('are one set of tensors', async () => {
    const files = { [one]: shard({ a: 1, b: 2 }), [two]: shard({ c: 3 }) };
    const folder = await folderOf({ ...files, 'model.safetensors.index.json': index({ a: one, b: one, c: two }) });
    const checkpoint = await Checkpoint.open(folder);
    expect(checkpoint.names().sort()).toEqual(['a', 'b', 'c']);
    expect(checkpoint.entry('c')?.path).toBe(join(folder, two));
    expect([await numberOf(checkpoint, 'b'), await numberOf(checkpoint, 'c')]).toEqual([2, 3]);
    await checkpoint.close();
  });

  it('that disagree with the index are refused with every fault', async () => {
    const files = { [one]: shard({ a: 1, extra: 2, moved: 3 }), [two]: shard({ c: 3 }).subarray(0, -1) };
    const three = 'model-00003.safetensors';
    const weightMap = { a: one, gone: one, moved: two, c: two, d: three };
    expect(await faultsOf(await folderOf({ ...files, 'model.safetensors.index.json': index(weightMap) }))).toEqual([
      expect.stringMatching(`^${two}: Expected all tensors within the 3 bytes`),
      expect.stringMatching(`^${three}: Expected a readable file .*ENOENT`),
      `Expected tensor "gone" in ${one} but received none`,
      `Expected tensor "extra" of ${one} to be mapped to it but received no entry for it in weight_map`,
      `Expected tensor "moved" of ${one} to be mapped to it but received ${two} in weight_map`,
    ]);
  });

  it.each([
    '../outside.safetensors',
    '/etc/passwd',
    'inner/model.safetensors',
    '..\\x.safetensors',
    '..',
    '.safetensors',
    'model.bin',
    'a\0.safetensors',
    '',
    7,
    null,
  ])('are never looked for at %j', async (path) => {
    await writeFile(join(root, 'outside.safetensors'), shard({ a: 1 }));
    const folder = await folderOf({ 'model.safetensors.index.json': index({ a: path }) });
    await mkdir(join(folder, 'inner'));
    await writeFile(join(folder, 'inner', 'model.safetensors'), shard({ a: 1 }));
    expect(await faultsOf(folder)).toEqual([
      `Expected weight_map's "a" to be a safetensors file in the folder but received ${JSON.stringify(path)}`,
    ]);
  });

  it.each([
    ['no JSON', '{"weight_map": ', ['Expected JSON but received something else']],
    ['no object', '[]', ['Expected weight_map to be an object but received nothing']],
    ['no weight_map', '{}', ['Expected weight_map to be an object but received nothing']],
    ['a weight_map that is a list', '{"weight_map": ["a"]}', ['Expected weight_map to be an object but received ["a"]']],
    [
      'a tensor twice',
      '{"weight_map": {"a": "x.safetensors", "a": "x.safetensors"}}',
      ['Expected each key once but received "a" again'],
    ],
  ])('with an index of %s are refused', async (_, text, expected) => {
    const faults = await faultsOf(await folderOf({ 'x.safetensors': shard({ a: 1 }), 'model.safetensors.index.json': text }));
    expect(faults).toEqual(expected.map((fault) => expect.stringContaining(fault)));
  });
});

describe('alias', () => {
  it('finds a tied weight under either name, whichever is stored', async () => {
    for (const stored of ['embed', 'head']) {
      const checkpoint = await Checkpoint.open(await folderOf({ 'model.safetensors': shard({ [stored]: 5 }) }));
      checkpoint.alias('head', 'embed');
      for (const name of ['embed', 'head']) {
        expect(checkpoint.has(name)).toBe(true);
        expect(checkpoint.entry(name)?.name).toBe(stored);
        expect(await numberOf(checkpoint, name)).toBe(5);
      }
      expect(checkpoint.names()).toEqual([stored]);
      await checkpoint.close();
    }
  });

  it('prefers what is stored under the name, joins groups, and invents nothing', async () => {
    const checkpoint = await Checkpoint.open(await folderOf({ 'model.safetensors': shard({ embed: 5, head: 6 }) }));
    checkpoint.alias('head', 'embed');
    checkpoint.alias('third', 'fourth');
    expect(await numberOf(checkpoint, 'head')).toBe(6);
    expect(checkpoint.has('third')).toBe(false);
    checkpoint.alias('embed', 'third');
    expect(checkpoint.has('third')).toBe(true);
    expect(checkpoint.has('fourth')).toBe(true);
    await checkpoint.close();
  });
});

describe('a folder without safetensors', () => {
  it('is told that pickle is never read', async () => {
    const folder = await folderOf({ 'pytorch_model.bin': 'x', 'config.json': '{}' });
    expect(await faultsOf(folder)).toEqual([
      'Expected model.safetensors but received pytorch_model.bin: pickle can run any program and is never read, save the model as safetensors',
    ]);
  });

  it('is told what it holds', async () => {
    expect(await faultsOf(await folderOf({ 'readme.md': '' }))).toEqual([
      'Expected model.safetensors or model.safetensors.index.json but received ["readme.md"]',
    ]);
    expect(await faultsOf(join(root, 'absent'))).toEqual([expect.stringContaining('ENOENT')]);
  });
});
