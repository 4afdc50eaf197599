/**
 * What two adapters do differently: the largest and the summed difference of their changes to the weights, against the weights that PEFT merged
 * them into (test/fixtures/peft/make.py); and which facts are told apart.
 */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readAlone } from '../../../src/adapter/alone.js';
import { type AdapterDifference, diffAdapters } from '../../../src/adapter/diff.js';
import { type AdapterDraft, writeAdapter } from '../../../src/adapter/write.js';
import { toFloat32 } from '../../../src/tensor/convert.js';
import { decodeSafetensors } from '../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../src/tensor/tensor.js';
import { randomDraft, FIXTURES as SAVED, tinyTarget } from '../../fixtures/adapter/draft.js';
import { FIXTURES } from '../../fixtures/peft/make.js';

const target = await tinyTarget();
let root: string;
let checkpoint: ReadonlyMap<string, Tensor>;
let merged: ReadonlyMap<string, Tensor>;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'graft-diff-'));
  checkpoint = await readTensors(join(FIXTURES, 'checkpoint/model.safetensors'));
  merged = await readTensors(join(FIXTURES, 'merged/weights.safetensors'));
});
afterAll(() => rm(root, { recursive: true }));

async function readTensors(path: string): Promise<ReadonlyMap<string, Tensor>> {
  return decodeSafetensors(await readFile(path), path).tensors;
}

const diff = async (a: string, b: string): Promise<AdapterDifference> => diffAdapters(await readAlone(a), await readAlone(b));
const trained = (name: string) => join(FIXTURES, 'adapters', name);

/** Writes a draft, and returns its folder. */
async function written(name: string, draft: AdapterDraft): Promise<string> {
  await writeAdapter(join(root, name), draft);
  return join(root, name);
}

/** A weight as PEFT merged it, or as it was where the adapter leaves it alone. */
function weightOf(adapter: string, module: string): Float32Array {
  const name = `${module}.weight`;
  return toFloat32((merged.get(`${adapter} ${name}`) ?? checkpoint.get(name)) as Tensor);
}

const LORAS = ['lora/text', 'lora-agnostic/all', 'lora-layers/text'];

describe('the changes of two LoRAs', () => {
  it.each(LORAS.flatMap((a) => LORAS.filter((b) => a !== b).map((b) => [a, b] as const)))('%s and %s', async (a, b) => {
    const { equal, contexts } = await diff(trained(a), trained(b));
    expect(equal).toBe(false);
    const [context] = contexts;
    if (context === undefined) throw new Error('Expected a context to be compared');
    expect(context).toMatchObject({ context: 'text', incomparable: [] });
    expect(context.differing).toHaveLength(context.modules);
    const sums = { difference: 0, own: 0, largest: 0 };
    for (const { module, largest, norm, relative } of context.differing) {
      const [one, other] = [weightOf(a, module), weightOf(b, module)];
      const before = toFloat32(checkpoint.get(`${module}.weight`) as Tensor);
      const difference = one.map((value, index) => value - (other[index] as number));
      const own = one.map((value, index) => value - (before[index] as number));
      expect(largest).toBeCloseTo(Math.max(...difference.map(Math.abs)), 5);
      expect(norm).toBeCloseTo(Math.hypot(...difference), 5);
      if (Math.hypot(...own) === 0) expect(relative).toBeNull();
      else expect(relative).toBeCloseTo(Math.hypot(...difference) / Math.hypot(...own), 4);
      sums.difference += norm ** 2;
      sums.own += own.reduce((sum, value) => sum + value ** 2, 0);
      sums.largest = Math.max(sums.largest, largest);
    }
    expect(context.largest).toBe(sums.largest);
    expect(context.norm).toBeCloseTo(Math.sqrt(sums.difference), 9);
    expect(context.relative).toBeCloseTo(Math.sqrt(sums.difference / sums.own), 4);
    const norms = context.differing.map(({ norm }) => norm);
    expect(norms).toEqual([...norms].sort((one, other) => other - one));
  });

  it('see through matrices that differ and say the same', async () => {
    const draft = randomDraft(target, { method: 'lora', seed: 1, contexts: ['text'] });
    if (draft.method !== 'lora') throw new TypeError('Expected a LoRA draft');
    const turned = new Map(
      [...draft.groups].map(([context, { modules, ...group }]) => {
        const doubled = [...modules].map(([name, { a, b, ...rest }]) => {
          return [name, { ...rest, a: a.map((value) => 2 * value), b: b.map((value) => value / 2) }] as const;
        });
        return [context, { ...group, modules: new Map(doubled) }];
      }),
    );
    const [a, b] = [await written('a', draft), await written('b', { ...draft, groups: turned })];
    const { equal, fields, contexts, projector } = await diff(a, b);
    expect({ equal, fields: fields.map(({ field }) => field) }).toEqual({ equal: false, fields: ['adapter.json name'] });
    expect(contexts).toEqual([
      { context: 'text', modules: 14, largest: 0, norm: 0, relative: 0, differing: [], incomparable: [] },
    ]);
    expect(projector).toMatchObject({ modules: 2, differing: [] });
  });
});

