/** The decoder where things go wrong, or are longer than usual: what one run meets must not show in the next. */
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadedAdapter } from '../../../src/adapter/adapter.js';
import { type BackboneDescription, describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { Decoder } from '../../../src/engine/decoder.js';
import { randomAdapter } from '../../support/adapter.js';
import { makeTinyBackbone } from '../../support/tiny.js';

const OPTIONS = { threads: 1, rows: 4, maxLength: 512 };
let folder: string;
let backbone: BackboneDescription;
let decoder: Decoder;
let lora: LoadedAdapter;
let bitfit: LoadedAdapter;

const row = (adapter: LoadedAdapter | null, promptIds: readonly number[]) => ({ adapter, promptIds, imageEmbeddings: null });
const numbers = (logits: readonly Float32Array[]): number[][] => logits.map((values) => [...values]);

beforeAll(async () => {
  folder = await makeTinyBackbone(await mkdtemp(path.join(tmpdir(), 'graft-decoder-')));
  backbone = await describeBackbone(await readBackbone(folder));
  decoder = await Decoder.open(backbone, OPTIONS);
  const contexts = ['image', 'text'];
  lora = randomAdapter(backbone.target, { name: 'lora', method: 'lora', rank: 4, contexts, seed: 1 });
  bitfit = randomAdapter(backbone.target, { name: 'bitfit', method: 'bitfit', rank: 1, contexts, seed: 2 });
});

afterAll(async () => {
  await decoder.close();
  await rm(folder, { recursive: true });
});

describe('a decoder', () => {
  it('gives a row the same numbers after a long neighbour has made room and gone', async () => {
    const next = [{ adapter: lora, tokenId: 9, length: 3 }];
    await decoder.prefill(0, [row(lora, [1, 5, 6])]);
    const before = numbers(await decoder.decode(next));
    await decoder.prefill(1, [
      row(
        null,
        Array.from({ length: 400 }, (_, index) => 3 + (index % 60)),
      ),
    ]);
    expect(decoder.kv.capacity).toBe(512);
    const after = numbers(await decoder.decode(next));
    expect(decoder.kv.capacity).toBe(64);
    expect(after).toEqual(before);
  });

  it('reads nothing of what a row that failed has left behind', async () => {
    const prompts = [row(lora, [1, 5, 6]), row(bitfit, [1, 5, 6, 7, 8])];
    const next = [
      { adapter: lora, tokenId: 9, length: 3 },
      { adapter: bitfit, tokenId: 9, length: 5 },
    ];
    const clean = [numbers(await decoder.prefill(0, prompts)), numbers(await decoder.decode(next))];
    for (const tensor of Object.values(decoder.kv.view(0, OPTIONS.rows))) (tensor.data as Float32Array).fill(Number.NaN);
    expect([numbers(await decoder.prefill(0, prompts)), numbers(await decoder.decode(next))]).toEqual(clean);
  });

  it('refuses a bank that could not be filled every time, and fills the next one whole', async () => {
    const columns = new Map(lora.groups[1]?.columns);
    const [last] = [...columns.keys()].slice(-1);
    columns.set(last as string, { rank: 4, a: null, b: new Float32Array(100_000) });
    const group = { ...(lora.groups[1] as (typeof lora.groups)[0]), columns };
    const broken = { ...lora, digest: 'sha256:broken', groups: [group] };
    const steps = (adapter: LoadedAdapter) => decoder.decode([{ adapter, tokenId: 9, length: 3 }]);

    await decoder.prefill(0, [row(lora, [1, 5, 6])]);
    const before = numbers(await steps(lora));
    await expect(steps(broken)).rejects.toThrow(RangeError);
    await expect(steps(broken)).rejects.toThrow(RangeError);
    expect(numbers(await steps(lora))).toEqual(before);
  });

  it('tries again to open a program that could not be opened', async () => {
    const fresh = await Decoder.open(backbone, OPTIONS);
    const weights = path.join(folder, 'language', 'model.safetensors');
    await rename(weights, `${weights}.away`);
    await expect(fresh.prefill(0, [row(null, [1, 5])])).rejects.toThrow();
    await rename(`${weights}.away`, weights);
    const [logits] = await fresh.prefill(0, [row(null, [1, 5])]);
    expect(logits?.every(Number.isFinite)).toBe(true);
    await fresh.close();
  });
});
