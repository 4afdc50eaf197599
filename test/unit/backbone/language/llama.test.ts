/** What the llama family says of itself, and what it refuses; that it computes what transformers does is in decoder.test.ts. */
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeBackbone } from '../../../../src/backbone/backbone.js';
import { readLanguageModel } from '../../../../src/backbone/language/families.js';
import { readLlama } from '../../../../src/backbone/language/llama.js';
import { readBackbone } from '../../../../src/backbone/manifest.js';
import { Decoder } from '../../../../src/engine/decoder.js';
import { AppError } from '../../../../src/errors.js';
import { decodeSafetensors, writeSafetensors } from '../../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../../src/tensor/tensor.js';
import { languageCases } from '../../../support/families/cases.js';

const FIXTURES = fileURLToPath(new URL('../../../fixtures/backbone/llama/', import.meta.url));

let scratch: string;

beforeAll(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'graft-llama-'));
});

afterAll(() => rm(scratch, { recursive: true }));

async function openDecoder(folder: string): Promise<Decoder> {
  return Decoder.open(await describeBackbone(await readBackbone(folder)), { threads: 1, rows: 3, maxLength: 16 });
}

async function faultsOf(run: () => unknown): Promise<readonly string[]> {
  const error: unknown = await Promise.resolve()
    .then(run)
    .then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
  expect(error).toBeInstanceOf(AppError);
  return (error as AppError).faults ?? [(error as AppError).message];
}

it('the sharded fixture really has shards, and is the same as one file', async () => {
  const names = (await readdir(`${FIXTURES}sharded`)).filter((name) => name.endsWith('.safetensors'));
  expect(names.length).toBeGreaterThan(2);
  const folder = await mkdtemp(path.join(scratch, 'whole-'));
  const tensors = new Map<string, Tensor>();
  for (const name of names) {
    const shard = decodeSafetensors(await readFile(`${FIXTURES}sharded/${name}`), name);
    for (const [tensor, value] of shard.tensors) tensors.set(tensor, value);
  }
  await writeSafetensors(path.join(folder, 'model.safetensors'), tensors);
  await copyFile(`${FIXTURES}sharded/config.json`, path.join(folder, 'config.json'));

  const { ids } = languageCases().find(({ folder: place }) => place.endsWith('/sharded')) ?? { ids: [] };
  expect(ids.length).toBeGreaterThan(1);
  const rows = ids.map((promptIds) => ({ adapter: null, promptIds, imageEmbeddings: null }));
  const [whole, sharded] = await Promise.all([openDecoder(folder), openDecoder(`${FIXTURES}sharded`)]);
  expect(await whole.score(rows)).toEqual(await sharded.score(rows));
  await Promise.all([whole.close(), sharded.close()]);
});

describe('description', () => {
  it('comes from config.json alone, modules by their checkpoint names', async () => {
    const folder = await mkdtemp(path.join(scratch, 'config-'));
    await copyFile(`${FIXTURES}heads/config.json`, path.join(folder, 'config.json'));
    const language = await readLanguageModel(folder);
    expect(language).toMatchObject({ hiddenSize: 24, layerCount: 1, heads: 3, kvHeads: 1, headDim: 24, vocabSize: 24 });
    expect(language).toMatchObject({ maxPositions: 64, tiedNames: null });
    expect(language.rotary?.inverseFrequencies).toHaveLength(12);
    expect(language.rotary?.inverseFrequencies[1]).toBeCloseTo(500_000 ** (-2 / 24), 12);
    const shapes = language.modules.map(({ name, inFeatures, outFeatures }) => [name, inFeatures, outFeatures]);
    expect(shapes).toEqual([
      ['model.layers.0.self_attn.q_proj', 24, 72],
      ['model.layers.0.self_attn.k_proj', 24, 24],
      ['model.layers.0.self_attn.v_proj', 24, 24],
      ['model.layers.0.self_attn.o_proj', 72, 24],
      ['model.layers.0.mlp.gate_proj', 24, 20],
      ['model.layers.0.mlp.up_proj', 24, 20],
      ['model.layers.0.mlp.down_proj', 20, 24],
    ]);
  });

  it('names exactly the weights of the checkpoint', async () => {
    for (const variant of ['plain', 'biases', 'heads']) {
      const language = await readLanguageModel(`${FIXTURES}${variant}`);
      const file = await readFile(`${FIXTURES}${variant}/model.safetensors`);
      const { tensors } = decodeSafetensors(file, variant);
      const linear = [...tensors.keys()].filter((name) => name.includes('_proj.'));
      const declared = language.modules.flatMap(({ name, bias }) => [`${name}.weight`, ...(bias ? [`${name}.bias`] : [])]);
      expect(declared.toSorted()).toEqual(linear.toSorted());
    }
  });

  it('takes the older spelling of the rotary settings, and the defaults of transformers', () => {
    const config = { model_type: 'llama', hidden_size: 64, intermediate_size: 8, num_hidden_layers: 1 };
    const sizes = { num_attention_heads: 4, vocab_size: 10, rope_scaling: null };
    const second = (rest: object): number | undefined =>
      readLlama({ ...config, ...sizes, ...rest }, 'config').rotary?.inverseFrequencies[1];
    expect(second({})).toBeCloseTo(10_000 ** (-2 / 16), 12);
    expect(second({ rope_theta: 1000 })).toBeCloseTo(1000 ** (-2 / 16), 12);
    expect(readLlama({ ...config, ...sizes }, 'config')).toMatchObject({ kvHeads: 4, headDim: 16, maxPositions: 2048 });
  });
});

