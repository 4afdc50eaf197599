/** ViT, DeiT and DINOv2 against transformers (fixtures/backbone/vision-transformers/make.py): features, gradients, and what is refused. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readVisionModel } from '../../../../src/backbone/vision/families.js';
import type { VisionModel } from '../../../../src/backbone/vision/model.js';
import type { AppError } from '../../../../src/errors.js';
import { decodeSafetensors, writeSafetensors } from '../../../../src/tensor/safetensors.js';
import type { Tensor } from '../../../../src/tensor/tensor.js';
import { type FeatureCase, type FeatureGradients, featureCases, featureGradients } from '../../../support/families/cases.js';
import { featureGradientError, featuresError, modelOf } from '../../../support/families/measure.js';
import { encode, furthest, wave } from '../../../support/vision.js';

const FIXTURES = fileURLToPath(new URL('../../../fixtures/backbone/vision-transformers/', import.meta.url));
/** Of features that are about 1 large. (PyTorch's own interpolation in float32 moves them by 8e-6 from what float64 gives.) */
const TOLERANCE = 2e-5;

const cases = featureCases('vision-transformers');
let scratch: string;

beforeAll(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'graft-vision-transformers-'));
});

afterAll(() => rm(scratch, { recursive: true }));

describe.each(cases.map((one) => [one.name, one] as const))('%s', (_, one) => {
  it('gives the last hidden state of transformers, patch by patch', async () => {
    expect(await featuresError(one)).toBeLessThan(TOLERANCE);
  });

  it('knows its tokens and their size from the configuration', async () => {
    const model = await modelOf(one);
    expect([model.imageTokens(...(one.run.size ?? model.imageSize)), model.imageDim]).toEqual(one.shape);
    expect(model.family).toBe(one.run.weights.split('-')[0]);
  });
});

it.each(['vit', 'deit', 'dinov2-larger'])('keeps the images of a batch apart: %s', async (name) => {
  const one = cases.find((each) => each.name === name) as FeatureCase;
  const model = await modelOf(one);
  const [height, width] = one.run.size ?? model.imageSize;
  const image = wave(1, 3, height, width);
  const other = image.map((value, index) => (index % 5 === 0 ? -value : value));
  const features = await encode(one.folder, model, new Float32Array([...other, ...image]), [2, 3, height, width]);
  expect(furthest(features.subarray(one.features.length), one.features)).toBeLessThan(TOLERANCE);
  expect(furthest(features.subarray(0, one.features.length), one.features)).toBeGreaterThan(0.1);
});

it('has the gradients of PyTorch, of every kind of tensor after the patches', async () => {
  const [one] = featureGradients().filter(({ type }) => type === 'vit') as [FeatureGradients];
  expect(one.gradients.size).toBe(10);
  expect(await featureGradientError(one)).toBeLessThan(TOLERANCE);
});

