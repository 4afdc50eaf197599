/**
 * Merged weights against those of PEFT's `merge_and_unload` (test/fixtures/peft/make.py), and the logits of a merged checkpoint against those of
 * the adapter on the checkpoint that it was made for: the engine's own, and PEFT's. What is not changed stays as it is, to the byte.
 */
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { LoadedAdapter } from '../../../src/adapter/adapter.js';
import { readAdapter } from '../../../src/adapter/format.js';
import { addColumns, mergeAdapter, scaleWeight } from '../../../src/adapter/merge.js';
import { type BackboneDescription, describeBackbone } from '../../../src/backbone/backbone.js';
import { readBackbone } from '../../../src/backbone/manifest.js';
import { Decoder } from '../../../src/engine/decoder.js';
import { AppError } from '../../../src/errors.js';
import { Checkpoint } from '../../../src/tensor/checkpoint.js';
import { fromFloat32, toFloat32, type WrittenDType } from '../../../src/tensor/convert.js';
import { decodeSafetensors, writeSafetensors } from '../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../src/tensor/tensor.js';
import { FIXTURES as SAVED, tinyTarget } from '../../fixtures/adapter/draft.js';
import { FIXTURES, makeBackbone } from '../../fixtures/peft/make.js';
import { randomAdapter } from '../../support/adapter.js';

const LLAMAS = fileURLToPath(new URL('../../fixtures/backbone/llama/', import.meta.url));
const TRAINED = ['lora/text', 'lora-agnostic/all', 'lora-layers/text', 'ia3/text', 'ia3-layers/text'];
/** Measured 1.2e-7 on weights of up to 1.6: PyTorch rounds the product before it adds it. */
const WEIGHT_BOUND = 1e-6;
/** Measured 6.7e-6 on outputs of up to 72: PEFT adds in float32. */
const OUTPUT_BOUND = 3e-5;
/** As where the adapter is not merged (test/unit/training/peft.test.ts). */
const LOGIT_BOUND = 3e-5;

let root: string;
let out: string;
let tiny: BackboneDescription;
let merged: ReadonlyMap<string, Tensor>;
let logits: ReadonlyMap<string, Tensor>;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'graft-merge-'));
  tiny = await open(await makeBackbone(join(root, 'backbone')));
  merged = await readTensors(join(FIXTURES, 'merged/weights.safetensors'));
  logits = await readTensors(join(FIXTURES, 'logits.safetensors'));
});
afterAll(() => rm(root, { recursive: true }));

beforeEach(async () => {
  out = join(await mkdtemp(join(root, 'out-')), 'merged');
});

const open = async (folder: string): Promise<BackboneDescription> => describeBackbone(await readBackbone(folder));

async function readTensors(path: string): Promise<ReadonlyMap<string, Tensor>> {
  return decodeSafetensors(await readFile(path), path).tensors;
}

/** All tensors of a checkpoint, in one file or many. */
async function weightsOf(folder: string): Promise<ReadonlyMap<string, Tensor>> {
  const checkpoint = await Checkpoint.open(folder);
  try {
    const tensors = await Promise.all(checkpoint.names().map(async (name) => [name, await checkpoint.read(name)] as const));
    return new Map(tensors.sort(([a], [b]) => (a < b ? -1 : 1)));
  } finally {
    await checkpoint.close();
  }
}

/** NaN where a length or a number is wrong, which no bound admits. */
function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.length === b.length ? Math.max(...a.map((value, index) => Math.abs(value - (b[index] as number)))) : Number.NaN;
}

/** The merged weights are PEFT's where PEFT changed them, and the checkpoint's own bytes elsewhere. */
async function expectPeft(name: string, checkpoint: string): Promise<void> {
  const before = await weightsOf(checkpoint);
  const after = await weightsOf(out);
  expect([...after.keys()]).toEqual([...before.keys()]);
  for (const [weight, tensor] of after) {
    const expected = merged.get(`${name} ${weight}`);
    if (expected === undefined) expect(tensor, weight).toEqual(before.get(weight));
    else expect(largestDifference(toFloat32(tensor), toFloat32(expected)), weight).toBeLessThan(WEIGHT_BOUND);
  }
}

