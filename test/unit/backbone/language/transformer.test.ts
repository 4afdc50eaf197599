/**
 * What gpt2 and opt add to a backbone, beyond logits and gradients (decoder.test.ts, full.test.ts): learned positions of images' tokens, adapters
 * of weights that lie [in, out], written, merged and read as PEFT does it, and checkpoints that were saved without a head.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadedAdapter } from '../../../../src/adapter/adapter.js';
import { readAdapter } from '../../../../src/adapter/format.js';
import { mergeAdapter } from '../../../../src/adapter/merge.js';
import { planParameters, resolvePlan } from '../../../../src/adapter/plan.js';
import { type BackboneDescription, describeBackbone, openWeights } from '../../../../src/backbone/backbone.js';
import { copyCheckpointFiles } from '../../../../src/backbone/copy.js';
import { readBackbone } from '../../../../src/backbone/manifest.js';
import { Decoder, type PrefillRow } from '../../../../src/engine/decoder.js';
import { fromFloat32, toFloat32 } from '../../../../src/tensor/convert.js';
import { decodeSafetensors, writeSafetensors } from '../../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../../src/tensor/tensor.js';
import { adapterShapes, parameterName } from '../../../../src/training/adapt.js';
import { assemble, featureFeed } from '../../../../src/training/batch.js';
import { TrainedModel } from '../../../../src/training/model.js';
import { Parameters } from '../../../../src/training/parameters.js';
import { PROJECTOR } from '../../../../src/training/program.js';
import { publishAdapter } from '../../../../src/training/publish.js';
import { Sequences } from '../../../../src/training/sequence.js';
import { randomAdapter } from '../../../support/adapter.js';

const FIXTURES = fileURLToPath(new URL('../../../fixtures/backbone/decoders/', import.meta.url));
const FAMILIES = ['gpt2', 'opt'] as const;
const CASES = FAMILIES.flatMap((family) => [[family, 'lora'] as const, [family, 'ia3'] as const]);

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'graft-transformer-'));
});
afterAll(() => rm(root, { recursive: true }));

async function read(path: string): Promise<ReadonlyMap<string, Tensor>> {
  return decodeSafetensors(await readFile(path), path).tensors;
}

const readFixture = (name: string) => read(join(FIXTURES, name));
const open = async (folder: string): Promise<BackboneDescription> => describeBackbone(await readBackbone(folder));

/** The numbers of a tensor of integers. */
function integers({ dtype, data }: Tensor): number[] {
  const { buffer } = new Uint8Array(data);
  return dtype === 'int64' ? Array.from(new BigInt64Array(buffer), Number) : [...new Int32Array(buffer)];
}

/** NaN where a length or a number is wrong, which no bound admits. */
function furthest(a: Float32Array, b: Float32Array): number {
  return a.length === b.length ? Math.max(...a.map((value, index) => Math.abs(value - (b[index] as number)))) : Number.NaN;
}

async function score(backbone: BackboneDescription, rows: readonly PrefillRow[]): Promise<Float32Array> {
  const decoder = await Decoder.open(backbone, { threads: 1, rows: rows.length, maxLength: 11 });
  try {
    return await decoder.score(rows);
  } finally {
    await decoder.close();
  }
}
const ROWS = [
  [3, 9, 4, 20, 11, 7],
  [5, 5, 17, 8, 22, 6],
];
const textOf = (rows: readonly (readonly number[])[], adapter: LoadedAdapter | null = null): PrefillRow[] =>
  rows.map((promptIds) => ({ adapter, promptIds, imageEmbeddings: null }));

/** A checkpoint of the fixtures in float32, in which a merged weight is not rounded to half precision. */
async function widened(name: string): Promise<BackboneDescription> {
  const folder = await mkdtemp(join(root, 'wide-'));
  await copyCheckpointFiles(join(FIXTURES, name), folder, 'float32');
  const tensors = await readFixture(`${name}/model.safetensors`);
  const wide = [...tensors].map(([key, each]) => [key, fromFloat32(toFloat32(each), each.shape, 'float32')] as const);
  await writeSafetensors(join(folder, 'model.safetensors'), new Map(wide));
  return open(folder);
}

