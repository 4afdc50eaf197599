/**
 * Shards against those that transformers wrote of the same weights (test/fixtures/backbone/make.py, `max_shard_size="8KB"`): equal to the byte,
 * index and all, and found again by our own reader whatever their size.
 */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { Checkpoint } from '../../../src/tensor/checkpoint.js';
import { writeShards } from '../../../src/tensor/shards.js';
import type { Tensor } from '../../../src/tensor/tensor.js';

const SHARDED = fileURLToPath(new URL('../../fixtures/backbone/llama/sharded/', import.meta.url));
/** As the model lists them. */
const NAMES = [
  'model.embed_tokens',
  ...['q', 'k', 'v', 'o'].map((part) => `model.layers.0.self_attn.${part}_proj`),
  ...['gate', 'up', 'down'].map((part) => `model.layers.0.mlp.${part}_proj`),
  ...['input', 'post_attention'].map((part) => `model.layers.0.${part}_layernorm`),
  'model.norm',
  'lm_head',
].map((name) => `${name}.weight`);

let folder: string;
let checkpoint: Checkpoint;
let weights: ReadonlyMap<string, Tensor>;
beforeAll(async () => {
  checkpoint = await Checkpoint.open(SHARDED);
  weights = new Map(await Promise.all(NAMES.map(async (name) => [name, await checkpoint.read(name)] as const)));
});
afterAll(() => checkpoint.close());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-shards-'));
});
afterEach(() => rm(folder, { recursive: true }));

const make = async (name: string) => (await checkpoint.read(name)).data;

it('are those of transformers', async () => {
  const files = await writeShards(folder, weights, make, 8000);
  const expected = (await readdir(SHARDED)).filter((name) => name !== 'config.json').sort();
  expect((await readdir(folder)).sort()).toEqual(expected);
  expect([...files, 'model.safetensors.index.json']).toEqual(expected);
  for (const file of expected) expect(await readFile(join(folder, file)), file).toEqual(await readFile(join(SHARDED, file)));
});

it.each([1, 128, 2560, 4095, 4096, 10_000, 26_495])('of at most %i bytes hold everything once', async (maxShardBytes) => {
  const files = await writeShards(folder, weights, make, maxShardBytes);
  expect(files.length).toBeGreaterThan(1);
  const found = await Checkpoint.open(folder);
  try {
    expect(found.names().sort()).toEqual([...NAMES].sort());
    const held = new Map<string, number>();
    for (const name of NAMES) {
      expect(await found.read(name), name).toEqual(weights.get(name));
      const { path = '', bytes = 0 } = found.entry(name) ?? {};
      // What is too large for any shard is alone in its own.
      if (bytes > maxShardBytes) expect(held.has(path)).toBe(false);
      held.set(path, (held.get(path) ?? 0) + Math.min(bytes, maxShardBytes));
    }
    expect(Math.max(...held.values())).toBeLessThanOrEqual(maxShardBytes);
  } finally {
    await found.close();
  }
});

it('are one file, without an index, where all has room in it', async () => {
  expect(await writeShards(folder, weights, make, 26_496)).toEqual(['model.safetensors']);
  expect(await readdir(folder)).toEqual(['model.safetensors']);
});

it('are made one tensor at a time', async () => {
  let open = 0;
  await writeShards(
    folder,
    weights,
    async (name) => {
      open++;
      expect(open).toBe(1);
      const data = await make(name);
      open--;
      return data;
    },
    8000,
  );
});
