/** CLIP's and SigLIP's image towers against transformers and its LLaVA (fixtures/backbone/vision-towers/make.py), and what is refused. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openWeights } from '../../../../src/backbone/backbone.js';
import { readVisionModel } from '../../../../src/backbone/vision/families.js';
import type { FeatureChoice } from '../../../../src/backbone/vision/features.js';
import type { VisionModel } from '../../../../src/backbone/vision/model.js';
import type { AppError } from '../../../../src/errors.js';
import { Graph } from '../../../../src/onnx/graph.js';
import { toFloat32 } from '../../../../src/tensor/convert.js';
import { decodeSafetensors, writeSafetensors } from '../../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../../src/tensor/tensor.js';
import { type FeatureCase, featureCases } from '../../../support/families/cases.js';
import { featuresError } from '../../../support/families/measure.js';
import { encode, furthest, wave } from '../../../support/vision.js';

const FIXTURES = fileURLToPath(new URL('../../../fixtures/backbone/vision-towers/', import.meta.url));
/** Of features that are up to 10 large. */
const TOLERANCE = 2e-5;
const EDGE = 14;
const PIXELS = [1, 3, EDGE, EDGE] as const;

interface Case {
  readonly weights: string;
  readonly act: string | null;
  readonly layer: number | 'last_hidden_state' | null;
  readonly select: 'default' | 'full' | null;
}

const cases = JSON.parse(await readFile(`${FIXTURES}cases.json`, 'utf8')) as Record<string, Case>;
let scratch: string;
let expected: ReadonlyMap<string, Tensor>;

beforeAll(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'graft-vision-towers-'));
  expected = decodeSafetensors(await readFile(`${FIXTURES}expected.safetensors`), 'expected').tensors;
});

afterAll(() => rm(scratch, { recursive: true }));

const configOf = async (weights: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(`${FIXTURES}${weights}/config.json`, 'utf8')) as Record<string, unknown>;

async function read(config: object, choice?: Omit<FeatureChoice, 'file'>): Promise<VisionModel> {
  await writeFile(path.join(scratch, 'config.json'), JSON.stringify(config));
  return readVisionModel(scratch, choice && { file: 'backbone.json', ...choice });
}

async function modelOf({ weights, act, layer, select }: Case): Promise<VisionModel> {
  const config = await configOf(weights);
  return read({ ...config, ...(act === null ? {} : { hidden_act: act }) }, choiceOf({ layer, select }));
}

const choiceOf = ({ layer, select }: Pick<Case, 'layer' | 'select'>) => ({
  ...(layer === null ? {} : { layer }),
  ...(select === null ? {} : { select }),
});

const caseOf = (name: string): FeatureCase => featureCases('vision-towers').find((one) => one.name === name) as FeatureCase;
const expectedOf = (name: string): Float32Array => toFloat32(expected.get(name) as Tensor);

async function refusal(run: Promise<unknown>): Promise<AppError> {
  return run.then(
    () => expect.fail('Expected a refusal'),
    (error: unknown) => error as AppError,
  );
}

describe.each(Object.entries(cases))('%s', (name, one) => {
  it('gives the features that LLaVA takes from transformers', async () => {
    expect(await featuresError(caseOf(name))).toBeLessThan(TOLERANCE);
  });

  it('knows its tokens and their size from the configuration', async () => {
    const model = await modelOf(one);
    expect([model.imageTokens(EDGE, EDGE), model.imageDim]).toEqual(expected.get(name)?.shape);
    expect(model.family).toBe(`${one.weights.split('-')[0]}_vision_model`);
  });
});

it('tells cases apart that are told apart: activations, layers, and the last norm', () => {
  for (const [one, other] of [
    ['clip', 'clip-gelu'],
    ['clip', 'clip -1 default'],
    ['siglip', 'siglip-gelu'],
    ['siglip', 'siglip -1 default'],
    ['siglip -1 default', 'siglip -2 default'],
  ] as const)
    expect(furthest(expectedOf(one), expectedOf(other)), other).toBeGreaterThan(10 * TOLERANCE);
});

it.each(['clip', 'siglip'])('keeps the images of a batch apart: %s', async (name) => {
  const one = wave(...PIXELS);
  const other = one.map((value, index) => (index % 5 === 0 ? -value : value));
  const both = new Float32Array([...other, ...one]);
  const features = await encode(`${FIXTURES}${name}`, await modelOf(cases[name] as Case), both, [2, 3, EDGE, EDGE]);
  const tokens = expectedOf(name);
  expect(furthest(features.subarray(tokens.length), tokens)).toBeLessThan(TOLERANCE);
  expect(furthest(features.subarray(0, tokens.length), tokens)).toBeGreaterThan(0.1);
});