async function logitsOf(
  backbone: BackboneDescription,
  adapter: LoadedAdapter | null,
  rows: readonly number[][],
): Promise<Float32Array> {
  const decoder = await Decoder.open(backbone, { threads: 1, rows: 4, maxLength: 64 });
  try {
    return await decoder.score(rows.map((promptIds) => ({ adapter, promptIds, imageEmbeddings: null })));
  } finally {
    await decoder.close();
  }
}

async function faultsOf(action: Promise<unknown>): Promise<readonly string[]> {
  const error: unknown = await action.catch((thrown: unknown) => thrown);
  if (error instanceof AppError && error.code === 'adapter_invalid') return error.faults ?? [];
  throw new Error(`Expected faults but received ${String(error)}`);
}

describe('as PEFT merges', () => {
  it.each(TRAINED)('%s: weights, logits, and what is beside them', async (path) => {
    const [name = ''] = path.split('/');
    const adapter = await readAdapter(join(FIXTURES, 'adapters', name), tiny.target);
    const changed = [...merged.keys()].filter((key) => key.startsWith(`${path} `)).length;
    const counts = { tensors: 20, changed, files: 1, context: path.split('/')[1] };
    expect(await mergeAdapter(adapter, 'text', tiny, out)).toEqual(counts);
    await expectPeft(path, tiny.languageFolder);

    const files = (await readdir(tiny.languageFolder)).sort();
    expect((await readdir(out)).sort()).toEqual(files);
    for (const file of files.filter((each) => each !== 'model.safetensors'))
      expect(await readFile(join(out, file)), file).toEqual(await readFile(join(tiny.languageFolder, file)));

    const ids = new Int32Array(new Uint8Array((logits.get('ids') as Tensor).data).buffer);
    const rows = [[...ids.subarray(0, 6)], [...ids.subarray(6)]];
    const found = await logitsOf(await open(out), null, rows);
    expect(largestDifference(found, toFloat32(logits.get(path) as Tensor))).toBeLessThan(LOGIT_BOUND);
    expect(largestDifference(found, await logitsOf(tiny, adapter, rows))).toBeLessThan(LOGIT_BOUND);
  });

  it('IA3 of a model with biases, which it scales too', async () => {
    const biases = await open(join(LLAMAS, 'biases'));
    const adapter = await readAdapter(join(FIXTURES, 'merged/ia3-biases'), biases.target);
    expect(await mergeAdapter(adapter, 'text', biases, out)).toMatchObject({ changed: 5 });
    await expectPeft('ia3-biases', biases.languageFolder);
  });

  it.each(['lora-patterns', 'lora-regex', 'lora-layers', 'lora-linear', 'ia3'])(
    'modules of %s, in both layouts',
    async (name) => {
      const target = await tinyTarget();
      const { groups } = await readAdapter(join(SAVED, name), target);
      const weights = await readTensors(join(SAVED, 'backbone/projections.safetensors'));
      const expected = await readTensors(join(SAVED, name, 'expected.safetensors'));
      let count = 0;
      for (const { columns, scales } of groups)
        for (const module of target.modules) {
          const [own, scale] = [columns.get(module.name), scales.get(module.name)];
          if (!own && !scale) continue;
          count++;
          const { inFeatures, outFeatures } = module;
          const plain = toFloat32(weights.get(`${module.name}.weight`) as Tensor);
          const x = toFloat32(expected.get(`${module.name}.x`) as Tensor);
          const y = toFloat32(expected.get(`${module.name}.y`) as Tensor);
          for (const layout of ['out_in', 'in_out'] as const) {
            const place = (output: number, input: number) =>
              layout === 'out_in' ? output * inFeatures + input : input * outFeatures + output;
            const weight = new Float32Array(plain.length);
            for (let at = 0; at < plain.length; at++)
              weight[place(Math.floor(at / inFeatures), at % inFeatures)] = plain[at] as number;
            if (own) addColumns(weight, { ...module, layout }, own);
            if (scale) scaleWeight(weight, { ...module, layout }, scale);
            const found = Float32Array.from(y, (_, at) => {
              const [row, output] = [Math.floor(at / outFeatures), at % outFeatures];
              let sum = 0;
              for (let input = 0; input < inFeatures; input++)
                sum += (x[row * inFeatures + input] as number) * (weight[place(output, input)] as number);
              return sum;
            });
            expect(largestDifference(found, y), `${module.name} ${layout}`).toBeLessThan(OUTPUT_BOUND);
          }
        }
      expect(count).toBe(expected.size / 2);
    },
  );
});

