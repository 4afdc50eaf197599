/**
 * The families beside plain llama, against transformers and PEFT (test/fixtures/backbone/decoders/make.py): logits at once and step by step,
 * adapters that PEFT saved, and their gradients.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadedAdapter } from '../../../../src/adapter/adapter.js';
import { readAdapter } from '../../../../src/adapter/format.js';
import { resolvePlan } from '../../../../src/adapter/plan.js';
import { type BackboneDescription, describeBackbone, openWeights } from '../../../../src/backbone/backbone.js';
import { readBackbone } from '../../../../src/backbone/manifest.js';
import { Decoder } from '../../../../src/engine/decoder.js';
import { toFloat32 } from '../../../../src/tensor/convert.js';
import { decodeSafetensors } from '../../../../src/tensor/safetensors.js';
import { elements, type Tensor } from '../../../../src/tensor/tensor.js';
import { assemble } from '../../../../src/training/batch.js';
import { TrainedModel } from '../../../../src/training/model.js';
import { Sequences } from '../../../../src/training/sequence.js';

const FIXTURES = fileURLToPath(new URL('../../../fixtures/backbone/decoders/', import.meta.url));
/** The longest sequence of each: what its config.json says, or its window. Those of eleven tokens are filled to the last position. */
const CHECKPOINTS = [
  ['llama-linear', 64],
  ['llama-llama3', 64],
  ['mistral', 11],
  ['mistral-unbounded', 64],
  ['qwen2', 64],
  ['qwen2-window', 11],
  ['qwen3', 64],
  ['qwen3-biases', 64],
  ['phi3', 64],
  ['phi3-window', 11],
  ['gpt2', 32],
  ['gpt2-bare', 11],
  ['gpt2-untied', 32],
  ['opt', 32],
  ['opt-bare', 11],
  ['opt-plain', 32],
] as const;
/** Adapters of PEFT, and how many modules each adapts: all of both layers, or those that PEFT's IA3 scales. */
const ADAPTERS = [
  ['qwen2', 'lora', 14],
  ['qwen2', 'ia3', 6],
  ['qwen3', 'lora', 14],
  ['qwen3', 'ia3', 6],
  ['phi3', 'lora', 8],
  ['phi3', 'ia3', 4],
  ['gpt2', 'lora', 8],
  ['gpt2', 'ia3', 4],
  ['opt', 'lora', 12],
  ['opt', 'ia3', 6],
] as const;
/** Tokens of a row that are not predicted. */
const GIVEN = 2;
/** Tensors that are no weights, and those of weights that are no projections of a layer. */
const MASK = /\.attn\.bias$/;
const OTHER = /embed_|wte|wpe|norm|ln_|lm_head|decoder\.project_/;

async function read(name: string): Promise<ReadonlyMap<string, Tensor>> {
  return decodeSafetensors(await readFile(join(FIXTURES, name)), name).tensors;
}

/** Token ids as rows. */
function rowsOf({ dtype, shape: [rows = 0, tokens = 0], data }: Tensor): number[][] {
  const bytes = new Uint8Array(data).buffer;
  const flat = dtype === 'int64' ? Array.from(new BigInt64Array(bytes), Number) : [...new Int32Array(bytes)];
  return Array.from({ length: rows }, (_, row) => flat.slice(row * tokens, (row + 1) * tokens));
}

/** NaN where a length or a number is wrong, which no bound admits. */
function furthest(a: Float32Array, b: Float32Array): number {
  return a.length === b.length ? Math.max(...a.map((value, index) => Math.abs(value - (b[index] as number)))) : Number.NaN;
}

const open = async (name: string): Promise<BackboneDescription> => describeBackbone(await readBackbone(join(FIXTURES, name)));

async function openDecoder(backbone: BackboneDescription): Promise<Decoder> {
  return Decoder.open(backbone, { threads: 1, rows: 3, maxLength: Math.min(backbone.language.maxPositions, 16) });
}

const promptsOf = (rows: number[][], adapter: LoadedAdapter | null = null) =>
  rows.map((promptIds) => ({ adapter, promptIds, imageEmbeddings: null }));

