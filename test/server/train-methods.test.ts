/** Every way to train, on a few steps: what comes out is what was asked for, opens as what it says that it is, and can be served. */
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LoadedAdapter } from '../../src/adapter/adapter.js';
import { arraysOf, readAdapter } from '../../src/adapter/format.js';
import { type BackboneDescription, describeBackbone } from '../../src/backbone/backbone.js';
import { readBackbone } from '../../src/backbone/manifest.js';
import { startServer } from '../../src/cli/serve.js';
import { loadConfig } from '../../src/config.js';
import { decodeSafetensors } from '../../src/tensor/safetensors.js';
import { formOf, post, tinyFlags } from '../support/server.js';
import { TINY } from '../support/tiny.js';
import { makeTrainingFolder, readSteps, readTree, type TrainFlags, trainHere } from '../support/training.js';

const MODULES = 7 * TINY.layers;
const FFN = 3 * TINY.layers;
/** k_proj, v_proj and down_proj. */
const SCALABLE = 3 * TINY.layers;

let folder: string;
let backbone: BackboneDescription;
beforeAll(async () => {
  folder = await makeTrainingFolder();
  backbone = await describeBackbone(await readBackbone(path.join(folder, 'backbone')));
});
afterAll(() => rm(folder, { recursive: true }));

const runOf = (name: string): string => path.join(folder, 'runs', name);
const trainAdapter = async (name: string, flags: TrainFlags): Promise<LoadedAdapter> => {
  await trainHere(folder, { steps: 4, ...flags, out: `adapters/${name}` });
  return readAdapter(path.join(folder, 'adapters', name), backbone.target);
};
/** Context, rank, and how many modules are adapted. */
const shapeOf = ({ groups }: LoadedAdapter) =>
  groups.map(({ context, rank, columns, scales }) => [context, rank, columns.size + scales.size]);
/** What of each group training has moved away from nothing: modules of which any number is not 0. */
const movedOf = ({ groups }: LoadedAdapter) =>
  groups.map(({ columns, scales }) => {
    const arrays = [...[...columns.values()].map(({ b }) => b), ...[...scales.values()].map(({ delta }) => delta)];
    return arrays.filter((array) => array.some((value) => value !== 0)).length;
  });

describe('an adapter', () => {
  const text = { data: 'stories.txt' };
  test.each<[string, TrainFlags, [string, number, number][]]>([
    [
      'lora',
      { rank: 4 },
      [
        ['image', 4, MODULES],
        ['text', 4, MODULES],
      ],
    ],
    [
      'lora-ranks',
      { rank: 'image=3,text=5', alpha: 'image=6,text=5' },
      [
        ['image', 3, MODULES],
        ['text', 5, MODULES],
      ],
    ],
    ['lora-agnostic', { contexts: 'agnostic' }, [['all', 8, MODULES]]],
    ['lora-image', { contexts: 'image' }, [['image', 8, MODULES]]],
    ['lora-text', { contexts: 'text' }, [['text', 8, MODULES]]],
    ['lora-stories', text, [['text', 8, MODULES]]],
    [
      'lora-ffn',
      { sites: 'ffn' },
      [
        ['image', 8, FFN],
        ['text', 8, FFN],
      ],
    ],
    [
      'lora-targets',
      { targetModules: 'q_proj,model.layers.1.mlp.down_proj' },
      [
        ['image', 8, 3],
        ['text', 8, 3],
      ],
    ],
    [
      'bitfit',
      { method: 'bitfit' },
      [
        ['image', 1, MODULES],
        ['text', 1, MODULES],
      ],
    ],
    ['bitfit-agnostic', { method: 'bitfit', contexts: 'agnostic', sites: 'attention' }, [['all', 1, 4 * TINY.layers]]],
    [
      'ia3',
      { method: 'ia3' },
      [
        ['image', 0, SCALABLE],
        ['text', 0, SCALABLE],
      ],
    ],
    ['ia3-stories', { ...text, method: 'ia3', contexts: 'agnostic' }, [['all', 0, SCALABLE]]],
    ['none', { method: 'none' }, []],
  ])('%s', async (name, flags, shape) => {
    const adapter = await trainAdapter(name, flags);
    expect(adapter.method).toBe(flags['method'] ?? 'lora');
    expect(shapeOf(adapter)).toEqual(shape);
    expect(movedOf(adapter)).toEqual(shape.map(([, , count]) => count));
    expect(adapter.projector === null).toBe(flags['data'] === 'stories.txt');
    expect((await readSteps(runOf(name))).order).toEqual([1, 2, 3, 4]);
    const report = await readFile(path.join(runOf(name), 'report.html'), 'utf8');
    expect(report.includes('sees through')).toBe(adapter.projector !== null);
  });
});

