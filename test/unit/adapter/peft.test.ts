/**
 * What PEFT itself computes with an adapter that it saved, or that we wrote: the same numbers must come out of ours.
 * The fixtures hold inputs and outputs of PEFT's own modules (test/fixtures/adapter/make.py).
 */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { AdapterGroup } from '../../../src/adapter/adapter.js';
import { readAdapter } from '../../../src/adapter/format.js';
import { writeAdapter } from '../../../src/adapter/write.js';
import type { LinearModule } from '../../../src/backbone/module.js';
import { toFloat32 } from '../../../src/tensor/convert.js';
import { decodeSafetensors } from '../../../src/tensor/safetensors.js';
import { FIXTURES, tinyTarget, writtenDrafts } from '../../fixtures/adapter/draft.js';

const target = await tinyTarget();
const weights = await readTensors('backbone/projections.safetensors');

async function readTensors(path: string): Promise<Map<string, Float32Array>> {
  const { tensors } = decodeSafetensors(await readFile(join(FIXTURES, path)), path);
  return new Map([...tensors].map(([name, tensor]) => [name, toFloat32(tensor)]));
}

/** x [rows, in] · w, with the element of w at (in, out) given by `at`. */
function product(x: Float32Array, inSize: number, outSize: number, at: (i: number, o: number) => number): Float32Array {
  return Float32Array.from({ length: (x.length / inSize) * outSize }, (_, index) => {
    const row = Math.floor(index / outSize);
    let sum = 0;
    for (let i = 0; i < inSize; i++) sum += (x[row * inSize + i] as number) * at(i, index % outSize);
    return sum;
  });
}

/** One adapted projection, straight from adapter.ts's definition of the layout. */
function apply({ name, inFeatures, outFeatures }: LinearModule, group: AdapterGroup, x: Float32Array): Float32Array {
  const weight = weights.get(`${name}.weight`) as Float32Array; // [out, in]
  const scale = group.scales.get(name);
  const factor = (side: string, index: number): number => (scale?.side === side ? 1 + (scale.delta[index] as number) : 1);
  const scaled = x.map((value, index) => value * factor('input', index % inFeatures));
  const y = product(scaled, inFeatures, outFeatures, (i, o) => weight[o * inFeatures + i] as number);
  const columns = group.columns.get(name);
  if (columns?.a) {
    const { rank, a, b } = columns;
    const h = product(x, inFeatures, rank, (i, column) => a[i * rank + column] as number);
    product(h, rank, outFeatures, (column, o) => b[column * outFeatures + o] as number).forEach((value, index) => {
      y[index] = (y[index] as number) + value;
    });
  }
  return y.map((value, index) => value * factor('output', index % outFeatures));
}

async function checkGroup(group: AdapterGroup, path: string): Promise<void> {
  const expected = await readTensors(`${path}/expected.safetensors`);
  const names = [...group.columns.keys(), ...group.scales.keys()];
  expect(names.flatMap((name) => [`${name}.x`, `${name}.y`]).sort()).toEqual([...expected.keys()].sort());
  for (const module of target.modules.filter(({ name }) => names.includes(name))) {
    const y = apply(module, group, expected.get(`${module.name}.x`) as Float32Array);
    const difference = Math.max(
      ...(expected.get(`${module.name}.y`) as Float32Array).map((value, i) => Math.abs(value - (y[i] as number))),
    );
    expect(difference, module.name).toBeLessThan(1e-5);
  }
}

describe('adapters that PEFT saved', () => {
  it.each([
    ['lora-patterns', 'lora', 8, 4],
    ['lora-regex', 'lora', 5, 3],
    ['lora-layers', 'lora', 2, 2],
    ['lora-linear', 'lora', 14, 1],
    ['ia3', 'ia3', 6, 0],
  ])('%s computes what PEFT computes', async (name, method, modules, rank) => {
    const adapter = await readAdapter(join(FIXTURES, name), target);
    expect(adapter).toMatchObject({ name, method, matched: modules, targeted: modules, projector: null });
    expect(adapter.groups.map((group) => [group.context, group.rank, group.a0])).toEqual([['text', rank, 0]]);
    for (const group of adapter.groups) await checkGroup(group, name);
  });
});

describe('adapters that we write', () => {
  it.each([
    ['lora', ['image', 'text']],
    ['lora-stable', ['all']],
    ['ia3', ['text']],
  ])('%s computes in PEFT what it computes here', async (name, contexts) => {
    const adapter = await readAdapter(join(FIXTURES, 'written', name), target);
    expect(adapter.groups.map(({ context }) => context)).toEqual(contexts);
    for (const group of adapter.groups) await checkGroup(group, `written/${name}/${group.context}`);
  });

  it('are still those that PEFT has opened', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'graft-written-'));
    try {
      for (const [name, draft] of await writtenDrafts()) {
        await writeAdapter(join(folder, name), draft);
        const paths = (await readdir(join(folder, name), { recursive: true, withFileTypes: true })).filter((entry) =>
          entry.isFile(),
        );
        expect(paths.length).toBeGreaterThan(2);
        for (const path of paths.map((entry) => join(entry.parentPath, entry.name))) {
          const committed = path.replace(folder, join(FIXTURES, 'written'));
          expect((await readFile(path)).equals(await readFile(committed)), path).toBe(true);
        }
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
