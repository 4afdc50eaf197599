/** The encoder as a Hugging Face folder: what it is before its first step, and with its weights. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fromFloat32 } from '../../../src/tensor/convert.js';
import { writeSafetensors } from '../../../src/tensor/safetensors.js';
import type { Parameters } from '../../../src/training/parameters.js';
import { isOfEncoder } from './network.js';

/** Pixels an edge. */
export const EDGE = 128;
/** Cells an edge: one a token. */
export const GRID = 8;

/** A ViT in miniature. Of the families that were tried it learned the most in a given time (bench/RESULTS.md). */
const CONFIG = {
  architectures: ['ViTModel'],
  model_type: 'vit',
  image_size: EDGE,
  num_channels: 3,
  patch_size: EDGE / GRID,
  hidden_size: 128,
  num_hidden_layers: 6,
  num_attention_heads: 4,
  intermediate_size: 512,
  hidden_act: 'gelu',
  qkv_bias: true,
  layer_norm_eps: 1e-6,
  torch_dtype: 'float16',
};

const PROCESSOR = {
  image_processor_type: 'ViTImageProcessor',
  do_resize: true,
  size: { height: EDGE, width: EDGE },
  resample: 2,
  do_rescale: true,
  rescale_factor: 1 / 255,
  do_normalize: true,
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.25, 0.25, 0.25],
};

const json = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;

/** Writes the folder without weights, which is enough to build its graph. */
export async function prepareEncoder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'config.json'), json(CONFIG));
  await writeFile(join(folder, 'preprocessor_config.json'), json(PROCESSOR));
}

/** Writes the weights, in half precision; what only answered the questions is left out. */
export async function writeEncoder(folder: string, parameters: Parameters): Promise<void> {
  const weights = parameters.shapes
    .filter(({ name }) => isOfEncoder(name))
    .map(({ name, shape }) => [name, fromFloat32(parameters.view(name), shape, 'float16')] as const);
  await writeSafetensors(join(folder, 'model.safetensors'), weights, [['format', 'pt']]);
}