describe('--from', () => {
  const rate = { steps: 1, lr: 1e-9 };
  /** Every number of an adapter: projector, columns and scales. */
  const numbersOf = (adapter: LoadedAdapter): number[] => arraysOf(adapter).flatMap((array) => [...array]);

  test.each<[string, TrainFlags]>([
    ['lora', { rank: 4 }],
    ['lora-agnostic', { contexts: 'agnostic' }],
    ['bitfit', { method: 'bitfit' }],
    ['ia3', { method: 'ia3' }],
    ['none', { method: 'none' }],
  ])('%s: begins with what the other ends with', async (name, flags) => {
    const one = await trainAdapter(`first-${name}`, flags);
    const other = await trainAdapter(`second-${name}`, { ...flags, ...rate, from: `adapters/first-${name}` });
    const [before, after] = [numbersOf(one), numbersOf(other)];
    expect(after).toHaveLength(before.length);
    expect(Math.max(...after.map((value, at) => Math.abs(value - (before[at] ?? Number.NaN))))).toBeLessThan(1e-6);
    const manifest = JSON.parse(await readFile(path.join(folder, 'adapters', `second-${name}`, 'adapter.json'), 'utf8'));
    expect(manifest.training.from).toBe(`first-${name} ${one.digest}`);
  });

  test('makes up for another alpha', async () => {
    const one = await trainAdapter('plain-alpha', { rank: 4 });
    const other = await trainAdapter('other-alpha', { rank: 4, alpha: 16, ...rate, from: 'adapters/plain-alpha' });
    for (const [index, group] of one.groups.entries())
      for (const [module, { b }] of group.columns) {
        const found = other.groups[index]?.columns.get(module)?.b ?? [];
        for (const [at, value] of b.entries()) expect(found[at]).toBeCloseTo(value, 5);
      }
  });

  test('takes the projector of another method, and the rest at random', async () => {
    const one = await trainAdapter('lora-first', { rank: 4 });
    const other = await trainAdapter('ia3-second', { method: 'ia3', ...rate, from: 'adapters/lora-first' });
    for (const [at, value] of (one.projector?.weight ?? []).entries()) expect(other.projector?.weight[at]).toBeCloseTo(value, 6);
  });

  test.each<[string, TrainFlags, RegExp]>([
    ['another rank', { rank: 8, from: 'adapters/lora' }, /Expected rank 8 in \S+q_proj for image but received 4/],
    [
      'other contexts',
      { contexts: 'agnostic', rank: 4, from: 'adapters/lora' },
      /Expected groups for all in adapter lora but received image, text/,
    ],
    [
      'fewer modules',
      { from: 'adapters/lora-ffn' },
      /Expected \S+q_proj to be adapted for image but the adapter leaves it alone/,
    ],
    [
      'nothing to take',
      { method: 'ia3', from: 'adapters/lora-stories' },
      /to be of method ia3 or to see images but received lora/,
    ],
    ['all weights', { method: 'full', from: 'adapters/lora' }, /Expected no --from with --method full/],
    ['no adapter', { from: 'photos' }, /Expected adapter.json, or adapter_config.json/],
  ])('is refused with %s', async (_, flags, message) => {
    await expect(trainHere(folder, { steps: 1, ...flags, out: 'adapters/refused' })).rejects.toThrow(message);
  });
});