describe('as the adapter computes that is not merged', () => {
  const rows = [
    [1, 5, 9, 3, 17],
    [1, 20, 4, 11, 8],
  ];

  it.each(['lora', 'ia3', 'bitfit'] as const)('%s, with biases', async (method) => {
    const biases = await open(join(LLAMAS, 'biases'));
    const adapter = randomAdapter(biases.target, { name: 'a', method, rank: 3, contexts: ['text'], seed: 5 });
    await mergeAdapter(adapter, 'text', biases, out);
    const expected = await logitsOf(biases, adapter, rows);
    expect(largestDifference(await logitsOf(await open(out), null, rows), expected)).toBeLessThan(LOGIT_BOUND);
    expect(largestDifference(await logitsOf(biases, null, rows), expected)).toBeGreaterThan(0.01);
  });

  it.each<[string, WrittenDType]>([
    ['float16', 'float16'],
    ['bfloat16', 'bfloat16'],
    ['sharded', 'float32'],
  ])('in the type of the checkpoint, rounded once: %s', async (name, dtype) => {
    const backbone = await open(join(LLAMAS, name));
    const adapter = randomAdapter(backbone.target, { name: 'a', method: 'lora', rank: 2, contexts: ['text'], seed: 6 });
    const { changed } = await mergeAdapter(adapter, 'text', backbone, out);
    expect(changed).toBe(backbone.target.modules.length);
    const [before, after] = [await weightsOf(backbone.languageFolder), await weightsOf(out)];
    expect([...after.keys()]).toEqual([...before.keys()]);
    const modules = new Map(backbone.target.modules.map((module) => [`${module.name}.weight`, module]));
    for (const [weight, tensor] of after) {
      const module = modules.get(weight);
      const plain = before.get(weight) as Tensor;
      const values = toFloat32(plain).slice();
      const columns = module && adapter.groups[0]?.columns.get(module.name);
      if (module && columns) addColumns(values, module, columns);
      expect(tensor, weight).toEqual(module ? fromFloat32(values, plain.shape, dtype) : plain);
      expect(tensor.dtype).toBe(plain.dtype);
    }
    expect((await readdir(out)).sort()).toEqual(['config.json', 'model.safetensors']);
  });
});