describe('other methods', () => {
  it.each(['ia3', 'bitfit'] as const)('%s: the difference of the numbers themselves', async (method) => {
    const [one, other] = [1, 2].map((seed) =>
      randomDraft(target, { method, seed, contexts: ['text'], notes: { projector: null } }),
    );
    const { contexts, projector } = await diff(
      await written('c', one as AdapterDraft),
      await written('d', other as AdapterDraft),
    );
    expect(projector).toBeNull();
    const [a, b] = [numbersOf(one as AdapterDraft), numbersOf(other as AdapterDraft)];
    expect(contexts[0]?.differing).toHaveLength(a.size);
    for (const { module, largest } of contexts[0]?.differing ?? []) {
      const [before = [], after = []] = [a.get(module), b.get(module)];
      expect(largest).toBeCloseTo(Math.max(...[...before].map((value, index) => Math.abs(value - (after[index] ?? 0)))), 6);
    }
  });

  it('that differ are not compared, nor are modules of other sizes', async () => {
    const [lora, ia3] = [trained('lora'), trained('ia3')];
    const { fields, contexts } = await diff(lora, ia3);
    expect(contexts).toEqual([]);
    expect(fields.slice(0, 2)).toEqual([
      { field: 'method', a: 'lora', b: 'ia3' },
      { field: 'image ranks', a: [2], b: undefined },
    ]);
    expect(fields.some(({ field }) => field.includes('adapter_config.json'))).toBe(false);
    const [other] = (await diff(join(trained('ia3'), 'text'), join(SAVED, 'ia3'))).contexts;
    const down = [0, 1].map((layer) => `model.layers.${layer}.mlp.down_proj`);
    expect(other?.incomparable).toEqual(expect.arrayContaining(down));
  });
});

function numbersOf(draft: AdapterDraft): ReadonlyMap<string, Float32Array> {
  if (draft.method === 'ia3')
    return new Map([...(draft.groups.get('text')?.modules ?? [])].map(([name, { factor }]) => [name, factor]));
  if (draft.method === 'bitfit') return draft.groups.get('text')?.modules ?? new Map();
  throw new TypeError('Expected IA3 or BitFit');
}

describe('facts', () => {
  it('none where both are one', async () => {
    const { equal, fields, digests } = await diff(trained('lora'), trained('lora'));
    expect({ equal, fields }).toEqual({ equal: true, fields: [] });
    expect(digests[0]).toBe(digests[1]);
  });

  it('of the manifest, of configurations and of the tensors', async () => {
    const folder = join(root, 'changed', 'lora');
    await cp(trained('lora'), folder, { recursive: true });
    const manifest = JSON.parse(await readFile(join(folder, 'adapter.json'), 'utf8')) as object;
    await writeFile(join(folder, 'adapter.json'), JSON.stringify({ ...manifest, prompt: 'A', metrics: { loss: { best: 1 } } }));
    const path = join(folder, 'text/adapter_config.json');
    await writeFile(path, JSON.stringify({ ...(JSON.parse(await readFile(path, 'utf8')) as object), lora_alpha: 8 }));
    const { equal, fields, contexts } = await diff(trained('lora'), folder);
    expect(equal).toBe(false);
    expect(fields).toEqual([
      { field: 'adapter.json prompt', a: '', b: 'A' },
      { field: 'adapter.json metrics', a: {}, b: undefined },
      { field: 'text/adapter_config.json lora_alpha', a: 4, b: 8 },
      { field: 'adapter.json metrics.loss.best', a: undefined, b: 1 },
    ]);
    // Twice alpha is twice the change.
    expect(contexts).toMatchObject([
      { context: 'image', norm: 0 },
      { context: 'text', relative: 1 },
    ]);
  });

  it('of format, contexts, ranks, modules, types and projector', async () => {
    const text = randomDraft(target, { method: 'lora', seed: 1, contexts: ['text'], ranks: [2, 3], notes: { projector: null } });
    const isAttention = ({ site }: { site: string }) => site === 'attention';
    const both = randomDraft(target, { method: 'lora', seed: 1, ranks: [4], modules: isAttention, notes: { dtype: 'float16' } });
    const { fields } = await diff(await written('e', text), await written('f', both));
    const facts = new Map(fields.map(({ field, a, b }) => [field, [a, b]]));
    expect(Object.fromEntries(facts)).toMatchObject({
      contexts: [['text'], ['image', 'text']],
      projector: [null, { weight: 'float16 [16, 6]', bias: 'float16 [16]' }],
      'text ranks': [[2, 3], [4]],
      'text modules': [14, 8],
      'text dtype': [['float32'], ['float16']],
      'image modules': [undefined, 8],
    });
    expect((await diff(join(trained('ia3'), 'text'), trained('ia3'))).fields[0]).toEqual({
      field: 'format',
      a: 'plain PEFT',
      b: 'context-peft/1',
    });
  });
});