describe('what is built', () => {
  async function tensorsOf(weights: string, choice: Omit<FeatureChoice, 'file'>): Promise<string[]> {
    const model = await read(await configOf(weights), choice);
    const opened = await openWeights(`${FIXTURES}${weights}`);
    const g = new Graph();
    await model.build(g, opened.weights, g.input('pixels', 'float32', PIXELS));
    await opened.checkpoint.close();
    return [...g.initializers.keys()];
  }

  it.each([
    ['clip-whole', { layer: 0 }, []],
    ['clip-whole', {}, ['0', '1']],
    ['clip-whole', { layer: -1 }, ['0', '1', '2']],
    ['siglip-whole', { layer: 1 }, ['0']],
    ['siglip-whole', {}, ['0', '1', '2']],
  ])('of %s with %j is no layer after the chosen one, no head and nothing of the text tower', async (weights, choice, layers) => {
    const names = await tensorsOf(weights, choice);
    const own = names.filter((name) => name.startsWith('vision_model.'));
    expect([...new Set(own.flatMap((name) => /layers\.(\d+)/.exec(name)?.[1] ?? []))]).toEqual(layers);
    expect(names.filter((name) => /text|head|projection|logit/.test(name))).toEqual([]);
    expect(names.some((name) => name.includes('post_layernorm'))).toBe(weights.startsWith('siglip') && layers.length === 3);
  });
});

it.each([
  ['clip', {}, undefined],
  ['clip', { layer: -2, select: 'default' }, undefined],
  ['clip', { layer: 2 }, undefined],
  ['clip', { layer: -1 }, 'layer 3, default'],
  ['clip', { layer: 'last_hidden_state' }, 'layer 3, default'],
  ['clip', { select: 'full' }, 'layer 2, full'],
  ['clip', { layer: 0 }, 'layer 0, default'],
  ['clip', { layer: -4 }, 'layer 0, default'],
  ['siglip', { layer: 'last_hidden_state' }, undefined],
  ['siglip', { layer: -1 }, 'layer 3, default'],
  ['siglip', { layer: 3 }, 'layer 3, default'],
] as const)('names the features of %s with %j as %s: the same for the same ones', async (weights, choice, label) => {
  expect((await read(await configOf(weights), choice)).features).toBe(label);
});

describe('configurations', () => {
  it('with nothing in them are those of the first models', async () => {
    const clip = await read({ model_type: 'clip', vision_config: {} });
    expect([clip.imageTokens(224, 224), clip.imageDim]).toEqual([49, 768]);
    const siglip = await read({ model_type: 'siglip_vision_model' });
    expect([siglip.imageTokens(224, 224), siglip.imageDim]).toEqual([196, 768]);
  });

  it('that describe the tower twice mean the second one, as transformers reads them', async () => {
    const twice = { model_type: 'clip', vision_config: { patch_size: 32 }, vision_config_dict: { patch_size: 14 } };
    expect((await read(twice)).imageTokens(224, 224)).toBe(256);
    expect((await read({ ...twice, vision_config_dict: null })).imageTokens(224, 224)).toBe(49);
  });
});

/** A fixture's checkpoint with other tensors. */
async function altered(weights: string, change: (tensors: Map<string, Tensor>) => Map<string, Tensor>): Promise<string> {
  const folder = await mkdtemp(path.join(scratch, 'altered-'));
  const { tensors } = decodeSafetensors(await readFile(`${FIXTURES}${weights}/model.safetensors`), weights);
  await writeSafetensors(path.join(folder, 'model.safetensors'), change(tensors));
  await writeFile(path.join(folder, 'config.json'), await readFile(`${FIXTURES}${weights}/config.json`));
  return folder;
}

it.each(['clip', 'siglip'])(
  'takes %s alone under the names that it has in a whole model, as older versions save it',
  async (name) => {
    const folder = await altered(name, (tensors) => new Map([...tensors].map(([key, value]) => [`vision_model.${key}`, value])));
    const features = await encode(folder, await readVisionModel(folder), wave(...PIXELS), PIXELS, 1);
    expect(furthest(features, expectedOf(name))).toBeLessThan(TOLERANCE);
  },
);

