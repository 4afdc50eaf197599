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

/** A SwinV2, the encoder of the paper, in miniature. */
const CONFIG = {
  architectures: ['Swinv2Model'],
  model_type: 'swinv2',
  image_size: EDGE,
  num_channels: 3,
  patch_size: 4,
  embed_dim: 48,
  depths: [2, 2, 4],
  num_heads: [2, 4, 8],
  window_size: 8,
  pretrained_window_sizes: [0, 0, 0],
  mlp_ratio: 3,
  qkv_bias: true,
  hidden_act: 'gelu',
  use_absolute_embeddings: false,
  layer_norm_eps: 1e-5,
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
