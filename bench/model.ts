/**
 * Backbones to measure on: the real pair beside the checkout, or a llama of a given size with random weights, made once in the temporary
 * folder. Speed does not depend on what the weights say. None of them ever ends a sequence by itself, so that every request has the same length.
 */
import { copyFile, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type BackboneDescription, describeBackbone } from '../src/backbone/backbone.js';
import { readBackbone } from '../src/backbone/manifest.js';
import type { AdapterTarget } from '../src/backbone/module.js';
import { writeSafetensors } from '../src/tensor/safetensors.js';
import type { Tensor } from '../src/tensor/tensor.js';
import { shared } from '../test/support/shared.js';
import { Gaussian, tensor } from '../test/support/tiny.js';

const SIZES = {
  '30m': { hidden: 384, layers: 8, heads: 6, kvHeads: 2, ffn: 1024, vocabulary: 16_384 },
  '135m': { hidden: 576, layers: 30, heads: 9, kvHeads: 3, ffn: 1536, vocabulary: 49_152 },
} as const;

export type ModelName = 'real' | keyof typeof SIZES;

/** An id that no sequence ends with in practice: the unknown token. */
const NEVER = 0;

/** A backbone folder of text only, and its description. */
export async function prepareModel(
  name: ModelName,
): Promise<{ folder: string; backbone: BackboneDescription; target: AdapterTarget }> {
  const folder = path.join(tmpdir(), `graft-bench-${name}`);
  if (!(await readdir(folder).catch(() => undefined))) {
    const building = `${folder}.${process.pid}`;
    await mkdir(building, { recursive: true });
    if (name === 'real') await copyReal(building);
    else await makeRandom(building, SIZES[name]);
    await rename(building, folder);
  }
  const backbone = await describeBackbone(await readBackbone(folder));
  return { folder, backbone, target: backbone.target };
}

async function copyReal(folder: string): Promise<void> {
  const source = shared('tinystories-656k');
  for (const file of ['model.safetensors', 'tokenizer.json', 'tokenizer_config.json'])
    await copyFile(path.join(source, file), path.join(folder, file));
  const config = JSON.parse(await readFile(path.join(source, 'config.json'), 'utf8')) as object;
  await writeFile(path.join(folder, 'config.json'), JSON.stringify({ ...config, eos_token_id: NEVER }));
}

async function makeRandom(folder: string, size: (typeof SIZES)[keyof typeof SIZES]): Promise<void> {
  const { hidden, layers, heads, kvHeads, ffn, vocabulary } = size;
  const kv = (kvHeads * hidden) / heads;
  const random = new Gaussian(1);
  const tensors = new Map<string, Tensor>();
  const matrix = (name: string, rows: number, columns: number): void => {
    // Ten thousand random numbers over and over: a hundred million would take a minute to draw.
    const pattern = random.array(10_007, 0.02);
    tensors.set(
      name,
      tensor(
        [rows, columns],
        Float32Array.from({ length: rows * columns }, (_, index) => pattern[index % pattern.length] as number),
      ),
    );
  };
  const ones = (name: string): void => {
    tensors.set(name, tensor([hidden], new Float32Array(hidden).fill(1)));
  };
  matrix('model.embed_tokens.weight', vocabulary, hidden);
  ones('model.norm.weight');
  for (let layer = 0; layer < layers; layer++) {
    const prefix = `model.layers.${layer}`;
    ones(`${prefix}.input_layernorm.weight`);
    ones(`${prefix}.post_attention_layernorm.weight`);
    matrix(`${prefix}.self_attn.q_proj.weight`, hidden, hidden);
    matrix(`${prefix}.self_attn.k_proj.weight`, kv, hidden);
    matrix(`${prefix}.self_attn.v_proj.weight`, kv, hidden);
    matrix(`${prefix}.self_attn.o_proj.weight`, hidden, hidden);
    matrix(`${prefix}.mlp.gate_proj.weight`, ffn, hidden);
    matrix(`${prefix}.mlp.up_proj.weight`, ffn, hidden);
    matrix(`${prefix}.mlp.down_proj.weight`, hidden, ffn);
  }
  await writeSafetensors(path.join(folder, 'model.safetensors'), tensors);
  const config = {
    model_type: 'llama',
    hidden_size: hidden,
    intermediate_size: ffn,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    vocab_size: vocabulary,
    max_position_embeddings: 512,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000,
    tie_word_embeddings: true,
    bos_token_id: 1,
    eos_token_id: NEVER,
  };
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config));
  const source = shared('tinystories-656k');
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    await copyFile(path.join(source, file), path.join(folder, file));
}