describe('refusals', () => {
  it.each([
    ['clip_vision_model', ''],
    ['siglip_vision_model', ''],
    ['clip', 'vision_config.'],
    ['siglip', 'vision_config.'],
  ])('every setting of %s that it does not implement, at once, by file and field', async (model_type, before) => {
    const tower = { hidden_act: 'tanh', image_size: [14, 28], patch_size: 0, num_channels: 1, layer_norm_eps: '0' };
    const error = await refusal(read(before === '' ? { model_type, ...tower } : { model_type, vision_config: tower }));
    const acts = ['gelu', 'gelu_new', 'gelu_fast', 'gelu_pytorch_tanh', 'quick_gelu', 'relu', 'silu'];
    expect(error).toMatchObject({ code: 'invalid_file', message: expect.stringContaining(`${scratch}/config.json: `) });
    expect([...(error.faults ?? [])].sort()).toEqual([
      `${before}hidden_act: Expected ${acts.map((act) => JSON.stringify(act)).join(' or ')} but received "tanh"`,
      `${before}image_size: Expected equal height and width but received [14,28]`,
      `${before}layer_norm_eps: Expected number but received "0"`,
      `${before}num_channels: Expected 3 but received 1`,
      `${before}patch_size: Expected a number or [height, width], each from 1 to 4096, but received 0`,
    ]);
  });

  it('a whole model that says nothing of its tower', async () => {
    const error = await refusal(read({ model_type: 'siglip', text_config: {} }));
    expect(error.message).toBe(`${scratch}/config.json: vision_config: Expected object but received nothing`);
  });

  it.each([4, -5])('layer %i of three, which have four states between them', async (layer) => {
    const error = await refusal(read(await configOf('clip'), { layer }));
    expect(error).toMatchObject({
      code: 'invalid_file',
      message: `backbone.json: vision_feature_layer: Expected "last_hidden_state" or a number from -4 to 3, the states of clip_vision_model, but received ${layer}`,
    });
  });

  it('the class token of SigLIP, with what else is wrong', async () => {
    const error = await refusal(read(await configOf('siglip-whole'), { layer: 9, select: 'full' }));
    expect(error.faults).toEqual([
      'vision_feature_layer: Expected "last_hidden_state" or a number from -4 to 3, the states of siglip_vision_model, but received 9',
      'vision_feature_select_strategy: Expected "default", because siglip_vision_model has no class token, but received "full"',
    ]);
  });

  it('a choice where a family has one kind of features', async () => {
    const error = await refusal(read({ model_type: 'vit' }, { layer: -1, select: 'full' }));
    expect(error.faults).toEqual([
      'vision_feature_layer: Expected none, because vit has one kind of features, but received -1',
      'vision_feature_select_strategy: Expected none, because vit has one kind of features, but received "full"',
    ]);
  });

  it('an image of another size: transformers does not interpolate positions unless told', async () => {
    for (const name of ['clip', 'siglip-whole']) {
      const model = await read(await configOf(name));
      expect(() => model.imageTokens(EDGE, EDGE + 4)).toThrow(
        /config.json: Expected images of image_size 14 × 14 but received 14 × 18: positions of (clip|siglip)_vision_model are not interpolated$/,
      );
    }
  });

  it('a checkpoint whose tensors are missing or misshapen, all in one error, but none that are not needed', async () => {
    const vector: Tensor = { dtype: 'float32', shape: [3], data: new Uint8Array(12) };
    const folder = await altered('clip-whole', (tensors) => {
      for (const name of tensors.keys()) if (name.includes('layers.2.')) tensors.delete(name);
      tensors.delete('vision_model.pre_layrnorm.bias');
      tensors.delete('vision_model.encoder.layers.1.self_attn.k_proj.bias');
      tensors.set('vision_model.embeddings.class_embedding', vector);
      return tensors;
    });
    const error = await refusal(encode(folder, await readVisionModel(folder), wave(...PIXELS), PIXELS));
    expect(error).toMatchObject({
      code: 'invalid_file',
      faults: [
        'Expected vision_model.embeddings.class_embedding to be [16] but received [3]',
        'Expected a tensor vision_model.pre_layrnorm.bias of [16] but the checkpoint has none',
        'Expected a tensor vision_model.encoder.layers.1.self_attn.k_proj.bias of [16] but the checkpoint has none',
      ],
    });
  });
});