describe.each(CHECKPOINTS)('%s', (name, maxPositions) => {
  let backbone: BackboneDescription;
  let decoder: Decoder;
  let ids: number[][];
  let logits: Float32Array;
  let frequencies: Float32Array | null;

  beforeAll(async () => {
    backbone = await open(name);
    decoder = await openDecoder(backbone);
    const expected = await read(`expected/${name}.safetensors`);
    ids = rowsOf(expected.get('ids') as Tensor);
    logits = toFloat32(expected.get('logits') as Tensor);
    const turning = expected.get('frequencies');
    frequencies = turning ? toFloat32(turning) : null;
  });

  afterAll(() => decoder.close());

  it('is described as it is', async () => {
    const { language } = backbone;
    expect(language.family).toBe(name.split('-')[0]);
    expect(language.maxPositions).toBe(maxPositions);
    if (frequencies === null) expect(language.rotary).toBeNull();
    else expect(furthest(Float32Array.from(language.rotary?.inverseFrequencies ?? []), frequencies)).toBeLessThan(1e-7);
    const stored = [...(await read(`${name}/model.safetensors`))].filter(([tensor]) => !MASK.test(tensor));
    expect(language.parameterCount).toBe(stored.reduce((sum, [, { shape }]) => sum + elements(shape), 0));
    const declared = language.modules.flatMap((each) => [`${each.name}.weight`, ...(each.bias ? [`${each.name}.bias`] : [])]);
    const { prefix } = language;
    const projections = stored.map(([tensor]) => tensor).filter((tensor) => !OTHER.test(tensor));
    expect(declared.sort()).toEqual(projections.map((tensor) => (name.endsWith('-bare') ? `${prefix}${tensor}` : tensor)).sort());
  });

  it('gives the logits of transformers at every position', async () => {
    expect(furthest(await decoder.score(promptsOf(ids)), logits)).toBeLessThan(1e-4);
  });

  it('gives them step by step from its cache, for rows of different lengths', async () => {
    const tokens = ids[0]?.length ?? 0;
    const vocabulary = logits.length / (ids.length * tokens);
    const at = (row: number, token: number): Float32Array =>
      logits.subarray((row * tokens + token) * vocabulary, (row * tokens + token + 1) * vocabulary);
    const check = (found: readonly Float32Array[], step: number): void => {
      expect(found).toHaveLength(ids.length);
      for (const [row, each] of found.entries()) expect(furthest(each, at(row, row + step))).toBeLessThan(1e-4);
    };
    // Row r starts with r + 1 tokens, so that every step works on three lengths at once.
    const starts = ids.map((row, index) => row.slice(0, index + 1));
    check(await decoder.prefill(0, promptsOf(starts)), 0);
    for (let step = 1; step + ids.length <= tokens; step++) {
      const next = ids.map((row, index) => ({ adapter: null, tokenId: row[index + step] as number, length: index + step }));
      check(await decoder.decode(next), step);
    }
  });
});

describe.each(ADAPTERS)('%s with %s of PEFT', (name, method, modules) => {
  const adapter = `adapters/${name}-${method}`;
  let backbone: BackboneDescription;
  let expected: ReadonlyMap<string, Tensor>;
  let rows: number[][];

  beforeAll(async () => {
    backbone = await open(name);
    expected = await read(`adapted/${name}-${method}.safetensors`);
    rows = rowsOf(expected.get('rows') as Tensor);
  });

  it('gives the logits that PEFT gives', async () => {
    const decoder = await openDecoder(backbone);
    const loaded = await readAdapter(join(FIXTURES, adapter), backbone.target);
    expect(loaded).toMatchObject({ matched: modules, targeted: modules });
    const logits = toFloat32(expected.get('logits') as Tensor);
    expect(furthest(await decoder.score(promptsOf(rows, loaded)), logits)).toBeLessThan(1e-4);
    expect(furthest(await decoder.score(promptsOf(rows)), logits)).toBeGreaterThan(0.5);
    await decoder.close();
  });

  it.each([false, true])('has the loss and the gradients of PyTorch, recomputing %s', async (recompute) => {
    const { language, languageFolder } = backbone;
    const lora = method === 'lora' ? { rank: 2, alpha: 3 } : {};
    const plan = resolvePlan({ method, contexts: ['all'], ...lora }, backbone.target);
    const { checkpoint, weights } = await openWeights(languageFolder, language);
    const fixed = { image: null, begin: 'checkpoint', dropout: 0, residualDropout: 0, maxTokens: 16 } as const;
    const model = new TrainedModel({ language, plan, recompute, ...fixed }, weights, { folder: languageFolder, threads: 1 });
    await checkpoint.close();
    const values = await read(`${adapter}/adapter_model.safetensors`);
    expect(model.parameters.shapes).toHaveLength(values.size);
    // `base_model.model.model.layers.0.mlp.up_proj.lora_A.weight` is `all/model.layers.0.mlp.up_proj.lora_A`.
    const parameterOf = (key: string): string => `all/${key.replace(/^base_model\.model\./, '').replace(/\.weight$/, '')}`;
    for (const [key, tensor] of values) model.parameters.view(parameterOf(key)).set(toFloat32(tensor));

    const sequences = new Sequences(rows, [...rows.keys()], GIVEN);
    const batch = assemble({ language, image: null, contexts: [] }, sequences, [...rows.keys()]);
    const loss = await model.differentiate(batch, {}, batch.predicted);
    expect(loss).toBeCloseTo(toFloat32(expected.get('loss') as Tensor)[0] ?? Number.NaN, 5);
    for (const key of values.keys()) {
      const theirs = toFloat32(expected.get(key) as Tensor);
      const largest = Math.max(...theirs.map(Math.abs));
      expect(largest, key).toBeGreaterThan(0);
      const ours = model.parameters.view(parameterOf(key), model.gradients);
      expect(furthest(ours, theirs) / largest, key).toBeLessThan(1e-4);
    }
    await model.close();
  });
});