describe.each(FAMILIES)('%s with an image', (family) => {
  let backbone: BackboneDescription;
  let around: number[];
  let image: Tensor;
  let shown: Float32Array;
  beforeAll(async () => {
    backbone = await open(join(FIXTURES, family));
    const expected = await readFixture(`expected/${family}.safetensors`);
    around = integers(expected.get('around') as Tensor);
    image = expected.get('image') as Tensor;
    shown = toFloat32(expected.get('shown') as Tensor);
  });

  it('gives its tokens positions, and the text behind them the next ones', async () => {
    const row = { adapter: null, promptIds: around, imageEmbeddings: toFloat32(image) };
    expect(furthest(await score(backbone, [row]), shown)).toBeLessThan(1e-4);
  });

  it('goes on from there, step by step', async () => {
    const { vocabSize } = backbone.language;
    const decoder = await Decoder.open(backbone, { threads: 1, rows: 2, maxLength: 11 });
    const images = image.shape[0] as number;
    const at = (token: number) => shown.subarray(token * vocabSize, (token + 1) * vocabSize);
    // The other row has no image, and fewer tokens.
    const other = { adapter: null, promptIds: [3], imageEmbeddings: null };
    const [started] = await decoder.prefill(0, [
      { adapter: null, promptIds: around.slice(0, 2), imageEmbeddings: toFloat32(image) },
      other,
    ]);
    expect(furthest(started as Float32Array, at(images + 1))).toBeLessThan(1e-4);
    for (let token = 2; token < around.length; token++) {
      const [next] = await decoder.decode([
        { adapter: null, tokenId: around[token] as number, length: images + token },
        { adapter: null, tokenId: 4, length: token - 1 },
      ]);
      expect(furthest(next as Float32Array, at(images + token))).toBeLessThan(1e-4);
    }
    await decoder.close();
  });

  it('has the losses in training that these logits mean', async () => {
    const { language, languageFolder, target } = backbone;
    const [tokens = 0, dim = 0] = image.shape;
    const plan = resolvePlan({ method: 'none' }, target);
    const { checkpoint, weights } = await openWeights(languageFolder, language);
    const recipe = { language, plan, image: { tokens, dim, dtype: 'float16' }, begin: 'checkpoint' } as const;
    const none = { dropout: 0, residualDropout: 0, recompute: false, maxTokens: 11 };
    const model = new TrainedModel({ ...recipe, ...none }, weights, { folder: languageFolder, threads: 1 });
    await checkpoint.close();
    // A projector that changes nothing.
    model.parameters.view(PROJECTOR.weight).set(Array.from({ length: dim * dim }, (_, at) => (at % (dim + 1) === 0 ? 1 : 0)));
    const batch = assemble({ language, image: { tokens, dim }, contexts: [] }, new Sequences([around], [0], 1), [0]);
    const bits = new Uint16Array(new Uint8Array(image.data).buffer);
    const losses = await model.score(batch, featureFeed(bits, { tokens, dim }));
    await model.close();
    const expected = Float32Array.from(around.slice(1), (id, index) => {
      const logits = shown.subarray((tokens + index) * language.vocabSize, (tokens + index + 1) * language.vocabSize);
      return Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)) - (logits[id] as number);
    });
    expect(furthest(losses, expected)).toBeLessThan(1e-4);
  });
});

describe.each(CASES)('%s with %s of PEFT', (family, method) => {
  const name = `${family}-${method}`;

  it('is written as PEFT writes it', async () => {
    const backbone = await open(join(FIXTURES, family));
    const saved = join(FIXTURES, 'adapters', name);
    const values = await read(join(saved, 'adapter_model.safetensors'));
    const lora = method === 'lora' ? { rank: 2, alpha: 3 } : {};
    const plan = resolvePlan({ method, contexts: ['text'], ...lora }, backbone.target);
    const parameters = new Parameters(adapterShapes(plan));
    for (const spec of planParameters(plan)) {
      const key = `base_model.model.${spec.module.name}.${spec.part}${method === 'lora' ? '.weight' : ''}`;
      parameters.view(parameterName(spec)).set(toFloat32(values.get(key) as Tensor));
    }
    const folder = join(root, name);
    await publishAdapter(folder, backbone, plan, parameters, parameters.values, { task: null });

    expect(new Map(await read(join(folder, 'text/adapter_model.safetensors')))).toEqual(new Map(values));
    const config = async (path: string) => JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
    const theirs = await config(join(saved, 'adapter_config.json'));
    const { base_model_name_or_path: _, ...ours } = await config(join(folder, 'text/adapter_config.json'));
    // What PEFT leaves out of a file is what it takes to be off.
    const { fan_in_fan_out: isTransposed = false, ...others } = ours;
    expect(isTransposed).toBe(family === 'gpt2');
    expect(theirs).toMatchObject({ ...others, fan_in_fan_out: isTransposed });
  });

  it('is refused where it says that weights lie the other way', async () => {
    const backbone = await open(join(FIXTURES, family));
    const other = FAMILIES.find((each) => each !== family) as string;
    const { target } = await open(join(FIXTURES, other));
    const layout = family === 'gpt2' ? 'out_in' : 'in_out';
    const turned = backbone.target.modules.map((module) => ({ ...module, layout }) as const);
    await expect(readAdapter(join(FIXTURES, 'adapters', name), { ...backbone.target, modules: turned })).rejects.toThrow(
      `Expected fan_in_fan_out to be ${family !== 'gpt2'}, because the weight of `,
    );
    await expect(readAdapter(join(FIXTURES, 'adapters', name), target)).rejects.toMatchObject({ code: 'adapter_invalid' });
  });

  it('gives the logits of PEFT where it is merged', async () => {
    const backbone = await widened(family);
    const expected = await readFixture(`adapted/${name}.safetensors`);
    const ids = expected.get('rows') as Tensor;
    const [count = 0, tokens = 0] = ids.shape;
    const rows = Array.from({ length: count }, (_, row) => integers(ids).slice(row * tokens, (row + 1) * tokens));
    const adapter = await readAdapter(join(FIXTURES, 'adapters', name), backbone.target);
    const out = join(await mkdtemp(join(root, 'out-')), 'merged');
    await mergeAdapter(adapter, 'text', backbone, out);
    const logits = toFloat32(expected.get('logits') as Tensor);
    expect(furthest(await score(await open(out), textOf(rows)), logits)).toBeLessThan(1e-4);
  });
});

