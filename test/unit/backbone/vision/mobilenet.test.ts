/** MobileNetV2 against transformers (test/fixtures/backbone/make.py), and what it refuses. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openWeights } from '../../../../src/backbone/backbone.js';
import { readVisionModel } from '../../../../src/backbone/vision/families.js';
import { readMobileNetV2 } from '../../../../src/backbone/vision/mobilenet.js';
import { AppError } from '../../../../src/errors.js';
import { Graph } from '../../../../src/onnx/graph.js';
import { float32, Session } from '../../../../src/runtime/session.js';
import { decodeSafetensors, writeSafetensors } from '../../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../../src/tensor/tensor.js';
import { type FeatureCase, featureCases } from '../../../support/families/cases.js';
import { featuresError, modelOf } from '../../../support/families/measure.js';
import { furthest, wave } from '../../../support/vision.js';

const FIXTURES = fileURLToPath(new URL('../../../fixtures/backbone/mobilenet/', import.meta.url));

const cases = featureCases('mobilenet');
let scratch: string;

beforeAll(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'graft-mobilenet-'));
});

afterAll(() => rm(scratch, { recursive: true }));

async function configOf(weights: string): Promise<object> {
  return JSON.parse(await readFile(`${FIXTURES}${weights}/config.json`, 'utf8')) as object;
}

/** Features [images, tokens, channels] of images of one size, [images, 3, height, width]. */
async function encode(folder: string, config: object, pixels: Float32Array, shape: readonly number[]): Promise<Float32Array> {
  const { checkpoint, weights } = await openWeights(folder);
  try {
    const g = new Graph();
    const input = g.input('pixels', 'float32', ['images', ...shape.slice(1)]);
    g.output('features', await readMobileNetV2(config, 'config').build(g, weights, input));
    const session = await Session.open(g.toModel(), { folder, threads: 1 });
    const { features } = await session.run({ pixels: float32(pixels, shape) }, { features: null });
    await session.close();
    return features?.data as Float32Array;
  } finally {
    await checkpoint.close();
  }
}

describe.each(cases.map((one) => [one.name, one] as const))('%s', (_, one) => {
  it('gives the feature map of transformers, cell by cell', async () => {
    expect(await featuresError(one)).toBeLessThan(1e-4);
  });

  it('knows its tokens and their size from the configuration', async () => {
    const model = await modelOf(one);
    expect([model.imageTokens(...(one.run.size ?? model.imageSize)), model.imageDim]).toEqual(one.shape);
  });
});

it('keeps the images of a batch apart', async () => {
  const one = cases.find(({ name }) => name === 'coarse') as FeatureCase;
  const [height, width] = one.run.size ?? [0, 0];
  const picture = wave(1, 3, height, width);
  const other = picture.map((value, index) => (index % 5 === 0 ? -value : value));
  const features = await encode(one.folder, await configOf('coarse'), new Float32Array([...other, ...picture]), [
    2,
    3,
    height,
    width,
  ]);
  const tokens = one.features;
  expect(furthest(features.subarray(tokens.length), tokens)).toBeLessThan(1e-4);
  expect(furthest(features.subarray(0, tokens.length), tokens)).toBeGreaterThan(0.1);
});

describe('refusals', () => {
  it('an unknown model_type by name', async () => {
    await writeFile(path.join(scratch, 'config.json'), JSON.stringify({ model_type: 'resnet' }));
    await expect(readVisionModel(scratch)).rejects.toMatchObject({
      code: 'unsupported_model',
      message: expect.stringContaining(
        'Expected a vision model_type of mobilenet_v2, vit, deit, dinov2, swinv2, clip_vision_model, clip, siglip_vision_model, siglip but received resnet',
      ) as string,
    });
  });

  it('every setting that it does not implement, at once', () => {
    const config = { model_type: 'mobilenet_v2', num_channels: 1, output_stride: 12, hidden_act: 'gelu', depth_multiplier: -1 };
    let error: unknown;
    try {
      readMobileNetV2(config, 'config.json');
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(AppError);
    const fields = new Set((error as AppError).faults?.map((fault) => fault.split(':')[0]));
    expect(fields).toEqual(new Set(['depth_multiplier', 'hidden_act', 'num_channels', 'output_stride']));
  });

  async function altered(change: (tensors: Map<string, Tensor>) => void): Promise<string> {
    const folder = await mkdtemp(path.join(scratch, 'altered-'));
    const { tensors } = decodeSafetensors(await readFile(`${FIXTURES}coarse/model.safetensors`), 'coarse');
    change(tensors);
    await writeSafetensors(path.join(folder, 'model.safetensors'), tensors);
    return folder;
  }

  it('a checkpoint whose tensors are missing or misshapen, all in one error', async () => {
    const folder = await altered((tensors) => {
      tensors.delete('mobilenet_v2.conv_stem.first_conv.normalization.running_var');
      tensors.delete('mobilenet_v2.layer.3.conv_3x3.convolution.weight');
      tensors.set('mobilenet_v2.conv_1x1.normalization.bias', { dtype: 'float32', shape: [3], data: new Uint8Array(12) });
    });
    const size = [32, 32] as const;
    await expect(encode(folder, await configOf('coarse'), wave(1, 3, ...size), [1, 3, ...size])).rejects.toMatchObject({
      code: 'invalid_file',
      faults: [
        'Expected a tensor mobilenet_v2.conv_stem.first_conv.normalization.running_var of [4] but the checkpoint has none',
        'Expected a tensor mobilenet_v2.layer.3.conv_3x3.convolution.weight of [8, 1, 3, 3] but the checkpoint has none',
        'Expected mobilenet_v2.conv_1x1.normalization.bias to be [128] but received [3]',
      ],
    });
  });

  it('a config that claims gigabytes, without asking for them', async () => {
    const config = { ...(await configOf('coarse')), depth_multiplier: 16, expand_ratio: 64 };
    await expect(encode(`${FIXTURES}coarse`, config, wave(1, 3, 32, 32), [1, 3, 32, 32])).rejects.toMatchObject({
      code: 'invalid_file',
      faults: expect.arrayContaining([
        'Expected mobilenet_v2.layer.5.conv_3x3.convolution.weight to be [32768, 1, 3, 3] but received [8, 1, 3, 3]',
        'and 160 more faults',
      ]) as string[],
    });
  });
});
