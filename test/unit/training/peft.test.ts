/**
 * What PEFT and transformers compute with adapters that our trainer trained, against what our engine computes with them: each context's folder
 * by itself, as the plain PEFT adapter that it is (test/fixtures/peft/make.py; PEFT found every tensor there that it looks for, and no other).
 */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadedAdapter } from '../../../src/adapter/adapter.js';
import { readAdapter } from '../../../src/adapter/format.js';
import { type BackboneDescription, describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { Decoder } from '../../../src/engine/decoder.js';
import { toFloat32 } from '../../../src/tensor/convert.js';
import { decodeSafetensors } from '../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../src/tensor/tensor.js';
import { ADAPTERS, FIXTURES, makeBackbone, trainAdapter } from '../../fixtures/peft/make.js';

/** Contexts and adapted modules of each, over all contexts: two layers of seven projections, three of which IA3 can scale. */
const WHOLE = [
  ['lora', ['image', 'text'], 12],
  ['lora-agnostic', ['all'], 14],
  ['lora-layers', ['text'], 3],
  ['ia3', ['image', 'text'], 12],
  ['ia3-layers', ['text'], 2],
] as const;
/** Measured 6e-6 on logits of up to five; another processor rounds otherwise. */
const BOUND = 3e-5;
const ALONE = WHOLE.flatMap(([name, contexts]) => contexts.map((context) => `${name}/${context}`));

let folder: string;
let backbone: BackboneDescription;
let decoder: Decoder;
let expected: ReadonlyMap<string, Tensor>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graft-peft-'));
  backbone = await describeBackbone(await readBackbone(await makeBackbone(join(folder, 'backbone'))));
  decoder = await Decoder.open(backbone, { threads: 1, rows: 4, maxLength: 64 });
  expected = await readTensors(join(FIXTURES, 'logits.safetensors'));
});

afterAll(async () => {
  await decoder.close();
  await rm(folder, { recursive: true });
});

async function readTensors(path: string): Promise<ReadonlyMap<string, Tensor>> {
  return decodeSafetensors(await readFile(path), path).tensors;
}

/** The engine's logits of the fixture's rows. */
async function logitsOf(adapter: LoadedAdapter | null): Promise<Float32Array> {
  const { shape, data } = expected.get('ids') as Tensor;
  const [rows = 0, tokens = 0] = shape;
  const ids = new Int32Array(new Uint8Array(data).buffer);
  return decoder.score(
    Array.from({ length: rows }, (_, row) => ({
      adapter,
      promptIds: [...ids.subarray(row * tokens, (row + 1) * tokens)],
      imageEmbeddings: null,
    })),
  );
}

/** NaN where a length or a number is wrong, which no bound admits. */
function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.length === b.length ? Math.max(...a.map((value, index) => Math.abs(value - (b[index] as number)))) : Number.NaN;
}

const open = (path: string): Promise<LoadedAdapter> => readAdapter(join(FIXTURES, 'adapters', path), backbone.target);
const peft = (name: string): Float32Array => toFloat32(expected.get(name) as Tensor);

describe('a context’s folder alone', () => {
  it('was opened by PEFT, every one of them', () => {
    expect([...expected.keys()].sort()).toEqual(['ids', 'plain', ...ALONE].sort());
  });

  it.each(ALONE)('%s gives the logits that PEFT gives', async (path) => {
    const adapter = await open(path);
    expect(adapter.groups.map(({ context }) => context)).toEqual(['text']);
    const logits = await logitsOf(adapter);
    expect(largestDifference(logits, peft(path))).toBeLessThan(BOUND);
    // It is a test of the adapter, not of the checkpoint below it.
    expect(largestDifference(logits, peft('plain'))).toBeGreaterThan(1);
  });

  it('the checkpoint without any gives the logits that transformers gives', async () => {
    expect(largestDifference(await logitsOf(null), peft('plain'))).toBeLessThan(BOUND);
  });
});

describe('a whole adapter', () => {
  it.each(WHOLE)('%s is read whole, and every part of it was trained', async (name, contexts, modules) => {
    const adapter = await open(name);
    expect(`matched ${adapter.matched} of ${adapter.targeted}`).toBe(`matched ${modules} of ${modules}`);
    expect(adapter.groups.map(({ context }) => context)).toEqual(contexts);
    for (const { context, columns, scales } of adapter.groups) {
      expect((columns.size + scales.size) * contexts.length).toBe(modules);
      const changes = [...columns, ...scales].map(([module, part]) => [module, 'b' in part ? part.b : part.delta] as const);
      for (const [module, change] of changes) {
        expect(Math.max(...change.map(Math.abs)), `${context} ${module}`).toBeGreaterThan(0.01);
      }
    }
  });

  it.each(WHOLE)('%s gives text the logits of the group that text has', async (name, contexts) => {
    expect(largestDifference(await logitsOf(await open(name)), peft(`${name}/${contexts.at(-1)}`))).toBeLessThan(BOUND);
  });
});

describe('the trainer', () => {
  it.each(Object.keys(ADAPTERS))('still writes %s as PEFT has opened it', async (name) => {
    const out = join(folder, 'adapters', name);
    await trainAdapter(join(folder, 'backbone'), ADAPTERS[name] ?? {}, out);
    const files = await filesOf(out);
    const committed = join(FIXTURES, 'adapters', name);
    expect(files).toEqual(await filesOf(committed));
    for (const file of files.filter((path) => path.endsWith('.json')))
      expect(await readFile(join(out, file), 'utf8'), file).toBe(await readFile(join(committed, file), 'utf8'));
    for (const file of files.filter((path) => path.endsWith('.safetensors'))) {
      const [now, then] = await Promise.all([readTensors(join(out, file)), readTensors(join(committed, file))]);
      expect(shapesOf(now)).toEqual(shapesOf(then));
      // Another processor rounds otherwise, and Adam's first steps make more of it.
      for (const [key, tensor] of now)
        expect(largestDifference(toFloat32(tensor), toFloat32(then.get(key) as Tensor)), `${file} ${key}`).toBeLessThan(1e-3);
    }
  });
});

async function filesOf(place: string): Promise<string[]> {
  const entries = await readdir(place, { recursive: true, withFileTypes: true });
  return entries.flatMap((entry) => (entry.isFile() ? [relative(place, join(entry.parentPath, entry.name))] : [])).sort();
}

function shapesOf(tensors: ReadonlyMap<string, Tensor>): unknown[] {
  return [...tensors].map(([name, { dtype, shape }]) => [name, dtype, shape]);
}