describe('in shards', () => {
  it.each(['heads', 'sharded'])('of %s: the weights and the logits of the one file', async (name) => {
    const backbone = await open(join(LLAMAS, name));
    const adapter = randomAdapter(backbone.target, { name: 'a', method: 'lora', rank: 2, contexts: ['text'], seed: 7 });
    const rows = [[1, 5, 9, 3, 17]];
    expect(await mergeAdapter(adapter, 'text', backbone, out)).toMatchObject({ files: 1 });
    const [weights, expected] = [await weightsOf(out), await logitsOf(await open(out), null, rows)];

    const sharded = `${out}-sharded`;
    const { files, tensors } = await mergeAdapter(adapter, 'text', backbone, sharded, 5000);
    expect(files).toBeGreaterThan(3);
    expect(tensors).toBe(weights.size);
    const names = (await readdir(sharded)).filter((file) => /^model-\d{5}-of-\d{5}\.safetensors$/.test(file));
    expect(names).toHaveLength(files);
    expect(await weightsOf(sharded)).toEqual(weights);
    expect(await logitsOf(await open(sharded), null, rows)).toEqual(expected);
  });

  it('a tied weight that is there under both names is written once, as transformers does', async () => {
    const folder = join(out, '..', 'twice');
    await cp(join(LLAMAS, 'plain'), folder, { recursive: true });
    const weights = await weightsOf(folder);
    const head = weights.get('model.embed_tokens.weight') as Tensor;
    await writeSafetensors(join(folder, 'model.safetensors'), [...weights, ['lm_head.weight', head]]);
    const twice = await open(folder);
    const adapter = randomAdapter(twice.target, { name: 'a', method: 'lora', rank: 2, contexts: ['text'], seed: 8 });
    await mergeAdapter(adapter, 'text', twice, out);
    expect([...(await weightsOf(out)).keys()]).toEqual([...weights.keys()]);
  });

  it('a tied weight that is there under the other name keeps it', async () => {
    const folder = join(out, '..', 'other');
    await cp(join(LLAMAS, 'plain'), folder, { recursive: true });
    const renamed = [...(await weightsOf(folder))].map(
      ([name, weight]) => [name.replace('model.embed_tokens.weight', 'lm_head.weight'), weight] as const,
    );
    await writeSafetensors(join(folder, 'model.safetensors'), renamed);
    const other = await open(folder);
    const adapter = randomAdapter(other.target, { name: 'a', method: 'lora', rank: 2, contexts: ['text'], seed: 8 });
    await mergeAdapter(adapter, 'text', other, out);
    expect([...(await weightsOf(out)).keys()].sort()).toEqual(renamed.map(([name]) => name).sort());
  });
});

describe('refusals write nothing', () => {
  it('of BitFit where the architecture has no biases, module by module', async () => {
    const chosen = { rank: 1, contexts: ['text'], seed: 1, modules: ['0.self_attn.q_proj', '1.mlp.up_proj'] };
    const adapter = randomAdapter(tiny.target, { name: 'a', method: 'bitfit', ...chosen });
    expect(await faultsOf(mergeAdapter(adapter, 'text', tiny, out))).toEqual(
      ['model.layers.0.self_attn.q_proj', 'model.layers.1.mlp.up_proj'].map(
        (name) => `Expected a model with a bias in ${name}, for BitFit's, but received llama without one`,
      ),
    );
    expect(await readdir(join(out, '..'))).toEqual([]);
  });

  it('of a context that the adapter does not have', async () => {
    const adapter = randomAdapter(tiny.target, { name: 'a', method: 'lora', rank: 1, contexts: ['image'], seed: 1 });
    expect(await faultsOf(mergeAdapter(adapter, 'text', tiny, out))).toEqual([
      'Expected parameters for text but received those for image',
    ]);
  });

  it('of numbers that the type does not hold', async () => {
    const backbone = await open(join(LLAMAS, 'float16'));
    const [module] = backbone.target.modules;
    if (module === undefined) throw new TypeError('Expected a module');
    const a = new Float32Array(module.inFeatures).fill(300);
    const b = new Float32Array(module.outFeatures).fill(300);
    const plain = randomAdapter(backbone.target, { name: 'a', method: 'lora', rank: 1, contexts: ['text'], seed: 1 });
    const columns = new Map([[module.name, { rank: 1, a, b }]]);
    const adapter = { ...plain, groups: [{ context: 'text', rank: 1, a0: 0, columns, scales: new Map() }] } as const;
    expect(await faultsOf(mergeAdapter(adapter, 'text', backbone, out))).toEqual([
      expect.stringMatching(/^Expected merged numbers within float16 but received \S+ at index 0$/),
    ]);
    expect(await readdir(join(out, '..'))).toEqual([]);
  });
});
