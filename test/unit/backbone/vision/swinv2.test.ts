/** Swin Transformer V2 against transformers (fixtures/backbone/swinv2/make.py): features, gradients, and what is refused. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readVisionModel } from '../../../../src/backbone/vision/families.js';
import type { AppError } from '../../../../src/errors.js';
import { decodeSafetensors, writeSafetensors } from '../../../../src/tensor/safetensors.js';
import { type FeatureGradients, featureCases, featureGradients } from '../../../support/families/cases.js';
import { featureGradientError, featuresError, modelOf } from '../../../support/families/measure.js';
import { encode, furthest, wave } from '../../../support/vision.js';

const FIXTURES = fileURLToPath(new URL('../../../fixtures/backbone/swinv2/', import.meta.url));
/** Of features that are about 1 large, and of gradients relative to the largest of their tensor. */
const TOLERANCE = 5e-5;

const cases = featureCases('swinv2');
let scratch: string;

beforeAll(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'graft-swinv2-'));
});

afterAll(() => rm(scratch, { recursive: true }));

describe.each(cases.map((one) => [one.name, one] as const))('%s', (_, one) => {
  it('gives the last hidden state of transformers', async () => {
    expect(await featuresError(one)).toBeLessThan(TOLERANCE);
  });

  it('keeps the images of a batch apart', async () => {
    const model = await modelOf(one);
    const [height, width] = one.run.size ?? model.imageSize;
    const image = wave(1, 3, height, width);
    const other = image.map((value, index) => (index % 5 === 0 ? -value : value));
    const features = await encode(one.folder, model, new Float32Array([...other, ...image]), [2, 3, height, width]);
    const tokens = one.features;
    expect(furthest(features.subarray(tokens.length), tokens)).toBeLessThan(TOLERANCE);
    expect(furthest(features.subarray(0, tokens.length), tokens)).toBeGreaterThan(0.1);
  });

  it('knows its tokens and their size from the configuration', async () => {
    const model = await modelOf(one);
    expect([model.imageTokens(...(one.run.size ?? model.imageSize)), model.imageDim]).toEqual(one.shape);
    expect(model.family).toBe('swinv2');
  });
});

it.each([1, 'images'] as const)('has the gradients of PyTorch, of every tensor: a batch of %s', async (images) => {
  const [one] = featureGradients().filter(({ type }) => type === 'swinv2') as [FeatureGradients];
  expect(one.gradients.size).toBe(66);
  expect(await featureGradientError(one, images)).toBeLessThan(TOLERANCE);
});

describe('refusals', () => {
  async function faultsOf(config: object): Promise<string[]> {
    await writeFile(path.join(scratch, 'config.json'), JSON.stringify({ model_type: 'swinv2', ...config }));
    let error: unknown;
    try {
      await readVisionModel(scratch);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({ code: 'invalid_file' });
    return [...((error as AppError).faults ?? [])].sort();
  }

  it('windows whose pairs of tokens no memory holds, before any is made', async () => {
    expect(await faultsOf({ image_size: 1024, patch_size: 4, window_size: 64 })).toEqual([
      'window_size: Expected windows of at most 33554432 pairs of tokens in all but received 268435456',
    ]);
  });

  it('every setting that it does not implement, at once', async () => {
    const config = {
      depths: [2, 0],
      embed_dim: 0.5,
      hidden_act: 'tanh',
      image_size: [8, 8, 8],
      layer_norm_eps: 0,
      mlp_ratio: '4',
      num_channels: 1,
      num_heads: 3,
      patch_size: 0,
      pretrained_window_sizes: [0, 1],
      qkv_bias: 1,
      use_absolute_embeddings: true,
      window_size: 65,
    };
    const edges = 'Expected a number or [height, width], each from 1 to 4096, but received';
    const acts = ['gelu', 'gelu_new', 'gelu_fast', 'gelu_pytorch_tanh', 'quick_gelu', 'relu', 'silu'];
    expect(await faultsOf(config)).toEqual([
      'depths.1: Expected more than 0 but received 0',
      'embed_dim: Expected int but received 0.5',
      `hidden_act: Expected ${acts.map((act) => JSON.stringify(act)).join(' or ')} but received "tanh"`,
      `image_size: ${edges} [8,8,8]`,
      'layer_norm_eps: Expected more than 0 but received 0',
      'mlp_ratio: Expected number but received "4"',
      'num_channels: Expected 3 but received 1',
      'num_heads: Expected array but received 3',
      `patch_size: ${edges} 0`,
      'pretrained_window_sizes.1: Expected 0 or at least 2 but received 1',
      'qkv_bias: Expected boolean but received 1',
      'use_absolute_embeddings: Expected false but received true',
      'window_size: Expected at most 64 but received 65',
    ]);
  });

  it('settings that do not go together', async () => {
    const config = { embed_dim: 6, depths: [1, 1, 2], num_heads: [4, 5], pretrained_window_sizes: [], image_size: [15, 99] };
    expect(await faultsOf(config)).toEqual([
      'image_size: Expected at least 4 patches down for 3 stages but received 3',
      'num_heads.0: Expected a divisor of embed_dim 6 · 1 but received 4',
      'num_heads.1: Expected a divisor of embed_dim 6 · 2 but received 5',
      'num_heads: Expected a number for each of 3 stages but received 2',
      'pretrained_window_sizes: Expected a number for each of 3 stages but received 0',
    ]);
  });

  it('a checkpoint whose tensors are missing or misshapen, all in one error', async () => {
    const folder = await mkdtemp(path.join(scratch, 'altered-'));
    const { tensors } = decodeSafetensors(await readFile(`${FIXTURES}odd/model.safetensors`), 'odd');
    tensors.delete('swinv2.embeddings.norm.weight');
    tensors.delete('swinv2.encoder.layers.0.blocks.1.attention.self.logit_scale');
    tensors.set('swinv2.encoder.layers.0.downsample.reduction.weight', {
      dtype: 'float32',
      shape: [3],
      data: new Uint8Array(12),
    });
    tensors.set('swinv2.layernorm.bias', { dtype: 'int32', shape: [16], data: new Uint8Array(64) });
    await writeSafetensors(path.join(folder, 'model.safetensors'), tensors);
    await expect(
      encode(folder, await readVisionModel(`${FIXTURES}odd`), wave(1, 3, 18, 27), [1, 3, 18, 27]),
    ).rejects.toMatchObject({
      code: 'invalid_file',
      faults: [
        'Expected a tensor swinv2.embeddings.norm.weight of [8] but the checkpoint has none',
        'Expected a tensor swinv2.encoder.layers.0.blocks.1.attention.self.logit_scale of [1, 1, 1] but the checkpoint has none',
        'Expected swinv2.encoder.layers.0.downsample.reduction.weight to be [16, 32] but received [3]',
        'Expected swinv2.layernorm.bias to be float32, float16 or bfloat16 but received int32',
      ],
    });
  });
});