describe.each(['gpt2-bare', 'opt-bare'])('%s, saved without a head', (name) => {
  it.each(['lora', 'bitfit', 'ia3'] as const)('is merged with %s under the names that it has', async (method) => {
    const backbone = await widened(name);
    const adapter = randomAdapter(backbone.target, { name: 'a', method, rank: 2, contexts: ['text'], seed: 7 });
    const out = join(await mkdtemp(join(root, 'out-')), 'merged');
    const { tensors } = await mergeAdapter(adapter, 'text', backbone, out);
    const before = await read(join(backbone.languageFolder, 'model.safetensors'));
    const after = await read(join(out, 'model.safetensors'));
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
    expect(tensors).toBe(before.size);
    const expected = await score(backbone, textOf(ROWS, adapter));
    expect(furthest(await score(await open(out), textOf(ROWS)), expected)).toBeLessThan(1e-4);
    expect(furthest(await score(backbone, textOf(ROWS)), expected)).toBeGreaterThan(0.1);
  });
});

describe.each(['gpt2', 'gpt2-bare', 'opt', 'opt-bare'])('BitFit of %s', (name) => {
  it('has the gradients of the biases that PyTorch trains', async () => {
    const { language, languageFolder, target } = await open(join(FIXTURES, name));
    const expected = await readFixture(`gradients/${name}.safetensors`);
    const ids = expected.get('rows') as Tensor;
    const [count = 0, tokens = 0] = ids.shape;
    const rows = Array.from({ length: count }, (_, row) =>
      integers(ids)
        .slice(row * tokens, (row + 1) * tokens)
        .filter((id) => id >= 0),
    );
    const plan = resolvePlan({ method: 'bitfit', contexts: ['all'] }, target);
    const { checkpoint, weights } = await openWeights(languageFolder, language);
    const none = { image: null, dropout: 0, residualDropout: 0, recompute: true, maxTokens: 11 };
    const recipe = { language, plan, begin: 'checkpoint', ...none } as const;
    const model = new TrainedModel(recipe, weights, { folder: languageFolder, threads: 1 });
    await checkpoint.close();
    const batch = assemble({ language, image: null, contexts: [] }, new Sequences(rows, [...rows.keys()], 2), [...rows.keys()]);
    const loss = await model.differentiate(batch, {}, batch.predicted);
    expect(loss).toBeCloseTo(toFloat32(expected.get('loss') as Tensor)[0] ?? Number.NaN, 5);
    for (const module of plan.modules) {
      const theirs = toFloat32(expected.get(`${module.name}.bias`) as Tensor);
      const ours = model.parameters.view(parameterName({ context: 'all', module, part: 'bias' }), model.gradients);
      // Where keys do not rotate, a bias of theirs moves all scores of a row alike: its gradient is what rounding leaves.
      const largest = Math.max(1e-3, ...theirs.map(Math.abs));
      expect(furthest(ours, theirs) / largest, module.name).toBeLessThan(1e-4);
    }
    await model.close();
  });
});