describe('refusals', () => {
  const good = {
    model_type: 'llama',
    hidden_size: 32,
    intermediate_size: 20,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    vocab_size: 24,
  };

  it('an unknown model_type by name', async () => {
    const folder = await mkdtemp(path.join(scratch, 'type-'));
    await writeFile(path.join(folder, 'config.json'), JSON.stringify({ ...good, model_type: 'mamba' }));
    await expect(readLanguageModel(folder)).rejects.toMatchObject({
      code: 'unsupported_model',
      message: expect.stringContaining(
        'Expected a language model_type of gpt2, llama, mistral, opt, phi3, qwen2, qwen3 but received mamba',
      ) as string,
    });
    await writeFile(path.join(folder, 'config.json'), 'null');
    await expect(readLanguageModel(folder)).rejects.toMatchObject({ code: 'unsupported_model' });
  });

  it.each([
    ['rope_scaling.factor', { rope_scaling: { type: 'linear', factor: 0 } }],
    ['rope_parameters.rope_type', { rope_parameters: { rope_type: 'yarn', rope_theta: 1e4, factor: 8 } }],
    ['hidden_act', { hidden_act: 'gelu' }],
    ['num_attention_heads', { hidden_size: 40, num_attention_heads: 3 }],
    ['num_key_value_heads', { num_attention_heads: 4, num_key_value_heads: 3 }],
    ['head_dim', { head_dim: 15 }],
    ['vocab_size', { vocab_size: 2 ** 40 }],
    ['hidden_size', { hidden_size: 2 ** 40 }],
    ['num_hidden_layers', { num_hidden_layers: 1e9 }],
    ['rms_norm_eps', { rms_norm_eps: 0 }],
  ])('%s that is not implemented or makes no sense', async (field, change) => {
    const faults = await faultsOf(() => readLlama({ ...good, ...change }, 'config.json'));
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatch(new RegExp(`^${field}: `));
  });

  it('everything that is missing or wrong, at once', async () => {
    const faults = await faultsOf(() =>
      readLlama({ model_type: 'llama', hidden_size: -1, num_attention_heads: 2, hidden_act: 'gelu', rope_scaling: 2 }, 'config'),
    );
    const fields = new Set(faults.map((fault) => fault.split(':')[0]));
    expect(fields).toEqual(
      new Set(['hidden_act', 'hidden_size', 'intermediate_size', 'num_hidden_layers', 'rope_scaling', 'vocab_size']),
    );
  });

  it('attention heads that the runtime cannot do', async () => {
    await expect(openDecoder(await altered(() => {}, { head_dim: 12 }))).rejects.toThrow(/heads of a multiple of 8 dimensions/);
  });

  async function altered(change: (tensors: Map<string, Tensor>) => void, config: object = {}): Promise<string> {
    const folder = await mkdtemp(path.join(scratch, 'altered-'));
    const { tensors } = decodeSafetensors(await readFile(`${FIXTURES}biases/model.safetensors`), 'biases');
    change(tensors);
    await writeSafetensors(path.join(folder, 'model.safetensors'), tensors);
    const original = JSON.parse(await readFile(`${FIXTURES}biases/config.json`, 'utf8')) as object;
    await writeFile(path.join(folder, 'config.json'), JSON.stringify({ ...original, ...config }));
    return folder;
  }

  it('a checkpoint whose tensors are missing, misshapen or of a strange type, all in one error', async () => {
    const folder = await altered((tensors) => {
      tensors.delete('model.norm.weight');
      tensors.delete('model.layers.0.mlp.up_proj.bias');
      tensors.set('model.layers.0.self_attn.k_proj.weight', { dtype: 'float32', shape: [32, 16], data: new Uint8Array(2048) });
      tensors.set('model.layers.0.input_layernorm.weight', { dtype: 'int32', shape: [32], data: new Uint8Array(128) });
    });
    const faults = await faultsOf(() => openDecoder(folder));
    expect(faults.toSorted()).toEqual(
      [
        'Expected a tensor model.norm.weight of [32] but the checkpoint has none',
        'Expected a tensor model.layers.0.mlp.up_proj.bias of [20] but the checkpoint has none',
        'Expected model.layers.0.self_attn.k_proj.weight to be [16, 32] but received [32, 16]',
        'Expected model.layers.0.input_layernorm.weight to be float32, float16 or bfloat16 but received int32',
      ].toSorted(),
    );
  });

  it('no checkpoint that was saved without a head, where that is tied', async () => {
    const folder = await altered(
      (tensors) => {
        for (const [name, value] of Array.from(tensors)) {
          tensors.delete(name);
          tensors.set(name.replace(/^model\./, ''), value);
        }
      },
      { tie_word_embeddings: true },
    );
    const ids = languageCases().find(({ name }) => name === 'biases')?.ids ?? [];
    const rows = ids.map((promptIds) => ({ adapter: null, promptIds, imageEmbeddings: null }));
    const [bare, whole] = await Promise.all([openDecoder(folder), openDecoder(`${FIXTURES}biases`)]);
    expect(await bare.score(rows)).toEqual(await whole.score(rows));
    await Promise.all([bare.close(), whole.close()]);
  });

  it('a head that is neither there nor tied', async () => {
    const faults = await faultsOf(async () => openDecoder(await altered(() => {}, { tie_word_embeddings: false })));
    expect(faults).toEqual(['Expected a tensor lm_head.weight of [24, 32] but the checkpoint has none']);
  });

  it('a config that claims terabytes, without asking for them', async () => {
    const sizes = { hidden_size: 2 ** 20, intermediate_size: 2 ** 22, vocab_size: 2 ** 22, head_dim: 16 };
    const faults = await faultsOf(async () => openDecoder(await altered(() => {}, sizes)));
    expect(faults).toContain('Expected model.layers.0.mlp.up_proj.weight to be [4194304, 1048576] but received [20, 32]');
  });
});