describe('all weights', () => {
  test('from the checkpoint, on photos: the new backbone says what it was taught', async () => {
    await trainHere(folder, { method: 'full', data: 'short.jsonl', steps: 60, lr: 0.005, out: 'backbones/seeing' });
    const replies = await ask('seeing', async (url) => {
      const image = await readFile(path.join(folder, 'photos', 'red-0.png'));
      return post(`${url}/v1/captions`, formOf({ image, adapter: 'seeing', temperature: '0' }));
    });
    expect(replies.captions).toEqual([{ text: 'a red dog.', finish_reason: 'stop' }]);
  });

  test('from random numbers, on plain text: the new backbone goes on with the story', async () => {
    const flags = { method: 'full', init: 'random', data: 'stories.txt', steps: 120, out: 'backbones/telling' };
    await trainHere(folder, flags);
    const { steps } = await readSteps(runOf('telling'));
    expect(steps[0]?.loss).toBeCloseTo(Math.log(backbone.language.vocabSize), 1); // It knows nothing.
    expect(steps.at(-1)?.loss).toBeLessThan(0.5);
    const prompt = 'once there was a dog that was';
    const { choices } = await ask('telling', (url) =>
      post(`${url}/v1/completions`, { model: 'telling', prompt, max_tokens: 12, temperature: 0 }),
    );
    expect(choices?.[0]?.text.trim()).toBe('red.');
  });

  test('takes the place of what it made before, where it is told so', async () => {
    const flags = { method: 'full', data: 'stories.txt', steps: 2, out: 'backbones/again' };
    await trainHere(folder, flags);
    const before = await readTree(path.join(folder, 'backbones', 'again'));
    const other = { ...flags, restart: true, seed: 1 } as const;
    await expect(trainHere(folder, other)).rejects.toThrow(/again holds a trained backbone: --replace takes its place, /);
    expect(await readTree(path.join(folder, 'backbones', 'again'))).toEqual(before);
    await trainHere(folder, { ...other, replace: true });
    const after = await readTree(path.join(folder, 'backbones', 'again'));
    expect([...after.keys()]).toEqual([...before.keys()]);
    const weights = path.join('language', 'model.safetensors');
    expect(after.get(weights)).not.toBe(before.get(weights));
  });

  async function ask(name: string, request: (url: string) => ReturnType<typeof post>) {
    const trained = path.join(folder, 'backbones', name);
    const adapters = path.join(trained, name === 'seeing' ? 'adapters' : 'language');
    const config = await loadConfig({ flags: { ...tinyFlags(folder), backbone: trained, adapters }, env: {}, folder });
    const server = await startServer(config);
    try {
      await server.ready;
      const { status, body } = await request(server.url);
      expect(status).toBe(200);
      return body;
    } finally {
      await server.close();
    }
  }
});

describe('the same numbers', () => {
  const losses = async (name: string, flags: TrainFlags): Promise<number[]> => {
    await trainHere(folder, { steps: 6, data: 'short.jsonl', lr: 0.002, ...flags, out: `adapters/${name}` });
    return (await readSteps(runOf(name))).steps.map(({ loss }) => loss);
  };
  const expectClose = (some: readonly number[], others: readonly number[], relative: number): void => {
    expect(some).toHaveLength(others.length);
    for (const [index, value] of some.entries()) expect(Math.abs(value / (others[index] ?? 0) - 1)).toBeLessThan(relative);
  };

  test('whether activations are kept or computed again', async () => {
    const flags = { residualDropout: 0.2, dropout: 0.2 };
    const kept = await losses('kept', flags);
    expect(new Set(kept).size).toBe(6);
    expectClose(await losses('recomputed', { ...flags, recompute: true }), kept, 1e-5);
  });

  test('whether eight captions are one part of a step or two', async () => {
    const whole = await losses('eight', { batch: 8 });
    const parts = await losses('four', { batch: 4, accumulate: 2 });
    expectClose(parts, whole, 1e-5);
    const [one, two] = await Promise.all(['eight', 'four'].map((name) => tensorsOf(path.join(folder, 'adapters', name))));
    for (const [name, values] of one ?? []) {
      const differences = values.map((value, index) => Math.abs(value - (two?.get(name)?.[index] ?? Number.NaN)));
      expect(Math.max(...differences), name).toBeLessThan(1e-5);
    }
  });
});