describe('refusals', () => {
  async function read(config: object): Promise<VisionModel> {
    await writeFile(path.join(scratch, 'config.json'), JSON.stringify(config));
    return readVisionModel(scratch);
  }

  async function faultsOf(config: object): Promise<string[]> {
    let error: unknown;
    try {
      await read(config);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({ code: 'invalid_file' });
    return [...((error as AppError).faults ?? [])].sort();
  }

  it.each(['vit', 'deit', 'dinov2'])('every setting of %s that it does not implement, at once', async (model_type) => {
    const config = {
      hidden_act: 'tanh',
      image_size: [8, 8, 8],
      patch_size: 0,
      num_channels: 1,
      layer_norm_eps: '0',
      qkv_bias: 1,
    };
    const edges = 'Expected a number or [height, width], each from 1 to 4096, but received';
    const acts = ['gelu', 'gelu_new', 'gelu_fast', 'gelu_pytorch_tanh', 'quick_gelu', 'relu', 'silu'];
    expect(await faultsOf({ model_type, ...config })).toEqual([
      `hidden_act: Expected ${acts.map((act) => JSON.stringify(act)).join(' or ')} but received "tanh"`,
      `image_size: ${edges} [8,8,8]`,
      'layer_norm_eps: Expected number but received "0"',
      'num_channels: Expected 3 but received 1',
      `patch_size: ${edges} 0`,
      'qkv_bias: Expected boolean but received 1',
    ]);
  });

  it('settings that do not go together', async () => {
    const config = { model_type: 'vit', hidden_size: 16, num_attention_heads: 3, image_size: [40, 12], patch_size: [8, 16] };
    expect(await faultsOf(config)).toEqual([
      'image_size: Expected at least one patch of 8 × 16 but received 40 × 12',
      'num_attention_heads: Expected a divisor of hidden_size 16 but received 3',
    ]);
  });

  it('a map of positions of dinov2 that is not square', async () => {
    const config = { model_type: 'dinov2', image_size: [28, 14], patch_size: [14, 7] };
    expect(await faultsOf(config)).toEqual([
      'image_size: Expected equal height and width but received [28,14]',
      'patch_size: Expected equal height and width but received [14,7]',
    ]);
  });

  it('an image of another size, where transformers does not interpolate positions', async () => {
    for (const model_type of ['vit', 'deit']) {
      const model = await read({ model_type, image_size: [32, 48] });
      expect(model.imageTokens(32, 48)).toBe(6);
      expect(() => model.imageTokens(48, 32)).toThrow(
        expect.objectContaining({
          code: 'unsupported_model',
          message: `${scratch}/config.json: Expected images of image_size 32 × 48 but received 48 × 32: positions of ${model_type} are not interpolated`,
        }) as Error,
      );
    }
  });

  it('an image that is smaller than a patch', async () => {
    const model = await read({ model_type: 'dinov2' });
    expect(() => model.imageTokens(28, 13)).toThrow(/Expected images of at least one patch of 14 × 14 but received 28 × 13$/);
  });

  async function altered(weights: string, change: (tensors: Map<string, Tensor>) => void): Promise<string> {
    const folder = await mkdtemp(path.join(scratch, 'altered-'));
    const { tensors } = decodeSafetensors(await readFile(`${FIXTURES}${weights}/model.safetensors`), weights);
    change(tensors);
    await writeSafetensors(path.join(folder, 'model.safetensors'), tensors);
    await writeFile(path.join(folder, 'config.json'), await readFile(`${FIXTURES}${weights}/config.json`));
    return folder;
  }

  it('a checkpoint whose tensors are missing or misshapen, all in one error', async () => {
    const vector: Tensor = { dtype: 'float32', shape: [3], data: new Uint8Array(12) };
    const folder = await altered('vit', (tensors) => {
      tensors.delete('vit.embeddings.position_embeddings');
      tensors.delete('vit.encoder.layer.1.attention.attention.key.bias');
      tensors.set('vit.encoder.layer.0.output.dense.weight', vector);
      tensors.set('vit.layernorm.bias', { dtype: 'int32', shape: [16], data: new Uint8Array(64) });
    });
    await expect(encode(folder, await readVisionModel(folder), wave(1, 3, 12, 12), [1, 3, 12, 12])).rejects.toMatchObject({
      code: 'invalid_file',
      faults: [
        'Expected a tensor vit.embeddings.position_embeddings of [1, 10, 16] but the checkpoint has none',
        'Expected vit.encoder.layer.0.output.dense.weight to be [16, 24] but received [3]',
        'Expected a tensor vit.encoder.layer.1.attention.attention.key.bias of [16] but the checkpoint has none',
        'Expected vit.layernorm.bias to be float32, float16 or bfloat16 but received int32',
      ],
    });
  });

  it('a checkpoint of dinov2 without its scales, or of the other MLP', async () => {
    const folder = await altered('dinov2-gated', (tensors) => {
      tensors.delete('dinov2.encoder.layer.0.layer_scale2.lambda1');
      tensors.delete('dinov2.encoder.layer.0.mlp.weights_in.bias');
    });
    await expect(encode(folder, await readVisionModel(folder), wave(1, 3, 12, 12), [1, 3, 12, 12])).rejects.toMatchObject({
      faults: [
        'Expected a tensor dinov2.encoder.layer.0.mlp.weights_in.bias of [96] but the checkpoint has none',
        'Expected a tensor dinov2.encoder.layer.0.layer_scale2.lambda1 of [16] but the checkpoint has none',
      ],
    });
  });
});