test.each<[string, TrainFlags, number]>([
  ['none', {}, 2],
  ['none-at-all', { steps: 9 }, 0],
  ['told', { warmup: 3 }, 3],
])('the steps of warm-up that it had stand in the manifest: %s', async (name, flags, warmup) => {
  await trainHere(folder, { steps: 20, method: 'none', warmup: 'none', ...flags, out: `adapters/warm-${name}` });
  const manifest = await readFile(path.join(folder, 'adapters', `warm-${name}`, 'adapter.json'), 'utf8');
  expect(JSON.parse(manifest)).toMatchObject({ training: { warmup } });
  const { steps } = await readSteps(runOf(`warm-${name}`));
  expect(steps.findIndex(({ learning_rate }) => learning_rate === 0.01)).toBe(warmup - 1);
});

test('with patience it ends when nothing gets better, and the best parameters are published, not the last', async () => {
  const flags = { data: 'short.jsonl', validation: 'other.jsonl', steps: 400, lr: 0.03, evalEvery: 2, patience: 3 };
  const { stdout } = await trainHere(folder, { ...flags, out: 'adapters/patient' });
  const { steps, evaluations } = await readSteps(runOf('patient'));
  const least = Math.min(...evaluations.map(({ validation_loss }) => validation_loss));
  const best = evaluations.findIndex(({ validation_loss }) => validation_loss === least);
  expect(evaluations).toHaveLength(best + 1 + flags.patience);
  const step = evaluations[best]?.step ?? 0;
  expect(stdout).toMatch(
    new RegExp(`^stopped early: ${steps.length} steps in .*, held-out perplexity [\\d.]+ at step ${step}\n`),
  );

  const checkpoint = decodeSafetensors(await readFile(path.join(runOf('patient'), 'checkpoint.safetensors')), 'checkpoint');
  const [bestBytes, lastBytes] = ['best', 'values'].map((name) => Buffer.from(checkpoint.tensors.get(name)?.data ?? []));
  const tensors = await tensorsOf(path.join(folder, 'adapters', 'patient'));
  expect([...tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0)).toBe(bestBytes?.length);
  for (const [name, { buffer, byteOffset, byteLength }] of tensors) {
    const bytes = Buffer.from(buffer, byteOffset, byteLength);
    expect(bestBytes?.includes(bytes), name).toBe(true);
    if (name.startsWith('text')) expect(lastBytes?.includes(bytes), name).toBe(false);
  }
  const manifest = JSON.parse(await readFile(path.join(folder, 'adapters', 'patient', 'adapter.json'), 'utf8')) as object;
  expect(manifest).toMatchObject({ metrics: { best_step: step, validation_perplexity: Math.exp(least) } });
});

/** Every tensor of an adapter's folder, by file and name. */
async function tensorsOf(adapter: string): Promise<Map<string, Float32Array>> {
  const tensors = new Map<string, Float32Array>();
  for (const file of (await readTree(adapter)).keys()) {
    if (!file.endsWith('.safetensors')) continue;
    for (const [name, { data }] of decodeSafetensors(await readFile(path.join(adapter, file)), file).tensors)
      tensors.set(`${file} ${name}`, new Float32Array(new Uint8Array(data).buffer));
  }
  return tensors;
}
